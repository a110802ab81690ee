use crate::fake::{Fake, client_of, finish};
use pegasus_client::{
    Client, ClientOptions, Code, CreateTable, CreatedTable, Error, Health, ReplicaHealth,
};
use pegasus_fbs::flatbuffers::FlatBufferBuilder;
use pegasus_fbs::frame::FrameKind;
use pegasus_fbs::{admin, body, meta};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep};

fn wanted() -> CreateTable {
    CreateTable {
        name: "users".into(),
        partition_count: 8,
        replica_count: 3,
        allow_degraded: true,
    }
}

/// A meta that answers `kind` by `answer` and pings by nothing.
async fn meta_that(kind: FrameKind, answer: impl Fn() -> Vec<u8> + Send + 'static) -> Fake {
    Fake::start(move |frame, out| match frame.header.kind {
        FrameKind::Ping => out.reply(&frame.header, &[]),
        found if found == kind => out.reply(&frame.header, &answer()),
        _ => out.fail(&frame.header, Code::Unsupported),
    })
    .await
}

#[tokio::test]
async fn a_table_is_created_as_asked_for() {
    let server = Fake::start(|frame, out| {
        if frame.header.kind == FrameKind::CreateTable {
            let request = body::read::<admin::CreateTable<'_>>(&frame.body).unwrap();
            assert_eq!(
                (
                    request.name(),
                    request.partition_count(),
                    request.replica_count()
                ),
                (Some("users"), 8, 3)
            );
            assert!(request.allow_degraded());
            let arguments = admin::CreateTableReplyArgs {
                table_id: 4,
                degraded: true,
            };
            out.reply(
                &frame.header,
                &finish(|b| admin::CreateTableReply::create(b, &arguments)),
            );
        } else {
            out.reply(&frame.header, &[]);
        }
    })
    .await;
    let created = client_of(&server)
        .await
        .create_table(&wanted())
        .await
        .unwrap();
    assert_eq!(
        created,
        CreatedTable {
            table_id: 4,
            degraded: true
        }
    );
}

#[tokio::test]
async fn a_refused_table_keeps_the_servers_sentence() {
    let server = Fake::start(|frame, out| match frame.header.kind {
        FrameKind::Ping => out.reply(&frame.header, &[]),
        _ => out.fail_with(
            &frame.header,
            Code::NotEnoughNodes,
            "3 replicas on 1 node",
            Duration::ZERO,
            "",
        ),
    })
    .await;
    let error = client_of(&server)
        .await
        .create_table(&wanted())
        .await
        .unwrap_err();
    assert_eq!(
        error,
        Error::Failed {
            code: Code::NotEnoughNodes,
            message: "3 replicas on 1 node".into()
        }
    );
}

#[tokio::test]
async fn a_creation_whose_answer_was_lost_is_unknown_and_not_sent_again() {
    let mut requests = 0;
    let server = Fake::start(move |frame, out| match frame.header.kind {
        FrameKind::Ping => out.reply(&frame.header, &[]),
        _ => {
            requests += 1;
            assert_eq!(requests, 1);
            out.close();
        }
    })
    .await;
    let options = ClientOptions::new([&server.address[..], &server.address[..]]);
    let error = Client::connect(options)
        .await
        .unwrap()
        .create_table(&wanted())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Unknown(_)), "{error}");
}

#[tokio::test]
async fn a_creation_without_an_answer_ends_at_its_deadline() {
    let server = Fake::start(|frame, out| {
        if frame.header.kind == FrameKind::Ping {
            out.reply(&frame.header, &[]);
        }
    })
    .await;
    let options = ClientOptions {
        admin_timeout: Duration::from_millis(50),
        ..ClientOptions::new([&server.address[..]])
    };
    let error = Client::connect(options)
        .await
        .unwrap()
        .create_table(&wanted())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Unknown(_)), "{error}");
}

