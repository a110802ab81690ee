//! The store in ZooKeeper, against a real server: one leader writes, whoever was deposed cannot, nothing acknowledged is lost.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests fail by panicking, start processes and wait"
)]

#[path = "../fixture/mod.rs"]
mod fixture;
#[path = "../../../tests/src/zookeeper.rs"]
#[allow(unreachable_pub, reason = "shared with the end-to-end tests")]
mod server;

use fixture::{cluster, node};
use pegasus_meta::leadership::{Leadership as _, MemberChange, Standing, Term, Wake};
use pegasus_meta::state::{Change, Cluster, ClusterId, Command, CreateTable, Durable, State};
use pegasus_meta::store::StoreError;
use pegasus_meta::store::zookeeper::{Root, ZooKeeper, ZooKeeperOptions, create, read, running};
use pegasus_replication::ids::NodeId;
use server::ZooKeeper as Server;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};
use zookeeper_client::Client;

/// Long enough for anything here on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn options(server: &Server, session_ms: u64) -> ZooKeeperOptions {
    ZooKeeperOptions {
        servers: server.address(),
        root: Root::new("/pegasus/test").unwrap(),
        session_timeout: Duration::from_millis(session_ms),
    }
}

/// A meta that stands for election, as `address`.
fn candidate(options: &ZooKeeperOptions, address: &str) -> ZooKeeper {
    let mut candidate = ZooKeeper::open(options.clone(), address.to_owned(), None).unwrap();
    candidate.start(Wake::new(|| {}));
    candidate
}

/// Waits for a condition.
fn wait(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits for its turn, and begins a term.
fn lead(candidate: &mut ZooKeeper) -> Term {
    let mut term = None;
    wait("it leads", || {
        if candidate.standing().unwrap() == Standing::Leads {
            term = match candidate.begin() {
                Ok(term) => Some(term),
                Err(StoreError::Deposed { .. }) => None,
                Err(error) => panic!("{error}"),
            };
        }
        term.is_some()
    });
    term.unwrap()
}

fn number(next: u32) -> [Change; 1] {
    [Change::NodeNumbered { node: NodeId(next) }]
}

fn next_node(durable: &Durable) -> u32 {
    durable.counters().next_node
}

fn is_deposed(result: &Result<(), StoreError>) -> bool {
    matches!(result, Err(StoreError::Deposed { .. }))
}

/// Does something with a plain client of the server.
fn with_client<T>(server: &Server, work: impl AsyncFnOnce(&Client) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let client = Client::connect(&server.address()).await.unwrap();
        work(&client).await
    })
}

/// Takes the place of the first in the election away, as if its session had expired; it still has one.
fn depose(server: &Server) {
    with_client(server, async |client| {
        let mut names = client
            .list_children("/pegasus/test/election")
            .await
            .unwrap();
        names.sort_by_key(|name| name[name.len() - 10..].to_owned());
        let path = format!("/pegasus/test/election/{}", names[0]);
        client.delete(&path, None).await.unwrap();
    });
}

/// A state with a table whose batch takes several znodes.
fn large() -> (Durable, Vec<Change>) {
    let mut state = State::new(cluster());
    let mut changes = Vec::new();
    let mut carry_out = |command| {
        let outcome = state.apply(command);
        changes.push(outcome.changes);
    };
    for id in 1..=3 {
        carry_out(Command::NumberNode);
        carry_out(Command::JoinNode {
            node: node(id, 1, 2),
            now_ms: 1_000,
        });
    }
    carry_out(Command::CreateTable(CreateTable {
        name: "large".to_owned(),
        partition_count: 32_768,
        replica_count: 3,
        allow_degraded: false,
        may_exist: false,
        envs: BTreeMap::new(),
        now_ms: 1_000,
    }));
    (state.durable().clone(), changes.concat())
}

