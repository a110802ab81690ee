//! Requests in work: what their answers need to find the way back.

use crate::frontend::Tag;
use crate::request::{Failure, Reply, Response};
use pegasus_fbs::code::Execution;
use pegasus_thrift::binary::Encode;
use pegasus_thrift::frame::{rdsn, thft};
use pegasus_thrift::{FrameStatus, ReplyTo, Rpc, RpcAddress};

/// Who asks, and what for.
#[derive(Debug)]
pub(super) struct Asker<'a> {
    /// `None`: no request of Apache Pegasus has its name.
    pub(super) rpc: Option<Rpc>,
    pub(super) to: &'a ReplyTo,
    pub(super) app_id: i32,
    pub(super) partition_index: i32,
    pub(super) is_backup: bool,
}

/// Requests of one connection that need more than a [`Tag`]; bounded by the connection's window.
#[derive(Debug, Default)]
pub(super) struct Asked {
    slots: Vec<Option<Kept>>,
    free: Vec<u32>,
}

/// What a tag has no room for.
#[derive(Debug)]
struct Kept {
    /// Of a request by RDSN: it is the header of the answer, too.
    header: Option<Box<rdsn::Header>>,
    /// Partitions whose places were asked for.
    indices: Vec<i32>,
}

/// A request whose answer is there.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) rpc: Rpc,
    is_backup: bool,
    to: To,
    pub(super) indices: Vec<i32>,
}

#[derive(Debug)]
enum To {
    Thft { seqid: i32 },
    Rdsn(Box<rdsn::Header>),
}

/// In `Tag::kind`, above the number of the request.
const IS_BACKUP: u8 = 0x80;

impl Asked {
    /// The name of a request by which its answer finds it again.
    pub(super) fn begin(&mut self, rpc: Rpc, asker: &Asker<'_>, indices: Vec<i32>) -> Tag {
        let id = match asker.to {
            ReplyTo::Thft { seqid, .. } => {
                let seqid = u64::from(seqid.cast_unsigned());
                if indices.is_empty() {
                    seqid
                } else {
                    let header = None;
                    self.keep(Kept { header, indices }) | seqid
                }
            }
            ReplyTo::Rdsn(header) => {
                let header = Some(Box::new(*header));
                self.keep(Kept { header, indices })
            }
        };
        let backup = if asker.is_backup { IS_BACKUP } else { 0 };
        Tag {
            id,
            kind: rpc.number() | backup,
            table: asker.app_id.max(0).cast_unsigned(),
            partition: asker.partition_index.max(0).cast_unsigned(),
        }
    }

    /// The request that `tag` names; `None` if it is none of this connection, which does not happen.
    pub(super) fn finish(&mut self, tag: &Tag) -> Option<Answered> {
        #[allow(
            clippy::cast_possible_truncation,
            reason = "the halves of the tag's number"
        )]
        let (slot, seqid) = ((tag.id >> 32) as u32, (tag.id as u32).cast_signed());
        let kept = slot.checked_sub(1).and_then(|slot| self.take(slot));
        let (header, indices) = kept.map_or((None, Vec::new()), |it| (it.header, it.indices));
        Some(Answered {
            rpc: Rpc::of_number(tag.kind & !IS_BACKUP)?,
            is_backup: tag.kind & IS_BACKUP != 0,
            to: header.map_or(To::Thft { seqid }, To::Rdsn),
            indices,
        })
    }

    /// The upper half of a tag's number.
    fn keep(&mut self, kept: Kept) -> u64 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("a connection's window is far smaller")
        });
        self.slots[slot as usize] = Some(kept);
        u64::from(slot + 1) << 32
    }

    fn take(&mut self, slot: u32) -> Option<Kept> {
        let kept = self.slots.get_mut(slot as usize)?.take()?;
        self.free.push(slot);
        Some(kept)
    }
}

impl Answered {
    /// Whether the client shall hear nothing. Clients break on an answer to CLEAR_SCANNER. A backup request is sent to a
    /// secondary beside the request to the primary, and the first answer counts, which must not be a refusal. That there is
    /// no such row is none.
    pub(super) fn is_unanswered(&self, reply: &Reply) -> bool {
        !self.rpc.is_answered()
            || matches!(reply, Ok(Response::Silent))
            || self.is_backup && reply.as_ref().is_err_and(is_refusal)
    }

    /// Callers by RDSN look at other fields of some answers.
    pub(super) const fn is_rdsn(&self) -> bool {
        matches!(self.to, To::Rdsn(_))
    }

    pub(super) fn reply<T: Encode>(&self, response: &T, from: RpcAddress, output: &mut Vec<u8>) {
        match &self.to {
            To::Thft { seqid } => {
                thft::encode_reply(self.rpc.name().as_bytes(), *seqid, response, output);
            }
            To::Rdsn(header) => {
                rdsn::encode(&header.reply(from, FrameStatus::Ok), response, output);
            }
        }
    }

    pub(super) fn fail(&self, status: FrameStatus, from: RpcAddress, output: &mut Vec<u8>) {
        match &self.to {
            To::Thft { seqid } => {
                thft::encode_error(self.rpc.name().as_bytes(), *seqid, status, output);
            }
            To::Rdsn(header) => rdsn::encode_empty(&header.reply(from, status), output),
        }
    }
}

fn is_refusal(failure: &Failure) -> bool {
    failure.code.execution() != Execution::Executed
}
