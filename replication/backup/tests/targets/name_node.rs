//! A server with the operations of WebHDFS that backups use, written from its specification (Apache Hadoop, "WebHDFS REST
//! API"): answers and redirects as a NameNode and a DataNode give them, files in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Entries of one answer to LISTSTATUS_BATCH.
const BATCH: usize = 10;

#[derive(Default)]
struct Tree {
    /// A directory has no content.
    files: BTreeMap<String, Option<Vec<u8>>>,
    users: BTreeSet<String>,
}

pub(crate) struct NameNode {
    address: String,
    tree: Arc<Mutex<Tree>>,
}

struct Request {
    method: String,
    path: String,
    query: BTreeMap<String, String>,
    body: Vec<u8>,
}

struct Answer(u16, Vec<u8>);

impl NameNode {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let tree = Arc::<Mutex<Tree>>::default();
        let (shared, own) = (Arc::clone(&tree), address.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (tree, own) = (Arc::clone(&shared), own.clone());
                let stream = stream.unwrap();
                std::thread::spawn(move || serve(stream, &tree, &own));
            }
        });
        Self { address, tree }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        self.tree.lock().unwrap().files.keys().cloned().collect()
    }

    pub(crate) fn said_user(&self, user: &str) -> bool {
        self.tree.lock().unwrap().users.contains(user)
    }
}

fn serve(stream: TcpStream, tree: &Mutex<Tree>, own: &str) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    while let Some(request) = read(&mut reader) {
        let Answer(status, body) = answer(&request, &mut tree.lock().unwrap(), own);
        let head = format!(
            "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        if stream
            .write_all(head.as_bytes())
            .and_then(|()| stream.write_all(&body))
            .is_err()
        {
            return;
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader
        .read_line(&mut line)
        .ok()
        .filter(|count| *count > 0)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let header = header.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        assert!(
            !header.starts_with("transfer-encoding"),
            "a length is expected"
        );
        if let Some(told) = header.strip_prefix("content-length:") {
            length = told.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (path, query) = target.split_once('?').unwrap();
    let path = decoded(path.strip_prefix("/webhdfs/v1").unwrap());
    let query = query.split('&').filter_map(|pair| pair.split_once('='));
    Some(Request {
        method,
        path: format!("/{}", path.trim_matches('/')),
        query: query
            .map(|(key, value)| (key.to_owned(), decoded(value)))
            .collect(),
        body,
    })
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next().unwrap(), rest.next().unwrap()];
            let digits = std::str::from_utf8(&digits).unwrap();
            bytes.push(u8::from_str_radix(digits, 16).unwrap());
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).unwrap()
}

fn status(name: &str, content: &Option<Vec<u8>>) -> String {
    let (kind, length) = match content {
        Some(content) => ("FILE", content.len()),
        None => ("DIRECTORY", 0),
    };
    format!(
        r#"{{"accessTime":0,"blockSize":134217728,"group":"supergroup","length":{length},"modificationTime":1320173277227,"owner":"webuser","pathSuffix":"{name}","permission":"644","replication":1,"type":"{kind}"}}"#
    )
}

fn missing(path: &str) -> Answer {
    let body = format!(
        r#"{{"RemoteException":{{"exception":"FileNotFoundException","javaClassName":"java.io.FileNotFoundException","message":"File does not exist: {path}"}}}}"#
    );
    Answer(404, body.into_bytes())
}

fn children<'t>(tree: &'t Tree, path: &str) -> Vec<(String, &'t Option<Vec<u8>>)> {
    let prefix = format!("{}/", path.trim_end_matches('/'));
    let below = tree
        .files
        .iter()
        .filter_map(|(path, content)| Some((path.strip_prefix(&prefix)?, content)));
    let direct = below.filter(|(name, _)| !name.is_empty() && !name.contains('/'));
    direct
        .map(|(name, content)| (name.to_owned(), content))
        .collect()
}

fn make_parents(tree: &mut Tree, path: &str) {
    for (at, _) in path.match_indices('/').filter(|(at, _)| *at > 0) {
        tree.files.entry(path[..at].to_owned()).or_insert(None);
    }
}

fn answer(request: &Request, tree: &mut Tree, own: &str) -> Answer {
    let path = request.path.as_str();
    tree.users.extend(request.query.get("user.name").cloned());
    let number = |key: &str| {
        request
            .query
            .get(key)
            .map(|value| value.parse::<usize>().unwrap())
    };
    match (request.method.as_str(), request.query["op"].as_str()) {
        ("GET", "GETFILESTATUS") => match tree.files.get(path) {
            Some(content) => Answer(
                200,
                format!(r#"{{"FileStatus":{}}}"#, status("", content)).into_bytes(),
            ),
            None => missing(path),
        },
        ("GET", "LISTSTATUS_BATCH") if tree.files.contains_key(path) => {
            let children = children(tree, path);
            let after = request.query.get("startAfter");
            let rest: Vec<_> = children
                .iter()
                .filter(|(name, _)| after.is_none_or(|after| name > after))
                .collect();
            let (now, later) = rest.split_at(rest.len().min(BATCH));
            let now: Vec<String> = now
                .iter()
                .map(|(name, content)| status(name, content))
                .collect();
            let body = format!(
                r#"{{"DirectoryListing":{{"partialListing":{{"FileStatuses":{{"FileStatus":[{}]}}}},"remainingEntries":{}}}}}"#,
                now.join(","),
                later.len()
            );
            Answer(200, body.into_bytes())
        }
        ("PUT", "MKDIRS") => {
            make_parents(tree, path);
            tree.files.insert(path.to_owned(), None);
            Answer(200, br#"{"boolean":true}"#.to_vec())
        }
        // As the NameNode: where to send it.
        ("PUT", "CREATE") if request.query.contains_key("noredirect") => {
            assert!(request.body.is_empty());
            let body =
                format!(r#"{{"Location":"http://{own}/webhdfs/v1{path}?op=CREATE&datanode=1"}}"#);
            Answer(200, body.into_bytes())
        }
        // As the DataNode.
        ("PUT", "CREATE") => {
            make_parents(tree, path);
            tree.files
                .insert(path.to_owned(), Some(request.body.clone()));
            Answer(201, Vec::new())
        }
        ("GET", "OPEN") => match tree.files.get(path) {
            Some(Some(content)) => {
                let begin = number("offset").unwrap_or(0).min(content.len());
                let end = number("length")
                    .map_or(content.len(), |length| (begin + length).min(content.len()));
                Answer(200, content[begin..end].to_vec())
            }
            _ => missing(path),
        },
        ("DELETE", "DELETE") => {
            assert!(children(tree, path).is_empty(), "{path} is not empty");
            let existed = tree.files.remove(path).is_some();
            Answer(200, format!(r#"{{"boolean":{existed}}}"#).into_bytes())
        }
        _ => missing(path),
    }
}