#[test]
fn a_store_is_made_once_and_holds_what_leaders_append_across_terms_and_snapshots() {
    let server = Server::start().unwrap();
    let options = options(&server, 5_000);
    assert_eq!(read(&options).unwrap(), None);
    let error = ZooKeeper::open(options.clone(), "a:1".to_owned(), None).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("holds no meta store at /pegasus/test"),
        "{error}"
    );

    create(&options, &Durable::new(cluster())).unwrap();
    let again = create(&options, &Durable::new(cluster()));
    assert!(matches!(again, Err(StoreError::Exists { .. })), "{again:?}");
    let other = ClusterId(7);
    let error = ZooKeeper::open(options.clone(), "a:1".to_owned(), Some(other)).unwrap_err();
    assert!(
        matches!(error, StoreError::ForeignCluster { .. }),
        "{error}"
    );

    let (wanted, changes) = large();
    let mut first = candidate(&options, "a:1");
    assert_eq!(first.cluster(), cluster().id);
    let Term {
        mut store,
        durable,
        number: term,
    } = lead(&mut first);
    assert_eq!((&durable, term), (&Durable::new(cluster()), 1));
    store.append(&[]).unwrap();
    for change in changes.chunks(3) {
        store.append(change).unwrap();
        store.confirm().unwrap();
    }
    assert_eq!(store.load().unwrap(), wanted);
    drop(store);
    // A second term of the same process.
    let Term {
        mut store,
        durable,
        number: term,
    } = first.begin().unwrap();
    assert_eq!((&durable, term), (&wanted, 2));

    // So many batches that a snapshot is wanted, then more.
    let mut durable = durable;
    let mut snapshots = 0;
    for _ in 0..600 {
        let change = number(next_node(&durable));
        store.append(&change).unwrap();
        durable.apply(&change[0]).unwrap();
        if store.wants_snapshot() {
            store.snapshot(&durable).unwrap();
            store.snapshot(&durable).unwrap();
            snapshots += 1;
        }
    }
    assert_eq!(snapshots, 1);
    drop(store);
    first.resign();
    assert_eq!(read(&options).unwrap(), Some(durable.clone()));
    let mut second = candidate(&options, "b:1");
    let term = lead(&mut second);
    assert_eq!((&term.durable, term.number), (&durable, 3));
    let left = with_client(&server, async |client| {
        let snapshots = client
            .list_children("/pegasus/test/snapshots")
            .await
            .unwrap();
        let batches = client.list_children("/pegasus/test/batches").await.unwrap();
        (snapshots.len(), batches.len())
    });
    assert!(
        left.0 <= 5 && left.1 < 600,
        "older ones are cleaned up: {left:?}"
    );
}

#[test]
fn a_deposed_leader_writes_nothing_and_the_next_one_goes_on() {
    let server = Server::start().unwrap();
    // So long that no session ends in this test: only the version of the head is in the way.
    let options = options(&server, 60_000);
    create(&options, &Durable::new(cluster())).unwrap();
    let mut old = candidate(&options, "old:1");
    let mut term = lead(&mut old);
    term.store.append(&number(1)).unwrap();
    let mut new = candidate(&options, "new:1");
    wait("the follower knows the leader", || {
        new.standing().unwrap()
            == Standing::Follows {
                leader: Some("old:1".to_owned()),
            }
    });
    assert_eq!(running(&options).unwrap(), ["old:1", "new:1"]);
    let names: Vec<_> = new
        .members()
        .into_iter()
        .map(|it| (it.address, it.leads))
        .collect();
    assert_eq!(
        names,
        [("old:1".to_owned(), true), ("new:1".to_owned(), false)]
    );

    depose(&server);
    let mut next = lead(&mut new);
    assert_eq!(next_node(&next.durable), 2);
    let refused = term.store.append(&number(2));
    assert!(is_deposed(&refused), "{refused:?}");
    assert!(is_deposed(&term.store.confirm()));
    assert!(is_deposed(&term.store.snapshot(&Durable::new(cluster()))));
    assert!(next.store.load().unwrap() == next.durable);
    next.store.confirm().unwrap();
    next.store.append(&number(2)).unwrap();
    drop(term);
    wait("the old one follows the new one", || {
        old.standing().unwrap()
            == Standing::Follows {
                leader: Some("new:1".to_owned()),
            }
    });
    // One that ends gives its place up at once.
    drop(next);
    new.resign();
    assert_eq!(next_node(&lead(&mut old).durable), 3);
    let refused = |done: Result<(), String>| {
        assert!(done.unwrap_err().contains("have no list of members"));
    };
    old.change_members(MemberChange::Remove { id: 1 }, Box::new(refused));
}

