//! A server whose behaviour is a closure: it gets each frame and writes what it likes.

use bytes::{Bytes, BytesMut};
use pegasus_client::{Client, ClientOptions};
use pegasus_fbs::body::FailureBody;
use pegasus_fbs::code::Code;
use pegasus_fbs::flatbuffers::FlatBufferBuilder;
use pegasus_fbs::frame::{Decoder, Frame, FrameKind, Header, encode_frame};
use pegasus_fbs::{body, kv};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What a handler has written in answer to one frame.
#[derive(Debug, Default)]
pub(crate) struct Out {
    bytes: Vec<u8>,
    close: bool,
}

impl Out {
    pub(crate) fn reply(&mut self, request: &Header, body: &[u8]) {
        encode_frame(&mut self.bytes, &request.reply(), body);
    }

    pub(crate) fn fail(&mut self, request: &Header, code: Code) {
        self.fail_with(request, code, "made up", Duration::ZERO, "");
    }

    pub(crate) fn redirect(&mut self, request: &Header, primary: &str) {
        self.fail_with(
            request,
            Code::NotPrimary,
            "elsewhere",
            Duration::ZERO,
            primary,
        );
    }

    /// The same by a core that knows which configuration says so.
    pub(crate) fn redirect_under(&mut self, ballot: u64, request: &Header, primary: &str) {
        let failure = FailureBody {
            code: Code::NotPrimary,
            message: "elsewhere".into(),
            retry_after: Duration::ZERO,
            primary: primary.into(),
            ballot,
        };
        self.fail_by(request, failure);
    }

    pub(crate) fn fail_with(
        &mut self,
        request: &Header,
        code: Code,
        message: &str,
        retry_after: Duration,
        primary: &str,
    ) {
        let failure = FailureBody {
            code,
            message: message.into(),
            retry_after,
            primary: primary.into(),
            ballot: 0,
        };
        self.fail_by(request, failure);
    }

    fn fail_by(&mut self, request: &Header, failure: FailureBody) {
        let mut builder = FlatBufferBuilder::new();
        encode_frame(
            &mut self.bytes,
            &request.failure(),
            failure.write(&mut builder),
        );
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn close(&mut self) {
        self.close = true;
    }
}

/// A listening server; it and its connections end when it is dropped.
#[derive(Debug)]
pub(crate) struct Fake {
    pub(crate) address: String,
    _accepting: JoinSet<()>,
}

type Handler = dyn FnMut(Frame, &mut Out) + Send;

impl Fake {
    pub(crate) async fn start(handler: impl FnMut(Frame, &mut Out) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let handler: Arc<Mutex<Handler>> = Arc::new(Mutex::new(handler));
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&handler)));
            }
        });
        Self {
            address,
            _accepting: accepting,
        }
    }

    /// A meta that knows one table, whose partitions are where `primaries` says at the moment.
    pub(crate) async fn meta(primaries: &Primaries) -> Self {
        let primaries = Arc::clone(primaries);
        Self::start(move |frame, out| match frame.header.kind {
            FrameKind::Route => {
                let request = body::read::<kv::RouteRequest<'_>>(&frame.body).unwrap();
                match request.table_name() {
                    Some("t") => out.reply(&frame.header, &routes(7, &primaries.lock().unwrap())),
                    _ => out.fail(&frame.header, Code::UnknownTable),
                }
            }
            FrameKind::Ping => out.reply(&frame.header, &[]),
            _ => out.fail(&frame.header, Code::Unsupported),
        })
        .await
    }
}

/// Address of each partition's primary; empty = none.
pub(crate) type Primaries = Arc<Mutex<Vec<String>>>;

pub(crate) fn primaries(addresses: &[&str]) -> Primaries {
    Arc::new(Mutex::new(
        addresses
            .iter()
            .map(|&address| address.to_owned())
            .collect(),
    ))
}

/// A client of a meta, with a deadline no test should reach.
pub(crate) async fn client_of(meta: &Fake) -> Client {
    Client::connect(ClientOptions {
        timeout: Duration::from_secs(20),
        ..ClientOptions::new([&meta.address[..]])
    })
    .await
    .unwrap()
}

/// A server that keeps rows in memory and answers single-row operations.
pub(crate) async fn store() -> Fake {
    let mut rows: BTreeMap<(Vec<u8>, Vec<u8>), Vec<u8>> = BTreeMap::new();
    Fake::start(move |frame, out| match frame.header.kind {
        FrameKind::Put => {
            let put = body::read::<kv::PutRequest<'_>>(&frame.body).unwrap();
            let key = (
                body::bytes(put.hash_key()).to_vec(),
                body::bytes(put.sort_key()).to_vec(),
            );
            rows.insert(key, body::bytes(put.value()).to_vec());
            out.reply(&frame.header, &write_reply(1));
        }
        FrameKind::Get | FrameKind::Exist | FrameKind::Remove | FrameKind::Ttl => {
            let request = body::read::<kv::KeyRequest<'_>>(&frame.body).unwrap();
            let key = (
                body::bytes(request.hash_key()).to_vec(),
                body::bytes(request.sort_key()).to_vec(),
            );
            answer_key(&mut rows, &frame.header, &key, out);
        }
        FrameKind::Ping => out.reply(&frame.header, &[]),
        _ => out.fail(&frame.header, Code::Unsupported),
    })
    .await
}

