//! Clients that people have: curl, h2load, a WebSocket library, tonic, a browser. A program that is not installed is said
//! to be missing, and its test ends there.

use super::process::{POLICY, Process, mesh};
use super::proxy::{gateway, request_head, upstream, well};
use super::wire;
use std::process::{Command, Output};

/// What a program has to say; none if there is no such program.
fn run(program: &str, arguments: &[&str]) -> Option<Output> {
    match Command::new(program).args(arguments).output() {
        Ok(output) => Some(output),
        Err(error) => {
            eprintln!("{program} is not here ({error}): nothing is tested with it");
            None
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn curl_gets_its_answer_over_http1_and_http2() {
    let gateway = gateway(upstream(well));
    let url = format!("http://{}/", gateway.http);
    for (version, name) in [("--http1.1", "1.1"), ("--http2-prior-knowledge", "2")] {
        let told = ["-sS", "-m", "30", "-H", "host: a", "-w", " %{http_code} %{http_version}", version, &url];
        let Some(output) = run("curl", &told) else { return };
        assert_eq!(text(&output.stdout), format!("ok 200 {name}"), "{}", text(&output.stderr));
    }
    // With a body that is sent in chunks, on a connection that is kept.
    let told =
        ["-sS", "-m", "30", "-H", "host: a", "-H", "transfer-encoding: chunked", "-d", "", "-w", "%{num_connects}"];
    let Some(output) = run("curl", &[&told[..], &[&url, "--next"], &told[..], &[&url]].concat()) else { return };
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn h2load_loses_nothing() {
    let gateway = gateway(upstream(well));
    let at = format!("--connect-to={}", gateway.http);
    for protocol in ["h2c", "http/1.1"] {
        let told = ["-n", "2000", "-c", "20", "-m", "10", "-p", protocol, &at, "http://a/"];
        let Some(output) = run("h2load", &told) else { return };
        let said = text(&output.stdout);
        assert!(said.contains("2000 succeeded, 0 failed, 0 errored, 0 timeout"), "{protocol}: {said}");
        assert!(said.contains("status codes: 2000 2xx"), "{protocol}: {said}");
    }
}

#[test]
#[allow(clippy::result_large_err)] // tungstenite's own signature
fn a_websocket_carries_messages_both_ways() {
    use tungstenite::handshake::server::{Request, Response};
    use tungstenite::protocol::Message;
    let gateway = gateway(upstream(|stream| {
        let checked = |request: &Request, response: Response| {
            assert_eq!((request.uri().path(), request.headers()["host"].as_bytes()), ("/chat", &b"a"[..]));
            Ok(response)
        };
        let mut socket = tungstenite::accept_hdr(stream, checked).unwrap();
        while let Ok(message) = socket.read() {
            if message.is_text() || message.is_binary() {
                socket.send(message).unwrap();
            }
        }
    }));
    let (mut socket, response) = tungstenite::client("ws://a/chat", wire::connect(gateway.http)).unwrap();
    assert_eq!(response.status(), 101);
    let large: Vec<u8> = (0..1 << 20).map(|index: u32| index as u8).collect();
    for message in [Message::text("hello"), Message::binary(large), Message::text("")] {
        socket.send(message.clone()).unwrap();
        assert_eq!(socket.read().unwrap(), message);
    }
    socket.close(None).unwrap();
    assert!(socket.read().unwrap().is_close());
    assert!(matches!(socket.read(), Err(tungstenite::Error::ConnectionClosed)));
}

#[test]
fn a_tonic_client_calls_and_streams() {
    use tonic_health::pb::health_client::HealthClient;
    use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (reporter, service) = tonic_health::server::health_reporter();
    let address = runtime.block_on(async {
        reporter.set_service_status("shop", tonic_health::ServingStatus::Serving).await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
        address
    });
    let process =
        Process::start(POLICY, &mesh(address).replace("name: http, protocol: HTTP", "name: grpc, protocol: GRPC"), &[]);
    let http = process.http;
    runtime.block_on(async move {
        let channel = tonic::transport::Endpoint::try_from(format!("http://{http}"))
            .unwrap()
            .origin("http://a/".parse().unwrap())
            .connect()
            .await
            .unwrap();
        let mut client = HealthClient::new(channel);
        let asked = |service: &str| HealthCheckRequest { service: service.to_owned() };
        let answer = client.check(asked("shop")).await.unwrap().into_inner();
        assert_eq!(answer.status, ServingStatus::Serving as i32);
        // A status that stands in trailers alone.
        assert_eq!(client.check(asked("bakery")).await.unwrap_err().code(), tonic::Code::NotFound);
        // A response that goes on for as long as both like.
        let mut statuses = client.watch(asked("shop")).await.unwrap().into_inner();
        assert_eq!(statuses.message().await.unwrap().unwrap().status, ServingStatus::Serving as i32);
        reporter.set_service_status("shop", tonic_health::ServingStatus::NotServing).await;
        assert_eq!(statuses.message().await.unwrap().unwrap().status, ServingStatus::NotServing as i32);
    });
}

const EJECTING: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: a, namespace: default}
spec:
  host: a
  trafficPolicy:
    outlierDetection: {consecutive5xxErrors: 1, interval: 1h, baseEjectionTime: 1h, maxEjectionPercent: 100}
";

/// The page in a real browser: its script runs, and shows what the gateway knows.
#[test]
fn the_page_shows_routes_and_turns_the_tiles_of_ejected_endpoints() {
    let browser = ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(|name| Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success()));
    let Some(browser) = browser else {
        eprintln!("no Chromium is here: the page is not tested (apt-get install chromium)");
        return;
    };
    let bad = upstream(|mut stream| {
        let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
        while request_head(&mut reader).is_some() {
            let _ = std::io::Write::write_all(&mut stream, b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let good = upstream(well);
    // The bad one is nearer: it gets everything, until it is out.
    let near = format!("endpoints: [{{address: 127.0.0.1, port: {}, locality: eu/a}}, ", bad.port());
    let both = format!("client: {{locality: eu/a}}\n{}", mesh(good).replacen("endpoints: [", &near, 1));
    let process = Process::start(&format!("{POLICY}---{EJECTING}"), &both, &[]);
    assert_eq!(wire::get(process.http, "a", "/").status, 500);
    (0..30).for_each(|_| assert_eq!(wire::get(process.http, "a", "/").status, 200));
    (0..10).for_each(|_| assert_eq!(wire::get(process.http, "a", "/gone").status, 410));
    let profile = tempfile::tempdir().unwrap();
    let page = |fragment: &str| {
        let told = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            &format!("--user-data-dir={}", profile.path().display()),
            "--virtual-time-budget=4000",
            "--dump-dom",
            &format!("http://{}/{fragment}", process.admin),
        ];
        text(&Command::new(browser).args(told).output().unwrap().stdout)
    };
    let shown = page("");
    let has = |words: &str| assert!(shown.contains(words), "no `{words}` in {shown}");
    has("LIVE");
    has("title=\"outbound|80||a.default.svc.cluster.local\"");
    has(">gone<");
    let out = |port: u16, class: &str| format!("class=\"{class}\" data-endpoint=\"127.0.0.1:{port}\"");
    has(&out(bad.port(), "tile out"));
    has(&out(good.port(), "tile"));
    has("ejected");
    has("takes requests");
    // Why does a request go where it goes? A link can ask.
    let shown = page("#http://a/old");
    assert!(shown.contains("redirect 301") && shown.contains("moved"), "{shown}");
}
