//! The front-ends of Apache Pegasus and of HTTP against any bytes: no panic, bounded memory, and whatever was asked can be
//! answered. Run by the tests and by the fuzz target `apache_frontend`.

use bytes::BytesMut;
use pegasus_fbs::code::Code;
use pegasus_net::frontend::http::Http;
use pegasus_net::frontend::thrift::{READ_BYTES_MAX, Thrift};
use pegasus_net::frontend::{Decoded, Frontend, Own, Scratch};
use pegasus_net::request::{Failure, Reply, Response, Rows};
use pegasus_thrift::Protocol;
use std::rc::Rc;

/// The first byte chooses the protocol and the size of the pieces, the rest is the stream.
pub(crate) fn run(input: &[u8]) {
    let Some((choice, stream)) = input.split_first() else {
        return;
    };
    let own = Rc::new(Own::new(([127, 0, 0, 1], 34801).into()));
    let mut frontend: Box<dyn Frontend> = match choice % 3 {
        0 => Box::new(Thrift::new(Protocol::Thft, own)),
        1 => Box::new(Thrift::new(Protocol::Rdsn, own)),
        _ => Box::new(Http::default()),
    };
    let mut buffer = BytesMut::new();
    for piece in stream.chunks(usize::from(*choice) + 1) {
        buffer.extend_from_slice(piece);
        if !take_all(frontend.as_mut(), &mut buffer) {
            return;
        }
        assert!(
            buffer.len() <= READ_BYTES_MAX + 4096,
            "{} bytes kept",
            buffer.len()
        );
    }
    let _ = frontend.is_within_frame(&buffer);
}

/// False: the connection would be closed.
fn take_all(frontend: &mut dyn Frontend, buffer: &mut BytesMut) -> bool {
    let mut scratch = Scratch::default();
    loop {
        let (left, mut output) = (buffer.len(), Vec::new());
        match frontend.decode(buffer, &mut output) {
            Ok(None) => return true,
            Ok(Some(Decoded::Answered | Decoded::Held)) => {
                assert!(buffer.len() < left || !output.is_empty());
            }
            Ok(Some(Decoded::Refused { tag, failure })) => {
                frontend.encode(&tag, &Err(failure), &mut scratch, &mut output);
            }
            Ok(Some(Decoded::Request { tag, .. })) => {
                let reply = reply(left);
                frontend.encode(&tag, &reply, &mut scratch, &mut output);
                assert!(output.len() < 1024, "an answer of {} bytes", output.len());
            }
            Err(_) => return false,
        }
    }
}

/// Some answer, fitting or not.
fn reply(choice: usize) -> Reply {
    match choice % 4 {
        0 => Ok(Response::Value(bytes::Bytes::from_static(b"v"))),
        1 => Ok(Response::Rows(Rows {
            rows: Vec::new(),
            complete: false,
            resume_key: bytes::Bytes::new(),
            count: 0,
        })),
        2 => Ok(Response::InvalidArgument("no")),
        _ => Err(Failure::new(Code::NotFound, "no")),
    }
}

#[test]
fn any_bytes_are_taken_or_end_the_connection() {
    let mut get = vec![0];
    let header = pegasus_thrift::frame::thft::Header {
        app_id: 2,
        ..Default::default()
    };
    let request = pegasus_thrift::data::Request::Get(b"\0\x01k");
    request.encode_thft(&header, 1, &mut get);
    let mut rdsn = vec![1];
    let name = pegasus_thrift::Rpc::Get.name().into();
    let header = pegasus_thrift::frame::rdsn::Header::request(name, 1).to_partition(2, 0, 0);
    request.encode_rdsn(&header, &mut rdsn);
    let seeds: [(&str, &[u8]); 4] = [
        ("thft", &get),
        ("rdsn", &rdsn),
        (
            "http",
            b"\x02GET /metrics?a=b HTTP/1.1\r\n\r\nPOST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
        ),
        (
            "pieces",
            b"\x05GET / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n",
        ),
    ];
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fuzz/corpus/apache_frontend");
    for (name, seed) in seeds {
        if std::env::var_os("PEGASUS_WRITE_CORPUS").is_some() {
            std::fs::create_dir_all(&corpus).unwrap();
            std::fs::write(corpus.join(name), seed).unwrap();
        }
        assert_eq!(std::fs::read(corpus.join(name)).unwrap(), seed, "{name}");
        for at in 0..seed.len() {
            let mut changed = seed.to_vec();
            changed[at] ^= 0x55;
            run(&changed);
            run(&seed[..at]);
        }
    }
    for entry in std::fs::read_dir(corpus).unwrap() {
        run(&std::fs::read(entry.unwrap().path()).unwrap());
    }
}
