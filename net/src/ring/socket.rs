//! The one socket option that no safe crate offers.

use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsRawFd, OwnedFd};

/// `IP_LOCAL_PORT_RANGE` of linux/in.h, since Linux 6.3.
const IP_LOCAL_PORT_RANGE: libc::c_int = 51;

/// Restricts the local port that the kernel picks for an outgoing connection: ports on which nodes listen lie in the
/// kernel's usual range, and a node must not find its port taken by somebody's outgoing connection.
pub(crate) fn set_local_ports(socket: &OwnedFd, ports: &RangeInclusive<u16>) -> io::Result<()> {
    let value = u32::from(*ports.start()) | u32::from(*ports.end()) << 16;
    #[allow(clippy::cast_possible_truncation, reason = "4")]
    let length = size_of::<u32>() as libc::socklen_t;
    // SAFETY: the pointer names a live u32 of the length given; the kernel copies it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            IP_LOCAL_PORT_RANGE,
            std::ptr::from_ref(&value).cast(),
            length,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
