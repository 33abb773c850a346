//! What files come to: configurations of rustls, for both directions.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig,
    SignatureScheme,
};
use sha2::{Digest as _, Sha256};

use super::names::{names_of, validity};
use super::{PeerName, Shown, TlsError, TlsFiles};

/// What the files hold, so far as they can be read.
pub(super) struct Contents(Vec<(PathBuf, std::io::Result<Vec<u8>>)>);

impl Contents {
    pub(super) fn read(files: &TlsFiles) -> Self {
        let identity = files.identity.iter().flat_map(|(cert, key)| [cert, key]);
        let read = |path: &PathBuf| (path.clone(), std::fs::read(path));
        Self(identity.chain(&files.ca).map(read).collect())
    }

    /// What tells it from others.
    pub(super) fn hash(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for (_, content) in &self.0 {
            let content = content.as_deref().unwrap_or_default();
            hash.update(content.len().to_be_bytes());
            hash.update(content);
        }
        hash.finalize().into()
    }

    fn of(&self, path: &Path) -> Result<&[u8], TlsError> {
        let found = self.0.iter().find(|(of, _)| of == path);
        match found.map(|(_, content)| content) {
            Some(Ok(content)) => Ok(content),
            Some(Err(error)) => Err(TlsError::Read(path.to_owned(), error.kind().into())),
            None => Err(TlsError::Read(path.to_owned(), std::io::ErrorKind::NotFound.into())),
        }
    }

    fn certificates(&self, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(self.of(path)?).collect();
        let found = found.map_err(|_| TlsError::NoCertificate(path.to_owned()))?;
        if found.is_empty() { Err(TlsError::NoCertificate(path.to_owned())) } else { Ok(found) }
    }

    fn key(&self, path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
        PrivateKeyDer::from_pem_slice(self.of(path)?).map_err(|_| TlsError::NoKey(path.to_owned()))
    }
}

/// Configurations of one state of the files.
pub(super) struct Configs {
    /// Of what they were made of.
    pub(super) hash: [u8; 32],
    /// `None`: there is no certificate to show.
    pub(super) server: Option<Arc<ServerConfig>>,
    /// When the first of the certificates that are shown is over, in seconds since 1970.
    pub(super) ends: Option<i64>,
    files: TlsFiles,
    identity: Option<Identity>,
    ca: Option<Arc<RootCertStore>>,
    suite: OnceLock<Arc<ClientConfig>>,
    host: OnceLock<Arc<ClientConfig>>,
}

/// A certificate with those above it, and its key.
type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Configs {
    pub(super) fn of(files: &TlsFiles, contents: &Contents) -> Result<Self, TlsError> {
        let identity = match &files.identity {
            Some((cert, key)) => {
                let chain = contents.certificates(cert)?;
                tell_times(cert, &chain[0]);
                Some((chain, contents.key(key)?))
            }
            None => None,
        };
        let ca = files.ca.as_ref().map(|path| roots(path, contents.certificates(path)?));
        let ca = ca.transpose()?.map(Arc::new);
        let server = identity.as_ref().map(|identity| server(files, identity, ca.as_ref()));
        let chain = identity.iter().flat_map(|(chain, _)| chain);
        let ends = chain.filter_map(|shown| validity(shown).map(|(_, ends)| ends)).min();
        Ok(Self {
            ends,
            hash: contents.hash(),
            server: server.transpose()?.map(Arc::new),
            files: files.clone(),
            identity,
            ca,
            suite: OnceLock::new(),
            host: OnceLock::new(),
        })
    }

    /// The certificate that is shown.
    pub(super) fn shown(&self) -> Option<Shown> {
        let (path, _) = self.files.identity.as_ref()?;
        let (chain, _) = self.identity.as_ref()?;
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let (now, of) = (UnixTime::now(), (&chain[0], &chain[1..]));
        let refused = self.ca.as_ref().and_then(|roots| signed_by(roots, &provider, of, now).err());
        Some(Shown {
            path: path.clone(),
            holds: validity(&chain[0])?,
            names: names_of(&chain[0]),
            refused: refused.map(|error| error.to_string()),
        })
    }

    /// To other services of the suite.
    pub(super) fn suite(&self) -> Arc<ClientConfig> {
        Arc::clone(self.suite.get_or_init(|| Arc::new(self.client(&self.files.peers))))
    }

    /// To whoever has the name that is called.
    pub(super) fn host(&self) -> Arc<ClientConfig> {
        Arc::clone(self.host.get_or_init(|| Arc::new(self.client(&[]))))
    }

    /// Made when it is first needed: few processes call anybody over TLS, and to read whom the
    /// platform trusts takes its time.
    fn client(&self, peers: &[PeerName]) -> ClientConfig {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let roots = self.ca.clone().unwrap_or_else(|| Arc::new(platform_roots()));
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .expect("the provider knows these versions");
        let builder = if peers.is_empty() {
            builder.with_root_certificates(roots)
        } else {
            let verifier = OfSuite { roots, peers: peers.to_vec(), provider };
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        };
        let mut config = match &self.identity {
            Some((chain, key)) => builder
                .with_client_auth_cert(chain.clone(), key.clone_key())
                .expect("the server has taken the same pair"),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }
}

/// Whether a certificate, with those above it, is of one of these CAs.
fn signed_by(
    roots: &RootCertStore,
    provider: &CryptoProvider,
    (shown, above): (&CertificateDer<'_>, &[CertificateDer<'_>]),
    now: UnixTime,
) -> Result<(), rustls::Error> {
    let known = provider.signature_verification_algorithms.all;
    let parsed = ParsedCertificate::try_from(shown)?;
    verify_server_cert_signed_by_trust_anchor(&parsed, roots, above, now, known)
}

