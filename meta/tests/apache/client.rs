//! A client of Apache Pegasus, as small as can be.

use pegasus_thrift::binary::{Decode, Encode, Reader, read_only_field};
use pegasus_thrift::frame::thft::Version;
use pegasus_thrift::frame::{Limits, Name, Progress, rdsn, thft};
use pegasus_thrift::{Protocol, Rpc};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    protocol: Protocol,
    input: Vec<u8>,
    next_id: i32,
}

/// What came back: the error of the frame, and the bytes of the result.
pub(crate) struct Answer {
    pub(crate) status: String,
    pub(crate) result: Vec<u8>,
    /// The whole frame.
    pub(crate) frame: Vec<u8>,
}

impl Answer {
    pub(crate) fn read<'a, T: Decode<'a> + Default>(&'a self) -> T {
        assert_eq!(self.status, "ERR_OK");
        read_only_field(&mut Reader::new(&self.result)).unwrap()
    }
}

impl Client {
    pub(crate) async fn open(address: SocketAddr, protocol: Protocol) -> Self {
        Self {
            stream: TcpStream::connect(address).await.unwrap(),
            protocol,
            input: Vec::new(),
            next_id: 1,
        }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Sends a request; its number.
    pub(crate) async fn send<T: Encode>(&mut self, name: &str, request: &T) -> i32 {
        let id = self.next_id;
        self.next_id += 1;
        let mut bytes = Vec::new();
        match self.protocol {
            Protocol::Thft => {
                let header = thft::Header {
                    version: Version::V0,
                    app_id: 0,
                    partition_index: 0,
                    timeout_ms: 0,
                    partition_hash: 0,
                    is_backup_request: false,
                };
                thft::encode_request(&header, name.as_bytes(), id, request, &mut bytes);
            }
            Protocol::Rdsn => {
                let header = rdsn::Header::request(Name::from(name), u64::try_from(id).unwrap());
                rdsn::encode(&header, request, &mut bytes);
            }
        }
        self.write(&bytes).await;
        id
    }

    pub(crate) async fn ask<T: Encode>(&mut self, rpc: Rpc, request: &T) -> Answer {
        let id = self.send(rpc.name(), request).await;
        self.answer(id, rpc.ack_name()).await
    }

    /// The next answer, which has to be to this request.
    pub(crate) async fn answer(&mut self, id: i32, ack_name: &str) -> Answer {
        match self.protocol {
            Protocol::Thft => self.thft_answer(id, ack_name).await,
            Protocol::Rdsn => self.rdsn_answer(id, ack_name).await,
        }
    }

    async fn thft_answer(&mut self, id: i32, ack_name: &str) -> Answer {
        let (frame, body) = loop {
            match thft::parse_reply(&self.input, &Limits::DEFAULT).unwrap() {
                Progress::NeedMore(_) => self.fill().await,
                Progress::Done(frame) => {
                    let body = self.input[frame.body].to_vec();
                    break (self.input.drain(..frame.consumed).collect(), body);
                }
            }
        };
        let reply = thft::Reply::decode(&body).unwrap();
        assert_eq!(
            (reply.name.to_string(), reply.seqid),
            (ack_name.to_owned(), id)
        );
        Answer {
            status: reply.status.name().to_owned(),
            result: reply.result.to_vec(),
            frame,
        }
    }

    async fn rdsn_answer(&mut self, id: i32, ack_name: &str) -> Answer {
        let (header, frame, result) = loop {
            match rdsn::parse(&self.input, &Limits::DEFAULT).unwrap() {
                Progress::NeedMore(_) => self.fill().await,
                Progress::Done(frame) => {
                    let body = self.input[frame.body].to_vec();
                    let whole = self.input.drain(..frame.consumed).collect();
                    break (frame.header, whole, body);
                }
            }
        };
        assert_eq!(header.name.to_string(), ack_name);
        assert_eq!(header.id, u64::try_from(id).unwrap());
        Answer {
            status: header.error.to_string(),
            result,
            frame,
        }
    }

    async fn fill(&mut self) {
        let read = self.stream.read_buf(&mut self.input).await.unwrap();
        assert!(read > 0, "meta closed the connection");
    }

    /// Everything up to the end of the connection.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        self.stream.read_to_end(&mut self.input).await.unwrap();
        std::mem::take(&mut self.input)
    }
}
