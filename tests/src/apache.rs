//! A client of Apache Pegasus as small as can be: one connection, one request at a time, in any of the three headers.

use anyhow::{Context, Result, bail, ensure};
use pegasus_fbs::hash::{key_hash, partition_of};
use pegasus_thrift::binary::{Decode, Kind, Reader, read_only_field};
use pegasus_thrift::data::{RawKey, Request};
use pegasus_thrift::frame::thft::Version;
use pegasus_thrift::frame::{Limits, Name, Progress, rdsn, thft};
use pegasus_thrift::meta::{QueryCfgRequest, QueryCfgResponse};
use pegasus_thrift::{ErrorCode, Rpc, RpcAddress};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How a client frames its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Go, Python, Node.
    ThftV0,
    /// Java.
    ThftV1,
    /// C++.
    Rdsn,
}

impl Form {
    pub const ALL: [Self; 3] = [Self::ThftV0, Self::ThftV1, Self::Rdsn];
}

/// Longer than any answer takes; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(30);
const NEVER: &str = "a frame of this size is never sent";

/// One connection.
#[derive(Debug)]
pub struct Connection {
    form: Form,
    stream: TcpStream,
    next_id: i32,
    input: Vec<u8>,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Of the frame.
    pub status: String,
    result: Vec<u8>,
}

impl Answer {
    /// What a request that was handled was answered with.
    pub fn read<'a, T: Decode<'a> + Default>(&'a self) -> Result<T> {
        ensure!(self.status == "ERR_OK", "answered with {}", self.status);
        Ok(read_only_field(&mut Reader::new(&self.result))?)
    }

    /// The leader that a meta names in the header of its answer, because it does not lead.
    pub fn forwarded_to(&self) -> Result<RpcAddress> {
        let status = self.status.as_str();
        ensure!(status == "ERR_FORWARD_TO_OTHERS", "answered with {status}");
        Ok(read_only_field(&mut Reader::new(&self.result))?)
    }

    /// The `error` with which every answer of the data path begins.
    pub fn error(&self) -> Result<i32> {
        ensure!(self.status == "ERR_OK", "answered with {}", self.status);
        let mut reader = Reader::new(&self.result);
        let (response, error) = (reader.field()?, reader.field()?);
        ensure!(response == Some((Kind::Struct, 0)) && error == Some((Kind::I32, 1)));
        Ok(reader.i32()?)
    }
}

/// A partition, and what else a client says about its request.
#[derive(Clone, Copy, Debug, Default)]
pub struct To {
    pub app_id: i32,
    pub partition_index: i32,
    pub partition_hash: u64,
    pub is_backup: bool,
}

impl Connection {
    pub fn open(address: SocketAddr, form: Form) -> Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("{address}"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            form,
            stream,
            next_id: 7,
            input: Vec::new(),
        })
    }

    /// Asks a partition and waits for the answer.
    pub fn ask(&mut self, to: To, request: &Request<'_>) -> Result<Answer> {
        let id = self.send(to, request)?;
        self.receive(id, request.rpc())
    }

    /// Asks a partition; the number of the request.
    pub fn send(&mut self, to: To, request: &Request<'_>) -> Result<i32> {
        let id = self.take_id();
        let mut bytes = Vec::new();
        match self.form {
            Form::ThftV0 => request.encode_thft(&to.thft(Version::V0), id, &mut bytes),
            Form::ThftV1 => request.encode_thft(&to.thft(Version::V1), id, &mut bytes),
            Form::Rdsn => request.encode_rdsn(&to.rdsn(request.rpc(), id), &mut bytes),
        }
        self.stream.write_all(&bytes)?;
        Ok(id)
    }

    /// Asks the server as such, not a partition.
    pub fn ask_server<T: pegasus_thrift::binary::Encode>(
        &mut self,
        rpc: Rpc,
        request: &T,
    ) -> Result<Answer> {
        let id = self.take_id();
        let (to, mut bytes) = (To::default(), Vec::new());
        let name = rpc.name().as_bytes();
        match self.form {
            Form::ThftV0 => {
                thft::encode_request(&to.thft(Version::V0), name, id, request, &mut bytes);
            }
            Form::ThftV1 => {
                thft::encode_request(&to.thft(Version::V1), name, id, request, &mut bytes);
            }
            Form::Rdsn => rdsn::encode(&to.rdsn(rpc, id), request, &mut bytes),
        }
        self.stream.write_all(&bytes)?;
        self.receive(id, rpc)
    }

    /// The answer to this request, which has to be the next one.
    pub fn receive(&mut self, id: i32, rpc: Rpc) -> Result<Answer> {
        let (name, found, answer) = match self.form {
            Form::Rdsn => {
                let (header, body) = loop {
                    match rdsn::parse(&self.input, &Limits::DEFAULT)? {
                        Progress::NeedMore(_) => self.fill()?,
                        Progress::Done(frame) => {
                            let body = self.input[frame.body].to_vec();
                            self.input.drain(..frame.consumed);
                            break (frame.header, body);
                        }
                    }
                };
                let answer = Answer {
                    status: header.error.to_string(),
                    result: body,
                };
                (header.name, i32::try_from(header.id)?, answer)
            }
            Form::ThftV0 | Form::ThftV1 => {
                let body = loop {
                    match thft::parse_reply(&self.input, &Limits::DEFAULT)? {
                        Progress::NeedMore(_) => self.fill()?,
                        Progress::Done(frame) => {
                            let body = self.input[frame.body].to_vec();
                            self.input.drain(..frame.consumed);
                            break body;
                        }
                    }
                };
                let reply = thft::Reply::decode(&body)?;
                let answer = Answer {
                    status: reply.status.name().to_owned(),
                    result: reply.result.to_vec(),
                };
                (reply.name, reply.seqid, answer)
            }
        };
        ensure!(name.as_bytes() == rpc.ack_name().as_bytes(), "{name}");
        ensure!(found == id, "an answer to {found}, not to {id}");
        Ok(answer)
    }

    fn fill(&mut self) -> Result<()> {
        let mut chunk = [0; 64 << 10];
        let count = self.stream.read(&mut chunk)?;
        ensure!(count > 0, "the server has closed the connection");
        self.input.extend_from_slice(&chunk[..count]);
        Ok(())
    }

    fn take_id(&mut self) -> i32 {
        self.next_id += 1;
        self.next_id
    }
}

