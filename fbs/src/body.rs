//! Reading and writing of frame bodies.
//!
//! FlatBuffers from the network are verified before any field is read; the verifier and the accessors work on
//! unaligned memory.

use crate::code::Code;
use crate::kv;
use flatbuffers::{FlatBufferBuilder, Follow, InvalidFlatbuffer, Verifiable, VerifierOptions};
use std::time::Duration;
use thiserror::Error;

/// Why a body is not the FlatBuffer that its frame kind announces. The frame's checksum was right, so the sender is at fault.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("malformed body: {reason}")]
pub struct BodyError {
    reason: String,
}

/// The root table of a received body, verified: every later access is in bounds.
///
/// # Errors
/// When the bytes are no such table.
pub fn read<'a, T: Follow<'a> + Verifiable + 'a>(body: &'a [u8]) -> Result<T::Inner, BodyError> {
    flatbuffers::root_with_opts::<T>(&OPTIONS, body).map_err(|error| BodyError {
        reason: first_line(&error),
    })
}

/// Bytes of an optional vector; an absent one is empty.
#[must_use]
pub fn bytes<'a>(vector: Option<flatbuffers::Vector<'a, u8>>) -> &'a [u8] {
    vector.map(|vector| vector.bytes()).unwrap_or_default()
}

/// The contents of a `kv.Failure`, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureBody {
    pub code: Code,
    pub message: String,
    /// When trying again is sensible; zero = no advice.
    pub retry_after: Duration,
    /// `ip:port` of the core that is primary, empty when not known.
    pub primary: String,
    /// Ballot of the configuration that names the primary; 0 = not known.
    pub ballot: u64,
}

impl FailureBody {
    /// Builds the body in `builder` (which is reset) and returns its bytes.
    pub fn write<'a>(&self, builder: &'a mut FlatBufferBuilder<'_>) -> &'a [u8] {
        write_failure(
            builder,
            self.code,
            &self.message,
            self.retry_after,
            (&self.primary, self.ballot),
        )
    }

    /// Reads a received failure body. A code of a later version reads as [`Code::Internal`]: whether the operation was
    /// executed is then unknown.
    ///
    /// # Errors
    /// When the bytes are no `kv.Failure`.
    pub fn read(body: &[u8]) -> Result<Self, BodyError> {
        let failure = read::<kv::Failure<'_>>(body)?;
        Ok(Self {
            code: Code::try_from(failure.code()).unwrap_or(Code::Internal),
            message: failure.message().unwrap_or_default().to_owned(),
            retry_after: Duration::from_millis(failure.retry_after_ms().into()),
            primary: failure.primary().unwrap_or_default().to_owned(),
            ballot: failure.ballot(),
        })
    }
}

/// A failure body with a code and a sentence; the bytes live in `builder`, which is reset first.
pub fn failure<'a>(builder: &'a mut FlatBufferBuilder<'_>, code: Code, message: &str) -> &'a [u8] {
    write_failure(builder, code, message, Duration::ZERO, ("", 0))
}

/// A failure body that advises when to try again (back-pressure).
pub fn failure_retry_after<'a>(
    builder: &'a mut FlatBufferBuilder<'_>,
    code: Code,
    message: &str,
    retry_after: Duration,
) -> &'a [u8] {
    write_failure(builder, code, message, retry_after, ("", 0))
}

/// A redirect: [`Code::NotPrimary`] with the address `ip:port` of the primary's core, empty when not known.
pub fn failure_not_primary<'a>(
    builder: &'a mut FlatBufferBuilder<'_>,
    message: &str,
    primary: &str,
) -> &'a [u8] {
    let primary = (primary, 0);
    write_failure(builder, Code::NotPrimary, message, Duration::ZERO, primary)
}

/// Bounds against bodies that share or nest tables to look larger than they are. The count of tables is far above the
/// server's row limits and far below what could keep a thread busy.
const OPTIONS: VerifierOptions = VerifierOptions {
    max_depth: 8,
    max_tables: 1_000_000,
    max_apparent_size: 256 << 20,
    ignore_missing_null_terminator: true,
};

fn write_failure<'a>(
    builder: &'a mut FlatBufferBuilder<'_>,
    code: Code,
    message: &str,
    retry_after: Duration,
    (primary, ballot): (&str, u64),
) -> &'a [u8] {
    builder.reset();
    let message = builder.create_string(message);
    let primary = (!primary.is_empty()).then(|| builder.create_string(primary));
    let arguments = kv::FailureArgs {
        code: code.number(),
        message: Some(message),
        retry_after_ms: u32::try_from(retry_after.as_millis()).unwrap_or(u32::MAX),
        primary,
        ballot,
    };
    let failure = kv::Failure::create(builder, &arguments);
    builder.finish(failure, None);
    builder.finished_data()
}

fn first_line(error: &InvalidFlatbuffer) -> String {
    error
        .to_string()
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_failure_reads_as_it_was_written() {
        let mut builder = FlatBufferBuilder::new();
        let failure = FailureBody {
            code: Code::NotPrimary,
            message: "partition 1.3 is elsewhere".into(),
            retry_after: Duration::from_millis(20),
            primary: "127.0.0.1:34802".into(),
            ballot: 0,
        };
        let body = failure.write(&mut builder).to_vec();
        assert_eq!(FailureBody::read(&body), Ok(failure));
    }

    #[test]
    fn a_code_of_a_later_version_reads_as_internal() {
        let mut builder = FlatBufferBuilder::new();
        let body = kv::Failure::create(
            &mut builder,
            &kv::FailureArgs {
                code: 999,
                ..Default::default()
            },
        );
        builder.finish(body, None);
        assert_eq!(
            FailureBody::read(builder.finished_data()).unwrap().code,
            Code::Internal
        );
    }

    #[test]
    fn bodies_are_read_at_any_address() {
        let mut builder = FlatBufferBuilder::new();
        let body = failure_retry_after(&mut builder, Code::Busy, "wait", Duration::from_millis(5))
            .to_vec();
        for shift in 0..8 {
            let mut shifted = vec![0; shift];
            shifted.extend_from_slice(&body);
            assert_eq!(
                FailureBody::read(&shifted[shift..]).unwrap().code,
                Code::Busy
            );
        }
    }

    proptest! {
        #[test]
        fn garbage_bodies_are_refused_or_read_without_a_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(request) = read::<kv::MultiGetRequest<'_>>(&body) {
                let _ = format!("{request:?}");
            }
            let _ = FailureBody::read(&body);
        }

        #[test]
        fn a_flipped_byte_never_causes_a_panic(index in 0_usize..200, value in any::<u8>()) {
            let mut builder = FlatBufferBuilder::new();
            let mut body = failure_not_primary(&mut builder, "elsewhere", "127.0.0.1:1").to_vec();
            let index = index % body.len();
            body[index] = value;
            let _ = FailureBody::read(&body);
        }
    }
}
