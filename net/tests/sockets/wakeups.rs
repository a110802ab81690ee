use crate::harness::{Core, PATIENCE, options};
use pegasus_net::mesh::mesh;
use pegasus_net::{CoreIo, IoEvent, NetOptions, PollPolicy, Waker};
use std::time::{Duration, Instant};

#[test]
fn a_parked_core_is_woken_by_another_thread() {
    let core = Core::start(options(), |_, _, _| ());
    for _ in 0..100 {
        core.waker.wake();
        assert!(matches!(
            core.events.recv_timeout(PATIENCE).unwrap(),
            IoEvent::Woken
        ));
    }
}

#[test]
fn a_wake_before_the_poll_is_not_lost_in_any_poll_mode() {
    for poll in [PollPolicy::Sleep, PollPolicy::Adaptive, PollPolicy::Busy] {
        let waker = Waker::new().unwrap();
        let mut io = CoreIo::new(
            NetOptions {
                poll,
                ..NetOptions::default()
            },
            waker.clone(),
        )
        .unwrap();
        let mut events = Vec::new();
        waker.wake();
        io.poll(PATIENCE, &mut events).unwrap();
        assert!(
            matches!(events[..], [IoEvent::Woken]),
            "{poll:?} {events:?}"
        );
    }
}

#[test]
fn a_poll_with_nothing_to_do_returns_when_its_time_is_over() {
    for poll in [PollPolicy::Sleep, PollPolicy::Adaptive, PollPolicy::Busy] {
        let mut io = CoreIo::new(
            NetOptions {
                poll,
                ..NetOptions::default()
            },
            Waker::new().unwrap(),
        )
        .unwrap();
        let mut events = Vec::new();
        let started = Instant::now();
        io.poll(Duration::from_millis(2), &mut events).unwrap();
        assert!(started.elapsed() >= Duration::from_millis(2));
        io.poll(Duration::ZERO, &mut events).unwrap();
        assert!(events.is_empty());
    }
}

#[test]
fn messages_between_cores_arrive_in_order_and_wake_the_target() {
    let wakers = [Waker::new().unwrap(), Waker::new().unwrap()];
    let mut ends = mesh::<u32>(&wakers, 16);
    let (mut second, mut first) = (ends.pop().unwrap(), ends.pop().unwrap());
    let target = std::thread::spawn(move || {
        let mut io = CoreIo::new(options(), wakers[1].clone()).unwrap();
        let (mut events, mut seen) = (Vec::new(), Vec::new());
        while seen.len() < 10_000 {
            io.poll(PATIENCE, &mut events).unwrap();
            assert!(!events.is_empty(), "never woken; {} seen", seen.len());
            events.clear();
            seen.extend(std::iter::from_fn(|| second.receive()));
        }
        seen
    });
    for number in 0..10_000 {
        let mut message = number;
        while let Err(back) = first.send(1, message) {
            message = back;
            std::thread::yield_now();
        }
    }
    assert_eq!(target.join().unwrap(), (0..10_000).collect::<Vec<u32>>());
}

#[test]
fn a_full_ring_gives_the_message_back() {
    let wakers = [Waker::new().unwrap(), Waker::new().unwrap()];
    let mut ends = mesh::<u32>(&wakers, 2);
    assert_eq!(ends[0].send(1, 1), Ok(()));
    assert_eq!(ends[0].send(1, 2), Ok(()));
    assert_eq!(ends[0].send(1, 3), Err(3));
    assert_eq!(ends[0].send(9, 4), Err(4));
    assert_eq!(ends[1].receive(), Some(1));
    assert_eq!(ends[0].send(1, 3), Ok(()));
}
