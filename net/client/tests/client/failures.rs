use crate::fake::{Fake, client_of, primaries, store, value_reply, write_reply};
use pegasus_client::{ClientOptions, Code, Error, Execution, Table};
use pegasus_fbs::frame::{Frame, FrameKind, HEADER_BYTES};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(50);

/// A table of two partitions on one made-up core.
async fn table_on(core: &Fake) -> (Fake, Table) {
    let meta = Fake::meta(&primaries(&[&core.address, &core.address])).await;
    let table = client_of(&meta).await.table("t").await.unwrap();
    (meta, table)
}

#[tokio::test]
async fn replies_out_of_order_find_their_requests() {
    let mut held = Vec::<Frame>::new();
    let core = Fake::start(move |frame, out| {
        held.push(frame);
        if held.len() == 32 {
            for frame in held.drain(..).rev() {
                let key = pegasus_fbs::body::read::<pegasus_fbs::kv::KeyRequest<'_>>(&frame.body)
                    .unwrap();
                out.reply(
                    &frame.header,
                    &value_reply(pegasus_fbs::body::bytes(key.sort_key())),
                );
            }
        }
    })
    .await;
    let (_meta, table) = table_on(&core).await;
    let gets = (0..32_u8).map(|key| {
        let table = table.clone();
        async move { (key, table.get(b"h", &[key]).await.unwrap().unwrap()) }
    });
    for (key, value) in futures::future::join_all(gets).await {
        assert_eq!(value, [key][..]);
    }
}

#[tokio::test]
async fn a_write_without_an_answer_is_unknown_and_a_read_is_not() {
    let core = Fake::start(|frame, out| {
        if frame.header.kind == FrameKind::Remove {
            out.reply(&frame.header, &write_reply(1));
        }
    })
    .await;
    let (_meta, table) = table_on(&core).await;
    table.remove(b"h", b"connects").await.unwrap();
    let table = table.with_timeout(SHORT);
    let error = table.put(b"h", b"s", b"v").await.unwrap_err();
    assert_eq!(error.execution(), Execution::Unknown, "{error}");
    let error = table.get(b"h", b"s").await.unwrap_err();
    assert_eq!(error.execution(), Execution::NotExecuted, "{error}");
}

#[tokio::test]
async fn a_late_answer_disturbs_nobody() {
    let mut late = None;
    let core = Fake::start(move |frame, out| match late.take() {
        _ if frame.header.kind == FrameKind::Remove => out.reply(&frame.header, &write_reply(1)),
        None => late = Some(frame.header),
        Some(first) => {
            out.reply(&first, &value_reply(b"late"));
            out.reply(&frame.header, &value_reply(b"right"));
        }
    })
    .await;
    let (_meta, table) = table_on(&core).await;
    table.remove(b"h", b"connects").await.unwrap();
    table.with_timeout(SHORT).get(b"h", b"1").await.unwrap_err();
    let value = table.get(b"h", b"2").await.unwrap();
    assert_eq!(value.as_deref(), Some(&b"right"[..]));
}

/// Closes the connection on the first request of `kind` and serves everything else.
async fn drops_first(kind: FrameKind, requests: &Arc<AtomicU32>) -> Fake {
    let requests = Arc::clone(requests);
    Fake::start(move |frame, out| {
        if frame.header.kind == kind && requests.fetch_add(1, Ordering::Relaxed) == 0 {
            out.close();
        } else if frame.header.kind == FrameKind::Get {
            out.reply(&frame.header, &value_reply(b"v"));
        } else {
            out.reply(&frame.header, &write_reply(1));
        }
    })
    .await
}

