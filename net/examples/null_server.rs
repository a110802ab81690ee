//! Answers every operation from nothing: what the network alone costs.
//!
//! `null_server [ADDRESS] [adaptive|busy|sleep] [CPU]`, by default `127.0.0.1:0 sleep` and no pin. Prints its address.

use bytes::Bytes;
use pegasus_net::listener::bind;
use pegasus_net::request::{Operation, Reply, Response, Rows};
use pegasus_net::waker::Waker;
use pegasus_net::{CoreIo, IoEvent, NetOptions, PollPolicy};
use std::error::Error;
use std::io::Write;
use std::time::Duration;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments
        .next()
        .unwrap_or_else(|| "127.0.0.1:0".to_owned())
        .parse()?;
    let poll = match arguments.next().as_deref() {
        None | Some("sleep") => PollPolicy::Sleep,
        Some("adaptive") => PollPolicy::Adaptive,
        Some("busy") => PollPolicy::Busy,
        Some(other) => {
            return Err(format!("unknown poll mode {other}: adaptive, busy or sleep").into());
        }
    };
    if let Some(cpu) = arguments.next() {
        let mut set = rustix::thread::CpuSet::new();
        set.set(cpu.parse()?);
        rustix::thread::sched_setaffinity(Some(rustix::thread::gettid()), &set)?;
    }
    let listener = bind(address)?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    let mut io = CoreIo::new(
        NetOptions {
            poll,
            ..NetOptions::default()
        },
        Waker::new()?,
    )?;
    io.listen_clients(listener)?;
    let value = Bytes::from_static(&[b'x'; 100]);
    let mut events = Vec::new();
    loop {
        io.poll(Duration::from_secs(1), &mut events)?;
        for event in events.drain(..) {
            if let IoEvent::Request { from, request, .. } = event {
                io.reply(from, &answer(&request.operation, &value));
            }
        }
    }
}

fn answer(operation: &Operation, value: &Bytes) -> Reply {
    Ok(match operation {
        Operation::Get(_) => Response::Value(value.clone()),
        Operation::Exist(_) => Response::Exists(true),
        Operation::Ttl(_) => Response::Ttl(None),
        Operation::SortKeyCount { .. } => Response::Count(0),
        Operation::Ping => Response::Pong,
        operation if operation.is_write() => Response::Written {
            decree: 1,
            count: 1,
        },
        _ => Response::Rows(Rows {
            rows: Vec::new(),
            complete: true,
            resume_key: Bytes::new(),
            count: 0,
        }),
    })
}
