use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;

use super::*;

#[test]
fn a_peer_is_named_by_a_dns_name_or_a_uri() {
    assert_eq!("Message.Example".parse(), Ok(PeerName::Dns("message.example".to_owned())));
    let id = "spiffe://example.org/message";
    assert_eq!(id.parse(), Ok(PeerName::Uri(id.to_owned())));
    for bad in ["", "*.example.org", "two words", "spiffe://", "://x"] {
        assert_eq!(bad.parse::<PeerName>(), Err(InvalidPeerName), "{bad}");
    }
}

/// A certificate or a key as PEM.
fn pem(what: &str, der: &[u8]) -> String {
    format!("-----BEGIN {what}-----\n{}\n-----END {what}-----\n", STANDARD.encode(der))
}

/// A certificate and its key, which a folder holds.
fn write(folder: &TempDir, names: &[&str]) -> (PathBuf, PathBuf) {
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&cert, pem("CERTIFICATE", made.cert.der())).expect("written");
    std::fs::write(&key, pem("PRIVATE KEY", made.signing_key.serialized_der())).expect("written");
    (cert, key)
}

fn files(identity: (PathBuf, PathBuf)) -> TlsFiles {
    TlsFiles { identity: Some(identity), ..TlsFiles::default() }
}

#[test]
fn what_is_of_no_use_is_named_and_does_not_take_the_place_of_what_was() {
    let folder = TempDir::new().expect("a folder");
    let (cert, key) = write(&folder, &["localhost"]);
    let tls = Tls::load(files((cert.clone(), key.clone()))).expect("a good pair");
    assert!(tls.serves());
    let first = tls.server().expect("a certificate");
    assert!(tls.look().is_ok() && Arc::ptr_eq(&first, &tls.server().expect("one")), "unchanged");

    let other = TempDir::new().expect("a folder");
    let (_, other_key) = write(&other, &["localhost"]);
    let mixed = Tls::load(files((cert.clone(), other_key)));
    assert!(matches!(mixed, Err(TlsError::Mismatch { .. })), "{mixed:?}");
    let swapped = Tls::load(files((key.clone(), cert.clone())));
    assert!(matches!(swapped, Err(TlsError::NoCertificate(_))), "{swapped:?}");
    let no_key = Tls::load(files((cert.clone(), cert.clone())));
    assert!(matches!(no_key, Err(TlsError::NoKey(_))), "{no_key:?}");

    std::fs::write(&cert, "half of a certif").expect("written");
    assert!(matches!(tls.look(), Err(TlsError::NoCertificate(_))));
    std::fs::remove_file(&cert).expect("removed");
    assert!(matches!(tls.look(), Err(TlsError::Read(..))));
    assert!(Arc::ptr_eq(&first, &tls.server().expect("one")), "the old one stays");

    write(&folder, &["localhost"]);
    tls.look().expect("a good pair");
    assert!(!Arc::ptr_eq(&first, &tls.server().expect("one")), "the new one is taken");
}
