//! Remote commands in native frames.

use super::super::letter::Failed;
use super::{Builder, finished};
use pegasus_fbs::body;
use pegasus_fbs::code::Code;
use pegasus_fbs::kv;

/// Arguments of a command.
const ARGUMENTS_MAX: usize = 1024;

/// Its name and arguments.
pub(in crate::server) fn remote_command(bytes: &[u8]) -> Result<(String, Vec<String>), Failed> {
    let request = body::read::<kv::RemoteCommandRequest<'_>>(bytes)?;
    let arguments = request.arguments();
    let count = arguments.map_or(0, |them| them.len());
    if count > ARGUMENTS_MAX {
        let message = format!("{count} arguments, the limit is {ARGUMENTS_MAX}");
        return Err(Failed::new(Code::TooLarge, message));
    }
    let name = request.name().unwrap_or_default().to_owned();
    let arguments = arguments.iter().flatten().map(str::to_owned).collect();
    Ok((name, arguments))
}

pub(in crate::server) fn remote_command_reply(text: &str) -> Vec<u8> {
    let mut builder = Builder::new();
    let text = Some(builder.create_string(text));
    let root = kv::RemoteCommandReply::create(&mut builder, &kv::RemoteCommandReplyArgs { text });
    finished(builder, root)
}
