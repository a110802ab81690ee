//! Batches, markers, keys, values and remembered results: any bytes are refused, or mean what is written in their place again. Run by the
//! tests and by the fuzz target `rows`.

use pegasus_engine::atomic::{CheckedValue, Incremented};
use pegasus_engine::marker::Marker;
use pegasus_engine::op::{BATCH_BYTES_MAX, BATCH_OPS_MAX, Batch, BatchError, BatchRef, OpRef};
use pegasus_engine::value::{self, Header, TableVersion};
use pegasus_engine::{RequestOutcome, RequestWindow, key};

/// The first byte says what the rest is.
pub(crate) fn run(input: &[u8]) {
    let Some((what, rest)) = input.split_first() else {
        return;
    };
    match what % 6 {
        0 => batch(rest),
        1 => marker(rest),
        2 => {
            let mut signed = rest.to_vec();
            signed.extend_from_slice(&crc32c::crc32c(rest).to_le_bytes());
            marker(&signed);
        }
        3 => raw_key(rest),
        4 => stored_value(rest),
        _ => result(rest),
    }
}

fn batch(encoded: &[u8]) {
    let Ok(parsed) = BatchRef::parse(encoded) else {
        return;
    };
    assert!(parsed.count() <= BATCH_OPS_MAX && encoded.len() <= BATCH_BYTES_MAX);
    assert_eq!(parsed.iter().count(), parsed.count());
    let mut again = Batch::new();
    for op in parsed {
        let added = match op {
            OpRef::Put {
                key,
                value,
                expire_at,
            } => again.put(key, value, expire_at),
            OpRef::Remove { key } => again.remove(key),
        };
        match added {
            Ok(()) => {}
            // Writers stay a few bytes below what readers take.
            Err(BatchError::TooLarge { .. }) if encoded.len() > BATCH_BYTES_MAX - 320 => return,
            Err(error) => panic!("an operation that was read cannot be written: {error}"),
        }
    }
    assert_eq!(
        again.encode_with_result(parsed.result()),
        encoded,
        "a batch has one spelling, or checksums of equal batches differ"
    );
}

fn marker(stored: &[u8]) {
    let Ok(marker) = Marker::decode(stored) else {
        return;
    };
    assert!(marker.window.len() <= RequestWindow::LENGTH_MAX);
    let encoded = marker.encode();
    assert!(encoded.len() <= stored.len());
    assert_eq!(Marker::decode(&encoded).expect("our own marker"), marker);
    for entry in marker.window.iter() {
        let found = marker.window.find(entry.id).expect("it is in the window");
        assert_eq!(found.id, entry.id);
        let outcome = marker.window.outcome(entry.id, true);
        assert!(matches!(outcome, RequestOutcome::Applied { .. }));
    }
}

/// Of an increment, or of a check, or of neither.
fn result(remembered: &[u8]) {
    let sum = Incremented::remembered(remembered);
    match CheckedValue::remembered(remembered) {
        Some(CheckedValue::Found(value)) => {
            assert_eq!(sum, None);
            assert_eq!(value.len() + 1, remembered.len());
        }
        Some(_) => assert_eq!((sum, remembered.len()), (None, 1)),
        None => assert!(matches!(sum, None | Some(Incremented::Done(_)))),
    }
}

fn raw_key(raw: &[u8]) {
    if let Some(successor) = key::prefix_successor(raw) {
        assert!(successor > raw && !successor.starts_with(raw) && successor.len() <= raw.len());
    }
    let Ok((hash_key, sort_key)) = key::decode(raw) else {
        return;
    };
    assert_eq!(
        key::encode(hash_key, sort_key).expect("it was a raw key"),
        raw
    );
    let prefix = key::hash_key_prefix(raw).expect("it was a raw key");
    assert_eq!(raw.len() - prefix.len(), sort_key.len());
}

fn stored_value(stored: &[u8]) {
    for table in [TableVersion::V0, TableVersion::V1] {
        let Ok(found) = value::decode(stored, table) else {
            continue;
        };
        let mut again = Header::new(found.expire_at, found.timetag)
            .as_ref()
            .to_vec();
        again.extend_from_slice(found.data);
        let read = value::decode(&again, TableVersion::V1).expect("our own value");
        assert_eq!(read, found);
        assert!(!value::is_expired(0, u32::MAX) && !value::is_expired(found.expire_at, 0));
    }
}