#[tokio::test]
async fn a_creation_is_not_sent_to_a_meta_that_has_fallen_silent() {
    let creations = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&creations);
    let mut pings = 0;
    let server = Fake::start(move |frame, out| match frame.header.kind {
        FrameKind::Ping if pings == 0 => {
            pings += 1;
            out.reply(&frame.header, &[]);
        }
        FrameKind::CreateTable => {
            counted.fetch_add(1, Ordering::Relaxed);
        }
        _ => {}
    })
    .await;
    let options = ClientOptions {
        admin_timeout: Duration::from_secs(1),
        ..ClientOptions::new([&server.address[..]])
    };
    let client = Client::connect(options).await.unwrap();
    tokio::time::pause();
    let started = Instant::now();
    let created = async {
        sleep(Duration::from_millis(500)).await;
        client.create_table(&wanted()).await
    };
    let (tables, created) = tokio::join!(client.list_tables(), created);
    tables.unwrap_err();
    let error = created.unwrap_err();
    assert!(matches!(error, Error::NotExecuted(_)), "{error}");
    assert_eq!(creations.load(Ordering::Relaxed), 0);
    assert!(started.elapsed() <= Duration::from_millis(1_502));
}

#[tokio::test]
async fn an_address_that_is_no_meta_is_passed_over() {
    let node = Fake::start(|frame, out| match frame.header.kind {
        FrameKind::Ping => out.reply(&frame.header, &[]),
        _ => out.fail(&frame.header, Code::Unsupported),
    })
    .await;
    let drop_reply =
        || finish(|b| admin::DropTableReply::create(b, &admin::DropTableReplyArgs { table_id: 9 }));
    let server = meta_that(FrameKind::DropTable, drop_reply).await;
    let client = Client::connect(ClientOptions::new([&node.address[..], &server.address[..]]))
        .await
        .unwrap();
    assert_eq!(client.drop_table("users").await.unwrap(), 9);
    let client = client_of(&node).await;
    assert_eq!(
        client.drop_table("users").await.unwrap_err().code(),
        Some(Code::Unsupported)
    );
}

fn table_detail() -> Vec<u8> {
    finish(|b| {
        let address = Some(b.create_string("127.0.0.1:34801"));
        let reason = Some(b.create_string("log damaged"));
        let arguments = admin::MemberDetailArgs {
            node: 1,
            core: 2,
            address,
            alive: true,
            health: meta::ReplicaHealth::OutOfService,
            reason,
            committed: 5,
            prepared: 6,
            bytes: 0,
            since_unix_ms: 0,
        };
        let member = admin::MemberDetail::create(b, &arguments);
        let secondaries = Some(b.create_vector(&[member]));
        let arguments = admin::LearnerDetailArgs {
            member: Some(member),
            fresh: true,
            since_unix_ms: 55,
        };
        let learner = Some(admin::LearnerDetail::create(b, &arguments));
        let backoffs = Some(b.create_vector(&[admin::BackoffDetail::new(66, 2, 3)]));
        let arguments = admin::PartitionDetailArgs {
            index: 3,
            ballot: 7,
            health: admin::Health::Degraded,
            primary: None,
            secondaries,
            learner,
            degraded_since_unix_ms: 44,
            backoffs,
            moving: None,
        };
        let partition = admin::PartitionDetail::create(b, &arguments);
        let partitions = Some(b.create_vector(&[partition]));
        let name = Some(b.create_string("users"));
        let arguments = admin::TableDetailArgs {
            table_id: 4,
            name,
            partition_count: 8,
            replica_count: 3,
            health: admin::Health::Healthy,
            healthy_partitions: 7,
            created_unix_ms: 99,
            partitions,
            dropped_unix_ms: 0,
            kept_until_unix_ms: 0,
            min_replicas: 2,
        };
        admin::TableDetail::create(b, &arguments)
    })
}

