//! A server that speaks the native protocol out of a map, and lies if told to. It proves that `--verify` finds what it
//! is there for: a check that never fails checks nothing.

use bytes::BytesMut;
use pegasus_fbs::flatbuffers::FlatBufferBuilder;
use pegasus_fbs::frame::{BODY_BYTES_MAX, Decoder, Frame, FrameKind, encode_frame};
use pegasus_fbs::{body, kv};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What the server does wrong, about every tenth time it could.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    None,
    /// Acknowledges a write and does not do it.
    DropWrites,
    /// Answers a read with the row of another key.
    SwapAnswers,
    /// Answers a read with what the row held before its last write.
    ReplayOldValues,
    /// Answers a read with one bit changed.
    FlipBits,
    /// Answers a read of a row that exists as if it did not.
    LoseRows,
}

type Key = (Vec<u8>, Vec<u8>);

#[derive(Debug)]
struct State {
    lie: Lie,
    rows: BTreeMap<Key, Vec<u8>>,
    /// What each row held before.
    before: BTreeMap<Key, Vec<u8>>,
    chances: u64,
}

/// A running server; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct FakeServer {
    pub(crate) address: SocketAddr,
    /// Dropping the sender tells the thread to end.
    _end: tokio::sync::oneshot::Sender<()>,
}

impl FakeServer {
    pub(crate) fn start(lie: Lie) -> Self {
        let listener =
            std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a loopback port is free");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        listener
            .set_nonblocking(true)
            .expect("sockets can be made non-blocking");
        let (end, ended) = tokio::sync::oneshot::channel();
        let state = Arc::new(Mutex::new(State {
            lie,
            rows: BTreeMap::new(),
            before: BTreeMap::new(),
            chances: 0,
        }));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async move {
                let listener =
                    TcpListener::from_std(listener).expect("the listener is non-blocking");
                tokio::select! {
                    _ = ended => {}
                    () = serve(listener, address, state) => {}
                }
            });
        });
        Self { address, _end: end }
    }
}

async fn serve(listener: TcpListener, address: SocketAddr, state: Arc<Mutex<State>>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(connection(stream, address, Arc::clone(&state)));
    }
}

async fn connection(mut stream: TcpStream, address: SocketAddr, state: Arc<Mutex<State>>) {
    let decoder = Decoder::new(BODY_BYTES_MAX);
    let mut input = BytesMut::new();
    let mut output = BytesMut::new();
    while matches!(stream.read_buf(&mut input).await, Ok(1..)) {
        while let Ok(Some(frame)) = decoder.decode(&mut input) {
            state.lock().unwrap_or_else(PoisonError::into_inner).answer(
                &frame,
                address,
                &mut output,
            );
        }
        if stream.write_all(&output).await.is_err() {
            return;
        }
        output.clear();
    }
}

impl State {
    fn answer(&mut self, frame: &Frame, address: SocketAddr, output: &mut BytesMut) {
        let mut builder = FlatBufferBuilder::new();
        let header = frame.header.reply();
        match frame.header.kind {
            FrameKind::Ping => {}
            FrameKind::Route => route(&mut builder, address),
            FrameKind::Put => self.put(&frame.body, &mut builder),
            FrameKind::Get => {
                let Some(value) = self.get(&frame.body) else {
                    let failure =
                        body::failure(&mut builder, pegasus_fbs::code::Code::NotFound, "");
                    return encode_frame(output, &frame.header.failure(), failure);
                };
                let value = Some(builder.create_vector(&value));
                let reply = kv::ValueReply::create(&mut builder, &kv::ValueReplyArgs { value });
                builder.finish(reply, None);
            }
            other => panic!("the bench does not send {other:?}"),
        }
        let empty = frame.header.kind == FrameKind::Ping;
        encode_frame(
            output,
            &header,
            if empty { &[] } else { builder.finished_data() },
        );
    }

    fn put(&mut self, request: &[u8], builder: &mut FlatBufferBuilder<'_>) {
        let request = body::read::<kv::PutRequest<'_>>(request).expect("the client encodes well");
        let key = (
            body::bytes(request.hash_key()).to_vec(),
            body::bytes(request.sort_key()).to_vec(),
        );
        if !(self.lie == Lie::DropWrites && self.rows.contains_key(&key) && self.chance()) {
            let before = self
                .rows
                .insert(key.clone(), body::bytes(request.value()).to_vec());
            self.before.extend(before.map(|value| (key, value)));
        }
        let reply = kv::WriteReply::create(
            builder,
            &kv::WriteReplyArgs {
                decree: 1,
                count: 1,
            },
        );
        builder.finish(reply, None);
    }

    fn get(&mut self, request: &[u8]) -> Option<Vec<u8>> {
        let request = body::read::<kv::KeyRequest<'_>>(request).expect("the client encodes well");
        let key = (
            body::bytes(request.hash_key()).to_vec(),
            body::bytes(request.sort_key()).to_vec(),
        );
        let mut value = self.rows.get(&key)?.clone();
        if !self.chance() {
            return Some(value);
        }
        match self.lie {
            Lie::None | Lie::DropWrites => {}
            Lie::LoseRows => return None,
            Lie::SwapAnswers => {
                let other = self.rows.iter().find(|(other, _)| **other != key);
                value = other.map_or(value, |(_, other)| other.clone());
            }
            Lie::ReplayOldValues => value = self.before.get(&key).cloned().unwrap_or(value),
            Lie::FlipBits => value[30] ^= 1,
        }
        Some(value)
    }

    fn chance(&mut self) -> bool {
        self.chances += 1;
        self.chances.is_multiple_of(10)
    }
}

fn route(builder: &mut FlatBufferBuilder<'_>, address: SocketAddr) {
    const PARTITIONS: u32 = 4;
    let primary = builder.create_string(&address.to_string());
    let partitions: Vec<_> = (0..PARTITIONS)
        .map(|_| {
            let arguments = kv::PartitionRouteArgs {
                ballot: 1,
                primary: Some(primary),
                secondaries: None,
            };
            kv::PartitionRoute::create(builder, &arguments)
        })
        .collect();
    let partitions = Some(builder.create_vector(&partitions));
    let arguments = kv::RouteReplyArgs {
        table_id: 1,
        partition_count: PARTITIONS,
        partitions,
    };
    let reply = kv::RouteReply::create(builder, &arguments);
    builder.finish(reply, None);
}
