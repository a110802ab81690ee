//! How the enums of the protocol are spelled.

/// A Thrift enum: a 32-bit number with names. Numbers without a name are kept.
macro_rules! enumeration {
    (
        $(#[$about:meta])*
        $thrift:literal => pub enum $name:ident {
            $($(#[$variant_about:meta])* $variant:ident = $number:literal),* $(,)?
        }
    ) => {
        $(#[$about])*
        #[doc = concat!("\n\nOn the wire: `", $thrift, "`.")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_about])* $variant,)*
            /// A number without a name here.
            Other(i32),
        }

        impl $name {
            /// The variants that have names.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The number on the wire.
            #[must_use]
            pub const fn number(self) -> i32 {
                match self {
                    $(Self::$variant => $number,)*
                    Self::Other(number) => number,
                }
            }

            /// The variant with this number; `Other` if it has no name.
            #[must_use]
            pub const fn of(number: i32) -> Self {
                match number {
                    $($number => Self::$variant,)*
                    other => Self::Other(other),
                }
            }
        }

        /// What 0 stands for.
        impl Default for $name {
            fn default() -> Self {
                Self::of(0)
            }
        }

        impl $crate::binary::Encode for $name {
            const KIND: $crate::binary::Kind = $crate::binary::Kind::I32;

            #[inline]
            fn encode(&self, out: &mut Vec<u8>) {
                self.number().encode(out);
            }
        }

        impl $crate::binary::Decode<'_> for $name {
            const BYTES_MIN: usize = 4;

            #[inline]
            fn decode(reader: &mut $crate::binary::Reader<'_>) -> Result<Self, $crate::DecodeError> {
                reader.i32().map(Self::of)
            }
        }
    };
}
