//! The pool over TLS: the right certificate passes, a wrong one fails with a flag and a reason.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use pointsman::exchange::Summary;
use pointsman::mesh::{Endpoint, Mesh, Protocol, Service, Viewpoint};
use pointsman::policy::Policy;
use pointsman::tls::TlsFailure;
use pointsman::tower::{AttemptError, Pool, ResponseBody};
use pointsman::{Engine, Resources};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

/// An authority, and a certificate of it for `pay.test`.
fn certificates(name: &str) -> (String, String, String) {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(["pay.test".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    (authority.pem(), leaf.pem(), key.serialize_pem())
}

/// Answers with the server name it was asked by and the protocol.
async fn upstream(chain: &str, key: &str) -> SocketAddr {
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let name = stream.get_ref().1.server_name().unwrap_or("-").to_owned();
                let service = service_fn(move |request: Request<Incoming>| {
                    let text = format!("{name} {:?}", request.version());
                    async move { Ok::<_, Infallible>(Response::new(text)) }
                });
                let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    address
}

fn engine(endpoint: SocketAddr, protocol: Protocol, tls: &str) -> Engine {
    let text = format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: pay, namespace: default}}\nspec: {{host: pay, trafficPolicy: {{tls: {tls}}}}}\n"
    );
    let resources = Resources::from_yaml(&text).unwrap();
    assert!(resources.problems.is_empty(), "{:?}", resources.problems);
    let service = Service::new("pay.default.svc.cluster.local", "default")
        .with_port(80, "p", protocol)
        .with_endpoint(Endpoint::new(endpoint.ip().to_string(), endpoint.port()));
    Engine::new(Policy::compile(&resources, &Mesh::new([service]), &Viewpoint::namespace("default")).policy)
}

async fn ask(engine: &Engine) -> Response<ResponseBody<pointsman::tower::PoolBody>> {
    let request = Request::get("http://pay.default/").body(Empty::<Bytes>::new()).unwrap();
    engine.client(Pool::new()).oneshot(request).await.unwrap()
}

async fn text(response: Response<ResponseBody<pointsman::tower::PoolBody>>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_string_lossy().into_owned()
}

#[tokio::test]
async fn the_right_certificate_passes_and_a_wrong_one_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, chain, key) = certificates("ours");
    let (stranger, ..) = certificates("theirs");
    let (ours, theirs) = (write(folder.path(), "ca.pem", &authority), write(folder.path(), "other.pem", &stranger));
    let upstream = upstream(&chain, &key).await;

    let right = format!("{{mode: SIMPLE, sni: pay.test, caCertificates: {ours}, subjectAltNames: [pay.test]}}");
    for (protocol, said) in [(Protocol::Http, "pay.test HTTP/1.1"), (Protocol::Http2, "pay.test HTTP/2.0")] {
        let response = ask(&engine(upstream, protocol, &right)).await;
        assert_eq!(response.status(), 200, "{:?}", response.extensions().get::<AttemptError>());
        assert_eq!(text(response).await, said);
    }
    let skipped = "{mode: SIMPLE, insecureSkipVerify: true}";
    assert_eq!(text(ask(&engine(upstream, Protocol::Http, skipped)).await).await, "pay.default HTTP/1.1");

    let wrong = [
        (format!("{{mode: SIMPLE, sni: pay.test, caCertificates: {theirs}}}"), Some(TlsFailure::UnknownIssuer)),
        (
            format!("{{mode: SIMPLE, sni: pay.test, caCertificates: {ours}, subjectAltNames: [other.test]}}"),
            Some(TlsFailure::NameMismatch),
        ),
        (format!("{{mode: SIMPLE, sni: pay.test, caCertificates: {ours}.missing}}"), None),
    ];
    for (tls, reason) in wrong {
        let response = ask(&engine(upstream, Protocol::Http, &tls)).await;
        assert_eq!(response.status(), 503, "{tls}");
        assert_eq!(response.extensions().get::<Summary>().unwrap().flags.to_string(), "URX,UF", "{tls}");
        let error = response.extensions().get::<AttemptError>().unwrap();
        assert_eq!(TlsFailure::find(error.get()), reason, "{error:?}");
    }
}
