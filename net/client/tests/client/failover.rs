//! Primaries that die or fall silent, and how clients find the next one. Time is paused in most: what is said about it
//! is exact, whatever the machine does meanwhile.

use crate::fake::{Fake, client_of, routes_under, value_reply, write_reply};
use pegasus_client::{Client, ClientOptions, Code, Error, Execution, Table};
use pegasus_fbs::frame::FrameKind;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpSocket;
use tokio::time::{Instant, sleep};

/// How long the made-up clusters take to replace a primary.
const FAILOVER: Duration = Duration::from_millis(600);
const SECOND: Duration = Duration::from_secs(1);

/// What a made-up meta says: primaries of a table of two partitions, and the ballot of both.
#[derive(Debug)]
struct Places {
    said: Mutex<(u64, Vec<String>)>,
    asked: AtomicU32,
}

impl Places {
    fn new(primaries: [&Fake; 2]) -> Arc<Self> {
        let primaries = primaries.map(|core| core.address.clone()).to_vec();
        Arc::new(Self {
            said: Mutex::new((1, primaries)),
            asked: AtomicU32::new(0),
        })
    }

    fn say(&self, ballot: u64, primaries: [&Fake; 2]) {
        *self.said.lock().unwrap() = (ballot, primaries.map(|core| core.address.clone()).to_vec());
    }

    fn answer(&self) -> Vec<u8> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let said = self.said.lock().unwrap();
        routes_under(said.0, 7, &said.1)
    }

    async fn meta(self: &Arc<Self>) -> Fake {
        let places = Arc::clone(self);
        Fake::start(move |frame, out| match frame.header.kind {
            FrameKind::Route => out.reply(&frame.header, &places.answer()),
            _ => out.reply(&frame.header, &[]),
        })
        .await
    }
}

/// A core that counts gets and puts, and can fall silent.
#[derive(Debug, Default)]
struct Watched {
    is_silent: AtomicBool,
    gets: AtomicU32,
    puts: AtomicU32,
}

impl Watched {
    async fn core() -> (Fake, Arc<Self>) {
        let watched = Arc::<Self>::default();
        let seen = Arc::clone(&watched);
        let core = Fake::start(move |frame, out| {
            match frame.header.kind {
                FrameKind::Get => seen.gets.fetch_add(1, Ordering::Relaxed),
                FrameKind::Put => seen.puts.fetch_add(1, Ordering::Relaxed),
                _ => 0,
            };
            match frame.header.kind {
                _ if seen.is_silent.load(Ordering::Relaxed) => {}
                FrameKind::Get => out.reply(&frame.header, &value_reply(b"v")),
                FrameKind::Put => out.reply(&frame.header, &write_reply(1)),
                FrameKind::Ping => out.reply(&frame.header, &[]),
                _ => out.fail(&frame.header, Code::Unsupported),
            }
        })
        .await;
        (core, watched)
    }

    fn gets(&self) -> u32 {
        self.gets.load(Ordering::Relaxed)
    }

    fn puts(&self) -> u32 {
        self.puts.load(Ordering::Relaxed)
    }
}

/// An old and a new primary, a meta that names the old one, and a table with a connection to it.
struct Scene {
    old: Option<Fake>,
    old_seen: Arc<Watched>,
    new: Fake,
    new_seen: Arc<Watched>,
    places: Arc<Places>,
    _meta: Fake,
    table: Table,
}

impl Scene {
    async fn start(options: impl FnOnce(ClientOptions) -> ClientOptions) -> Self {
        let (old, old_seen) = Watched::core().await;
        let (new, new_seen) = Watched::core().await;
        let places = Places::new([&old, &old]);
        let meta = places.meta().await;
        let options = options(ClientOptions::new([&meta.address[..]]));
        let client = Client::connect(options).await.unwrap();
        let table = client.table("t").await.unwrap();
        table.get(b"h", b"connects").await.unwrap();
        tokio::time::pause();
        Self {
            old: Some(old),
            old_seen,
            new,
            new_seen,
            places,
            _meta: meta,
            table,
        }
    }