#[test]
fn a_server_that_is_away_for_a_moment_only_delays_writes() {
    let mut server = Server::start().unwrap();
    let options = options(&server, 60_000);
    create(&options, &Durable::new(cluster())).unwrap();
    let mut meta = candidate(&options, "a:1");
    let mut term = lead(&mut meta);
    term.store.append(&number(1)).unwrap();
    server.kill();
    let writer = std::thread::spawn(move || {
        term.store.append(&number(2)).unwrap();
        term.store.confirm().unwrap();
        term
    });
    server.start_again().unwrap();
    let term = writer.join().unwrap();
    assert_eq!(next_node(&term.store.load().unwrap()), 3);
    assert_eq!(meta.standing().unwrap(), Standing::Leads);
}

#[test]
fn a_server_that_is_away_for_longer_than_the_session_ends_the_term_and_a_leader_comes_back_with_it()
{
    let mut server = Server::start().unwrap();
    let options = options(&server, 1_000);
    create(&options, &Durable::new(cluster())).unwrap();
    let mut meta = candidate(&options, "a:1");
    let mut term = lead(&mut meta);
    term.store.append(&number(1)).unwrap();
    server.kill();
    let refused = term.store.append(&number(2));
    assert!(is_deposed(&refused), "{refused:?}");
    assert!(is_deposed(&term.store.confirm()));
    assert_eq!(meta.standing().unwrap(), Standing::Follows { leader: None });
    assert!(matches!(meta.begin(), Err(StoreError::Deposed { .. })));
    let error = read(&options).unwrap_err();
    assert!(
        error.to_string().contains("no ZooKeeper answers at"),
        "{error}"
    );

    server.start_again().unwrap();
    let mut term = lead(&mut meta);
    let next = next_node(&term.durable);
    assert!(
        (2..=3).contains(&next),
        "what was acknowledged is there, what was not may be: {next}"
    );
    term.store.append(&number(next)).unwrap();
}

#[test]
fn metas_that_race_for_the_lead_never_lose_or_repeat_what_was_acknowledged() {
    let server = Server::start().unwrap();
    let options = options(&server, 4_000);
    create(&options, &Durable::new(cluster())).unwrap();
    let (acknowledged, unknown, terms) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for number_of_meta in 0..2 {
            let (options, stop) = (&options, &stop);
            let (acknowledged, unknown, terms) = (&acknowledged, &unknown, &terms);
            scope.spawn(move || {
                let mut meta = candidate(options, &format!("meta-{number_of_meta}:1"));
                while !stop.load(Ordering::Relaxed) {
                    let begun = match meta.standing().unwrap() {
                        Standing::Leads => meta.begin(),
                        Standing::Follows { .. } => {
                            std::thread::sleep(Duration::from_millis(2));
                            continue;
                        }
                    };
                    let Ok(Term {
                        mut store,
                        mut durable,
                        ..
                    }) = begun
                    else {
                        continue;
                    };
                    terms.fetch_add(1, Ordering::Relaxed);
                    while !stop.load(Ordering::Relaxed) {
                        let change = number(next_node(&durable));
                        match store.append(&change) {
                            Ok(()) => {
                                acknowledged.fetch_add(1, Ordering::Relaxed);
                                durable.apply(&change[0]).unwrap();
                            }
                            Err(StoreError::Deposed { may_be_stored, .. }) => {
                                unknown.fetch_add(u32::from(may_be_stored), Ordering::Relaxed);
                                break;
                            }
                            Err(error) => panic!("{error}"),
                        }
                        if store.wants_snapshot() && is_deposed(&store.snapshot(&durable)) {
                            break;
                        }
                    }
                }
            });
        }
        for round in 1..=6 {
            wait("somebody leads again", || {
                terms.load(Ordering::Relaxed) >= round
            });
            let before = acknowledged.load(Ordering::Relaxed);
            wait("it writes", || {
                acknowledged.load(Ordering::Relaxed) > before + 10
            });
            depose(&server);
        }
        wait("the last one leads", || terms.load(Ordering::Relaxed) >= 7);
        stop.store(true, Ordering::Relaxed);
    });
    let durable = read(&options).unwrap().unwrap();
    let stored = next_node(&durable) - 1;
    let (acknowledged, unknown) = (acknowledged.into_inner(), unknown.into_inner());
    assert!(
        acknowledged <= stored && stored <= acknowledged + unknown,
        "{stored} stored, {acknowledged} acknowledged, {unknown} unknown"
    );
    assert!(acknowledged > 60, "{acknowledged}");
}

