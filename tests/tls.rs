//! TLS to upstreams: handshakes with a server in memory, and what their failures are called.

#![allow(clippy::unwrap_used)]

use pointsman::policy::{TlsIntent, TlsMode};
use pointsman::tls::{
    Credential, NameMismatch, Spoken, TlsError, TlsFailure, TlsOptions, TlsProblem, TlsSession, UpstreamTls,
    WorkloadFiles,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, ExtendedKeyUsagePurpose,
    IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, ClientConnection, RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion,
};
use std::error::Error;
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

const AUTHORITY: &str = "pay.shop.example";
const SPIFFE: &str = "spiffe://cluster.local/ns/shop/sa/pay";

/// 2026-01-01.
#[derive(Debug)]
struct NewYear;

impl TimeProvider for NewYear {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(1_767_225_600)))
    }
}

/// Who signs.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
struct Leaf {
    chain: String,
    key: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn leaf(&self, names: &[&str]) -> Leaf {
        self.leaf_with(names, |_| {})
    }

    fn leaf_with(&self, names: &[&str], edit: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let mut params = params(names);
        edit(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Leaf { chain: certificate.pem(), key: key.serialize_pem() }
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }

    fn crl(&self, serials: &[u64], next_update: i32) -> String {
        CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(next_update, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials
                .iter()
                .map(|serial| RevokedCertParams {
                    serial_number: SerialNumber::from(*serial),
                    revocation_time: date_time_ymd(2021, 1, 1),
                    reason_code: None,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        }
        .signed_by(&self.0)
        .unwrap()
        .pem()
        .unwrap()
    }
}

fn params(names: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names
        .iter()
        .map(|name| match *name {
            uri if uri.contains("://") => SanType::URI(uri.try_into().unwrap()),
            mail if mail.contains('@') => SanType::Rfc822Name(mail.try_into().unwrap()),
            name => match name.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(name.try_into().unwrap()),
            },
        })
        .collect();
    params
}

/// A server as a test wants it.
struct Server<'a> {
    leaf: &'a Leaf,
    clients: Option<&'a Authority>,
    versions: &'static [&'static SupportedProtocolVersion],
    alpn: &'static [&'static str],
}

static BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];
static OLD: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];

impl<'a> Server<'a> {
    fn new(leaf: &'a Leaf) -> Self {
        Server { leaf, clients: None, versions: BOTH, alpn: &[] }
    }

    fn config(&self) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(self.versions).unwrap();
        let builder = match self.clients {
            Some(authority) => builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(authority.roots().into(), provider).build().unwrap(),
            ),
            None => builder.with_no_client_auth(),
        };
        let chain = CertificateDer::pem_slice_iter(self.leaf.chain.as_bytes()).collect::<Result<_, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_slice(self.leaf.key.as_bytes()).unwrap();
        let mut config = builder.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = self.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }
}

/// What both saw of a connection over which `ping` and `pong` went.
#[derive(Debug)]
struct Seen {
    sni: Option<String>,
    alpn: Option<String>,
    client_certificates: usize,
    resumed: bool,
}

/// Shakes hands in memory and exchanges a word; the client's error, if it has one.
fn connect(session: TlsSession, server: &Server<'_>) -> Result<Seen, rustls::Error> {
    connect_to(session, Arc::new(server.config()))
}

fn connect_to(session: TlsSession, server: Arc<ServerConfig>) -> Result<Seen, rustls::Error> {
    let mut client = ClientConnection::new(session.config, session.server_name)?;
    let mut server = ServerConnection::new(server).unwrap();
    client.writer().write_all(b"ping").unwrap();
    server.writer().write_all(b"pong").unwrap();
    let mut server_lives = true;
    loop {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut moved = wire.len();
        let mut rest = &wire[..];
        while server_lives && !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server_lives = server.process_new_packets().is_ok();
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        moved += wire.len();
        let mut rest = &wire[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets()?;
        }
        if moved == 0 {
            break;
        }
    }
    let mut word = [0; 4];
    client.reader().read_exact(&mut word).unwrap();
    assert_eq!(&word, b"pong");
    server.reader().read_exact(&mut word).unwrap();
    assert_eq!(&word, b"ping");
    Ok(Seen {
        sni: server.server_name().map(str::to_owned),
        alpn: client.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
        client_certificates: server.peer_certificates().map_or(0, <[_]>::len),
        resumed: client.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
    })
}