    fn silence(&self) {
        self.old_seen.is_silent.store(true, Ordering::Relaxed);
    }

    /// Returns when the client has seen the connection end.
    async fn kill(&mut self) {
        self.old = None;
        sleep(Duration::from_millis(10)).await;
    }

    async fn fail_over(&self) {
        sleep(FAILOVER).await;
        self.places.say(2, [&self.new, &self.new]);
    }
}

#[tokio::test]
async fn reads_leave_a_silent_core_when_their_partition_has() {
    let scene = Scene::start(|options| options).await;
    scene.silence();
    let started = Instant::now();
    let gets = futures::future::join_all((0..10_u8).map(|key| {
        let table = scene.table.clone();
        async move { table.get(&[key], b"s").await }
    }));
    let (gets, ()) = tokio::join!(gets, scene.fail_over());
    assert!(gets.iter().all(|get| get.as_ref().unwrap().is_some()));
    assert!(started.elapsed() < SECOND, "{:?}", started.elapsed());
    assert_eq!(scene.new_seen.gets(), 10);
}

#[tokio::test]
async fn reads_stay_with_a_silent_core_as_long_as_nobody_else_is_primary() {
    let scene = Scene::start(|options| options).await;
    scene.silence();
    let started = Instant::now();
    let table = scene.table.with_timeout(2 * SECOND);
    let error = table.get(b"h", b"s").await.unwrap_err();
    assert!(matches!(error, Error::NotExecuted(_)), "{error}");
    assert_ends_at(started, 2 * SECOND);
    assert!(scene.places.asked.load(Ordering::Relaxed) > 2, "it looks");
    assert_eq!(scene.old_seen.gets(), 2, "with the one that connected");
}

#[tokio::test]
async fn a_write_that_was_sent_waits_for_its_answer_to_the_end() {
    let scene = Scene::start(|options| options).await;
    scene.silence();
    let started = Instant::now();
    let table = scene.table.with_timeout(SECOND);
    let (put, ()) = tokio::join!(table.put(b"h", b"s", b"v"), scene.fail_over());
    assert_eq!(put.unwrap_err().execution(), Execution::Unknown);
    assert_ends_at(started, SECOND);
    assert_eq!((scene.old_seen.puts(), scene.new_seen.puts()), (1, 0));
    table.put(b"h", b"s", b"v").await.unwrap();
    assert_eq!(scene.new_seen.puts(), 1, "the next one knows the way");
}

#[tokio::test]
async fn a_write_that_may_be_repeated_follows_its_partition() {
    let scene = Scene::start(|options| options).await;
    scene.silence();
    let started = Instant::now();
    let table = scene.table.with_retry_unknown_writes(true);
    let (put, ()) = tokio::join!(table.put(b"h", b"s", b"v"), scene.fail_over());
    put.unwrap();
    assert!(started.elapsed() < SECOND, "{:?}", started.elapsed());
    assert_eq!((scene.old_seen.puts(), scene.new_seen.puts()), (1, 1));
}

#[tokio::test]
async fn a_core_known_to_be_silent_is_given_no_writes() {
    let scene = Scene::start(|options| options).await;
    scene.silence();
    let get = scene.table.get(b"h", b"s");
    let put = async {
        sleep(Duration::from_millis(450)).await;
        scene.table.with_timeout(SECOND).put(b"h", b"s", b"v").await
    };
    let (get, put, ()) = tokio::join!(get, put, scene.fail_over());
    get.unwrap();
    put.unwrap();
    assert_eq!((scene.old_seen.puts(), scene.new_seen.puts()), (0, 1));
}

#[tokio::test]
async fn a_write_held_back_to_the_end_was_not_executed() {
    let scene = Scene::start(|options| options).await;
    scene.silence();
    let started = Instant::now();
    let read = scene.table.with_timeout(2 * SECOND);
    let put = async {
        sleep(Duration::from_millis(450)).await;
        scene.table.with_timeout(SECOND).put(b"h", b"s", b"v").await
    };
    let (get, put) = tokio::join!(read.get(b"h", b"s"), put);
    get.unwrap_err();
    assert_eq!(put.unwrap_err().execution(), Execution::NotExecuted);
    assert_ends_at(started, 2 * SECOND);
    assert_eq!(scene.old_seen.puts(), 0);
}

