//! What is encoded is decoded again, in pieces of any size.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use bytes::{Bytes, BytesMut};
use pegasus_resp::{
    CommandDecoder, DecodeError, Limits, Value, ValueDecoder, Version, encode_command, encode_value,
};
use proptest::collection::vec;
use proptest::prelude::*;

fn bytes(length: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..length).prop_map(Bytes::from)
}

fn text() -> impl Strategy<Value = Bytes> {
    "[ -~]{0,20}".prop_map(Bytes::from)
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        text().prop_map(Value::Simple),
        text().prop_map(Value::Error),
        any::<i64>().prop_map(Value::Integer),
        bytes(40).prop_map(Value::Bulk),
        Just(Value::Null),
        any::<bool>().prop_map(Value::Boolean),
        any::<f64>()
            .prop_filter("equals nothing", |n| !n.is_nan())
            .prop_map(Value::Double),
        "[+-]?[0-9]{1,40}".prop_map(|digits| Value::BigNumber(digits.into())),
        bytes(40).prop_map(Value::BulkError),
        bytes(40).prop_map(|text| Value::Verbatim {
            format: *b"txt",
            text
        }),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(4, 40, 5, |inner| {
        let pairs = vec((inner.clone(), inner.clone()), 0..3);
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::Array),
            vec(inner.clone(), 0..5).prop_map(Value::Set),
            vec(inner.clone(), 0..5).prop_map(Value::Push),
            pairs.clone().prop_map(Value::Map),
            (pairs, inner).prop_map(|(attributes, value)| Value::Attributed {
                attributes,
                value: Box::new(value)
            }),
        ]
    })
}

fn decode_values(stream: &[u8], piece: usize) -> Vec<Value> {
    let mut decoder = ValueDecoder::default();
    let (mut buffer, mut values) = (BytesMut::new(), Vec::new());
    for piece in stream.chunks(piece) {
        buffer.extend_from_slice(piece);
        while let Some(value) = decoder.decode(&mut buffer).unwrap() {
            values.push(value);
        }
    }
    assert!(buffer.is_empty());
    values
}

proptest! {
    #[test]
    fn values_come_back_from_resp3_in_pieces_of_any_size(values in vec(value(), 1..5), piece in 1_usize..50) {
        let mut stream = BytesMut::new();
        for value in &values {
            encode_value(&mut stream, value, Version::Resp3);
        }
        prop_assert_eq!(decode_values(&stream, piece), values);
    }

    #[test]
    fn resp2_says_only_what_resp2_can(value in value()) {
        let mut stream = BytesMut::new();
        encode_value(&mut stream, &value, Version::Resp2);
        prop_assert!(b"+-:$*".contains(&stream[0]));
        let decoded = decode_values(&stream, stream.len());
        prop_assert_eq!(decoded.len(), 1);
        let mut again = BytesMut::new();
        encode_value(&mut again, &decoded[0], Version::Resp2);
        prop_assert_eq!(again, stream);
    }

    #[test]
    fn commands_come_back_in_pieces_of_any_size(
        commands in vec(vec(vec(any::<u8>(), 0..40), 1..6), 1..6),
        piece in 1_usize..50,
    ) {
        let mut stream = BytesMut::new();
        for command in &commands {
            encode_command(&mut stream, command.iter().map(|argument| &argument[..]));
        }
        let mut decoder = CommandDecoder::default();
        let (mut buffer, mut decoded) = (BytesMut::new(), Vec::new());
        for piece in stream.chunks(piece) {
            buffer.extend_from_slice(piece);
            while let Some(command) = decoder.decode(&mut buffer).unwrap() {
                decoded.push(command.arguments().map(<[u8]>::to_vec).collect::<Vec<_>>());
            }
        }
        prop_assert_eq!(decoded, commands);
    }
}

