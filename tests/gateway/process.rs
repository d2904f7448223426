//! The gateway as somebody starts it: arguments, files, standard output, signals, memory.

use super::proxy::{careful, request_head, upstream, well};
use super::wire;
use crate::gateway;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

const ARGUMENTS: &str = "GATEWAY_ARGUMENTS";

/// No test of its own: what [`Process`] starts. This program is the gateway if its arguments are in the environment.
#[test]
fn is_the_process() {
    if let Ok(arguments) = std::env::var(ARGUMENTS) {
        std::process::exit(gateway::start(arguments.split('\n').map(str::to_owned)).into());
    }
}

fn command(arguments: &[String]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "process::is_the_process", "--nocapture"]).env(ARGUMENTS, arguments.join("\n"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null());
    command
}

/// A gateway of its own.
pub struct Process {
    child: Child,
    /// What it says on standard error, line by line.
    said: Receiver<String>,
    /// And on standard output.
    logged: Receiver<String>,
    /// What it said before it listened.
    began: Vec<String>,
    pub http: SocketAddr,
    pub admin: SocketAddr,
    pub folder: tempfile::TempDir,
}

pub const POLICY: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a, namespace: default}
spec:
  hosts: [a]
  http:
  - {name: gone, match: [{uri: {exact: /gone}}], directResponse: {status: 410, body: {string: no more}}}
  - {name: moved, match: [{uri: {prefix: /old}}], redirect: {uri: /new}}
  - name: renamed
    match: [{uri: {prefix: /renamed}}]
    rewrite: {uri: /else, authority: b}
    route: [{destination: {host: a}}]
  - name: all
    route: [{destination: {host: a}}]
";

/// A mesh with `a` at the upstream, and `nobody` where nobody is.
pub fn mesh(upstream: SocketAddr) -> String {
    format!(
        "services:
- host: a.default.svc.cluster.local
  namespace: default
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  endpoints: [{{address: {}, port: {}}}]
- host: nobody.default.svc.cluster.local
  namespace: default
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  endpoints: [{{address: 127.0.0.1, port: 1}}]
",
        upstream.ip(),
        upstream.port()
    )
}

fn lines(source: impl Read + Send + 'static) -> Receiver<String> {
    let (teller, told) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(source).lines().map_while(Result::ok) {
            if teller.send(line).is_err() {
                return;
            }
        }
    });
    told
}

impl Process {
    pub fn start(policy: &str, mesh: &str, more: &[&str]) -> Process {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        std::fs::write(path("policy.yaml"), policy).unwrap();
        std::fs::write(path("mesh.yaml"), mesh).unwrap();
        let mut arguments = vec!["--policy".into(), path("policy.yaml"), "--mesh".into(), path("mesh.yaml")];
        let fixed = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
        arguments.extend(fixed.iter().chain(more).map(|argument| (*argument).to_owned()));
        let mut child = command(&arguments).spawn().unwrap();
        let (said, logged) = (lines(child.stderr.take().unwrap()), lines(child.stdout.take().unwrap()));
        let address = |line: String| line.split([' ', ',', '/']).find_map(|word| word.parse().ok());
        let mut began = Vec::new();
        let http = loop {
            let line = said.recv_timeout(Duration::from_secs(60)).unwrap_or_else(|error| panic!("{error}: {began:#?}"));
            if line.starts_with("listening on") {
                break address(line).unwrap();
            }
            began.push(line);
        };
        let admin = address(next(&said, "admin on")).unwrap();
        Process { child, said, logged, began, http, admin, folder }
    }