#[tokio::test]
async fn a_slow_answer_of_a_core_that_shows_life_holds_nothing_back() {
    let scene = Scene::start(|options| options).await;
    let mut held = None;
    let slow = Fake::start(move |frame, out| match frame.header.kind {
        FrameKind::Get => held = Some(frame.header),
        FrameKind::Put => {
            out.reply(&frame.header, &write_reply(1));
            if let Some(get) = held.take() {
                out.reply(&get, &value_reply(b"late"));
            }
        }
        _ => out.reply(&frame.header, &[]),
    })
    .await;
    scene.places.say(2, [&slow, &slow]);
    scene.silence();
    scene
        .table
        .with_timeout(SECOND)
        .get(b"h", b"1")
        .await
        .unwrap_err();
    let put = async {
        sleep(SECOND).await;
        scene.table.put(b"h", b"s", b"v").await
    };
    let (get, put) = tokio::join!(scene.table.get(b"h", b"2"), put);
    put.unwrap();
    assert_eq!(get.unwrap().as_deref(), Some(&b"late"[..]));
}

#[tokio::test]
async fn requests_that_wait_for_a_place_at_a_silent_core_follow_their_partition() {
    let scene = Scene::start(|options| ClientOptions {
        inflight_max: 1,
        ..options
    })
    .await;
    scene.silence();
    let table = scene.table.with_timeout(SECOND);
    let (first, second, third, ()) = tokio::join!(
        table.put(b"h", b"1", b"v"),
        table.put(b"h", b"2", b"v"),
        table.get(b"h", b"3"),
        scene.fail_over()
    );
    assert_eq!(first.unwrap_err().execution(), Execution::Unknown);
    second.unwrap();
    third.unwrap();
    assert_eq!((scene.old_seen.puts(), scene.new_seen.puts()), (1, 1));
}

#[tokio::test]
async fn operations_begun_when_the_primary_dies_succeed_within_a_second() {
    let mut scene = Scene::start(|options| options).await;
    scene.kill().await;
    let before = scene.places.asked.load(Ordering::Relaxed);
    let started = Instant::now();
    let puts = futures::future::join_all((0..200_u8).map(|key| {
        let table = scene.table.with_timeout(SECOND);
        async move { table.put(&[key], b"s", b"v").await }
    }));
    let (puts, ()) = tokio::join!(puts, scene.fail_over());
    let failed: Vec<_> = puts.into_iter().filter_map(Result::err).collect();
    assert!(failed.is_empty(), "{} failed: {}", failed.len(), failed[0]);
    assert!(started.elapsed() < SECOND, "{:?}", started.elapsed());
    let asked = scene.places.asked.load(Ordering::Relaxed) - before;
    assert!((2..=40).contains(&asked), "meta was asked {asked} times");
}

#[tokio::test]
async fn a_core_tells_the_way_while_meta_is_gone() {
    let (dying, _) = Watched::core().await;
    let (new, _) = Watched::core().await;
    let told = Arc::new(Mutex::new(Vec::new()));
    let tells = Arc::clone(&told);
    let other = Fake::start(move |frame, out| match frame.header.kind {
        FrameKind::Route => out.reply(&frame.header, &tells.lock().unwrap()),
        FrameKind::Get => out.reply(&frame.header, &value_reply(b"other")),
        _ => out.reply(&frame.header, &[]),
    })
    .await;
    *told.lock().unwrap() = routes_under(2, 7, &[new.address.clone(), other.address.clone()]);
    let meta = Places::new([&dying, &other]).meta().await;
    let table = client_of(&meta).await.table("t").await.unwrap();
    let keys = [b"hash", b"user"].map(|key| (table.partition_of(key, b"s"), key));
    let (_, key) = keys
        .into_iter()
        .find(|(partition, _)| *partition == 0)
        .unwrap();
    assert!(table.get(key, b"s").await.unwrap().is_some());
    drop((meta, dying));
    assert_eq!(
        table.get(key, b"s").await.unwrap().as_deref(),
        Some(&b"v"[..])
    );
    assert_eq!(table.primary_of(0).as_deref(), Some(&new.address[..]));
}

