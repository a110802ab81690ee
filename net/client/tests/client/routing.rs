use crate::fake::{Fake, client_of, primaries, store, value_reply};
use pegasus_client::{Client, ClientOptions, Code, Error};
use pegasus_fbs::frame::FrameKind;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

#[tokio::test]
async fn requests_go_to_the_partition_of_their_key() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let mut cores = Vec::new();
    for core in 0..4_u32 {
        let seen = Arc::clone(&seen);
        cores.push(
            Fake::start(move |frame, out| {
                seen.lock()
                    .unwrap()
                    .push((core, frame.header.table, frame.header.partition));
                out.reply(&frame.header, &value_reply(b"v"));
            })
            .await,
        );
    }
    let addresses: Vec<_> = cores.iter().map(|core| &core.address[..]).collect();
    let meta = Fake::meta(&primaries(&addresses)).await;
    let table = client_of(&meta).await.table("t").await.unwrap();
    // hash key and its partition among 4, as the clients of Apache Pegasus have it
    for key in ["hash", "hashkey", "hash_key", "user_1"] {
        table.get(key.as_bytes(), b"s").await.unwrap();
    }
    assert_eq!(
        *seen.lock().unwrap(),
        [(0, 7, 0), (2, 7, 2), (1, 7, 1), (3, 7, 3)]
    );
    assert_eq!(
        (
            table.id(),
            table.partition_count(),
            table.partition_of(b"user_1", b"")
        ),
        (7, 4, 3)
    );
    assert_eq!(table.primary_of(1).as_deref(), Some(&cores[1].address[..]));
}

#[tokio::test]
async fn a_redirect_is_followed_and_remembered() {
    let right = store().await;
    let asked = Arc::new(AtomicU32::new(0));
    let (address, counted) = (right.address.clone(), Arc::clone(&asked));
    let wrong = Fake::start(move |frame, out| {
        counted.fetch_add(1, Ordering::Relaxed);
        out.redirect(&frame.header, &address);
    })
    .await;
    let meta = Fake::meta(&primaries(&[&wrong.address, &wrong.address])).await;
    let table = client_of(&meta).await.table("t").await.unwrap();
    table.put(b"h", b"s", b"v").await.unwrap();
    assert_eq!(
        table.get(b"h", b"s").await.unwrap().as_deref(),
        Some(&b"v"[..])
    );
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn routes_are_fetched_again_when_the_partition_has_gone() {
    let right = store().await;
    let routes = primaries(&["", ""]);
    let (moved, address) = (Arc::clone(&routes), right.address.clone());
    let wrong = Fake::start(move |frame, out| {
        *moved.lock().unwrap() = vec![address.clone(), address.clone()];
        out.fail(&frame.header, Code::NotHere);
    })
    .await;
    *routes.lock().unwrap() = vec![wrong.address.clone(), wrong.address.clone()];
    let meta = Fake::meta(&routes).await;
    let table = client_of(&meta).await.table("t").await.unwrap();
    table.put(b"h", b"s", b"v").await.unwrap();
    assert!(table.exist(b"h", b"s").await.unwrap());
}

#[tokio::test]
async fn a_dead_primary_is_left_for_the_new_one() {
    let right = store().await;
    let dead = store().await;
    let routes = primaries(&[&dead.address, &dead.address]);
    let meta = Fake::meta(&routes).await;
    let table = client_of(&meta).await.table("t").await.unwrap();
    assert_eq!(table.get(b"h", b"s").await.unwrap(), None);
    drop(dead);
    *routes.lock().unwrap() = vec![right.address.clone(), right.address.clone()];
    assert_eq!(table.get(b"h", b"s").await.unwrap(), None);
    table.put(b"h", b"s", b"v").await.unwrap();
}

#[tokio::test]
async fn two_cores_that_redirect_to_each_other_do_not_catch_a_request() {
    let addresses = Arc::new(Mutex::new(Vec::<String>::new()));
    let asked = Arc::new(AtomicU32::new(0));
    let mut cores = Vec::new();
    for other in [1, 0] {
        let (addresses, asked) = (Arc::clone(&addresses), Arc::clone(&asked));
        let core = Fake::start(move |frame, out| {
            asked.fetch_add(1, Ordering::Relaxed);
            out.redirect(&frame.header, &addresses.lock().unwrap()[other]);
        });
        cores.push(core.await);
    }
    *addresses.lock().unwrap() = cores.iter().map(|core| core.address.clone()).collect();
    let meta = Fake::meta(&primaries(&[&cores[0].address, &cores[1].address])).await;
    let table = client_of(&meta).await.table("t").await.unwrap();
    let table = table.with_timeout(std::time::Duration::from_millis(100));
    let error = table.get(b"h", b"s").await.unwrap_err();
    assert!(matches!(error, Error::NotExecuted(_)), "{error}");
    assert!(asked.load(Ordering::Relaxed) <= 100, "retries are bounded");
}

#[tokio::test]
async fn everybody_who_waits_shares_one_fetch() {
    let fetches = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&fetches);
    let right = store().await;
    let gone = Fake::start(|frame, out| out.fail(&frame.header, Code::NotHere)).await;
    let (first, later) = (gone.address.clone(), right.address.clone());
    let meta = Fake::start(move |frame, out| match frame.header.kind {
        FrameKind::Route => {
            let address = if counted.fetch_add(1, Ordering::Relaxed) == 0 {
                &first
            } else {
                &later
            };
            out.reply(
                &frame.header,
                &crate::fake::routes(7, &[address.clone(), address.clone()]),
            );
        }
        _ => out.reply(&frame.header, &[]),
    })
    .await;
    let table = client_of(&meta).await.table("t").await.unwrap();
    let puts = (0..50_u8).map(|key| {
        let table = table.clone();
        async move { table.put(&[key], b"s", b"v").await }
    });
    futures::future::try_join_all(puts).await.unwrap();
    assert_eq!(fetches.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn an_unknown_table_is_a_definite_failure() {
    let meta = Fake::meta(&primaries(&["", ""])).await;
    let error = client_of(&meta).await.table("missing").await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Failed {
                code: Code::UnknownTable,
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("missing"));
}

#[tokio::test]
async fn the_next_address_is_asked_when_the_first_is_dead() {
    let dead = store().await.address;
    let core = store().await;
    let meta = Fake::meta(&primaries(&[&core.address, &core.address])).await;
    let client = Client::connect(ClientOptions::new([dead, meta.address.clone()]))
        .await
        .unwrap();
    let table = client.table("t").await.unwrap();
    table.put(b"h", b"s", b"v").await.unwrap();
}

#[tokio::test]
async fn nobody_at_all_is_named_in_the_error() {
    let dead = store().await.address;
    let error = Client::connect(ClientOptions::new([dead.clone()]))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NotExecuted(_)));
    assert!(error.to_string().contains(&dead), "{error}");
}