/// Whom the platform trusts: its certificates, or those that `SSL_CERT_FILE` and
/// `SSL_CERT_DIR` name; where there are none, whom Mozilla trusts.
pub(crate) fn platform_roots() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "cannot read certificates of the platform");
    }
    let mut roots = RootCertStore::empty();
    if roots.add_parsable_certificates(found.certs).0 == 0 {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

fn roots(path: &Path, found: Vec<CertificateDer<'static>>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in found {
        let added = roots.add(certificate);
        added.map_err(|error| TlsError::Unusable(path.to_owned(), error.into()))?;
    }
    Ok(roots)
}

fn server(
    files: &TlsFiles,
    (chain, key): &Identity,
    ca: Option<&Arc<RootCertStore>>,
) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .expect("the provider knows these versions");
    let builder = match ca.filter(|_| !files.peers.is_empty()) {
        None => builder.with_no_client_auth(),
        // Callers have tokens and no certificate: it is asked for, and may be missing.
        Some(ca) => {
            let roots = Arc::clone(ca);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            let verifier = verifier.allow_unauthenticated().build();
            let path = files.ca.clone().unwrap_or_default();
            builder.with_client_cert_verifier(
                verifier.map_err(|error| TlsError::Unusable(path, error.into()))?,
            )
        }
    };
    let config = builder.with_single_cert(chain.clone(), key.clone_key());
    let mut config = config.map_err(|error| wrong_identity(files, error))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    if files.http1 {
        config.alpn_protocols.push(b"http/1.1".to_vec());
    }
    Ok(config)
}

fn wrong_identity(files: &TlsFiles, error: rustls::Error) -> TlsError {
    let (cert, key) = files.identity.clone().unwrap_or_default();
    match error {
        rustls::Error::InconsistentKeys(_) => TlsError::Mismatch { cert, key },
        error => TlsError::Unusable(cert, error.into()),
    }
}

/// A certificate whose time is over is shown all the same: its clients say what is wrong.
fn tell_times(path: &Path, certificate: &CertificateDer<'_>) {
    // The time by which handshakes judge.
    let now = i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX);
    let path = path.display();
    match validity(certificate) {
        Some((begins, _)) if now < begins => {
            tracing::warn!(%path, "the certificate does not hold yet");
        }
        Some((_, ends)) if now > ends => tracing::warn!(%path, "the certificate has expired"),
        _ => {}
    }
}

/// Takes every server for good.
pub(super) fn unjudged() -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Unjudged(Arc::clone(&provider));
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .expect("the provider knows these versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// What a verifier does beside judging who somebody is: looks whether they have the key.
macro_rules! verifies_signatures {
    ($this:ident => $provider:expr) => {
        fn verify_tls12_signature(
            &$this,
            message: &[u8],
            shown: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            let known = &$provider.signature_verification_algorithms;
            verify_tls12_signature(message, shown, signed, known)
        }

        fn verify_tls13_signature(
            &$this,
            message: &[u8],
            shown: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            let known = &$provider.signature_verification_algorithms;
            verify_tls13_signature(message, shown, signed, known)
        }

        fn supported_verify_schemes(&$this) -> Vec<SignatureScheme> {
            $provider.signature_verification_algorithms.supported_schemes()
        }
    };
}

#[derive(Debug)]
struct Unjudged(Arc<CryptoProvider>);

impl ServerCertVerifier for Unjudged {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    verifies_signatures!(self => self.0);
}

/// Takes a server for a service of the suite by the names that these have, whatever it was
/// called by: identities such as SPIFFE ids are names of no host.
#[derive(Debug)]
struct OfSuite {
    roots: Arc<RootCertStore>,
    peers: Vec<PeerName>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for OfSuite {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        signed_by(&self.roots, &self.provider, (shown, intermediates), now)?;
        if names_of(shown).iter().any(|name| self.peers.contains(name)) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(CertificateError::NotValidForName.into())
    }

    verifies_signatures!(self => self.provider);
}