    fn terminate(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    /// The most memory that it ever had in use, in KiB.
    fn most_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// The next line of the access log.
    fn log_line(&self) -> String {
        next(&self.logged, "\"")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The next line with these words.
fn next(lines: &Receiver<String>, words: &str) -> String {
    let mut seen = Vec::new();
    loop {
        match lines.recv_timeout(Duration::from_secs(60)) {
            Ok(line) if line.contains(words) => return line,
            Ok(line) => seen.push(line),
            Err(error) => panic!("no line with `{words}`: {error}; there were {seen:#?}"),
        }
    }
}

fn output(arguments: &[&str]) -> Output {
    command(&arguments.iter().map(|argument| (*argument).to_owned()).collect::<Vec<_>>()).output().unwrap()
}

#[test]
fn what_is_wrong_with_arguments_and_files_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    };
    let good = file("good.yaml", POLICY);
    let broken = file("broken.yaml", "apiVersion: networking.istio.io/v1\nkind: VirtualService\nspec: {hosts: 7}\n");
    let mesh = file("mesh.yaml", "services: 7\n");
    let listen = ["--listen", "127.0.0.1:0"];
    for (arguments, expected) in [
        (vec!["--policy"], "--policy: needs a value"),
        (vec!["--policy", &good], "--listen: on which address?"),
        (vec!["--listen", "127.0.0.1:0"], "--policy: which files?"),
        (vec!["--policy", &good, "--listen", "here"], "--listen: `here` is not an address such as"),
        (vec!["--policy", &good, "--listen", "127.0.0.1:0=x"], "--listen: `x` is not a port"),
        (vec!["--policy", &good, listen[0], listen[1], "--workers", "0"], "--workers: `0` is not a number from 1 on"),
        (vec!["--policy", &good, listen[0], listen[1], "--workers", "--quiet"], "--workers: needs a value"),
        (vec!["--policy", &good, listen[0], listen[1], "--gateway", "x"], "--gateway: `x` is not NAMESPACE/NAME"),
        (
            vec!["--policy", &good, listen[0], listen[1], "--gateway", "a/b", "--namespace", "a"],
            "--namespace: it is either",
        ),
        (vec!["--policy", &good, listen[0], listen[1], "--colour"], "there is no option `--colour`"),
        (vec!["--policy", "/nowhere.yaml", listen[0], listen[1]], "/nowhere.yaml: No such file"),
        (
            vec!["--policy", &broken, listen[0], listen[1]],
            "broken.yaml:3:8: VirtualService: spec.hosts: expected a list",
        ),
        (
            vec!["--policy", &good, "--mesh", &mesh, listen[0], listen[1]],
            "mesh.yaml: invalid type: integer `7`, expected a sequence",
        ),
    ] {
        let seen = output(&arguments);
        let said = String::from_utf8_lossy(&seen.stderr).into_owned();
        assert_eq!(seen.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.starts_with("gateway: ") && said.contains(expected), "{arguments:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    let help = output(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    let text = String::from_utf8_lossy(&help.stdout).into_owned();
    for option in ["--policy", "--mesh", "--listen", "--workers", "--namespace", "--gateway", "--watch", "--admin"] {
        assert!(text.contains(option), "{option}: {text}");
    }
}

#[test]
fn the_report_is_told_at_the_start() {
    let policy = format!("{POLICY}  - {{name: never, route: [{{destination: {{host: a}}}}]}}\n");
    let process = Process::start(&policy, &mesh(upstream(well)), &[]);
    assert_eq!(process.began[0], "policy in force, with 1 note:");
    assert!(process.began[1].starts_with("  VirtualService default/a spec.http[4]: "), "{:?}", process.began);
    assert!(wire::get(process.admin, "admin", "/policy").text().contains("http[4]"));
    let all = Process::start(POLICY, &mesh(upstream(well)), &[]);
    assert_eq!(all.began[0], "policy in force, all of it");
}

#[test]
fn a_change_of_the_policy_is_applied() {
    let process = Process::start(POLICY, &mesh(upstream(well)), &["--watch"]);
    assert_eq!(wire::get(process.http, "a", "/gone").status, 410);
    let beside = process.folder.path().join("new");
    std::fs::write(&beside, POLICY.replace("410", "451")).unwrap();
    std::fs::rename(beside, process.folder.path().join("policy.yaml")).unwrap();
    next(&process.said, "policy in force");
    assert_eq!(wire::get(process.http, "a", "/gone").status, 451);
    std::fs::write(process.folder.path().join("policy.yaml"), "kind: VirtualService\nspec: [").unwrap();
    next(&process.said, "refused, the last good policy stays");
    assert_eq!(wire::get(process.http, "a", "/gone").status, 451);
}

/// As Envoy wrote it for the same requests, but for what differs from one time to the next.
#[test]
fn log_lines_are_envoys() {
    let process = Process::start(POLICY, &mesh(careful(&Arc::default())), &[]);
    let upstream = "127.0.0.1:[0-9]+";
    let cluster = r"outbound\|80\|\|a.default.svc.cluster.local";
    for (request, expected) in [
        (
            "GET /x?y=1 HTTP/1.1\r\nhost: a\r\nuser-agent: me\r\nx-request-id: 7\r\nx-forwarded-for: 10.1.1.1\r\n\r\n",
            format!(r#""GET /x\?y=1 HTTP/1.1" 200 - 0 2 N N "10.1.1.1" "me" "7" "a" "{upstream}" all {cluster}"#),
        ),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n",
            format!(r#""POST / HTTP/1.1" 200 - 7 2 N N "-" "-" "ID" "a" "{upstream}" all {cluster}"#),
        ),
        (
            "GET /renamed/x HTTP/1.1\r\nhost: a\r\n\r\n",
            format!(r#""GET /renamed/x HTTP/1.1" 200 - 0 2 N N "-" "-" "ID" "b" "{upstream}" renamed {cluster}"#),
        ),
        (
            "GET /gone HTTP/1.1\r\nhost: a\r\n\r\n",
            r#""GET /gone HTTP/1.1" 410 - 0 7 N - "-" "-" "ID" "a" "-" gone -"#.into(),
        ),
        (
            "GET /old HTTP/1.1\r\nhost: a\r\n\r\n",
            r#""GET /old HTTP/1.1" 301 - 0 0 N - "-" "-" "ID" "a" "-" moved -"#.into(),
        ),
        (
            "GET /a/../gone HTTP/1.1\r\nhost: a\r\n\r\n",
            r#""GET /gone HTTP/1.1" 410 - 0 7 N - "-" "-" "ID" "a" "-" gone -"#.into(),
        ),
        (
            "GET / HTTP/1.1\r\nhost: nobody\r\n\r\n",
            r#""GET / HTTP/1.1" 503 URX,UF 0 [0-9]+ N - "-" "-" "ID" "nobody" "127.0.0.1:1" default outbound\|80\|\|nobody.default.svc.cluster.local"#.into(),
        ),
        (
            "HEAD / HTTP/1.1\r\nhost: a\r\n\r\n",
            format!(r#""HEAD / HTTP/1.1" 200 - 0 0 N N "-" "-" "ID" "a" "{upstream}" all {cluster}"#),
        ),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            format!(r#""POST / HTTP/1.1" 400 DPE 0 [0-9]+ N - "-" "-" "ID" "a" "{upstream}" - {cluster}"#),
        ),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 30\r\n\r\nabc",
            format!(r#""POST / HTTP/1.1" 0 DC 3 0 N - "-" "-" "ID" "a" "{upstream}" - {cluster}"#),
        ),
    ] {
        let mut client = wire::connect(process.http);
        client.write_all(request.as_bytes()).unwrap();
        // The last one goes away in the middle of its body.
        if !request.ends_with("abc") {
            wire::read(&mut BufReader::new(&client), request.starts_with("HEAD")).unwrap();
        }
        drop(client);
        let line = process.log_line();
        let id = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}";
        let expected = expected.replace(" N ", " [0-9]+ ").replace(" N ", " [0-9]+ ").replace("\"ID\"", &format!("\"{id}\""));
        let whole = format!(r"^\[[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}T[0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}\.[0-9]{{3}}Z\] {expected}$");
        assert!(regex::Regex::new(&whole).unwrap().is_match(&line), "{line}\nis not\n{whole}");
    }
}

#[test]
fn sigterm_loses_no_request() {
    const CLIENTS: usize = 20;
    let (came, arrived) = mpsc::channel();
    let gate = Arc::new((Mutex::new(false), std::sync::Condvar::new()));
    let held = Arc::clone(&gate);
    let process = Process::start(
        POLICY,
        &mesh(upstream(move |stream| {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut stream = stream;
            while request_head(&mut reader).is_some() {
                came.send(()).unwrap();
                drop(held.1.wait_while(held.0.lock().unwrap(), |open| !*open).unwrap());
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
            }
        })),
        &["--drain", "60"],
    );
    let http = process.http;
    let clients: Vec<_> = (0..CLIENTS).map(|_| thread::spawn(move || wire::get(http, "a", "/"))).collect();
    (0..CLIENTS).for_each(|_| arrived.recv().unwrap());
    // A client that has a connection and nothing to ask does not hold it up.
    let idle = wire::connect(http);
    process.terminate();
    next(&process.said, "draining");
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    for client in clients {
        let response = client.join().unwrap();
        assert_eq!((response.status, response.text().as_str()), (200, "ok"));
    }
    let mut process = process;
    assert_eq!(process.child.wait().unwrap().code(), Some(0));
    drop(idle);
}

#[test]
fn a_gigabyte_each_way_takes_no_memory() {
    const PIECE: usize = 1 << 20;
    const PIECES: usize = 1 << 10;
    let process = Process::start(
        POLICY,
        &mesh(upstream(|stream| {
            let mut reader = BufReader::with_capacity(PIECE, stream.try_clone().unwrap());
            let mut stream = stream;
            while let Some(head) = request_head(&mut reader) {
                let mut piece = vec![b'x'; PIECE];
                if head.starts_with("POST") {
                    (0..PIECES).for_each(|_| reader.read_exact(&mut piece).unwrap());
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nall").unwrap();
                } else {
                    stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
                    for _ in 0..PIECES {
                        stream.write_all(format!("{PIECE:x}\r\n").as_bytes()).unwrap();
                        stream.write_all(&piece).unwrap();
                        stream.write_all(b"\r\n").unwrap();
                    }
                    stream.write_all(b"0\r\n\r\n").unwrap();
                }
            }
        })),
        &[],
    );
    assert_eq!(wire::get(process.admin, "admin", "/ready").status, 200);
    let before = process.most_memory();
    let mut client = wire::connect(process.http);
    client
        .write_all(format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", PIECE * PIECES).as_bytes())
        .unwrap();
    let mut piece = vec![b'x'; PIECE];
    (0..PIECES).for_each(|_| client.write_all(&piece).unwrap());
    let mut reader = BufReader::with_capacity(PIECE, client.try_clone().unwrap());
    assert_eq!(wire::read(&mut reader, false).unwrap().text(), "all");
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    assert_eq!(wire::read(&mut reader, true).unwrap().header("transfer-encoding"), Some(&b"chunked"[..]));
    let mut seen = 0;
    loop {
        let mut size = String::new();
        reader.read_line(&mut size).unwrap();
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        piece.resize(size + 2, 0);
        reader.read_exact(&mut piece).unwrap();
        seen += size;
        if size == 0 {
            break;
        }
    }
    assert_eq!(seen, PIECE * PIECES);
    let more = process.most_memory() - before;
    assert!(more < 16 << 10, "{more} KiB more than the {before} KiB before");
}

#[test]
fn the_policies_of_the_examples_are_taken() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/policies");
    for entry in std::fs::read_dir(folder).unwrap() {
        let policy = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let process = Process::start(&policy, "services: []\n", &[]);
        assert_eq!(wire::get(process.admin, "admin", "/ready").text(), "LIVE\n");
    }
}
