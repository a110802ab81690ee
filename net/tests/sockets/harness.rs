//! A core on a thread of its own, and a client on a plain socket.

use bytes::BytesMut;
use pegasus_fbs::frame::{BODY_BYTES_MAX, Decoder, Frame};
use pegasus_net::counters::Counters;
use pegasus_net::listener::bind;
use pegasus_net::request::Request;
use pegasus_net::{Arrival, CoreIo, IoEvent, NetOptions, PollPolicy, ReplyTo, Waker};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longer than anything here takes on a loaded machine; only a failing test waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

type Command = Box<dyn FnOnce(&mut CoreIo) -> bool + Send>;

pub(crate) struct Core {
    pub(crate) clients: SocketAddr,
    pub(crate) waker: Waker,
    /// Every event but requests.
    pub(crate) events: Receiver<IoEvent>,
    commands: Sender<Command>,
    thread: Option<JoinHandle<()>>,
}

pub(crate) fn options() -> NetOptions {
    NetOptions {
        poll: PollPolicy::Sleep,
        ..NetOptions::default()
    }
}

impl Core {
    /// A core that treats requests with `serve`.
    pub(crate) fn start(
        options: NetOptions,
        mut serve: impl FnMut(&mut CoreIo, ReplyTo, Request) + Send + 'static,
    ) -> Self {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let clients = listener.local_addr().unwrap();
        let waker = Waker::new().unwrap();
        let (commands, inbox) = channel::<Command>();
        let (outbox, events) = channel();
        let core_waker = waker.clone();
        let thread = std::thread::spawn(move || {
            let mut io = CoreIo::new(options, core_waker).unwrap();
            io.listen_clients(listener).unwrap();
            let mut batch = Vec::new();
            loop {
                io.poll(Duration::from_secs(60), &mut batch).unwrap();
                for event in batch.drain(..) {
                    match event {
                        IoEvent::Request {
                            from,
                            request,
                            arrival,
                        } => {
                            check(&arrival, &io);
                            serve(&mut io, from, request);
                        }
                        event => drop(outbox.send(event)),
                    }
                }
                while let Ok(command) = inbox.try_recv() {
                    if !command(&mut io) {
                        return;
                    }
                }
            }
        });
        Self {
            clients,
            waker,
            events,
            commands,
            thread: Some(thread),
        }
    }

    /// Runs `command` on the core and returns what it returns.
    pub(crate) fn run<R: Send + 'static>(
        &self,
        command: impl FnOnce(&mut CoreIo) -> R + Send + 'static,
    ) -> R {
        let (sender, receiver) = channel();
        self.order(Box::new(move |io| {
            drop(sender.send(command(io)));
            true
        }));
        receiver.recv_timeout(PATIENCE).unwrap()
    }

    fn order(&self, command: Command) {
        drop(self.commands.send(command));
        self.waker.wake();
    }

    pub(crate) fn counters(&self) -> Counters {
        self.run(|io| io.counters())
    }

    /// Waits until the counters satisfy `condition`.
    pub(crate) fn wait_for(
        &self,
        what: &str,
        mut condition: impl FnMut(&Counters) -> bool,
    ) -> Counters {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let counters = self.counters();
            if condition(&counters) {
                return counters;
            }
            assert!(
                Instant::now() < deadline,
                "never came: {what}; {counters:?}"
            );
            std::thread::yield_now();
        }
    }

    /// The next event that is not a wake-up.
    pub(crate) fn event(&self) -> IoEvent {
        loop {
            match self.events.recv_timeout(PATIENCE).unwrap() {
                IoEvent::Woken => {}
                event => return event,
            }
        }
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.clients)
    }
}

/// The stamps of every request are in order.
fn check(arrival: &Arrival, io: &CoreIo) {
    assert!(arrival.received_ns > 0, "{arrival:?}");
    assert!(arrival.received_ns <= arrival.looked_at_ns, "{arrival:?}");
    assert!(arrival.looked_at_ns <= arrival.decoded_ns, "{arrival:?}");
    assert!(arrival.decoded_ns <= io.polled_ns(), "{arrival:?}");
}

impl Drop for Core {
    fn drop(&mut self) {
        self.order(Box::new(|_| false));
        let ended = self.thread.take().map(JoinHandle::join);
        if let Some(Err(_)) = ended
            && !std::thread::panicking()
        {
            panic!("the core panicked");
        }
    }
}

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    input: BytesMut,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self {
            stream,
            input: BytesMut::new(),
        }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next frame, or `None` at the end of the stream.
    pub(crate) fn receive(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = Decoder::new(BODY_BYTES_MAX)
                .decode(&mut self.input)
                .unwrap()
            {
                return Some(frame);
            }
            let mut chunk = [0; 16 << 10];
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(count) => self.input.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

pub(crate) fn free_listener() -> TcpListener {
    bind("127.0.0.1:0".parse().unwrap()).unwrap()
}