#[test]
fn the_bytes_are_those_of_the_specification() {
    let mut out = Vec::new();
    encode_command(&mut out, [&b"SET"[..], b"a", b""]);
    assert_eq!(out, b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$0\r\n\r\n");
    let map = Value::Map(vec![(Value::Simple("a".into()), Value::Boolean(true))]);
    let cases: [(&Value, &[u8], &[u8]); 6] = [
        (&map, b"*2\r\n+a\r\n:1\r\n", b"%1\r\n+a\r\n#t\r\n"),
        (
            &Value::Integer(i64::MIN),
            b":-9223372036854775808\r\n",
            b":-9223372036854775808\r\n",
        ),
        (&Value::NullArray, b"*-1\r\n", b"_\r\n"),
        (
            &Value::Double(f64::NEG_INFINITY),
            b"$4\r\n-inf\r\n",
            b",-inf\r\n",
        ),
        (&Value::Error("a\r\nb".into()), b"-a  b\r\n", b"-a  b\r\n"),
        (
            &Value::BulkError("a\nb".into()),
            b"-a b\r\n",
            b"!3\r\na\nb\r\n",
        ),
    ];
    for (value, resp2, resp3) in cases {
        for (version, expected) in [(Version::Resp2, resp2), (Version::Resp3, resp3)] {
            let mut out = Vec::new();
            encode_value(&mut out, value, version);
            assert_eq!(
                String::from_utf8(out).unwrap(),
                String::from_utf8_lossy(expected)
            );
        }
    }
}

#[test]
fn lengths_over_a_limit_are_refused_before_anything_has_arrived() {
    let limits = Limits {
        bulk_bytes_max: 10,
        elements_max: 3,
        depth_max: 1,
        ..Limits::DEFAULT
    };
    for stream in ["*4\r\n", "*1\r\n$11\r\n", "*1\r\n$9223372036854775807\r\n"] {
        let refused = CommandDecoder::new(limits).decode(&mut BytesMut::from(stream));
        assert!(
            matches!(refused, Err(DecodeError::TooLarge { .. })),
            "{stream:?}: {refused:?}"
        );
    }
    for stream in [
        "*4\r\n",
        "$11\r\n",
        "*1\r\n*1\r\n",
        "%2\r\n",
        "*3\r\n*3\r\n",
    ] {
        let refused = ValueDecoder::new(limits).decode(&mut BytesMut::from(stream));
        assert!(
            matches!(refused, Err(DecodeError::TooLarge { .. })),
            "{stream:?}: {refused:?}"
        );
    }
    let line = "+".to_owned() + &"a".repeat(Limits::DEFAULT.line_bytes_max + 1);
    let refused = ValueDecoder::default().decode(&mut BytesMut::from(&line[..]));
    assert!(matches!(
        refused,
        Err(DecodeError::TooLarge { what: "line", .. })
    ));
}

#[test]
fn what_is_not_resp_is_refused_with_a_sentence() {
    for (stream, sentence) in [
        (
            "*1\r\n:1\r\n",
            "Protocol error: expected '$', got byte 0x3a",
        ),
        ("*x\r\n", "Protocol error: invalid number of arguments"),
        ("*1\r\n$-2\r\n", "Protocol error: invalid bulk length"),
        (
            "*1\r\n$1\r\nab\r\n",
            "Protocol error: expected CRLF after a bulk string, got byte 0x62",
        ),
        (
            "SET \"a\r\n",
            "Protocol error: unbalanced quotes in request",
        ),
    ] {
        let refused = CommandDecoder::default().decode(&mut BytesMut::from(stream));
        assert_eq!(refused.unwrap_err().to_string(), sentence);
    }
    for stream in [
        "?\r\n",
        "$?\r\n",
        ":\r\n",
        ":1\n",
        "#x\r\n",
        ",1x\r\n",
        "(\r\n",
        "=3\r\ntxt\r\n",
        "_x\r\n",
        "%-1\r\n",
    ] {
        let refused = ValueDecoder::default().decode(&mut BytesMut::from(stream));
        assert!(refused.is_err(), "{stream:?}: {refused:?}");
    }
}
