//! A ZooKeeper server of one process on a free port, with its own directory: Debian's `libzookeeper-java`, run by `java`.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const JARS: &str = "/usr/share/java/zookeeper.jar:/usr/share/java/slf4j-nop.jar";
const MAIN: &str = "org.apache.zookeeper.server.quorum.QuorumPeerMain";
/// Until it answers, also on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);

/// A server; killed and removed when dropped.
#[derive(Debug)]
pub struct ZooKeeper {
    directory: TempDir,
    address: SocketAddr,
    process: Option<Child>,
}

impl ZooKeeper {
    /// Starts a server and waits until it answers. Sessions may be as short as 400 ms.
    pub fn start() -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let data = directory.path().join("data");
        fs::create_dir(&data)?;
        let settings = format!(
            "tickTime=200\ndataDir={}\nclientPort={}\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\n\
             minSessionTimeout=400\nmaxSessionTimeout=60000\n4lw.commands.whitelist=ruok\n",
            data.display(),
            address.port()
        );
        fs::write(directory.path().join("zoo.cfg"), settings)?;
        let mut server = Self {
            directory,
            address,
            process: None,
        };
        server.start_again()?;
        Ok(server)
    }

    /// `host:port`
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Ends it at once, with what it has on disk.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Starts it on the same port with the same data, and waits until it answers.
    pub fn start_again(&mut self) -> io::Result<()> {
        let end = Instant::now() + PATIENCE;
        let mut process = self.launch()?;
        while !self.answers() {
            if process.try_wait()?.is_some() {
                // Somebody else's connection had its port for a moment.
                process = self.launch()?;
            }
            if Instant::now() > end {
                let _ = process.kill();
                let _ = process.wait();
                return Err(io::Error::other(format!(
                    "ZooKeeper does not answer at {} after {PATIENCE:?}",
                    self.address
                )));
            }
            std::thread::sleep(LOOK);
        }
        self.process = Some(process);
        Ok(())
    }

    fn launch(&self) -> io::Result<Child> {
        let missing =
            "needs Debian's libzookeeper-java and a Java runtime: .ci/setup installs them";
        for jar in JARS.split(':') {
            if !Path::new(jar).exists() {
                return Err(io::Error::other(format!("{jar} is not there: {missing}")));
            }
        }
        Command::new("java")
            .args([
                "-Xmx256m",
                "-XX:+UseSerialGC",
                "-XX:TieredStopAtLevel=1",
                "-cp",
                JARS,
                MAIN,
            ])
            .arg(self.directory.path().join("zoo.cfg"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| io::Error::other(format!("java: {error}: {missing}")))
    }

    fn answers(&self) -> bool {
        let ask = || -> io::Result<String> {
            let mut stream = TcpStream::connect_timeout(&self.address, Duration::from_secs(1))?;
            stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            stream.write_all(b"ruok")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        ask().is_ok_and(|answer| answer == "imok")
    }
}

impl Drop for ZooKeeper {
    fn drop(&mut self) {
        self.kill();
    }
}
