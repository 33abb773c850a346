//! Certificates instead of a secret between the services of the suite, and calls from browsers.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parlance_proto::membership::v1::GetUserRequest;
use parlance_proto::membership::v1::user_service_client::UserServiceClient;
use parlance_rpc::{Reason, Tasks, Tls, TlsFiles, balanced, balanced_outside};
use parlance_types::TenantId;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType,
};
use tempfile::TempDir;
use tonic::Code;

use crate::harness::{Harness, reason, user_id};

/// A certificate or a key as PEM.
fn pem(what: &str, der: &[u8]) -> String {
    format!("-----BEGIN {what}-----\n{}\n-----END {what}-----\n", STANDARD.encode(der))
}

/// A CA, and what it has signed.
struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a CA");
        let folder = TempDir::new().expect("a folder");
        std::fs::write(folder.path().join("ca.pem"), pem("CERTIFICATE", issuer.der()))
            .expect("written");
        Self { issuer, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The files of who is called so, by a URI or a DNS name, among peers of this name.
    fn files(&self, name: &str, peers: &[&str]) -> TlsFiles {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        let text = name.to_owned().try_into().expect("ASCII");
        let san = if name.contains("://") { SanType::URI(text) } else { SanType::DnsName(text) };
        params.subject_alt_names.push(san);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("a key");
        let signed = params.signed_by(&key, &self.issuer).expect("a certificate");
        let file = name.replace(['/', ':'], "-");
        let (cert, of_key) = (self.path(&format!("{file}.pem")), self.path(&format!("{file}.key")));
        std::fs::write(&cert, pem("CERTIFICATE", signed.der())).expect("written");
        std::fs::write(&of_key, pem("PRIVATE KEY", key.serialized_der())).expect("written");
        TlsFiles {
            identity: Some((cert, of_key)),
            ca: Some(self.path("ca.pem")),
            peers: peers.iter().map(|peer| peer.parse().expect("a name")).collect(),
            http1: false,
        }
    }
}

const MESSAGE: &str = "spiffe://example.org/message";
const ROOM: &str = "spiffe://example.org/room";

/// What a service with these files is answered when it calls another as the suite does.
async fn called(harness: &Harness, files: TlsFiles) -> Result<String, tonic::Status> {
    let tls = Tls::load(files).expect("good files");
    let address = format!("https://{}", harness.address).parse().expect("an address");
    let transport = balanced(address, &tls, &Tasks::default()).await;
    let message = GetUserRequest { user_id: "internal".to_owned() };
    let acme = TenantId::new("acme");
    let request = harness.internal.request(&acme, None, Duration::from_secs(5), message);
    UserServiceClient::new(transport).get_user(request).await.map(user_id)
}

#[tokio::test]
async fn only_who_shows_a_certificate_of_the_suite_is_a_service_of_it() {
    let (ca, other) = (Ca::new(), Ca::new());
    let tls = Tls::load(ca.files(MESSAGE, &[MESSAGE, ROOM])).expect("good files");
    let harness = Harness::open_to(Some(tls), None).await;
    let answer = called(&harness, ca.files(ROOM, &[MESSAGE])).await.expect("an answer");
    assert!(answer.starts_with("acme"), "{answer}");
    // With the same signature, but without the certificate, or with another one.
    let bare = TlsFiles { identity: None, ..ca.files(ROOM, &[MESSAGE]) };
    assert_eq!(reason(called(&harness, bare).await), Some(Reason::TokenInvalid));
    let stranger = ca.files("spiffe://example.org/backup", &[MESSAGE]);
    assert_eq!(reason(called(&harness, stranger).await), Some(Reason::TokenInvalid));
    // Of another CA: there is no connection, whoever looks first.
    let mut foreign = other.files(ROOM, &[MESSAGE]);
    let refused = called(&harness, foreign.clone()).await.expect_err("not trusted");
    assert_eq!(refused.code(), Code::Unavailable);
    foreign.ca = Some(ca.path("ca.pem"));
    let refused = called(&harness, foreign).await.expect_err("not trusted");
    assert_eq!(refused.code(), Code::Unavailable);
    // Who calls looks at the name of who answers as well.
    let refused = called(&harness, ca.files(ROOM, &[ROOM])).await.expect_err("another name");
    assert_eq!(refused.code(), Code::Unavailable);
}

/// A caller has a token and no certificate.
#[tokio::test]
async fn a_server_outside_the_suite_is_known_by_the_name_that_is_called() {
    let ca = Ca::new();
    let tls = Tls::load(ca.files("localhost", &["localhost"])).expect("good files");
    let harness = Harness::open_to(Some(tls), None).await;
    let ours = TlsFiles { ca: Some(ca.path("ca.pem")), ..TlsFiles::default() };
    let ours = Tls::load(ours).expect("a CA");
    let (port, tasks) = (harness.address.port(), Tasks::default());
    for (host, found) in [("localhost", true), ("127.0.0.1", false)] {
        let address = format!("https://{host}:{port}").parse().expect("an address");
        let transport = balanced_outside(address, &ours, &tasks).await;
        let me = UserServiceClient::new(transport).get_user(harness.get("me")).await;
        match me {
            Ok(me) => assert!(found && user_id(me).starts_with("acme"), "{host}"),
            Err(status) => assert!(!found && status.code() == Code::Unavailable, "{status:?}"),
        }
    }
    tasks.close().await;
}