#[tokio::test]
async fn a_table_is_shown_with_partitions_and_members() {
    let server = meta_that(FrameKind::ShowTable, table_detail).await;
    let table = client_of(&server).await.show_table("users").await.unwrap();
    assert_eq!(
        (table.table_id, &table.name[..], table.healthy_partitions),
        (4, "users", 7)
    );
    assert_eq!(table.health, Health::Healthy);
    let partition = &table.partitions[0];
    assert_eq!(
        (partition.index, partition.ballot, partition.health),
        (3, 7, Health::Degraded)
    );
    assert!(partition.primary.is_none());
    let member = &partition.secondaries[0];
    assert_eq!(
        (member.node, member.core, member.health),
        (1, 2, ReplicaHealth::OutOfService)
    );
    assert_eq!(
        (&member.reason[..], member.committed, member.prepared),
        ("log damaged", 5, 6)
    );
    let learner = partition.learner.as_ref().unwrap();
    assert_eq!(
        (learner.member.core, learner.is_fresh, learner.since_unix_ms),
        (2, true, 55)
    );
    assert_eq!(partition.degraded_since_unix_ms, Some(44));
    let backoff = partition.backoffs[0];
    assert_eq!(
        (backoff.node, backoff.step, backoff.until_unix_ms),
        (2, 3, 66)
    );
}

#[tokio::test]
async fn orders_of_an_operator_are_sent_as_given_and_answered() {
    let server = Fake::start(|frame, out| {
        let header = &frame.header;
        let fits = match header.kind {
            FrameKind::MovePrimary => {
                let it = body::read::<admin::MovePrimary<'_>>(&frame.body).unwrap();
                (it.table_name(), it.partition(), it.node()) == (Some("users"), 3, 2)
            }
            FrameKind::MoveReplica => {
                let it = body::read::<admin::MoveReplica<'_>>(&frame.body).unwrap();
                let to = (it.to_node(), it.to_core());
                (it.partition(), it.from_node(), to) == (3, 1, (4, 5))
            }
            FrameKind::DrainNode => {
                let it = body::read::<admin::DrainNode<'_>>(&frame.body).unwrap();
                (it.node(), it.move_replicas()) == (2, true)
            }
            FrameKind::UndrainNode => {
                body::read::<admin::UndrainNode<'_>>(&frame.body)
                    .unwrap()
                    .node()
                    == 2
            }
            _ => return out.reply(header, &[]),
        };
        let done = header.kind != FrameKind::DrainNode;
        let answer = finish(|b| {
            let message = Some(b.create_string(if done { "" } else { "2 are left" }));
            admin::ChangeReply::create(b, &admin::ChangeReplyArgs { done, message })
        });
        if fits {
            out.reply(header, &answer);
        } else {
            out.fail(header, Code::InvalidArgument);
        }
    })
    .await;
    let client = client_of(&server).await;
    assert!(client.move_primary("users", 3, 2).await.unwrap().is_done);
    assert!(
        client
            .move_replica("users", 3, 1, (4, 5))
            .await
            .unwrap()
            .is_done
    );
    let outcome = client.drain_node(2, true).await.unwrap();
    assert_eq!(
        (outcome.is_done, &outcome.waits_for[..]),
        (false, "2 are left")
    );
    assert!(client.undrain_node(2).await.unwrap().is_done);
    assert!(client.undrain_node(9).await.is_err());
}

