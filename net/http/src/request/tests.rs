use super::*;
use crate::Response;

fn decode(bytes: &[u8]) -> Result<Vec<Request>, DecodeError> {
    let mut decoder = RequestDecoder::new(Limits::DEFAULT);
    let mut input = BytesMut::from(bytes);
    let mut requests = Vec::new();
    while let Some(request) = decoder.decode(&mut input)? {
        requests.push(request);
    }
    Ok(requests)
}

#[test]
fn pipelined_requests_come_out_one_by_one() {
    let requests = decode(
        b"GET /metrics?types=replica HTTP/1.1\r\nAccept: Text/Plain\r\n\r\n\
          POST /meta/app/start_compaction HTTP/1.1\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
    )
    .expect("well formed");
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].path, "metrics");
    assert_eq!(requests[0].query, "types=replica");
    assert_eq!(requests[0].accept, "text/plain");
    assert!(requests[0].keep_alive);
    assert_eq!(requests[1].method, Method::Post);
    assert_eq!(&requests[1].body[..], b"{}");
    assert!(!requests[1].keep_alive);
}

#[test]
fn a_whole_address_is_taken_as_its_path() {
    let requests = decode(b"GET http://host:1/a/b%2fc/?x HTTP/1.0\n\n").expect("well formed");
    assert_eq!(requests[0].path, "a/b/c");
    assert_eq!(requests[0].query, "x");
    assert!(!requests[0].keep_alive);
}

#[test]
fn what_is_over_a_limit_is_refused_before_it_has_arrived() {
    let long = [b"GET /".as_slice(), &[b'a'; 9000]].concat();
    assert_eq!(
        decode(&long),
        Err(DecodeError::HeadTooLarge { max: 8 << 10 })
    );
    let body = b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n";
    assert!(matches!(
        decode(body),
        Err(DecodeError::BodyTooLarge { .. })
    ));
    assert_eq!(
        decode(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"),
        Err(DecodeError::Chunked)
    );
}

#[test]
fn a_length_that_is_told_differently_twice_is_refused() {
    let lengths = |first: &str, second: &str| {
        decode(
            format!(
                "POST / HTTP/1.1\r\nContent-Length: {first}\r\nContent-Length: {second}\r\n\r\nab"
            )
            .as_bytes(),
        )
    };
    assert_eq!(lengths("2", "2").expect("the same")[0].body.len(), 2);
    assert!(lengths("2", "1").is_err());
    assert!(lengths("-1", "-1").is_err());
    assert!(lengths("+2", "+2").is_err());
}

#[test]
fn a_client_that_asks_before_it_sends_is_told_once_to_go_on() {
    let mut decoder = RequestDecoder::new(Limits::DEFAULT);
    let mut input = BytesMut::from(
        &b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"[..],
    );
    assert_eq!(decoder.decode(&mut input), Ok(None));
    assert!(decoder.take_continue_wanted());
    assert!(!decoder.take_continue_wanted());
    assert!(decoder.is_within_request(&input));
    input.extend_from_slice(b"x");
    assert!(decoder.decode(&mut input).expect("well formed").is_some());
    assert!(!decoder.is_within_request(&input));
}

#[test]
fn an_answer_has_a_length_and_says_when_the_connection_ends() {
    let mut output = Vec::new();
    let form = ReplyForm {
        keep_alive: false,
        has_body: true,
    };
    Response::not_found("a/b").encode(&form, &mut output);
    assert_eq!(
        String::from_utf8(output).expect("text"),
        "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 27\r\n\
         Connection: close\r\n\r\nservice not found for \"a/b\""
    );
    let mut output = Vec::new();
    let form = ReplyForm {
        keep_alive: true,
        has_body: false,
    };
    Response::redirect("http://a/b\r\nX: y").encode(&form, &mut output);
    assert_eq!(
        String::from_utf8(output).expect("text"),
        "HTTP/1.1 307 Temporary Redirect\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 0\r\n\
         Location: http://a/bX: y\r\n\r\n"
    );
}
