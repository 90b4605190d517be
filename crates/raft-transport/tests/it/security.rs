//! Nodes under TLS, where certificates say which node is which.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    SanType, date_time_ymd,
};
use sheaf_flight::{ClientSecurity, Exposure, Secret, Security, SecurityFiles, TokenSource};
use sheaf_raft_transport::{
    Config, FlightTransport, Lane, NoEngine, RaftTransport as _, certificate_name,
};
use sheaf_retry::{Code, Retryable as _, SystemClock};

use crate::support::{CLUSTER, Node, PATIENCE, config, packet};

struct Authority {
    folder: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Authority { folder, issuer }
    }

    fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Certificate and key of a node.
    fn node(&self, cluster: &str, id: u64, until: i32) -> (PathBuf, PathBuf) {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        let uri = certificate_name(cluster, id).try_into().unwrap();
        params.subject_alt_names.push(SanType::URI(uri));
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let path = |end: &str| self.folder.path().join(format!("{cluster}-{id}-{until}.{end}"));
        std::fs::write(path("pem"), certificate.pem()).unwrap();
        write_secret(&path("key"), &key.serialize_pem());
        (path("pem"), path("key"))
    }
}

fn write_secret(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

const LONG: i32 = 2100;

/// A node that shows this certificate, and trusts this authority.
fn secured(node: u64, ca: PathBuf, identity: (PathBuf, PathBuf)) -> Config {
    let files = SecurityFiles {
        certificate: Some(identity.0.clone()),
        key: Some(identity.1.clone()),
        client_ca: Some(ca.clone()),
        tokens: None,
    };
    let mut config = config(node);
    config.server_security = Security::open(files, SystemClock::shared()).unwrap();
    config.security =
        ClientSecurity { ca: Some(ca), identity: Some(identity), ..ClientSecurity::default() };
    config.needs_certificates = true;
    config.connect_patience = std::time::Duration::from_millis(100);
    config
}

async fn start(authority: &Authority, node: u64) -> Node {
    let config = secured(node, authority.ca(), authority.node(CLUSTER, node, LONG));
    Node::start(config).await
}

/// What connecting to node 2 says.
async fn connect(node: &Node, two: &Node) -> Result<(), (Code, String)> {
    let connected = node.transport.connect_to_peer(2, vec![two.endpoint()]).await;
    connected.map_err(|error| {
        let source = std::error::Error::source(&error).map(ToString::to_string);
        (error.code(), format!("{error}: {}", source.unwrap_or_default()))
    })
}

#[tokio::test]
async fn nodes_with_certificates_of_their_own_talk() {
    let authority = Authority::new("ours");
    let (one, two) = (start(&authority, 1).await, start(&authority, 2).await);
    connect(&one, &two).await.unwrap();
    let call = one.transport.call(2, Lane::Control, "vote", packet(1, 1), PATIENCE);
    assert_eq!(call.await.unwrap(), packet(1, 1));
    let (mut sender, mut replies) = one.transport.open_stream(2, Lane::Data, "echo").await.unwrap();
    sender.send(packet(1, 1)).await.unwrap();
    assert!(replies.next().await.unwrap().is_ok());
}

#[tokio::test]
async fn a_node_cannot_speak_as_another_one() {
    let authority = Authority::new("ours");
    let two = start(&authority, 2).await;
    // Node 1's certificate, under the name of node 3.
    let liar = secured(3, authority.ca(), authority.node(CLUSTER, 1, LONG));
    let (code, text) = connect(&Node::start(liar).await, &two).await.unwrap_err();
    assert_eq!(code, Code::PermissionDenied, "{text}");
    assert!(text.contains("sheaf://test/node/1") && text.contains("sheaf://test/node/3"), "{text}");
    assert_eq!(two.transport.metrics().errors("certificate"), 1);
    // One of another cluster under the same authority.
    let other = secured(1, authority.ca(), authority.node("other", 1, LONG));
    let (code, _) = connect(&Node::start(other).await, &two).await.unwrap_err();
    assert_eq!(code, Code::PermissionDenied);
    // Also where certificates are not asked for, one that is shown has to be right.
    let lenient = secured(4, authority.ca(), authority.node(CLUSTER, 4, LONG));
    let lenient = Node::start(Config { needs_certificates: false, ..lenient }).await;
    let liar = secured(3, authority.ca(), authority.node(CLUSTER, 1, LONG));
    let liar = Node::start(liar).await;
    liar.transport.add_peer(4, vec![lenient.endpoint()]).unwrap();
    let error = liar.transport.open_stream(4, Lane::Data, "echo").await.unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_server_that_is_another_node_is_not_talked_to() {
    let authority = Authority::new("ours");
    let one = start(&authority, 1).await;
    // It says that it is node 2, with the certificate of node 3.
    let liar = secured(2, authority.ca(), authority.node(CLUSTER, 3, LONG));
    let (code, text) = connect(&one, &Node::start(liar).await).await.unwrap_err();
    assert_eq!(code, Code::Unauthenticated, "{text}");
    assert!(text.contains("not for sheaf://test/node/2"), "{text}");
}

#[tokio::test]
async fn a_foreign_authority_and_an_expired_certificate_are_refused() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let two = start(&ours, 2).await;
    // It trusts our server; our server does not trust it.
    let foreign = secured(1, ours.ca(), theirs.node(CLUSTER, 1, LONG));
    let (code, text) = connect(&Node::start(foreign).await, &two).await.unwrap_err();
    assert!(matches!(code, Code::Unauthenticated | Code::Unavailable), "{code} {text}");
    // It does not trust our server.
    let distrustful = secured(1, theirs.ca(), ours.node(CLUSTER, 1, LONG));
    let (code, text) = connect(&Node::start(distrustful).await, &two).await.unwrap_err();
    assert!(matches!(code, Code::Unauthenticated | Code::Unavailable), "{code} {text}");
    let expired = secured(1, ours.ca(), ours.node(CLUSTER, 1, 2010));
    let (code, text) = connect(&Node::start(expired).await, &two).await.unwrap_err();
    assert!(matches!(code, Code::Unauthenticated | Code::Unavailable), "{code} {text}");
    assert_eq!(two.counter("frames_received"), 0);
    // Without any certificate.
    let mut bare = secured(1, ours.ca(), ours.node(CLUSTER, 1, LONG));
    bare.security.identity = None;
    assert!(connect(&Node::start(bare).await, &two).await.is_err());
}

#[tokio::test]
async fn where_certificates_are_needed_a_port_without_tls_takes_no_node() {
    let two = Node::start(Config { needs_certificates: true, ..config(2) }).await;
    let one = Node::start(config(1)).await;
    one.transport.add_peer(2, vec![two.endpoint()]).unwrap();
    let error = one.transport.open_stream(2, Lane::Data, "echo").await.unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn other_machines_are_let_in_under_tls_with_certificates_or_tokens() {
    let authority = Authority::new("ours");
    let secured = secured(1, authority.ca(), authority.node(CLUSTER, 1, LONG));
    let listen = async |config: Config| {
        let config = Config { exposure: Exposure::Secured, ..config };
        let transport = FlightTransport::try_new(config, SystemClock::shared()).unwrap();
        transport.listen("0.0.0.0:0", Arc::new(NoEngine)).await
    };
    assert!(listen(secured.clone()).await.is_ok());
    for open in [
        Config { needs_certificates: false, ..secured },
        Config { needs_certificates: true, ..config(1) },
    ] {
        assert_eq!(listen(open).await.unwrap_err().code(), Code::FailedPrecondition);
    }
}

#[tokio::test]
async fn a_token_goes_to_no_other_machine_without_tls() {
    let mut with_token = config(1);
    with_token.security.token = TokenSource::Fixed(Secret::new("0123456789abcdef"));
    let one = Node::start(with_token).await;
    let error = one.transport.add_peer(2, vec!["192.0.2.1:5001".to_owned()]).unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
}