fn answer_key(
    rows: &mut BTreeMap<(Vec<u8>, Vec<u8>), Vec<u8>>,
    header: &Header,
    key: &(Vec<u8>, Vec<u8>),
    out: &mut Out,
) {
    match (header.kind, rows.get(key)) {
        (FrameKind::Remove, _) => {
            rows.remove(key);
            out.reply(header, &write_reply(1));
        }
        (FrameKind::Exist, value) => {
            let exists = value.is_some();
            out.reply(
                header,
                &finish(|b| kv::ExistReply::create(b, &kv::ExistReplyArgs { exists })),
            );
        }
        (_, None) => out.fail(header, Code::NotFound),
        (FrameKind::Ttl, Some(_)) => {
            out.reply(
                header,
                &finish(|b| kv::TtlReply::create(b, &kv::TtlReplyArgs { ttl_seconds: -1 })),
            );
        }
        (_, Some(value)) => out.reply(header, &value_reply(value)),
    }
}

/// A finished body with the root table that `create` makes.
pub(crate) fn finish<T>(
    create: impl FnOnce(&mut FlatBufferBuilder<'static>) -> pegasus_fbs::flatbuffers::WIPOffset<T>,
) -> Vec<u8> {
    let mut builder = FlatBufferBuilder::new();
    let root = create(&mut builder);
    builder.finish(root, None);
    builder.finished_data().to_vec()
}

pub(crate) fn value_reply(value: &[u8]) -> Vec<u8> {
    finish(|b| {
        let value = Some(b.create_vector(value));
        kv::ValueReply::create(b, &kv::ValueReplyArgs { value })
    })
}

pub(crate) fn write_reply(count: u32) -> Vec<u8> {
    finish(|b| kv::WriteReply::create(b, &kv::WriteReplyArgs { decree: 1, count }))
}

/// A page of rows (hash key, sort key, value); `resume_key` = not complete.
pub(crate) fn rows_reply(
    rows: &[(&str, &str, &str)],
    resume_key: Option<&[u8]>,
    count: u64,
) -> Vec<u8> {
    finish(|b| {
        let rows: Vec<_> = rows
            .iter()
            .map(|(hash_key, sort_key, value)| {
                let hash_key = Some(b.create_vector(hash_key.as_bytes()));
                let sort_key = Some(b.create_vector(sort_key.as_bytes()));
                let value = Some(b.create_vector(value.as_bytes()));
                kv::Row::create(
                    b,
                    &kv::RowArgs {
                        hash_key,
                        sort_key,
                        value,
                        expire_at: 0,
                    },
                )
            })
            .collect();
        let rows = Some(b.create_vector(&rows));
        let complete = resume_key.is_none();
        let resume_key = resume_key.map(|key| b.create_vector(key));
        kv::RowsReply::create(
            b,
            &kv::RowsReplyArgs {
                rows,
                complete,
                resume_key,
                count,
            },
        )
    })
}

pub(crate) fn routes(table_id: u32, primaries: &[String]) -> Vec<u8> {
    routes_under(1, table_id, primaries)
}

/// Routes in which every partition has the same ballot.
pub(crate) fn routes_under(ballot: u64, table_id: u32, primaries: &[String]) -> Vec<u8> {
    finish(|b| {
        let partitions: Vec<_> = primaries
            .iter()
            .map(|address| {
                let primary = (!address.is_empty()).then(|| b.create_string(address));
                let arguments = kv::PartitionRouteArgs {
                    ballot,
                    primary,
                    secondaries: None,
                };
                kv::PartitionRoute::create(b, &arguments)
            })
            .collect();
        let partition_count = u32::try_from(partitions.len()).unwrap();
        let partitions = Some(b.create_vector(&partitions));
        kv::RouteReply::create(
            b,
            &kv::RouteReplyArgs {
                table_id,
                partition_count,
                partitions,
            },
        )
    })
}

async fn serve(mut stream: TcpStream, handler: Arc<Mutex<Handler>>) {
    let decoder = Decoder::new(1 << 20);
    let mut input = BytesMut::new();
    loop {
        match stream.read_buf(&mut input).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let mut out = Out::default();
        while let Some(Frame { header, body }) = decoder.decode(&mut input).unwrap() {
            let body = Bytes::copy_from_slice(&body);
            handler.lock().unwrap()(Frame { header, body }, &mut out);
        }
        if stream.write_all(&out.bytes).await.is_err() || out.close {
            return;
        }
    }
}