#[test]
fn two_that_make_a_store_at_once_make_one() {
    let server = Server::start().unwrap();
    let options = options(&server, 10_000);
    let made: Vec<bool> = std::thread::scope(|scope| {
        let makers: Vec<_> = (1..=4u128)
            .map(|id| {
                let options = &options;
                let cluster = Cluster {
                    id: ClusterId(id),
                    ..cluster()
                };
                scope.spawn(move || match create(options, &Durable::new(cluster)) {
                    Ok(()) => true,
                    Err(StoreError::Exists { .. }) => false,
                    Err(error) => panic!("{error}"),
                })
            })
            .collect();
        makers.into_iter().map(|it| it.join().unwrap()).collect()
    });
    assert_eq!(made.iter().filter(|made| **made).count(), 1, "{made:?}");
    let winner = made.iter().position(|made| *made).unwrap() as u128 + 1;
    let durable = read(&options).unwrap().unwrap();
    assert_eq!(durable.cluster().id, ClusterId(winner));
    lead(&mut candidate(&options, "a:1"));
}

#[test]
fn damage_and_what_belongs_to_others_is_refused_by_the_path_of_its_znode() {
    let server = Server::start().unwrap();
    let options = options(&server, 10_000);
    create(&options, &Durable::new(cluster())).unwrap();
    let mut meta = candidate(&options, "a:1");
    let mut term = lead(&mut meta);
    for next in 1..=3 {
        term.store.append(&number(next)).unwrap();
    }
    drop(term);
    let root = "/pegasus/test";
    let batches = with_client(&server, async |client| {
        let mut names = client.list_children("/pegasus/test/batches").await.unwrap();
        names.sort();
        names
    });
    let path = format!("{root}/batches/{}", batches[1]);
    let (good, head) = with_client(&server, async |client| {
        let good = client.get_data(&path).await.unwrap().0;
        let head = client.get_data("/pegasus/test/head").await.unwrap().0;
        (good, head)
    });
    let mut refusal = |path: &str, bytes: &[u8]| {
        with_client(&server, async |client| {
            client.set_data(path, bytes, None).await.unwrap();
        });
        let refused = read(&options).unwrap_err().to_string();
        let begun = meta.begin();
        assert!(
            matches!(&begun, Err(error) if error.to_string() == refused),
            "{begun:?}"
        );
        assert!(refused.starts_with(&format!("{path}: ")), "{refused}");
        refused
    };
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    assert!(refusal(&path, &bad).contains("checksum mismatch"));
    assert!(refusal(&path, b"hello").contains("shorter than a header"));
    assert!(refusal(&path, b"").contains("shorter than a header"));
    with_client(&server, async |client| {
        client.delete(&path, None).await.unwrap();
    });
    assert!(
        read(&options)
            .unwrap_err()
            .to_string()
            .contains("is missing")
    );
    with_client(&server, async |client| {
        let other = zookeeper_client::CreateMode::Persistent
            .with_acls(zookeeper_client::Acls::anyone_all());
        client.create(&path, &good, &other).await.unwrap();
    });
    let head_path = format!("{root}/head");
    let foreign = String::from_utf8(head)
        .unwrap()
        .replace("\"next\":", "\"next\":1");
    assert!(refusal(&head_path, foreign.as_bytes()).contains("checksum mismatch"));
    assert!(refusal(&head_path, b"{\"format\":9}").contains("format 9"));
    assert!(refusal(&head_path, b"hello").contains("not the head of a meta store"));

    // Another cluster in its place ends a meta that was of this one.
    with_client(&server, async |client| {
        client.delete(&head_path, None).await.unwrap();
    });
    let other = Cluster {
        id: ClusterId(7),
        ..cluster()
    };
    create(&options, &Durable::new(other)).unwrap();
    let begun = meta.begin();
    assert!(
        matches!(begun, Err(StoreError::ForeignCluster { .. })),
        "{begun:?}"
    );
}