#[tokio::test]
async fn a_lost_connection_repeats_reads() {
    let requests = Arc::default();
    let core = drops_first(FrameKind::Get, &requests).await;
    let (_meta, table) = table_on(&core).await;
    assert_eq!(
        table.get(b"h", b"s").await.unwrap().as_deref(),
        Some(&b"v"[..])
    );
    assert_eq!(requests.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_lost_connection_leaves_writes_unknown_and_unrepeated() {
    let requests = Arc::default();
    let core = drops_first(FrameKind::Put, &requests).await;
    let (_meta, table) = table_on(&core).await;
    let error = table.put(b"h", b"s", b"v").await.unwrap_err();
    assert!(matches!(error, Error::Unknown(_)), "{error}");
    assert!(error.to_string().contains(&core.address), "{error}");
    assert_eq!(requests.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_lost_connection_repeats_writes_that_may_be_repeated_under_one_identity() {
    let identities = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&identities);
    let core = Fake::start(move |frame, out| {
        let put = pegasus_fbs::body::read::<pegasus_fbs::kv::PutRequest<'_>>(&frame.body).unwrap();
        let mut seen = seen.lock().unwrap();
        seen.push((put.request_client(), put.request_sequence()));
        match seen.len() {
            1 => out.close(),
            _ => out.reply(&frame.header, &write_reply(1)),
        }
    })
    .await;
    let (_meta, table) = table_on(&core).await;
    table
        .with_retry_unknown_writes(true)
        .put(b"h", b"s", b"v")
        .await
        .unwrap();
    let identities = identities.lock().unwrap();
    assert_eq!(identities.len(), 2);
    assert_eq!(identities[0], identities[1]);
    assert_ne!(identities[0], (0, 0));
}

#[tokio::test]
async fn an_earlier_copy_keeps_a_repeated_write_unknown() {
    let mut requests = 0;
    let core = Fake::start(move |frame, out| {
        requests += 1;
        match requests {
            1 => out.close(),
            _ => out.fail(&frame.header, Code::DiskFull),
        }
    })
    .await;
    let (_meta, table) = table_on(&core).await;
    let error = table
        .with_retry_unknown_writes(true)
        .put(b"h", b"s", b"v")
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::Unknown(cause) if cause.code == Some(Code::DiskFull)),
        "{error}"
    );
}

#[tokio::test]
async fn a_moment_of_back_pressure_is_waited_out() {
    let mut requests = 0;
    let core = Fake::start(move |frame, out| {
        requests += 1;
        match requests {
            1 => out.fail(&frame.header, Code::Busy),
            2 => out.fail(&frame.header, Code::NotEnoughMembers),
            _ => out.reply(&frame.header, &write_reply(1)),
        }
    })
    .await;
    let (_meta, table) = table_on(&core).await;
    table.put(b"h", b"s", b"v").await.unwrap();
}

#[tokio::test]
async fn trouble_that_outlasts_the_deadline_is_reported_by_the_servers_own_words() {
    let core = Fake::start(|frame, out| {
        let long = Duration::from_secs(3_600);
        out.fail_with(
            &frame.header,
            Code::NotEnoughMembers,
            "1 of 2 members",
            long,
            "",
        );
    })
    .await;
    let (_meta, table) = table_on(&core).await;
    let error = table.put(b"h", b"s", b"v").await.unwrap_err();
    assert_eq!(
        (error.execution(), error.code()),
        (Execution::NotExecuted, Some(Code::NotEnoughMembers))
    );
    assert!(error.to_string().contains("1 of 2 members"), "{error}");
}

#[tokio::test]
async fn a_lasting_refusal_is_told_before_the_deadline_to_those_who_ask_for_it() {
    let requests = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&requests);
    let core = Fake::start(move |frame, out| {
        counted.fetch_add(1, Ordering::Relaxed);
        out.fail(&frame.header, Code::NotEnoughMembers);
    })
    .await;
    let meta = Fake::meta(&primaries(&[&core.address, &core.address])).await;
    let options = ClientOptions {
        timeout: Duration::from_secs(3_600),
        refusal_timeout: Duration::ZERO,
        ..ClientOptions::new([&meta.address[..]])
    };
    let client = pegasus_client::Client::connect(options).await.unwrap();
    let table = client.table("t").await.unwrap();
    let error = table.put(b"h", b"s", b"v").await.unwrap_err();
    assert_eq!(
        (error.execution(), error.code()),
        (Execution::NotExecuted, Some(Code::NotEnoughMembers))
    );
    assert_eq!(requests.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn final_refusals_are_not_repeated() {
    let requests = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&requests);
    let core = Fake::start(move |frame, out| {
        counted.fetch_add(1, Ordering::Relaxed);
        out.fail_with(
            &frame.header,
            Code::TooLarge,
            "row of 2 MiB, the limit is 1 MiB",
            Duration::ZERO,
            "",
        );
    })
    .await;
    let (_meta, table) = table_on(&core).await;
    let error = table.put(b"h", b"s", b"v").await.unwrap_err();
    assert_eq!(
        error,
        Error::Failed {
            code: Code::TooLarge,
            message: "row of 2 MiB, the limit is 1 MiB".into()
        }
    );
    assert_eq!(requests.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn an_unknown_outcome_said_by_the_server_stays_one_for_writes() {
    let mut gets = 0;
    let core = Fake::start(move |frame, out| match frame.header.kind {
        FrameKind::Get if gets > 0 => out.reply(&frame.header, &value_reply(b"v")),
        FrameKind::Get => {
            gets += 1;
            out.fail(&frame.header, Code::Unknown);
        }
        _ => out.fail(&frame.header, Code::Unknown),
    })
    .await;
    let (_meta, table) = table_on(&core).await;
    let error = table.remove(b"h", b"s").await.unwrap_err();
    assert_eq!(
        (error.execution(), error.code()),
        (Execution::Unknown, Some(Code::Unknown))
    );
    assert!(table.get(b"h", b"s").await.unwrap().is_some());
}

#[tokio::test]
async fn garbage_from_the_server_ends_the_connection_only() {
    let mut requests = 0;
    let core = Fake::start(move |frame, out| {
        requests += 1;
        match requests {
            1 => out.raw(b"HTTP/1.1 200 OK\r\n\r\n"),
            2 => out.raw(&[0x89, b'P', b'G', b'S', 1, 1, 1, 0, 255, 255, 255, 255]),
            3 => out.raw(&[0x89; HEADER_BYTES]),
            4 => {
                let mut bytes = Vec::new();
                pegasus_fbs::frame::encode_frame(
                    &mut bytes,
                    &frame.header,
                    b"a request from a server",
                );
                out.raw(&bytes);
            }
            _ => out.reply(&frame.header, &value_reply(b"v")),
        }
        if requests == 2 {
            out.close();
        }
    })
    .await;
    let (_meta, table) = table_on(&core).await;
    assert_eq!(
        table.get(b"h", b"s").await.unwrap().as_deref(),
        Some(&b"v"[..])
    );
}

#[tokio::test]
async fn a_malformed_answer_is_an_error_of_the_server() {
    let core = Fake::start(|frame, out| out.reply(&frame.header, b"not a flatbuffer")).await;
    let (_meta, table) = table_on(&core).await;
    let error = table.get(b"h", b"s").await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Failed {
                code: Code::Internal,
                ..
            }
        ),
        "{error}"
    );
    let error = table.multi_remove(b"h", &["s"]).await.unwrap_err();
    assert!(matches!(error, Error::Unknown(_)), "{error}");
}

#[tokio::test]
async fn requests_beyond_the_window_wait_for_a_place() {
    let mut held = Vec::new();
    let core = Fake::start(move |frame, out| {
        held.push(frame.header);
        assert!(held.len() <= 2, "more in flight than allowed");
        if held.len() == 2 {
            held.drain(..)
                .for_each(|header| out.reply(&header, &value_reply(b"v")));
        }
    })
    .await;
    let meta = Fake::meta(&primaries(&[&core.address, &core.address])).await;
    let options = ClientOptions {
        inflight_max: 2,
        ..ClientOptions::new([&meta.address[..]])
    };
    let table = pegasus_client::Client::connect(options)
        .await
        .unwrap()
        .table("t")
        .await
        .unwrap();
    let gets = (0..100_u8).map(|key| {
        let table = table.clone();
        async move { table.get(&[key], b"s").await }
    });
    assert_eq!(
        futures::future::try_join_all(gets).await.unwrap().len(),
        100
    );
}

#[tokio::test]
async fn a_request_that_never_got_a_place_was_not_executed() {
    let core = Fake::start(|_, _| ()).await;
    let meta = Fake::meta(&primaries(&[&core.address, &core.address])).await;
    let options = ClientOptions {
        inflight_max: 1,
        ..ClientOptions::new([&meta.address[..]])
    };
    let table = pegasus_client::Client::connect(options)
        .await
        .unwrap()
        .table("t")
        .await
        .unwrap();
    let stuck = tokio::spawn({
        let table = table.clone();
        async move { table.put(b"h", b"1", b"v").await }
    });
    tokio::task::yield_now().await;
    let waiting = table.with_timeout(SHORT);
    let (first, second) =
        tokio::join!(waiting.put(b"h", b"2", b"v"), waiting.put(b"h", b"3", b"v"));
    let outcomes = [
        first.unwrap_err().execution(),
        second.unwrap_err().execution(),
    ];
    assert!(outcomes.contains(&Execution::NotExecuted), "{outcomes:?}");
    stuck.abort();
}

#[tokio::test]
async fn a_silent_server_is_given_up_before_the_deadline() {
    let mut gets = 0;
    let core = Fake::start(move |frame, out| {
        gets += 1;
        if gets == 1 {
            out.reply(&frame.header, &value_reply(b"v"));
        }
    })
    .await;
    let (_meta, table) = table_on(&core).await;
    table.get(b"h", b"s").await.unwrap();
    tokio::time::pause();
    let table = table.with_timeout(Duration::from_secs(600));
    let error = table.put(b"h", b"s", b"v").await.unwrap_err();
    assert!(matches!(error, Error::Unknown(_)), "{error}");
    assert!(error.to_string().contains("silent"), "{error}");
}

#[tokio::test]
async fn what_cannot_fit_a_frame_is_refused_at_once() {
    let core = store().await;
    let (_meta, table) = table_on(&core).await;
    let error = table
        .put(b"h", b"s", &vec![0; (64 << 20) + 1])
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(Code::TooLarge));
    let error = table
        .put(b"h", b"s", &vec![0; (64 << 20) - 3])
        .await
        .unwrap_err();
    assert_eq!(
        error.code(),
        Some(Code::TooLarge),
        "with the overhead of the encoding"
    );
}

#[tokio::test]
async fn options_out_of_range_are_refused_with_a_sentence() {
    let none: [&str; 0] = [];
    let refused = [
        ClientOptions::new(none),
        ClientOptions {
            inflight_max: 0,
            ..ClientOptions::new(["127.0.0.1:1"])
        },
        ClientOptions {
            timeout: Duration::ZERO,
            ..ClientOptions::new(["127.0.0.1:1"])
        },
    ];
    for options in refused {
        let error = pegasus_client::Client::connect(options).await.unwrap_err();
        assert_eq!(error.code(), Some(Code::InvalidArgument), "{error}");
    }
}
