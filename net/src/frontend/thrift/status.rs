//! How a request fares as a whole, in the names that every client of Apache Pegasus knows.

use crate::request::Failure;
use pegasus_fbs::code::Code;
use pegasus_thrift::FrameStatus;

/// The name for a failure. A client that is told `ERR_TIMEOUT` must not believe that nothing was done; all other names say
/// that nothing was.
pub(super) const fn status_of(failure: &Failure) -> FrameStatus {
    match failure.code {
        Code::UnknownTable | Code::NotHere => FrameStatus::ObjectNotFound,
        Code::NotPrimary | Code::NotServing | Code::OutOfService => FrameStatus::InvalidState,
        // Apache Pegasus has a name for a full disk, on which pypegasus3 breaks.
        Code::Busy | Code::DiskFull | Code::Expired => FrameStatus::Busy,
        Code::NotEnoughMembers => FrameStatus::NotEnoughMember,
        Code::TooLarge => FrameStatus::InvalidData,
        Code::InvalidArgument => FrameStatus::InvalidParameters,
        Code::Unsupported => FrameStatus::HandlerNotFound,
        _ => FrameStatus::Timeout,
    }
}