fn failure(session: TlsSession, server: &Server<'_>) -> TlsFailure {
    TlsFailure::of(&connect(session, server).unwrap_err())
}

/// Files of a test.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Files(tempfile::tempdir().unwrap())
    }

    fn put(&self, name: &str, text: &str) -> Option<String> {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        Some(path.to_str().unwrap().to_owned())
    }

    /// A workload's own files.
    fn workload(&self, leaf: &Leaf, roots: &Authority) -> TlsOptions {
        self.put("cert-chain.pem", &leaf.chain);
        self.put("key.pem", &leaf.key);
        self.put("root-cert.pem", &roots.pem());
        options().with_workload(WorkloadFiles::in_directory(self.0.path()))
    }
}

fn options() -> TlsOptions {
    TlsOptions::new().with_time(Arc::new(NewYear))
}

fn intent(mode: TlsMode, edit: impl FnOnce(&mut TlsIntent)) -> TlsIntent {
    let mut intent = TlsIntent::default();
    intent.mode = mode;
    edit(&mut intent);
    intent
}

/// As a policy has it when a rule says no more than the mode and the authorities.
fn simple(authorities: Option<String>, edit: impl FnOnce(&mut TlsIntent)) -> TlsIntent {
    intent(TlsMode::Simple, |intent| {
        intent.ca_certificates = authorities;
        intent.verify_authority = true;
        edit(intent);
    })
}

fn make(intent: &TlsIntent, options: &TlsOptions) -> UpstreamTls {
    UpstreamTls::from_intent("outbound|443||pay", intent, options).unwrap().unwrap()
}

fn session(intent: &TlsIntent, options: &TlsOptions) -> TlsSession {
    make(intent, options).session(Some(AUTHORITY), Spoken::Http1).unwrap()
}

fn refused(intent: &TlsIntent, options: &TlsOptions) -> TlsError {
    UpstreamTls::from_intent("outbound|443||pay", intent, options).unwrap_err()
}

