//! The shell: from a file and from an argument, through its verbs and those of Apache Pegasus' shell, and at a terminal.

use super::Done;
use e2e::cluster::{Cluster, PATIENCE, program, wait_until};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn the_shell_takes_the_words_of_both_vocabularies_from_files_arguments_and_people() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(&directory.path().join("c"), 2, 1).unwrap();
    tables(&cluster);
    rows_of_a_hash_key(&cluster);
    atomic_rows(&cluster);
    whole_tables(&cluster, directory.path());
    errors_end_a_file_unless_told_otherwise(&cluster);
    somebody_at_a_terminal(&cluster, directory.path());
}

/// Commands from standard input, one on each line.
fn file(cluster: &Cluster, options: &[&str], lines: &str) -> Done {
    let mut command = cluster.command(["shell"].iter().chain(options));
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(lines.as_bytes()).unwrap();
    drop(stdin);
    Done::of(&child.wait_with_output().unwrap())
}

/// What a file of commands prints, which all succeed.
fn prints(cluster: &Cluster, lines: &str) -> String {
    let done = file(cluster, &["--yes"], lines);
    assert_eq!(done.code, 0, "{lines}: {} / {}", done.out, done.err);
    done.out
}

fn tables(cluster: &Cluster) {
    let out = prints(
        cluster,
        "create t -p 4 -r 2\n\
         create t -p 4 -r 2      \n\
         # the same again is no error\n\
         create shelltest -p 2 -r 1 -e business.info=ours\n\
         ls -p shell -m prefix\n\
         app t\n\
         app_disk t\n\
         app_stat\n\
         nodes -d; nodes -q; cluster_info; get_meta_level\n\
         use t; set_app_envs business.info mine; get_app_envs; del_app_envs business.info\n\
         server_info -t meta-server; remote_command -t replica-server server-stat\n\
         rename shelltest other; drop other; ls -s dropped\n\
         ddd_diagnose -o /dev/null; help; help multi_get_range; timeout 3000; timeout; use; version\n",
    );
    for says in [
        "created table t",
        "shelltest",
        "serving",
        "node 1 core 0",
        "client address",
        "business.info",
        "CALL [meta]",
        "CALL [core]",
        "dropped table other",
        "multi_get_sortkeys",
        "--start_inclusive",
        "3000 ms",
    ] {
        assert!(out.contains(says), "{says}: {out}");
    }
    let differs = cluster.pegasus_fails(&["shell", "-c", "create t -p 8 -r 2"]);
    let (code, says) = differs.unwrap();
    assert!(code == 1 && says.contains("4 partitions"), "{says}");
}

fn rows_of_a_hash_key(cluster: &Cluster) {
    let out = prints(
        cluster,
        "use t\n\
         set user name Ada\n\
         set user city 'New York' 3600\n\
         get user name; get user city; exist user name; ttl user name\n\
         multi_set user a 1 b 2 c 3; count user\n\
         multi_get user a b\n\
         multi_get_range user a c -b true -i\n\
         multi_get_sortkeys user\n\
         hash_scan user b '' -n 1\n\
         multi_del user a; multi_del_range user b ca; count user\n\
         set \\xff\\x00 \"s\\n\" 'a\\b'; get \\xff\\x00 \"s\\n\"\n\
         escape_all true; get user name; escape_all false\n\
         full_scan -h prefix -x us -s prefix -y na -v anywhere -z da\n\
         del user name; hash user; count\n",
    );
    let lines: Vec<&str> = out.lines().collect();
    let expected = [
        "Ada",
        "New York",
        "yes",
        "never expires",
        "written: 3 rows",
        "5",
        "user\ta\t1",
        "user\tb\t2",
        "user\ta",
        "user\tb",
        "user\tc",
        "user\ta",
        "user\tb",
        "user\tc",
        "user\tcity",
        "user\tname",
        "user\tb\t2",
        "removed: 1 rows",
        "removed: 2 rows",
        "2",
        "a\\\\b",
        "\\x41\\x64\\x61",
        "user\tname\tAda",
    ];
    assert_eq!(lines.get(..expected.len()), Some(&expected[..]), "{out}");
    let hash = lines[expected.len()];
    assert!(hash.starts_with("hash: "), "{out}");
    assert_eq!(
        lines.last(),
        Some(&"2"),
        "the table has a city and the bytes: {out}"
    );
}

fn atomic_rows(cluster: &Cluster) {
    let out = prints(
        cluster,
        "use t\n\
         incr n visits; incr n visits 5; incr n visits -2\n\
         check_and_set lock -c owner -t not_exist -v me -l 60\n\
         check_and_mutate lock -c owner -t bytes_equal -o me\n\
         set since today\n\
         set a=b !c\n\
         del owner\n\
         ok\n\
         multi_get lock\n\
         check_and_set lock -c since -t not_exist -v no; get lock since\n",
    );
    let lines: Vec<&str> = out.lines().collect();
    let expected = [
        "1",
        "6",
        "4",
        "written: there was no row",
        "written: the row was me",
        "lock\ta=b\t!c",
        "lock\tsince\ttoday",
        "not written: the row was today",
        "today",
    ];
    assert_eq!(lines, expected);
}

