//! What a core tells tools: remote commands and HTTP.

use crate::site::{TABLE, site};
use e2e::apache::{Connection, Form};
use pegasus_thrift::Rpc;
use pegasus_thrift::meta::ListAppsRequest;
use pegasus_thrift::remote::{Command, NegotiationRequest, NegotiationResponse, NegotiationStatus};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

#[test]
fn a_core_answers_tools_by_remote_command_and_by_http() {
    let site = site();
    for (port, form) in site.ports.iter().zip(Form::ALL.into_iter().cycle()) {
        let mut connection = Connection::open(*port, form).unwrap();
        let mut command = |cmd, arguments: Vec<&str>| {
            let answer = connection
                .ask_server(Rpc::Cli, &Command { cmd, arguments })
                .unwrap();
            answer.read::<&str>().unwrap().to_owned()
        };
        assert!(command("server-info", vec![]).starts_with("Pegasus Server "));
        assert!(command("help", vec![]).contains("server-stat"));
        assert!(command("server-stat", vec![]).contains("replicas: "));
        assert!(command("perf-counters-by-substr", vec!["replica"]).starts_with('{'));
        assert_eq!(command("flush-log", vec![]), "unsupported: flush-log");
        // Meta's requests are not answered here, and clients go on to their next address.
        let refused = connection
            .ask_server(Rpc::ListApps, &ListAppsRequest::default())
            .unwrap();
        assert_eq!(refused.status, "ERR_HANDLER_NOT_FOUND");
        let negotiated = connection
            .ask_server(Rpc::Negotiation, &NegotiationRequest::default())
            .unwrap();
        let response: NegotiationResponse<'_> = negotiated.read().unwrap();
        assert_eq!(response.status, NegotiationStatus::SaslAuthDisable);

        assert!(http(*port, "/version").contains("\"Version\""));
        assert!(http(*port, "/health").starts_with("HTTP/1.1 200 "));
        assert!(http(*port, "/ready").starts_with("HTTP/1.1 200 "));
        let metrics = http(*port, "/metrics?types=server");
        assert!(
            metrics.contains(&format!("\"port\":{}", port.port())),
            "{metrics}"
        );
        assert!(http(*port, "/metrics/prometheus").contains("# TYPE pegasus_"));
        assert!(http(*port, "/meta/apps").starts_with("HTTP/1.1 404 "));
    }
    assert!(site.cluster.pegasus(&["get", TABLE, "h", "s"]).is_err());
}

fn http(port: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(port).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {port}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
