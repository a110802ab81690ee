//! How the structs of the protocol are spelled.

/// A Thrift struct with its field ids. Reading is tolerant: absent fields have their default (`= value`, or that of the
/// type), unknown ones are skipped, as is a field of another type. Writing is complete: every field that is not an
/// `Option` is written. A type parameter is for a field that is written from something else than it is read into.
macro_rules! structure {
    (
        $(#[$about:meta])*
        $thrift:literal => pub struct $name:ident $(<$life:lifetime $(, $generic:ident = $default:ty)?>)? {
            $($(#[$field_about:meta])* $id:literal $field:ident: $type:ty $(= $value:expr)?),* $(,)?
        }
    ) => {
        $(#[$about])*
        #[doc = concat!("\n\nOn the wire: `", $thrift, "`.")]
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name $(<$life $(, $generic = $default)?>)? {
            $($(#[$field_about])* pub $field: $type,)*
        }

        impl $(<$life $(, $generic: Default)?>)? Default for $name $(<$life $(, $generic)?>)? {
            fn default() -> Self {
                Self { $($field: structure!(@default $type $(, $value)?),)* }
            }
        }

        impl $(<$life $(, $generic: $crate::binary::Encode)?>)? $crate::binary::Encode for $name $(<$life $(, $generic)?>)? {
            const KIND: $crate::binary::Kind = $crate::binary::Kind::Struct;

            #[inline]
            fn encode(&self, out: &mut Vec<u8>) {
                $($crate::binary::write_field($id, &self.$field, out);)*
                out.push(0);
            }
        }

        structure!(@decode $thrift, $name, [$($life $(, $generic)?)?], $($id $field: $type,)*);
    };
    (@default $type:ty) => { <$type as Default>::default() };
    (@default $type:ty, $value:expr) => { $value };
    (@decode $thrift:literal, $name:ident, [], $($fields:tt)*) => {
        impl<'bytes> $crate::binary::Decode<'bytes> for $name {
            structure!(@body 'bytes, $thrift, $($fields)*);
        }
    };
    (@decode $thrift:literal, $name:ident, [$life:lifetime], $($fields:tt)*) => {
        impl<$life> $crate::binary::Decode<$life> for $name<$life> {
            structure!(@body $life, $thrift, $($fields)*);
        }
    };
    (@decode $thrift:literal, $name:ident, [$life:lifetime, $generic:ident], $($fields:tt)*) => {
        impl<$life, $generic: $crate::binary::Decode<$life> + Default> $crate::binary::Decode<$life> for $name<$life, $generic> {
            structure!(@body $life, $thrift, $($fields)*);
        }
    };
    (@body $life:lifetime, $thrift:literal, $($id:literal $field:ident: $type:ty,)*) => {
        #[inline]
        fn decode(reader: &mut $crate::binary::Reader<$life>) -> Result<Self, $crate::DecodeError> {
            #[allow(unused_mut, reason = "a struct may have no fields")]
            let mut read = Self::default();
            reader.enter()?;
            while let Some((kind, id)) = reader.field()? {
                match id {
                    $($id if kind == <$type as $crate::binary::Encode>::KIND => {
                        read.$field = <$type as $crate::binary::Decode<$life>>::decode(reader)
                            .map_err(|error| error.within($thrift, stringify!($field)))?;
                    })*
                    _ => reader.skip(kind).map_err(|error| error.within($thrift, "unknown field"))?,
                }
            }
            reader.leave();
            Ok(read)
        }
    };
}
