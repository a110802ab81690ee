//! Groups of real members over loopback.

use super::super::{Group, GroupOptions, found, prepare};
use super::{CLUSTER, empty};
use crate::leadership::{Leadership as _, MemberChange, Standing, Term};
use crate::state::{Change, ClusterId, Counters, Durable};
use crate::store::StoreError;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Nothing here takes longer, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn open(dir: &Path) -> Result<Group, StoreError> {
    // Each member has a name for its clients that tells who it is.
    let name = dir.file_name().unwrap().to_string_lossy().into_owned();
    Group::open(GroupOptions {
        dir: dir.to_owned(),
        listen: address_of(dir),
        advertise: String::new(),
        client_address: name,
        token: b"secret".to_vec(),
    })
}

/// A directory's port stays its own over restarts.
fn address_of(dir: &Path) -> std::net::SocketAddr {
    let known = dir.join("port");
    let port = std::fs::read_to_string(&known).map_or_else(
        |_| {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let port = free.local_addr().unwrap().port();
            std::fs::write(&known, port.to_string()).unwrap();
            port
        },
        |text| text.parse().unwrap(),
    );
    ([127, 0, 0, 1], port).into()
}

struct Metas {
    root: TempDir,
    running: Vec<Option<Group>>,
}

impl Metas {
    fn dir(&self, member: u64) -> PathBuf {
        self.root.path().join(format!("m{member}"))
    }

    fn new(count: u64) -> Self {
        let root = tempfile::tempdir().unwrap();
        let mut metas = Self {
            root,
            running: Vec::new(),
        };
        found(&metas.dir(1), 1, &empty()).unwrap();
        metas.running.push(Some(open(&metas.dir(1)).unwrap()));
        metas.leader();
        for member in 2..=count {
            metas.add(member).unwrap();
        }
        metas
    }

    fn add(&mut self, member: u64) -> Result<(), String> {
        let dir = self.dir(member);
        prepare(&dir, member, CLUSTER).unwrap();
        let group = open(&dir).unwrap();
        let peer_address = group.address().to_string();
        self.running.push(Some(group));
        self.change(MemberChange::Add {
            id: member,
            peer_address,
        })
    }

    fn change(&mut self, change: MemberChange) -> Result<(), String> {
        let leader = self.leader();
        let (sender, done) = mpsc::channel();
        let group = self.running[leader].as_mut().unwrap();
        group.change_members(change, Box::new(move |told| sender.send(told).unwrap()));
        done.recv_timeout(PATIENCE).unwrap()
    }

    /// Waits until one leads; its place.
    fn leader(&mut self) -> usize {
        let until = Instant::now() + PATIENCE;
        loop {
            for (place, group) in self.running.iter_mut().enumerate() {
                let standing = group.as_mut().map(|it| it.standing().unwrap());
                if standing == Some(Standing::Leads) {
                    return place;
                }
            }
            assert!(Instant::now() < until, "nobody leads");
            std::thread::yield_now();
        }
    }

    /// A term of whoever leads.
    fn begin(&mut self) -> (usize, Term) {
        let until = Instant::now() + PATIENCE;
        loop {
            let leader = self.leader();
            match self.running[leader].as_mut().unwrap().begin() {
                Ok(term) => return (leader, term),
                Err(StoreError::Deposed { .. }) => {}
                Err(error) => panic!("{error}"),
            }
            assert!(Instant::now() < until, "no term begins");
        }
    }

    fn stop(&mut self, place: usize) {
        if let Some(mut group) = self.running[place].take() {
            group.resign();
        }
    }

    fn start(&mut self, place: usize) {
        let member = u64::try_from(place).unwrap() + 1;
        self.running[place] = Some(open(&self.dir(member)).unwrap());
    }
}

fn counted(next_node: u32) -> Vec<Change> {
    vec![Change::Counters(Counters {
        next_node,
        next_table: 1,
        next_incarnation: 1,
    })]
}

fn next_node(durable: &Durable) -> u32 {
    durable.counters().next_node
}

#[test]
fn a_group_of_one_keeps_what_it_was_told_over_restarts() {
    let mut metas = Metas::new(1);
    let (_, mut term) = metas.begin();
    for number in 2..20 {
        term.store.append(&counted(number)).unwrap();
        term.store.confirm().unwrap();
    }
    drop(term);
    metas.stop(0);
    assert_eq!(next_node(&super::super::read(&metas.dir(1)).unwrap()), 19);
    metas.start(0);
    let (_, term) = metas.begin();
    assert_eq!(next_node(&term.durable), 19);
}

#[test]
fn what_was_told_survives_each_leader_that_is_lost_and_an_old_term_adds_nothing() {
    let mut metas = Metas::new(3);
    let mut expected = 1;
    for _ in 0..3 {
        let (leader, mut term) = metas.begin();
        assert_eq!(next_node(&term.durable), expected);
        for _ in 0..5 {
            expected += 1;
            term.store.append(&counted(expected)).unwrap();
        }
        metas.stop(leader);
        let refused = term.store.append(&counted(9_999));
        assert!(
            matches!(refused, Err(StoreError::Deposed { .. })),
            "{refused:?}"
        );
        let refused = term.store.confirm();
        assert!(
            matches!(refused, Err(StoreError::Deposed { .. })),
            "{refused:?}"
        );
        let (other, _) = metas.begin();
        assert_ne!(other, leader);
        metas.start(leader);
    }
}

