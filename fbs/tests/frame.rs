//! Frames as bytes: golden layout, arbitrary cuts of the stream, and everything that must be refused.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use bytes::BytesMut;
use pegasus_fbs::frame::{
    BODY_BYTES_MAX, DecodeError, Decoder, FLAG_FAILURE, FLAG_REPLY, Frame, FrameKind, HEADER_BYTES,
    Header, Parsed, encode_frame, parse, peek,
};
use proptest::prelude::*;

fn header() -> Header {
    Header::request(FrameKind::Put, 0x0102_0304_0506_0708)
        .to_partition(9, 3)
        .with_timeout_ms(1_000)
}

fn encoded(header: &Header, body: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    encode_frame(&mut out, header, body);
    out
}

#[test]
fn the_layout_is_the_documented_one() {
    let bytes = encoded(&header(), b"body");
    let crc = {
        let mut zeroed = bytes.clone();
        zeroed[12..16].fill(0);
        crc32c::crc32c(&zeroed).to_le_bytes()
    };
    let mut expected = vec![0x89, b'P', b'G', b'S', 1, 2, 0, 0, 4, 0, 0, 0];
    expected.extend_from_slice(&crc);
    expected.extend_from_slice(&[
        8, 7, 6, 5, 4, 3, 2, 1, 9, 0, 0, 0, 3, 0, 0, 0, 0xe8, 3, 0, 0, 0, 0, 0, 0,
    ]);
    expected.extend_from_slice(b"body");
    assert_eq!(bytes, expected);
}

#[test]
fn replies_and_failures_echo_the_request() {
    let reply = header().reply();
    assert_eq!(
        (reply.flags, reply.request_id, reply.partition),
        (FLAG_REPLY, header().request_id, 3)
    );
    assert!(reply.is_reply() && !reply.is_failure());
    assert_eq!(header().failure().flags, FLAG_REPLY | FLAG_FAILURE);
    assert_eq!(reply.timeout_ms, 0);
}

#[test]
fn every_kind_is_found_by_its_number() {
    for kind in FrameKind::ALL {
        assert_eq!(FrameKind::try_from(kind.number()), Ok(kind));
    }
    let known = (0..=u8::MAX)
        .filter(|number| FrameKind::try_from(*number).is_ok())
        .count();
    assert_eq!(known, FrameKind::ALL.len());
}

#[test]
fn foreign_bytes_are_refused_from_the_first_one_on() {
    let decoder = Decoder::new(BODY_BYTES_MAX);
    for foreign in [&b"G"[..], b"THFT", b"*1\r\n", b"\x89PNG\r\n"] {
        let result = decoder.decode(&mut BytesMut::from(foreign));
        assert!(
            matches!(result, Err(DecodeError::Magic { .. })),
            "{foreign:02x?}: {result:?}"
        );
    }
}

#[test]
fn wrong_version_kind_and_length_are_refused_before_the_body_arrives() {
    let decoder = Decoder::new(100);
    let refused = |offset: usize, value: u8| {
        let mut bytes = encoded(&header(), b"");
        bytes[offset] = value;
        decoder.decode(&mut bytes)
    };
    assert_eq!(refused(4, 2), Err(DecodeError::Version { found: 2 }));
    assert_eq!(refused(5, 255), Err(DecodeError::Kind { found: 255 }));
    assert_eq!(
        refused(8, 101),
        Err(DecodeError::TooLarge {
            found: 101,
            max: 100
        })
    );
    assert_eq!(
        refused(11, 0xff),
        Err(DecodeError::TooLarge {
            found: 0xff00_0000,
            max: 100
        })
    );
}

#[test]
fn a_header_can_be_read_before_its_body_arrives() {
    let bytes = encoded(&header(), b"some body");
    assert_eq!(peek(&bytes[..HEADER_BYTES]), Ok(Some((header(), 9))));
    assert_eq!(peek(&bytes[..HEADER_BYTES - 1]), Ok(None));
    assert!(matches!(peek(b"GET /"), Err(DecodeError::Magic { .. })));
}

#[test]
fn a_claimed_length_reserves_no_memory_beyond_a_bound() {
    let mut bytes = encoded(&header(), b"");
    bytes[8..12].copy_from_slice(&(60_u32 << 20).to_le_bytes());
    assert_eq!(Decoder::new(BODY_BYTES_MAX).decode(&mut bytes), Ok(None));
    assert!(bytes.capacity() < 1 << 20);
}

#[test]
fn every_single_flipped_bit_is_noticed() {
    let bytes = encoded(&header(), b"some body");
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let result = parse(&flipped, BODY_BYTES_MAX);
        assert!(
            !matches!(result, Ok(Parsed::Frame { .. })),
            "bit {bit}: {result:?}"
        );
    }
}

fn any_header() -> impl Strategy<Value = Header> {
    let kind = proptest::sample::select(FrameKind::ALL.to_vec());
    (
        kind,
        any::<u16>(),
        any::<u64>(),
        any::<u32>(),
        any::<u32>(),
        any::<u32>(),
    )
        .prop_map(
            |(kind, flags, request_id, table, partition, timeout_ms)| Header {
                kind,
                flags,
                request_id,
                table,
                partition,
                timeout_ms,
            },
        )
}

proptest! {
    #[test]
    fn frames_survive_any_cut_of_the_stream(
        frames in proptest::collection::vec((any_header(), proptest::collection::vec(any::<u8>(), 0..100)), 0..6),
        cuts in proptest::collection::vec(1_usize..90, 1..20),
    ) {
        let mut stream = Vec::new();
        for (header, body) in &frames {
            encode_frame(&mut stream, header, body);
        }
        let decoder = Decoder::new(100);
        let mut received = Vec::new();
        let mut buffer = BytesMut::new();
        let mut rest = &stream[..];
        for cut in cuts.iter().cycle() {
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            buffer.extend_from_slice(now);
            rest = later;
            while let Some(Frame { header, body }) = decoder.decode(&mut buffer).unwrap() {
                received.push((header, body.to_vec()));
            }
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(received, frames);
        prop_assert!(buffer.is_empty());
    }

    #[test]
    fn garbage_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), disguise in any::<bool>()) {
        if disguise && bytes.len() > HEADER_BYTES {
            bytes[..6].copy_from_slice(&[0x89, b'P', b'G', b'S', 1, 1]);
            bytes[9..12].fill(0);
        }
        let _ = Decoder::new(BODY_BYTES_MAX).decode(&mut BytesMut::from(&bytes[..]));
    }
}