#[tokio::test]
async fn a_stale_answer_undoes_neither_a_redirect_nor_a_newer_ballot() {
    let (right, right_seen) = Watched::core().await;
    let misled = Arc::new(AtomicU32::new(0));
    let (address, counted) = (right.address.clone(), Arc::clone(&misled));
    let wrong = Fake::start(move |frame, out| {
        counted.fetch_add(1, Ordering::Relaxed);
        out.redirect(&frame.header, &address);
    })
    .await;
    let busy_once = AtomicU32::new(0);
    let other = Fake::start(
        move |frame, out| match busy_once.fetch_add(1, Ordering::Relaxed) {
            0 | 2 => out.fail(&frame.header, Code::NotServing),
            _ => out.reply(&frame.header, &value_reply(b"v")),
        },
    )
    .await;
    let places = Places::new([&wrong, &other]);
    let meta = places.meta().await;
    let table = client_of(&meta).await.table("t").await.unwrap();
    let key_of = |partition| {
        (0..=u8::MAX)
            .map(|key| [key])
            .find(|key| table.partition_of(key, b"s") == partition)
            .unwrap()
    };
    let (here, elsewhere) = (key_of(0), key_of(1));
    table.get(&here, b"s").await.unwrap();
    table.get(&elsewhere, b"s").await.unwrap(); // makes it ask meta, which says the same as before
    table.get(&here, b"s").await.unwrap();
    assert_eq!((misled.load(Ordering::Relaxed), right_seen.gets()), (1, 2));

    places.say(3, [&right, &other]);
    table.get(&elsewhere, b"s").await.unwrap();
    table.get(&elsewhere, b"s").await.unwrap();
    places.say(2, [&wrong, &other]);
    table.get(&here, b"s").await.unwrap();
    assert_eq!((misled.load(Ordering::Relaxed), right_seen.gets()), (1, 3));
}

#[tokio::test]
async fn no_attempt_starts_so_late_that_its_outcome_would_be_unknown() {
    let left = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&left);
    let core = Fake::start(move |frame, out| {
        seen.lock().unwrap().push(frame.header.timeout_ms);
        out.fail(&frame.header, Code::NotServing);
    })
    .await;
    let meta = Places::new([&core, &core]).meta().await;
    let table = client_of(&meta).await.table("t").await.unwrap();
    table
        .with_timeout(SECOND)
        .put(b"h", b"connects", b"v")
        .await
        .unwrap_err();
    left.lock().unwrap().clear();
    tokio::time::pause();
    let started = Instant::now();
    let error = table
        .with_timeout(SECOND)
        .put(b"h", b"s", b"v")
        .await
        .unwrap_err();
    assert_eq!(
        (error.execution(), error.code()),
        (Execution::NotExecuted, Some(Code::NotServing))
    );
    assert!(started.elapsed() <= SECOND);
    let left = left.lock().unwrap();
    assert!(left.len() > 20, "{left:?}");
    assert!(left.iter().all(|left| *left >= 5), "{left:?}");
    assert!(*left.last().unwrap() < 50, "to the end: {left:?}");
}

#[tokio::test]
async fn a_core_that_does_not_even_refuse_a_connection_is_left_too() {
    let scene = Scene::start(|options| options).await;
    // Its queue of connections that nobody accepts is full: the next one hears nothing.
    let full = TcpSocket::new_v4().unwrap();
    full.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = full.listen(0).unwrap();
    let address = full.local_addr().unwrap();
    let _taken = std::net::TcpStream::connect(address).unwrap();
    let deaf = vec![address.to_string(); 2];
    *scene.places.said.lock().unwrap() = (2, deaf);
    scene.silence();
    let started = Instant::now();
    let (get, ()) = tokio::join!(scene.table.get(b"h", b"s"), async {
        sleep(FAILOVER).await;
        scene.places.say(3, [&scene.new, &scene.new]);
    });
    get.unwrap();
    assert!(started.elapsed() < SECOND, "{:?}", started.elapsed());
    assert_eq!(scene.new_seen.gets(), 1);
}