#[test]
fn simple_verifies_the_chain_and_the_authority() {
    let (files, ca, other) = (Files::new(), Authority::new("ca"), Authority::new("other"));
    let intent = simple(files.put("ca.pem", &ca.pem()), |_| {});
    let year = |leaf: &mut CertificateParams, from, to| {
        leaf.not_before = date_time_ymd(from, 1, 1);
        leaf.not_after = date_time_ymd(to, 1, 1);
    };
    let good = ca.leaf(&[AUTHORITY]);
    let seen = connect(session(&intent, &options()), &Server::new(&good)).unwrap();
    assert_eq!((seen.sni.as_deref(), seen.client_certificates), (Some(AUTHORITY), 0));

    for (what, leaf, expected) in [
        ("a wildcard", ca.leaf(&["*.shop.example"]), None),
        ("another case", ca.leaf(&["PAY.shop.example"]), None),
        ("one of many", ca.leaf(&["a.example", "10.0.0.1", AUTHORITY]), None),
        ("another authority's", other.leaf(&[AUTHORITY]), Some(TlsFailure::UnknownIssuer)),
        ("another name", ca.leaf(&["other.shop.example"]), Some(TlsFailure::NameMismatch)),
        ("no name", ca.leaf(&[]), Some(TlsFailure::NameMismatch)),
        ("the name as a URI", ca.leaf(&["https://pay.shop.example"]), Some(TlsFailure::NameMismatch)),
        ("past", ca.leaf_with(&[AUTHORITY], |leaf| year(leaf, 2019, 2020)), Some(TlsFailure::Expired)),
        ("to come", ca.leaf_with(&[AUTHORITY], |leaf| year(leaf, 2030, 2040)), Some(TlsFailure::NotYetValid)),
        (
            "for clients",
            ca.leaf_with(&[AUTHORITY], |leaf| leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
            Some(TlsFailure::BadCertificate),
        ),
    ] {
        for versions in [BOTH, OLD] {
            let result = connect(session(&intent, &options()), &Server { versions, ..Server::new(&leaf) });
            assert_eq!(result.err().as_ref().map(TlsFailure::of), expected, "{what}");
        }
    }
}

#[test]
fn an_authority_may_be_an_address_and_have_a_port() {
    let (files, ca) = (Files::new(), Authority::new("ca"));
    let tls = make(&simple(files.put("ca.pem", &ca.pem()), |_| {}), &options());
    assert!(tls.per_authority());
    let leaf = ca.leaf(&["10.0.0.1", "::1", AUTHORITY]);
    for (authority, sni) in [
        ("10.0.0.1", None),
        ("10.0.0.1:443", None),
        ("[::1]:8443", None),
        ("[::1]", None),
        ("pay.shop.example:8443", Some(AUTHORITY)),
        ("pay.shop.example.", Some(AUTHORITY)),
    ] {
        let session = tls.session(Some(authority), Spoken::Http1).unwrap();
        let seen = connect(session, &Server::new(&leaf)).unwrap();
        assert_eq!(seen.sni.as_deref(), sni, "{authority}");
    }
    let elsewhere = tls.session(Some("10.0.0.2"), Spoken::Http1).unwrap();
    assert_eq!(failure(elsewhere, &Server::new(&leaf)), TlsFailure::NameMismatch);
    for authority in ["", "a b", "-", "[::1", "a:b:c"] {
        let error = tls.session(Some(authority), Spoken::Http1).unwrap_err();
        assert!(matches!(error.problem(), TlsProblem::Name { name } if name == authority), "{error}");
    }
}

#[test]
fn a_connection_without_authority_sends_no_name_and_checks_none() {
    let (files, ca, other) = (Files::new(), Authority::new("ca"), Authority::new("other"));
    let tls = make(&simple(files.put("ca.pem", &ca.pem()), |_| {}), &options());
    let nameless = || tls.session(None, Spoken::Opaque).unwrap();
    let seen = connect(nameless(), &Server::new(&ca.leaf(&["any.example"]))).unwrap();
    assert_eq!((seen.sni, seen.alpn), (None, None));
    assert_eq!(failure(nameless(), &Server::new(&other.leaf(&["any.example"]))), TlsFailure::UnknownIssuer);
    // What was not checked without a name is checked with one, also by the name that stands for none within.
    let zero = tls.session(Some("0.0.0.0"), Spoken::Opaque).unwrap();
    assert_eq!(failure(zero, &Server::new(&ca.leaf(&["any.example"]))), TlsFailure::NameMismatch);
}

#[test]
fn sessions_are_resumed_by_name_and_never_across_checks() {
    let (files, ca) = (Files::new(), Authority::new("ca"));
    let tls = make(&simple(files.put("ca.pem", &ca.pem()), |_| {}), &options());
    let server = Arc::new(Server::new(&ca.leaf(&[AUTHORITY])).config());
    let to = |authority| connect_to(tls.session(authority, Spoken::Http1).unwrap(), server.clone());
    assert!(!to(Some(AUTHORITY)).unwrap().resumed);
    assert!(to(Some(AUTHORITY)).unwrap().resumed);
    assert!(!to(None).unwrap().resumed);
    assert!(to(None).unwrap().resumed);
    for unchecked in ["other.example", "0.0.0.0"] {
        assert_eq!(TlsFailure::of(&to(Some(unchecked)).unwrap_err()), TlsFailure::NameMismatch);
    }
}

#[test]
fn a_set_sni_is_sent_and_is_no_name_to_check() {
    let (files, ca, other) = (Files::new(), Authority::new("ca"), Authority::new("other"));
    let intent = simple(files.put("ca.pem", &ca.pem()), |intent| {
        intent.sni = Some("front.example".into());
        intent.verify_authority = false;
    });
    let tls = make(&intent, &options());
    assert!(!tls.per_authority());
    for authority in [None, Some(AUTHORITY), Some("no name at all")] {
        let session = tls.session(authority, Spoken::Http1).unwrap();
        let seen = connect(session, &Server::new(&ca.leaf(&["another.example"]))).unwrap();
        assert_eq!(seen.sni.as_deref(), Some("front.example"));
    }
    let session = session(&intent, &options());
    assert_eq!(failure(session, &Server::new(&other.leaf(&["front.example"]))), TlsFailure::UnknownIssuer);

    let error = refused(&simple(None, |intent| intent.sni = Some("not a name".into())), &{
        options().with_system_roots(ca.roots())
    });
    assert_eq!(error.to_string(), "`outbound|443||pay`: tls.sni: `not a name` is neither an address nor a DNS name");
}

#[test]
fn one_of_the_listed_names_must_be_there() {
    let (files, ca) = (Files::new(), Authority::new("ca"));
    let authorities = files.put("ca.pem", &ca.pem());
    for (wanted, presented, good) in [
        (&[SPIFFE][..], &[SPIFFE][..], true),
        (&["x.example", SPIFFE], &[SPIFFE, "y.example"], true),
        (&["a.shop.example"], &["*.shop.example"], true),
        (&["10.0.0.1"], &["10.0.0.1"], true),
        (&["ops@shop.example"], &["ops@shop.example"], true),
        (&[SPIFFE], &["spiffe://cluster.local/ns/shop/sa/other"], false),
        (&[SPIFFE], &["spiffe://CLUSTER.local/ns/shop/sa/pay"], false),
        (&["spiffe://cluster.local/ns/shop/sa/"], &[SPIFFE], false),
        (&["*.shop.example"], &["a.shop.example"], false),
        (&["x.example"], &[AUTHORITY], false), // the list stands in the authority's place
        (&["x.example"], &[], false),
    ] {
        let intent = simple(authorities.clone(), |intent| {
            intent.subject_alt_names = wanted.iter().map(|name| (*name).to_owned()).collect();
            intent.verify_authority = false;
        });
        let result = connect(session(&intent, &options()), &Server::new(&ca.leaf(presented)));
        match result {
            Ok(_) => assert!(good, "{wanted:?} {presented:?}"),
            Err(error) => {
                assert_eq!((TlsFailure::of(&error), good), (TlsFailure::NameMismatch, false), "{wanted:?}");
                let rustls::Error::InvalidCertificate(CertificateError::Other(other)) = &error else {
                    panic!("{error}")
                };
                let mismatch = other.0.downcast_ref::<NameMismatch>().unwrap();
                assert_eq!((&mismatch.wanted[..], &mismatch.presented[..]), (&own(wanted)[..], &own(presented)[..]));
            }
        }
    }
}

fn own(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn mutual_shows_our_certificate() {
    let (files, ca, clients) = (Files::new(), Authority::new("ca"), Authority::new("clients"));
    let (leaf, ours, strange) = (ca.leaf(&[AUTHORITY]), clients.leaf(&["us"]), ca.leaf(&["us"]));
    let mutual = |ours: &Leaf| {
        intent(TlsMode::Mutual, |intent| {
            intent.ca_certificates = files.put("ca.pem", &ca.pem());
            intent.client_certificate = files.put("cert.pem", &ours.chain);
            intent.private_key = files.put("key.pem", &ours.key);
        })
    };
    for versions in [BOTH, OLD] {
        let server = Server { clients: Some(&clients), versions, ..Server::new(&leaf) };
        let seen = connect(session(&mutual(&ours), &options()), &server).unwrap();
        assert_eq!(seen.client_certificates, 1);
        let without = simple(files.put("ca.pem", &ca.pem()), |_| {});
        for wrong in [&mutual(&strange), &without] {
            let failure = failure(session(wrong, &options()), &server);
            assert_eq!(failure, TlsFailure::ClientCertificateRefused);
        }
    }
}

#[test]
fn istio_mutual_shows_the_workload_and_checks_identities() {
    let (files, mesh, other) = (Files::new(), Authority::new("mesh"), Authority::new("other"));
    let me = mesh.leaf(&["spiffe://cluster.local/ns/shop/sa/front"]);
    let options = files.workload(&me, &mesh);
    let istio = intent(TlsMode::IstioMutual, |intent| {
        intent.sni = Some("outbound_.9080_._.pay.shop.svc.cluster.local".into());
        intent.subject_alt_names = vec![SPIFFE.to_owned()];
        intent.insecure_skip_verify = true; // has no say here
    });
    let leaf = mesh.leaf(&[SPIFFE]);
    let server = |leaf| Server { clients: Some(&mesh), alpn: &["istio"], ..Server::new(leaf) };
    let seen = connect(session(&istio, &options), &server(&leaf)).unwrap();
    assert_eq!(seen.sni.as_deref(), Some("outbound_.9080_._.pay.shop.svc.cluster.local"));
    assert_eq!((seen.alpn.as_deref(), seen.client_certificates), (Some("istio"), 1));

    let thief = mesh.leaf(&["spiffe://cluster.local/ns/shop/sa/thief"]);
    assert_eq!(failure(session(&istio, &options), &server(&thief)), TlsFailure::NameMismatch);
    let strange = other.leaf(&[SPIFFE]);
    assert_eq!(failure(session(&istio, &options), &server(&strange)), TlsFailure::UnknownIssuer);
    let any = intent(TlsMode::IstioMutual, |intent| intent.sni = istio.sni.clone());
    connect(session(&any, &options), &server(&thief)).unwrap(); // Istio's: no list, no check
}

#[test]
fn alpn_says_what_is_spoken() {
    let (files, mesh) = (Files::new(), Authority::new("mesh"));
    let options = files.workload(&mesh.leaf(&["us"]), &mesh);
    let istio = intent(TlsMode::IstioMutual, |_| {});
    let simple = simple(files.put("ca.pem", &mesh.pem()), |_| {});
    let leaf = mesh.leaf(&[AUTHORITY]);
    let all = &["istio-peer-exchange", "istio-h2", "istio-http/1.1", "istio", "h2", "http/1.1"][..];
    for (intent, spoken, alpn, expected) in [
        (&istio, Spoken::Http1, all, Some("istio-http/1.1")),
        (&istio, Spoken::Http2, all, Some("istio-h2")),
        (&istio, Spoken::Opaque, all, Some("istio")),
        (&istio, Spoken::Http1, &["h2", "http/1.1"], Some("http/1.1")),
        (&istio, Spoken::Http2, &["h2", "http/1.1"], Some("h2")),
        (&istio, Spoken::Http2, &[], None),
        (&simple, Spoken::Http1, all, Some("http/1.1")),
        (&simple, Spoken::Http2, all, Some("h2")),
        (&simple, Spoken::Opaque, all, None),
    ] {
        let session = make(intent, &options).session(Some(AUTHORITY), spoken).unwrap();
        let seen = connect(session, &Server { alpn, ..Server::new(&leaf) }).unwrap();
        assert_eq!(seen.alpn.as_deref(), expected, "{spoken:?}");
    }
    let h1 = make(&simple, &options).session(Some(AUTHORITY), Spoken::Http1).unwrap();
    assert_eq!(failure(h1, &Server { alpn: &["h2"], ..Server::new(&leaf) }), TlsFailure::Incompatible);
}

#[test]
fn insecure_skip_verify_takes_any_certificate() {
    let other = Authority::new("other");
    let skip = intent(TlsMode::Simple, |intent| {
        intent.insecure_skip_verify = true;
        intent.subject_alt_names = vec!["x.example".to_owned()];
        intent.verify_authority = true;
    });
    let past = other.leaf_with(&["y.example"], |leaf| leaf.not_after = date_time_ymd(2020, 1, 1));
    for versions in [BOTH, OLD] {
        connect(session(&skip, &options()), &Server { versions, ..Server::new(&past) }).unwrap();
    }
}

#[test]
fn revocation_lists_are_kept_to() {
    let (files, ca, other) = (Files::new(), Authority::new("ca"), Authority::new("other"));
    let leaf = ca.leaf_with(&[AUTHORITY], |leaf| leaf.serial_number = Some(SerialNumber::from(7)));
    for (crl, expected) in [
        (ca.crl(&[], 2030), None),
        (ca.crl(&[8], 2030), None),
        (ca.crl(&[7], 2030), Some(TlsFailure::Revoked)),
        (ca.crl(&[], 2025), Some(TlsFailure::RevocationUnknown)),
        (other.crl(&[], 2030), Some(TlsFailure::RevocationUnknown)),
        (other.crl(&[7], 2030) + &ca.crl(&[], 2030), None),
    ] {
        let intent = simple(files.put("ca.pem", &ca.pem()), |intent| intent.ca_crl = files.put("crl.pem", &crl));
        let result = connect(session(&intent, &options()), &Server::new(&leaf));
        assert_eq!(result.err().as_ref().map(TlsFailure::of), expected);
    }
}

#[test]
fn an_authority_that_shows_itself_is_taken_if_it_is_the_one() {
    let files = Files::new();
    let lone = |to| {
        let mut params = params(&[AUTHORITY]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_after = date_time_ymd(to, 1, 1);
        let key = KeyPair::generate().unwrap();
        Leaf { chain: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
    };
    let (server, twin, past) = (lone(2030), lone(2030), lone(2020));
    for (trusted, shown, expected) in [
        (&server, &server, None),
        (&past, &past, Some(TlsFailure::Expired)),
        (&twin, &server, Some(TlsFailure::BadCertificate)),
    ] {
        let intent = simple(files.put("ca.pem", &trusted.chain), |_| {});
        let result = connect(session(&intent, &options()), &Server::new(shown));
        assert_eq!(result.err().as_ref().map(TlsFailure::of), expected);
    }
}

#[test]
fn without_a_file_the_systems_authorities_are_trusted() {
    let (ca, other) = (Authority::new("ca"), Authority::new("other"));
    let options = options().with_system_roots(ca.roots());
    connect(session(&simple(None, |_| {}), &options), &Server::new(&ca.leaf(&[AUTHORITY]))).unwrap();
    let strange = other.leaf(&[AUTHORITY]);
    let failure = failure(session(&simple(None, |_| {}), &options), &Server::new(&strange));
    assert_eq!(failure, TlsFailure::UnknownIssuer);
    let error = refused(&simple(None, |_| {}), &options.with_system_roots(RootCertStore::empty()));
    assert_eq!(error.field(), "caCertificates");
}

#[test]
fn a_credential_is_the_embedders_to_provide() {
    let (ca, clients) = (Authority::new("ca"), Authority::new("clients"));
    let leaf = ca.leaf(&[AUTHORITY]);
    let mutual = intent(TlsMode::Mutual, |intent| intent.credential_name = Some("pay-cert".to_owned()));
    let error = refused(&mutual, &options());
    assert!(matches!(error.problem(), TlsProblem::NoCredentialSource { name } if name == "pay-cert"), "{error}");

    let ours = clients.leaf(&["us"]);
    let full = Credential::new().with_certificate(ours.chain, ours.key).with_authorities(ca.pem());
    let with = |answer: Result<Credential, &'static str>| {
        options().with_credentials(move |name: &str| {
            assert_eq!(name, "pay-cert");
            answer.clone().map_err(Into::into)
        })
    };
    let server = Server { clients: Some(&clients), ..Server::new(&leaf) };
    let seen = connect(session(&mutual, &with(Ok(full.clone()))), &server).unwrap();
    assert_eq!(seen.client_certificates, 1);
    let revoking = ca.leaf_with(&[AUTHORITY], |leaf| leaf.serial_number = Some(SerialNumber::from(7)));
    let listed = full.clone().with_revocation_lists(ca.crl(&[7], 2030));
    let server = Server { clients: Some(&clients), ..Server::new(&revoking) };
    assert_eq!(failure(session(&mutual, &with(Ok(listed))), &server), TlsFailure::Revoked);

    let mut keyless = full.clone();
    keyless.private_key = None;
    let mut trustless = full;
    trustless.authorities = None;
    for (answer, expected) in [
        (Err("no such secret"), "`pay-cert` was not provided: no such secret"),
        (Ok(keyless), "`pay-cert`: it has no private key, which mode MUTUAL needs"),
        (Ok(trustless), "`pay-cert`: it has no authorities to verify the upstream by"),
        (Ok(Credential::new().with_certificate("x", "y").with_authorities("z")), "`pay-cert`: no certificate in it"),
    ] {
        let error = refused(&mutual, &with(answer));
        assert_eq!(error.to_string(), format!("`outbound|443||pay`: tls.credentialName: {expected}"));
    }
}

#[test]
fn what_cannot_be_set_up_says_which_field_and_why() {
    let (files, ca) = (Files::new(), Authority::new("ca"));
    let (ours, others) = (ca.leaf(&["us"]), ca.leaf(&["them"]));
    let good = || {
        intent(TlsMode::Mutual, |intent| {
            intent.ca_certificates = files.put("ca.pem", &ca.pem());
            intent.client_certificate = files.put("cert.pem", &ours.chain);
            intent.private_key = files.put("key.pem", &ours.key);
        })
    };
    assert!(UpstreamTls::from_intent("x", &good(), &options()).unwrap().is_some());
    type Break<'a> = Box<dyn Fn(&mut TlsIntent) + 'a>;
    let absent = files.0.path().join("absent.pem").to_str().unwrap().to_owned();
    let broken = "-----BEGIN CERTIFICATE-----\nnot base64!\n-----END CERTIFICATE-----\n";
    let hollow = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let cases: Vec<(&str, &str, Break<'_>)> = vec![
        ("clientCertificate", "is needed for mode MUTUAL", Box::new(|i| i.client_certificate = None)),
        ("privateKey", "is needed for mode MUTUAL", Box::new(|i| i.private_key = None)),
        ("caCertificates", "cannot read `", Box::new(|i| i.ca_certificates = Some(absent.clone()))),
        ("clientCertificate", "cannot read `", Box::new(|i| i.client_certificate = Some(absent.clone()))),
        ("privateKey", "cannot read `", Box::new(|i| i.private_key = Some(absent.clone()))),
        ("caCrl", "cannot read `", Box::new(|i| i.ca_crl = Some(absent.clone()))),
        ("caCertificates", "no certificate in it", Box::new(|i| i.ca_certificates = files.put("x", "rubbish"))),
        ("caCertificates", "no certificate in it", Box::new(|i| i.ca_certificates = files.put("x", &ours.key))),
        ("caCertificates", "bad PEM", Box::new(|i| i.ca_certificates = files.put("x", broken))),
        ("caCertificates", "invalid peer certificate", Box::new(|i| i.ca_certificates = files.put("x", hollow))),
        ("privateKey", "no private key in it", Box::new(|i| i.private_key = files.put("x", "rubbish"))),
        ("privateKey", "no private key in it", Box::new(|i| i.private_key = files.put("x", &ours.chain))),
        ("privateKey", "keys may not be consistent", Box::new(|i| i.private_key = files.put("x", &others.key))),
        ("caCrl", "no revocation list in it", Box::new(|i| i.ca_crl = files.put("x", "rubbish"))),
    ];
    for (field, expected, spoil) in cases {
        let mut intent = good();
        spoil(&mut intent);
        let error = refused(&intent, &options());
        assert_eq!((error.field(), error.destination()), (field, "outbound|443||pay"), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    let mesh = options().with_workload(WorkloadFiles::in_directory(files.0.path().join("nowhere")));
    let error = refused(&intent(TlsMode::IstioMutual, |_| {}), &mesh);
    assert!(matches!(error.problem(), TlsProblem::Unreadable { path, .. } if path.ends_with("cert-chain.pem")));
    assert!(error.source().is_some());
}

#[test]
fn disabled_is_no_tls() {
    assert!(UpstreamTls::from_intent("x", &intent(TlsMode::Disable, |_| {}), &options()).unwrap().is_none());
}

#[test]
fn a_reason_is_found_however_deep_it_is_wrapped() {
    #[derive(Debug, thiserror::Error)]
    #[error("connecting")]
    struct Connect(#[source] std::io::Error);

    let inner = || std::io::Error::other(rustls::Error::InvalidCertificate(CertificateError::Expired));
    assert_eq!(TlsFailure::find(&inner()), Some(TlsFailure::Expired));
    assert_eq!(TlsFailure::find(&Connect(std::io::Error::other(inner()))), Some(TlsFailure::Expired));
    assert_eq!(TlsFailure::find(&Connect(std::io::ErrorKind::ConnectionRefused.into())), None);
    assert_eq!(TlsFailure::Expired.code(), "certificate_expired");
}

#[test]
fn plaintext_is_no_tls() {
    let ca = Authority::new("ca");
    let session = session(&simple(None, |_| {}), &options().with_system_roots(ca.roots()));
    let mut client = ClientConnection::new(session.config, session.server_name).unwrap();
    client.read_tls(&mut &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..]).unwrap();
    assert_eq!(TlsFailure::of(&client.process_new_packets().unwrap_err()), TlsFailure::NotTls);
}

#[cfg(feature = "yaml")]
#[test]
fn a_destination_of_a_policy_has_its_rules_tls() {
    use pointsman::Resources;
    use pointsman::mesh::{Endpoint, Mesh, Protocol, Service, Viewpoint};
    use pointsman::policy::Policy;

    const HOST: &str = "pay.shop.svc.cluster.local";
    let (files, mesh) = (Files::new(), Authority::new("mesh"));
    let options = files.workload(&mesh.leaf(&["spiffe://cluster.local/ns/shop/sa/front"]), &mesh);
    let of = |tls: &str, options: &TlsOptions| {
        let text = format!(
            "{{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{name: pay, namespace: shop}}, \
             spec: {{host: {HOST}, trafficPolicy: {{{tls}}}}}}}"
        );
        let resources = Resources::from_yaml(&text).unwrap();
        let service = Service::new(HOST, "shop")
            .with_port(9080, "http", Protocol::Http)
            .with_endpoint(Endpoint::new("10.0.0.1", 9080));
        let policy = Policy::compile(&resources, &Mesh::new([service]), &Viewpoint::namespace("shop")).policy;
        let destination = policy.destinations().iter().find(|one| &*one.cluster.host == HOST).unwrap();
        UpstreamTls::new(destination, options)
    };
    assert!(of("", &options).unwrap().is_none());
    assert!(of("tls: {mode: DISABLE}", &options).unwrap().is_none());

    let istio = |options: &TlsOptions| {
        let tls = of("tls: {mode: ISTIO_MUTUAL}", options).unwrap().unwrap();
        tls.session(Some("pay"), Spoken::Http2).unwrap()
    };
    let leaf = mesh.leaf(&[SPIFFE]);
    let server = Server { clients: Some(&mesh), ..Server::new(&leaf) };
    let seen = connect(istio(&options), &server).unwrap();
    assert_eq!(seen.sni.as_deref(), Some("outbound_.9080_._.pay.shop.svc.cluster.local"));
    // The identities of the service stand in for a list that the rule does not have.
    connect(istio(&options.clone().with_service_names(HOST, [SPIFFE])), &server).unwrap();
    let other = options.with_service_names(HOST, ["spiffe://cluster.local/ns/shop/sa/other"]);
    assert_eq!(failure(istio(&other), &server), TlsFailure::NameMismatch);

    let error = of("tls: {mode: SIMPLE, caCertificates: /nowhere/ca.pem}", &other).unwrap_err();
    assert!(
        error.to_string().starts_with(
            "`outbound|9080||pay.shop.svc.cluster.local`: tls.caCertificates: cannot read `/nowhere/ca.pem`: "
        ),
        "{error}"
    );
}