fn whole_tables(cluster: &Cluster, directory: &Path) {
    let mut lines = String::from("create from -p 4 -r 1; create to -p 8 -r 1; use from\n");
    for number in 0..200 {
        let (hash_key, value) = (number / 4, "v".repeat(number));
        lines += &format!("set h{hash_key} s{number} '{value}' 86400\n");
    }
    assert_eq!(prints(cluster, &lines).lines().count(), 2);
    let out = prints(cluster, "use from; count_data; count_data -a -d -n 2");
    for says in ["rows: 200", "hash keys: 50", "value", "h49", "s199"] {
        assert!(out.contains(says), "{says}: {out}");
    }
    let meta = cluster.meta();
    let state = directory.join("copy.state");
    let copy = format!(
        "use from; copy_data -c {meta} -a to --state {}",
        state.display()
    );
    assert!(prints(cluster, &copy).contains("copied 200 rows"));
    assert!(!state.exists(), "it is complete");
    let few = directory.join("few.rows");
    let lines = format!(
        "use to; count; get h49 s199; set h1 s5 mine\n\
         use from; copy_data -a to -n -h prefix -x h1; use to; get h1 s5; ttl h0 s0\n\
         clear_data -h prefix -x h4; count; full_scan -o {} -n 3\n",
        few.display()
    );
    let out = prints(cluster, &lines);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!((lines[0], lines[1].len()), ("200", 199), "{out}");
    assert!(lines[2].starts_with("copied 0 rows"), "{out}");
    assert_eq!(lines[3], "mine");
    let ttl: u64 = lines[4].parse().unwrap();
    assert!((80_000..=86_400).contains(&ttl), "{ttl}");
    assert_eq!((lines[5], lines[6]), ("deleted 44 rows", "156"), "{out}");
    assert_eq!(lines[7], format!("written to {}", few.display()));
    let rows = std::fs::read_to_string(few).unwrap();
    assert_eq!(rows.lines().count(), 3);
}

fn errors_end_a_file_unless_told_otherwise(cluster: &Cluster) {
    let lines = "use t\nset x y z\nget x absent\nset x y changed\n";
    let stopped = file(cluster, &[], lines);
    assert_eq!(
        (stopped.code, stopped.out.as_str()),
        (3, ""),
        "{}",
        stopped.err
    );
    assert!(stopped.err.contains("line 3: no row"), "{}", stopped.err);
    let says = |line: &str| {
        let done = super::done(cluster, &["shell", "-c", line]);
        (done.code, done.out, done.err)
    };
    assert_eq!(says("use t; get x y"), (0, "z\n".to_owned(), String::new()));
    let went_on = file(cluster, &["--keep-going"], lines);
    assert_eq!(went_on.code, 3, "{}", went_on.err);
    assert_eq!(says("use t; get x y").1, "changed\n");
    // An answer that is a no is no error; it is the exit code if it comes last.
    assert_eq!(says("use t; exist x nope; get x y").0, 0);
    assert_eq!(says("use t; get x y; exist x nope").0, 3);
    for (line, code, says_so) in [
        ("get 'open", 2, "column 5"),
        ("mutli_get h", 2, "did you mean multi_get?"),
        ("add_dup t", 2, "copy_data"),
        ("multi_get h", 2, "use TABLE"),
        ("use nope", 3, "no such table"),
        ("use t; clear_data", 2, "--yes"),
        ("drop t", 2, "--yes"),
        ("shell", 2, "already"),
        ("use t; multi_set h a", 2, "value is missing"),
        ("use t; copy_data -a t", 2, "onto itself"),
        ("use t; copy_data -a nope", 3, "nope"),
        ("table show t --nonsense", 2, "--nonsense"),
    ] {
        let (found, _, err) = says(line);
        assert_eq!(found, code, "{line}: {err}");
        assert!(err.contains(says_so), "{line}: {err}");
    }
    let dash = file(cluster, &[], "use t\nset a b -\n");
    assert!(
        dash.code == 2 && dash.err.contains("line 2"),
        "{}",
        dash.err
    );
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = closed.local_addr().unwrap().to_string();
    drop(closed);
    let (code, _, err) = says(&format!("cc {nobody}; ls"));
    assert!(code == 4 && err.contains(&nobody), "{err}");
    let json = super::done(cluster, &["shell", "--json", "-c", "use t; get x y"]);
    assert_eq!(json.json()["value"], "changed");
}

