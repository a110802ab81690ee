//! Remote commands: questions and orders by name, answered with a text by any core of a node, or by meta.

use super::{Builder, ask_node};
use crate::client::Client;
use crate::error::Result;
use crate::reply::read;
use pegasus_fbs::frame::FrameKind;
use pegasus_fbs::kv;

impl Client {
    /// What the server at `address` (`host:port`: a core's client port, or meta) answers to a command; `help` lists what it
    /// knows. A command that it does not know is answered with a text that says so. Needs no authentication, like a ping.
    /// Within the timeout for admin calls.
    ///
    /// # Errors
    /// [`Error::NotExecuted`](crate::Error::NotExecuted) when nobody answers there in time;
    /// [`Code::Unsupported`](crate::Code::Unsupported) from an older server.
    pub async fn remote_command(
        &self,
        address: &str,
        name: &str,
        arguments: &[&str],
    ) -> Result<String> {
        let body = |builder: &mut Builder| {
            let name = Some(builder.create_string(name));
            let them: Vec<_> = arguments
                .iter()
                .map(|it| builder.create_string(it))
                .collect();
            let arguments = Some(builder.create_vector(&them));
            let arguments = kv::RemoteCommandRequestArgs { name, arguments };
            let request = kv::RemoteCommandRequest::create(builder, &arguments);
            builder.finish(request, None);
        };
        let answer = ask_node(self, address, FrameKind::RemoteCommand, &body).await?;
        let reply = read::<kv::RemoteCommandReply<'_>>(&answer)?;
        Ok(reply.text().unwrap_or_default().to_owned())
    }
}
