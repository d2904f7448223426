//! What a policy is compiled from: whose host it is, what a delegate adds, what a gateway's servers take.

// Meshes cannot be written out from here: they may get more fields.
#![allow(clippy::unwrap_used, clippy::field_reassign_with_default)]

use http::HeaderMap;
use pointsman::Resources;
use pointsman::compile::Compiled;
use pointsman::head::Request;
use pointsman::mesh::{Endpoint, GatewayServer, Mesh, Protocol, ServerTls, Service, ServicePort, Viewpoint};
use pointsman::policy::{Connection, NoRoute, Policy, Verdict};

fn service(host: &str, namespace: &str, port: u16) -> Service {
    Service::new(host, namespace).with_port(port, "port", Protocol::Http).with_endpoint(Endpoint::new("10.0.0.1", port))
}

fn virtual_service(name: &str, spec: &str) -> String {
    let (namespace, name) = name.split_once('/').unwrap();
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{spec}}}\n"
    )
}

fn compile(mesh: &Mesh, viewpoint: &Viewpoint, resources: &[String]) -> Compiled {
    let text = resources.join("---\n");
    let resources = Resources::from_yaml(&text).unwrap();
    assert!(resources.problems.is_empty(), "{:?}\n{text}", resources.problems);
    Policy::compile(&resources, mesh, viewpoint)
}

/// What becomes of a request, in one line.
fn ask(policy: &Policy, port: u16, authority: &str, path: &str) -> String {
    let headers = HeaderMap::new();
    let request = Request { method: "GET", scheme: "http", authority, path, headers: &headers, port };
    let decision = policy.decide(&request, &mut || 0);
    match decision.verdict {
        Verdict::Forward { route, forward, .. } => {
            let mirrors = forward.mirrors.iter().map(|mirror| format!(" + {:?}", mirror.target)).collect::<String>();
            format!("{} {}{mirrors}", route.name, policy.cluster(&decision))
        }
        Verdict::Redirect { redirect, .. } => format!("{}", redirect.status),
        Verdict::Respond { response, .. } => format!("{}", response.status),
        Verdict::PassThrough => "passed through".into(),
        Verdict::NoRoute(NoRoute::HttpsRedirect) => "to https".into(),
        Verdict::NoRoute(reason) => format!("{reason:?}"),
        _ => unreachable!(),
    }
}

#[test]
fn names_of_root_and_delegate_belong_to_the_namespace_of_each() {
    let mesh =
        Mesh::new(["one", "two"].map(|namespace| service(&format!("a.{namespace}.svc.cluster.local"), namespace, 80)));
    let resources = [
        virtual_service(
            "one/root",
            "hosts: [a], gateways: [gw], http: [{name: root, match: [{gateways: [gw]}], mirror: {host: a, subset: of-root}, \
             delegate: {name: delegate, namespace: two}}]",
        ),
        virtual_service("two/delegate", "http: [{name: own, route: [{destination: {host: a}}]}]"),
    ];
    let compiled = compile(&mesh, &Viewpoint::gateway("one", "one/gw"), &resources);
    let answer = ask(&compiled.policy, 80, "a.one.svc.cluster.local", "/");
    assert_eq!(
        answer,
        "root-own outbound|80||a.two.svc.cluster.local + Missing(\"outbound|80|of-root|a.one.svc.cluster.local\")"
    );
}

#[test]
fn a_wildcard_belongs_to_the_first_that_has_it_and_to_nobody_if_that_has_no_route() {
    let mesh = Mesh::new([service("x.a.com", "default", 80), service("y.a.com", "default", 8080)]);
    let route = |name: &str, port: u16| {
        format!("http: [{{name: {name}, match: [{{port: {port}}}], route: [{{destination: {{host: x.a.com}}}}]}}]")
    };
    let resources = [
        virtual_service("default/one", &format!("hosts: ['*.a.com'], {}", route("one", 80))),
        virtual_service("default/two", &format!("hosts: ['*.a.com'], {}", route("two", 8080))),
    ];
    let compiled = compile(&mesh, &Viewpoint::namespace("default"), &resources);
    insta::assert_snapshot!(compiled.report.to_string(), @"VirtualService default/two spec.hosts: `*.a.com` belongs to default/one, which comes first");
    let policy = compiled.policy;
    assert_eq!(ask(&policy, 80, "x.a.com", "/"), "one outbound|80||x.a.com");
    // The first owns it here too, though it has no route for the port: the service is left with its own.
    assert_eq!(ask(&policy, 8080, "y.a.com", "/"), "default outbound|8080||y.a.com");
}

#[test]
fn an_exact_host_does_not_own_a_service_that_is_a_wildcard() {
    let mesh = Mesh::new([service("*.a.com", "default", 80), service("b.test", "default", 80)]);
    let rule = |name: &str| format!("http: [{{name: {name}, route: [{{destination: {{host: b.test}}}}]}}]");
    let resources = [
        virtual_service("default/exact", &format!("hosts: [x.a.com], {}", rule("exact"))),
        virtual_service("default/wild", &format!("hosts: ['*.com'], {}", rule("wild"))),
    ];
    let policy = compile(&mesh, &Viewpoint::namespace("default"), &resources).policy;
    assert_eq!(ask(&policy, 80, "x.a.com", "/"), "exact outbound|80||b.test");
    assert_eq!(ask(&policy, 80, "y.a.com", "/"), "wild outbound|80||b.test");
}