fn somebody_at_a_terminal(cluster: &Cluster, directory: &Path) {
    cluster.create_table("shelltest", 2, 1).unwrap();
    let state = directory.join("state");
    let mut terminal = Terminal::start(cluster, &state);
    terminal.wait_for("pegasus> ");
    // Names of tables come from meta while somebody types.
    terminal.types("use shellt");
    terminal.types_until("\t", "use shelltest");
    terminal.types("\r");
    terminal.wait_for("pegasus shelltest> ");
    terminal.types("set a b first\r");
    terminal.wait_for("OK");
    terminal.types("get a b\r");
    terminal.wait_for("first\r\n");
    terminal.types("multi_get_sor\t a\r");
    terminal.wait_for("multi_get_sortkeys");
    terminal.wait_for("a\tb\r\n");
    terminal.types("gett a b\r");
    terminal.wait_for("did you mean get?");
    terminal.types("clear_data\r");
    terminal.wait_for("Delete all 1 rows of table shelltest? [y/N]");
    terminal.types("n\r");
    terminal.wait_for("nothing was done");
    terminal.types("app_stat -a nothing; timeout 3600000\r");
    terminal.wait_for("no such table");
    // A command that lasts is cancelled, the shell is not.
    terminal.cancels("table stat --interval 3600\r");
    // Another Ctrl-C may be on its way, and takes a line with it.
    terminal.types_until("get a b\r", "first\r\n");
    // The cluster goes and comes back.
    cluster.kill_all().unwrap();
    terminal.types("timeout 500\r");
    terminal.types_until("get a b\r", cluster.meta());
    cluster.start_again().unwrap();
    terminal.types("timeout 5000\r");
    terminal.types_until("get a b\r", "first\r\n");
    terminal.types("\x04");
    assert_eq!(terminal.ends(), 0);
    let history = state.join("pegasus/shell_history");
    let mode = std::fs::metadata(&history).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let lines = std::fs::read_to_string(&history).unwrap();
    assert!(lines.lines().any(|line| line == "set a b first"), "{lines}");
}

/// A shell at a terminal of its own, made by `script`.
struct Terminal {
    child: Child,
    keys: ChildStdin,
    screen: Receiver<Vec<u8>>,
    /// What came and was not waited for yet.
    seen: String,
}

impl Terminal {
    fn start(cluster: &Cluster, state: &Path) -> Self {
        let shell = format!(
            "stty rows 40 cols 120; exec '{}' shell",
            program("pegasus").display()
        );
        let mut child = Command::new("script")
            .args(["--quiet", "--return", "--command", &shell, "/dev/null"])
            .env("PEGASUS_META", cluster.meta())
            .env("XDG_STATE_HOME", state)
            .env("TERM", "xterm")
            .env_remove("NO_COLOR")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (sender, screen) = channel();
        let mut stdout = child.stdout.take().unwrap();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = stdout.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self {
            keys: child.stdin.take().unwrap(),
            child,
            screen,
            seen: String::new(),
        }
    }

    fn types(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for a text, and forgets what came before it.
    fn wait_for(&mut self, text: &str) {
        let found = self.found_by(text, Instant::now() + PATIENCE);
        assert!(found, "{text:?} did not come: {:?}", self.seen);
    }

    /// Presses keys again and again until a text comes.
    fn types_until(&mut self, keys: &str, text: &str) {
        let end = Instant::now() + PATIENCE;
        loop {
            self.types(keys);
            if self.found_by(text, Instant::now() + Duration::from_secs(1)) {
                return;
            }
            assert!(
                Instant::now() < end,
                "{text:?} did not come: {:?}",
                self.seen
            );
        }
    }

    /// Types a command that lasts and cancels it. A Ctrl-C that comes before the command has begun takes the line with it: then
    /// both are typed again.
    fn cancels(&mut self, command: &str) {
        let end = Instant::now() + PATIENCE;
        loop {
            self.types(command);
            // Nothing tells that it has begun.
            let _ = self.found_by("cancelled", Instant::now() + Duration::from_millis(500));
            self.types("\x03");
            if self.found_by("cancelled", Instant::now() + Duration::from_secs(1)) {
                return;
            }
            assert!(Instant::now() < end, "not cancelled: {:?}", self.seen);
        }
    }

    fn found_by(&mut self, text: &str, end: Instant) -> bool {
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return true;
            }
            let left = end.saturating_duration_since(Instant::now());
            let Ok(bytes) = self.screen.recv_timeout(left) else {
                return false;
            };
            self.see(&bytes);
        }
    }

    /// A terminal tells where its cursor is when it is asked. Colours and movements are left out of what is seen.
    fn see(&mut self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        for _ in text.matches("\x1b[6n") {
            self.types("\x1b[1;1R");
        }
        self.seen.push_str(&text);
        self.seen = without_escapes(&self.seen);
    }

    fn ends(mut self) -> i32 {
        let mut code = None;
        let ended = wait_until("the shell to end", || {
            code = self.child.try_wait().unwrap();
            code.is_some()
        });
        ended.unwrap();
        code.and_then(|status| status.code()).unwrap()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It is gone already, unless the test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The text without control sequences, but for one that has only begun.
fn without_escapes(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\x1b') {
        shown.push_str(&rest[..at]);
        let sequence = &rest[at + 1..];
        let is_end = |letter: char| letter.is_ascii_alphabetic() || letter == '~';
        let end = match sequence.strip_prefix('[') {
            Some(inner) => inner.find(is_end).map(|end| end + 2),
            None => sequence.chars().next().map(char::len_utf8),
        };
        let Some(end) = end else {
            shown.push_str(&rest[at..]);
            return shown;
        };
        rest = &sequence[end..];
    }
    shown.push_str(rest);
    shown
}