#[tokio::test]
async fn nodes_are_listed_with_their_cores() {
    let reply = || {
        finish(|b| {
            let client_address = Some(b.create_string("127.0.0.1:34801"));
            let arguments = admin::CoreDetailArgs {
                client_address,
                cpu: 3,
                replicas: 8,
                primaries: 4,
                peer_address: None,
            };
            let core = admin::CoreDetail::create(b, &arguments);
            let cores = Some(b.create_vector(&[core]));
            let host = Some(b.create_string("here"));
            let arguments = admin::NodeDetailArgs {
                node: 1,
                alive: true,
                host,
                last_heartbeat_ms: 250,
                cores,
                ..Default::default()
            };
            let node = admin::NodeDetail::create(b, &arguments);
            let nodes = Some(b.create_vector(&[node]));
            let arguments = admin::ListNodesReplyArgs {
                cluster_high: 1,
                cluster_low: 2,
                nodes,
            };
            admin::ListNodesReply::create(b, &arguments)
        })
    };
    let server = meta_that(FrameKind::ListNodes, reply).await;
    let cluster = client_of(&server).await.list_nodes().await.unwrap();
    assert_eq!(cluster.cluster_id, (1 << 64) | 2);
    let node = &cluster.nodes[0];
    assert_eq!((node.node, node.alive, &node.host[..]), (1, true, "here"));
    assert_eq!(node.last_heartbeat, Duration::from_millis(250));
    assert_eq!(
        (&node.cores[0].client_address[..], node.cores[0].cpu),
        ("127.0.0.1:34801", 3)
    );
}

#[tokio::test]
async fn tables_are_listed() {
    let reply = || {
        finish(|b| {
            let name = Some(b.create_string("users"));
            let table = admin::TableDetail::create(
                b,
                &admin::TableDetailArgs {
                    name,
                    ..Default::default()
                },
            );
            let tables = Some(b.create_vector(&[table]));
            admin::ListTablesReply::create(b, &admin::ListTablesReplyArgs { tables })
        })
    };
    let server = meta_that(FrameKind::ListTables, reply).await;
    let tables = client_of(&server).await.list_tables().await.unwrap();
    assert_eq!(
        tables
            .iter()
            .map(|table| &table.name[..])
            .collect::<Vec<_>>(),
        ["users"]
    );
}

#[tokio::test]
async fn settings_are_changed_as_asked_for_and_shown() {
    let server = Fake::start(|frame, out| match frame.header.kind {
        FrameKind::Ping => out.reply(&frame.header, &[]),
        FrameKind::ChangeEnvs => {
            let request = body::read::<admin::ChangeEnvs<'_>>(&frame.body).unwrap();
            assert_eq!(request.table_name(), Some("users"));
            assert_eq!(request.operation(), admin::EnvOperation::Set);
            let env = request.envs().unwrap().get(0);
            assert_eq!((env.key(), env.value()), (Some("default_ttl"), Some("60")));
            let done = |b: &mut _| {
                let arguments = admin::ChangeReplyArgs {
                    done: true,
                    message: None,
                };
                admin::ChangeReply::create(b, &arguments)
            };
            out.reply(&frame.header, &finish(done));
        }
        FrameKind::ShowEnvs => {
            let shown = |b: &mut FlatBufferBuilder<'static>| {
                let arguments = admin::EnvDetailArgs {
                    key: Some(b.create_string("default_ttl")),
                    value: Some(b.create_string("60")),
                    acts: true,
                };
                let env = admin::EnvDetail::create(b, &arguments);
                let envs = Some(b.create_vector(&[env]));
                admin::ShowEnvsReply::create(b, &admin::ShowEnvsReplyArgs { envs })
            };
            out.reply(&frame.header, &finish(shown));
        }
        _ => out.fail(&frame.header, Code::UnknownTable),
    })
    .await;
    let client = client_of(&server).await;
    let envs = [("default_ttl".to_owned(), "60".to_owned())];
    client.set_table_envs("users", &envs).await.unwrap();
    let shown = client.table_envs("users").await.unwrap();
    assert_eq!(shown.len(), 1);
    assert_eq!((&shown[0].value[..], shown[0].acts), ("60", true));
    let error = client.recall_table(3, None).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::UnknownTable));
    assert!(client.rename_table("a", "b").await.is_err());
    assert!(client.cluster().await.is_err());
}

#[tokio::test]
async fn an_address_can_be_pinged() {
    let server = meta_that(FrameKind::Ping, Vec::new).await;
    let client = client_of(&server).await;
    client.ping(&server.address).await.unwrap();
    let dead = server.address.clone();
    drop(server);
    assert!(client.ping(&dead).await.is_err());
}