impl To {
    fn thft(self, version: Version) -> thft::Header {
        thft::Header {
            version,
            app_id: self.app_id,
            partition_index: self.partition_index,
            timeout_ms: 5_000,
            partition_hash: self.partition_hash,
            is_backup_request: self.is_backup,
        }
    }

    fn rdsn(self, rpc: Rpc, id: i32) -> rdsn::Header {
        let id = u64::try_from(id).expect(NEVER);
        let mut header = rdsn::Header::request(Name::from(rpc.name()), id);
        if self.is_backup {
            header.context = header.context.with_backup_request();
        }
        header.to_partition(self.app_id, self.partition_index, self.partition_hash)
    }
}

/// Where the partitions of a table are, as a server tells.
#[derive(Clone, Debug)]
pub struct Resolved {
    pub app_id: i32,
    pub primaries: Vec<SocketAddr>,
    pub secondaries: Vec<Vec<SocketAddr>>,
}

impl Resolved {
    /// Asks the server at this address, a meta or a data node.
    pub fn ask(address: SocketAddr, form: Form, table: &str) -> Result<Self> {
        let request = QueryCfgRequest {
            app_name: table,
            ..QueryCfgRequest::default()
        };
        let answer = Connection::open(address, form)?
            .ask_server(Rpc::QueryPartitionConfigByIndex, &request)?;
        let response: QueryCfgResponse<'_> = answer.read()?;
        if response.err != ErrorCode::Ok {
            bail!("{table}: {}", response.err.name());
        }
        ensure!(response.is_stateful);
        ensure!(usize::try_from(response.partition_count)? == response.partitions.len());
        let (mut primaries, mut secondaries) = (Vec::new(), Vec::new());
        for (index, partition) in (0..).zip(&response.partitions) {
            ensure!(partition.pid.app_id == response.app_id);
            ensure!(partition.pid.partition_index == index);
            ensure!(partition.ballot >= 1);
            ensure!(partition.hp_primary.is_some() == (form == Form::Rdsn));
            let primary = partition
                .primary
                .v4()
                .context("a partition without primary")?;
            primaries.push(primary.into());
            let others = partition.secondaries.iter();
            secondaries.push(others.filter_map(|it| it.v4()).map(Into::into).collect());
        }
        Ok(Self {
            app_id: response.app_id,
            primaries,
            secondaries,
        })
    }

    /// The partition of a row, as clients say it.
    #[must_use]
    pub fn to(&self, key: &RawKey<'_>) -> To {
        let count = u32::try_from(self.primaries.len()).expect("clusters of tests are small");
        let index = partition_of(key.hash_key, key.sort_key, count);
        To {
            app_id: self.app_id,
            partition_index: index.cast_signed(),
            partition_hash: key_hash(key.hash_key, key.sort_key),
            is_backup: false,
        }
    }

    /// A connection to the primary of a partition.
    pub fn connect(&self, to: &To, form: Form) -> Result<Connection> {
        let index = usize::try_from(to.partition_index)?;
        Connection::open(self.primaries[index], form)
    }
}