#[test]
fn a_batch_that_does_not_follow_the_last_one_changes_nothing() {
    let mut metas = Metas::new(1);
    let (_, mut old) = metas.begin();
    let (_, mut new) = metas.begin();
    new.store.append(&counted(5)).unwrap();
    let refused = old.store.append(&counted(9));
    let fate = matches!(
        refused,
        Err(StoreError::Deposed {
            may_be_stored: false,
            ..
        })
    );
    assert!(fate, "{refused:?}");
    assert!(old.store.confirm().is_err(), "it answers from the past");
    new.store.append(&counted(6)).unwrap();
    assert_eq!(next_node(&metas.begin().1.durable), 6);
}

#[test]
fn without_a_majority_nothing_is_promised_and_with_it_again_all_goes_on() {
    let mut metas = Metas::new(3);
    let (leader, mut term) = metas.begin();
    term.store.append(&counted(2)).unwrap();
    let others: Vec<usize> = (0..3).filter(|&it| it != leader).collect();
    others.iter().for_each(|&it| metas.stop(it));
    let unknown = term.store.append(&counted(3));
    let fate = matches!(
        unknown,
        Err(StoreError::Deposed {
            may_be_stored: true,
            ..
        })
    );
    assert!(fate, "{unknown:?}");
    assert!(term.store.confirm().is_err());
    let group = metas.running[leader].as_mut().unwrap();
    assert_ne!(
        group.standing().unwrap(),
        Standing::Leads,
        "alone it does not lead"
    );
    others.iter().for_each(|&it| metas.start(it));
    let (_, mut term) = metas.begin();
    assert!([2, 3].contains(&next_node(&term.durable)));
    term.store.append(&counted(4)).unwrap();
}

#[test]
fn a_member_that_lost_its_directory_is_refused_until_it_comes_with_a_new_number() {
    let mut metas = Metas::new(3);
    let (leader, _) = metas.begin();
    let lost = (0..3).find(|&it| it != leader).unwrap();
    let member = u64::try_from(lost).unwrap() + 1;
    metas.stop(lost);
    let port = address_of(&metas.dir(member)).port();
    std::fs::remove_dir_all(metas.dir(member)).unwrap();
    prepare(&metas.dir(member), member, CLUSTER).unwrap();
    std::fs::write(metas.dir(member).join("port"), port.to_string()).unwrap();
    metas.start(lost);
    let peer_address = metas.running[lost].as_ref().unwrap().address().to_string();
    let again = MemberChange::Add {
        id: member,
        peer_address,
    };
    let refused = metas.change(again.clone()).unwrap_err();
    assert!(refused.contains("another directory"), "{refused}");
    metas.change(MemberChange::Remove { id: member }).unwrap();
    let refused = metas.change(again).unwrap_err();
    assert!(refused.contains("none is given again"), "{refused}");
    metas.stop(lost);
    metas.add(4).unwrap();
    let (leader, mut term) = metas.begin();
    term.store.append(&counted(7)).unwrap();
    let ids: Vec<u64> = metas.running[leader]
        .as_ref()
        .unwrap()
        .members()
        .iter()
        .map(|it| it.id)
        .collect();
    let expected: Vec<u64> = (1..=4).filter(|&it| it != member).collect();
    assert_eq!(ids, expected);
}

#[test]
fn a_member_of_another_cluster_and_one_with_another_token_are_refused() {
    let mut metas = Metas::new(1);
    let foreign = metas.root.path().join("foreign");
    prepare(&foreign, 2, ClusterId(78)).unwrap();
    let group = open(&foreign).unwrap();
    let peer_address = group.address().to_string();
    let refused = metas
        .change(MemberChange::Add {
            id: 2,
            peer_address,
        })
        .unwrap_err();
    assert!(refused.contains("cluster"), "{refused}");
    let stranger = metas.root.path().join("stranger");
    prepare(&stranger, 3, CLUSTER).unwrap();
    let group = Group::open(GroupOptions {
        dir: stranger.clone(),
        listen: address_of(&stranger),
        advertise: String::new(),
        client_address: "stranger".to_owned(),
        token: b"another".to_vec(),
    });
    let group = group.unwrap();
    let peer_address = group.address().to_string();
    let refused = metas
        .change(MemberChange::Add {
            id: 3,
            peer_address,
        })
        .unwrap_err();
    assert!(refused.contains("token"), "{refused}");
}

#[test]
fn a_directory_serves_one_process_and_is_made_once() {
    let metas = Metas::new(1);
    let error = open(&metas.dir(1)).unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    let error = prepare(&metas.root.path().join("m9"), 0, CLUSTER).unwrap_err();
    assert!(error.to_string().contains("numbered from 1"), "{error}");
    prepare(&metas.dir(5), 5, CLUSTER).unwrap();
    let error = prepare(&metas.dir(5), 5, CLUSTER).unwrap_err();
    assert!(matches!(error, StoreError::Exists { .. }), "{error}");
}