#[test]
fn a_short_name_yields_to_a_full_one_of_the_same_port_only() {
    let mesh = Mesh::new([
        service("a.other.svc.cluster.local", "other", 80),
        service("b.other.svc.cluster.local", "other", 80),
        service("a.other", "default", 80),
        service("b.other", "default", 81),
    ]);
    let policy = compile(&mesh, &Viewpoint::namespace("default"), &[]).policy;
    assert_eq!(ask(&policy, 80, "a.other", "/"), "default outbound|80||a.other");
    assert_eq!(ask(&policy, 80, "b.other", "/"), "default outbound|80||b.other.svc.cluster.local");
}

#[test]
fn a_host_that_is_lost_is_told_also_where_another_is_kept() {
    let mesh = Mesh::new(["a", "b"].map(|name| service(&format!("{name}.default.svc.cluster.local"), "default", 80)));
    let resources = [
        virtual_service("default/one", "hosts: [a], http: [{route: [{destination: {host: a}}]}]"),
        virtual_service("default/two", "hosts: [a, b], http: [{route: [{destination: {host: b}}]}]"),
    ];
    let compiled = compile(&mesh, &Viewpoint::namespace("default"), &resources);
    insta::assert_snapshot!(compiled.report.to_string(), @"VirtualService default/two spec.hosts: `a.default.svc.cluster.local` belongs to default/one, which comes first");
}

fn server(hosts: &[&str], https_redirect: bool) -> GatewayServer {
    let mut server = GatewayServer::default();
    server.port = ServicePort::new(80, "http", Protocol::Http);
    server.hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
    if https_redirect {
        let mut tls = ServerTls::default();
        tls.https_redirect = true;
        server.tls = Some(tls);
    }
    server
}

fn gateway(servers: Vec<GatewayServer>, resources: &[String]) -> Policy {
    let mut mesh = Mesh::new([service("a.default.svc.cluster.local", "default", 80)]);
    mesh.gateway_servers = Some(servers);
    compile(&mesh, &Viewpoint::gateway("default", "default/gw"), resources).policy
}

#[test]
fn a_server_that_redirects_does_so_for_its_hosts_alone() {
    let rule = "gateways: [gw], http: [{name: all, route: [{destination: {host: a}}]}]";
    let resources = [virtual_service("default/vs", &format!("hosts: [safe.test, plain.test], {rule}"))];
    let policy = gateway(vec![server(&["safe.test", "*.Bare.test"], true), server(&["plain.test"], false)], &resources);
    assert_eq!(ask(&policy, 80, "safe.test", "/"), "to https");
    assert_eq!(ask(&policy, 80, "x.bare.test", "/"), "to https", "without a route");
    assert_eq!(ask(&policy, 80, "plain.test", "/"), "all outbound|80||a.default.svc.cluster.local");
    assert_eq!(ask(&policy, 80, "nobody.test", "/"), "UnknownHost");
}

#[test]
fn the_routes_of_an_earlier_server_come_first() {
    let rule = |name: &str| {
        format!(
            "hosts: [x.test], gateways: [default/gw], http: [{{name: {name}, match: [{{uri: {{prefix: /x}}}}], directResponse: {{status: {}}}}}]",
            if name == "old" { 201 } else { 202 }
        )
    };
    let resources = [virtual_service("default/a-old", &rule("old")), virtual_service("late/b-new", &rule("new"))];
    let one = gateway(vec![server(&["*"], false)], &resources);
    assert_eq!(ask(&one, 80, "x.test", "/x"), "201 Created");
    let two = gateway(vec![server(&["late/x.test"], false), server(&["*"], false)], &resources);
    assert_eq!(ask(&two, 80, "x.test", "/x"), "202 Accepted");
}

/// What becomes of a connection.
fn connect(policy: &Policy, address: [u8; 4], port: u16, sni: Option<&str>) -> String {
    policy.explain_connection(&Connection { address: Some(address.into()), port, sni }, &mut || 0).outcome.to_string()
}

#[test]
fn blocks_of_connections_are_taken_together_as_in_istio() {
    let mesh = Mesh::new(["a", "b"].map(|name| {
        Service::new(format!("{name}.test"), "default").with_port(443, "tls", Protocol::Tls).with_port(
            9,
            "tcp",
            Protocol::Tcp,
        )
    }));
    let resources = [virtual_service(
        "default/vs",
        "hosts: [a.test], \
         tls: [{match: [{sniHosts: [x.a.test], destinationSubnets: [10.1.0.0/16]}, {sniHosts: [y.a.test]}], route: [{destination: {host: b.test}}]}], \
         tcp: [{match: [{destinationSubnets: [10.1.0.0/16]}, {port: 9}], route: [{destination: {host: b.test}}]}]",
    )];
    let policy = compile(&mesh, &Viewpoint::namespace("default"), &resources).policy;
    // The first block's subnets hold for the second, which has none.
    assert_eq!(connect(&policy, [10, 1, 0, 1], 443, Some("y.a.test")), "outbound|443||b.test");
    assert_eq!(connect(&policy, [10, 2, 0, 1], 443, Some("y.a.test")), "passed through: no chain takes it");
    // The second block takes everything: one chain, and not one more for the first block's subnet.
    let connection = Connection { address: Some([10, 1, 0, 1].into()), port: 9, sni: None };
    let explanation = policy.explain_connection(&connection, &mut || 0);
    let written: Vec<String> = explanation.chains.iter().map(|chain| chain.origin.to_string()).collect();
    assert_eq!(written, ["default/vs tcp[0] match[1]"]);
}
