//! Frames between cores: any body is refused by a sentence, or becomes messages that are the same after another trip.
//! Run by the tests and by the fuzz target `peer_messages`.

use crate::wire::{decode, encode};
use bytes::Bytes;
use pegasus_fbs::flatbuffers::FlatBufferBuilder;
use pegasus_fbs::frame::FrameKind;
use pegasus_replication::message::Message;

/// The first byte says which kind of frame it is, by its place in [`FrameKind::ALL`]; the rest is the body.
pub(crate) fn run(input: &[u8]) {
    let Some((place, body)) = input.split_first() else {
        return;
    };
    let kind = FrameKind::ALL[usize::from(*place) % FrameKind::ALL.len()];
    let body = Bytes::copy_from_slice(body);
    match read(kind, &body) {
        Err(sentence) => assert!(sentence.len() < 500 && !sentence.contains('\n')),
        Ok(messages) => {
            assert!(messages.len() <= body.len());
            assert!(messages.len() == 1 || kind == FrameKind::PrepareAcks);
            let mut builder = FlatBufferBuilder::new();
            for message in messages {
                check_size(&message, body.len());
                let (again, bytes) = encode(&mut builder, &message);
                assert_eq!(again, kind);
                let bytes = Bytes::copy_from_slice(bytes);
                assert_eq!(read(kind, &bytes), Ok(vec![message]));
            }
        }
    }
}

fn read(kind: FrameKind, body: &Bytes) -> Result<Vec<Message>, String> {
    let mut messages = Vec::new();
    let read = decode(kind, body, |message| messages.push(message));
    read.map(|()| messages).map_err(|error| error.to_string())
}

/// A list of a message has at most as many items as the body has bytes.
fn check_size(message: &Message, bytes: usize) {
    match message {
        Message::Prepare(prepare) => {
            assert!(prepare.entry.mutation.payload.len() <= bytes);
            assert!(prepare.configuration.secondaries.len() <= bytes);
        }
        Message::Beacon(beacon) => assert!(beacon.entries.len() <= bytes),
        Message::BeaconAck(ack) => assert!(ack.states.len() + ack.excluded.len() <= bytes),
        Message::LearnRequest(_) | Message::LearnReply(_) | Message::Yield(_) => {}
        Message::PrepareAck(_) | Message::PrepareReject(_) => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::messages;
    use super::*;
    use std::path::PathBuf;

    fn seeds() -> Vec<(String, Vec<u8>)> {
        let mut builder = FlatBufferBuilder::new();
        let mut seeds = Vec::new();
        for (number, message) in messages().iter().enumerate() {
            let (kind, body) = encode(&mut builder, message);
            let place = FrameKind::ALL.iter().position(|one| *one == kind).unwrap();
            let place = u8::try_from(place).unwrap();
            seeds.push((format!("message_{number}"), [&[place], body].concat()));
            seeds.push((
                format!("cut_{number}"),
                [&[place], &body[..body.len() / 2]].concat(),
            ));
        }
        seeds
    }

    /// `PEGASUS_WRITE_CORPUS=1` writes the seeds anew.
    #[test]
    fn bodies_between_cores_are_refused_or_travel_again() {
        let corpus =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus/peer_messages");
        if std::env::var_os("PEGASUS_WRITE_CORPUS").is_some() {
            std::fs::create_dir_all(&corpus).unwrap();
            for (name, seed) in seeds() {
                std::fs::write(corpus.join(name), &seed).unwrap();
            }
        }
        let mut count = 0;
        for entry in std::fs::read_dir(corpus).unwrap() {
            run(&std::fs::read(entry.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count >= 12, "{count} files in the corpus");
    }

    #[test]
    fn every_seed_is_refused_or_travels_again() {
        seeds().iter().for_each(|(_, seed)| run(seed));
    }
}
