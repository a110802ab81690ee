//! What a node tells about itself to Redis clients: INFO, TIME.

use crate::clock;
use crate::shard_loop::ShardLoop;
use bytes::Bytes;
use pegasus_redis::{Call, Calls, Kind};
use pegasus_resp::Value;
use std::fmt::Write;

impl ShardLoop {
    /// The answer to a command that needs no table.
    pub(super) fn tell_about(&self, calls: &Calls) -> Option<Value> {
        let Calls::One(call) = calls else {
            return None;
        };
        match call.spec.kind {
            Kind::Info => Some(self.info(call)),
            Kind::Time => Some(time()),
            _ => None,
        }
    }

    /// As `field:value` lines in sections, of this core and its node; without arguments all of them.
    fn info(&self, call: &Call) -> Value {
        let is_asked = |section: &str| {
            call.count() == 1
                || (1..call.count()).any(|at| {
                    let word = call.argument(at).to_ascii_lowercase();
                    word == section.as_bytes()
                        || matches!(&word[..], b"all" | b"default" | b"everything")
                })
        };
        let counters = self.io.counters();
        let uptime_s = self.now.since(self.redis.started).as_secs();
        let sections = [
            (
                "server",
                vec![
                    (
                        "redis_version",
                        pegasus_net::frontend::resp::REDIS_VERSION.to_owned(),
                    ),
                    ("pegasus_version", env!("CARGO_PKG_VERSION").to_owned()),
                    ("redis_mode", "standalone".to_owned()),
                    ("process_id", std::process::id().to_string()),
                    ("node", self.address.node.to_string()),
                    ("core", self.address.core.to_string()),
                    ("uptime_in_seconds", uptime_s.to_string()),
                    ("uptime_in_days", (uptime_s / 86_400).to_string()),
                ],
            ),
            (
                "clients",
                vec![("connected_clients", counters.connections.to_string())],
            ),
            (
                "persistence",
                vec![("loading", "0".to_owned()), ("aof_enabled", "1".to_owned())],
            ),
            (
                "stats",
                vec![
                    ("total_connections_received", counters.accepted.to_string()),
                    ("total_commands_processed", counters.requests.to_string()),
                    ("total_net_input_bytes", counters.bytes_in.to_string()),
                    ("total_net_output_bytes", counters.bytes_out.to_string()),
                ],
            ),
            (
                "replication",
                vec![
                    ("role", "master".to_owned()),
                    ("connected_slaves", "0".to_owned()),
                ],
            ),
            ("cluster", vec![("cluster_enabled", "0".to_owned())]),
        ];
        let mut text = String::new();
        for (name, fields) in sections.iter().filter(|(name, _)| is_asked(name)) {
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            let (first, rest) = name.split_at(1);
            let _ = write!(text, "# {}{rest}\r\n", first.to_ascii_uppercase());
            for (field, value) in fields {
                let _ = write!(text, "{field}:{value}\r\n");
            }
        }
        Value::Verbatim {
            format: *b"txt",
            text: Bytes::from(text),
        }
    }
}

/// Unix seconds, and microseconds of the second.
fn time() -> Value {
    let now_us = clock::wall_us();
    let text = |number: u64| Value::Bulk(Bytes::from(number.to_string()));
    Value::Array(vec![text(now_us / 1_000_000), text(now_us % 1_000_000)])
}