#[tokio::test]
async fn routes_that_make_no_sense_are_refused() {
    let meta = Fake::start(|frame, out| match frame.header.kind {
        FrameKind::Route => out.reply(&frame.header, &crate::fake::routes(7, &[])),
        _ => out.reply(&frame.header, &[]),
    })
    .await;
    let error = client_of(&meta).await.table("t").await.unwrap_err();
    assert!(error.to_string().contains("0 partitions"), "{error}");
}

#[tokio::test]
async fn a_redirect_wins_over_a_meta_that_has_not_heard_yet() {
    let right = store().await;
    let address = right.address.clone();
    let mut asked = 0;
    let wrong = Fake::start(move |frame, out| {
        asked += 1;
        // It learns late who is primary; meta never does.
        match asked {
            1..=2 => out.fail(&frame.header, Code::NotServing),
            _ => out.redirect(&frame.header, &address),
        }
    })
    .await;
    let meta = Fake::meta(&primaries(&[&wrong.address, &wrong.address])).await;
    let table = client_of(&meta).await.table("t").await.unwrap();
    table.put(b"h", b"s", b"v").await.unwrap();
}

#[tokio::test]
async fn operations_go_on_while_nobody_gives_routes() {
    let mut requests = 0;
    let core = Fake::start(move |frame, out| {
        requests += 1;
        match requests {
            1 => out.fail(&frame.header, Code::NotServing),
            _ => out.reply(&frame.header, &value_reply(b"v")),
        }
    })
    .await;
    let meta = Fake::meta(&primaries(&[&core.address, &core.address])).await;
    let table = client_of(&meta).await.table("t").await.unwrap();
    drop(meta);
    assert!(table.get(b"h", b"s").await.unwrap().is_some());
}