#[tokio::test]
async fn nothing_outlasts_its_deadline_when_everybody_is_silent() {
    let core = Fake::start(|_, _| ()).await;
    let places = Places::new([&core, &core]);
    let told = Arc::new(AtomicBool::new(false));
    let (once, says) = (Arc::clone(&told), Arc::clone(&places));
    let meta = Fake::start(move |frame, out| match frame.header.kind {
        FrameKind::Route if once.swap(true, Ordering::Relaxed) => {}
        FrameKind::Route => out.reply(&frame.header, &says.answer()),
        _ => out.reply(&frame.header, &[]),
    })
    .await;
    let table = client_of(&meta).await.table("t").await.unwrap();
    table
        .with_timeout(Duration::from_millis(50))
        .get(b"h", b"connects")
        .await
        .unwrap_err();
    tokio::time::pause();
    for timeout in [3, 100, 700, 1_500].map(Duration::from_millis) {
        let started = Instant::now();
        let table = table.with_timeout(timeout);
        let (get, put) = tokio::join!(table.get(b"h", b"s"), table.put(b"h", b"s", b"v"));
        get.unwrap_err();
        put.unwrap_err();
        assert!(
            started.elapsed() <= timeout + Duration::from_millis(1),
            "{timeout:?}"
        );
    }
}

/// Timers are exact to a millisecond.
fn assert_ends_at(started: Instant, timeout: Duration) {
    let elapsed = started.elapsed();
    let late = Duration::from_millis(2);
    assert!(
        (timeout - Duration::from_millis(6)..=timeout + late).contains(&elapsed),
        "after {elapsed:?}, the limit is {timeout:?}"
    );
}

/// Meta says ballot 5. A core that was left behind knows only what was before: its word counts no more.
#[tokio::test]
async fn a_redirect_of_an_older_configuration_is_not_followed() {
    let (old, old_seen) = Watched::core().await;
    let address = old.address.clone();
    let is_first = AtomicBool::new(true);
    let current = Fake::start(move |frame, out| {
        if is_first.swap(false, Ordering::Relaxed) {
            out.redirect_under(4, &frame.header, &address);
        } else {
            out.reply(&frame.header, &value_reply(b"v"));
        }
    })
    .await;
    let places = Places::new([&current, &current]);
    places.say(5, [&current, &current]);
    let meta = places.meta().await;
    let table = client_of(&meta).await.table("t").await.unwrap();
    table.get(b"h", b"s").await.unwrap();
    assert_eq!(old_seen.gets(), 0);
    let partition = table.partition_of(b"h", b"s");
    assert_eq!(
        table.primary_of(partition).as_deref(),
        Some(&current.address[..])
    );
}

/// The core knows a newer configuration than meta, which is asked right after and has not heard yet.
#[tokio::test]
async fn a_redirect_of_a_newer_configuration_is_kept_against_older_answers() {
    let asked = AtomicU32::new(0);
    let new = Fake::start(
        move |frame, out| match asked.fetch_add(1, Ordering::Relaxed) {
            1 => out.fail(&frame.header, Code::NotServing), // makes it ask meta
            _ => out.reply(&frame.header, &value_reply(b"v")),
        },
    )
    .await;
    let misled = Arc::new(AtomicU32::new(0));
    let (address, counted) = (new.address.clone(), Arc::clone(&misled));
    let left = Fake::start(move |frame, out| {
        counted.fetch_add(1, Ordering::Relaxed);
        out.redirect_under(9, &frame.header, &address);
    })
    .await;
    let places = Places::new([&left, &left]);
    places.say(5, [&left, &left]);
    let meta = places.meta().await;
    let table = client_of(&meta).await.table("t").await.unwrap();
    for _ in 0..3 {
        table.get(b"h", b"s").await.unwrap();
    }
    assert_eq!(misled.load(Ordering::Relaxed), 1);
}
