//! Keys in files.

use super::*;

/// Why a file is of no use as a key.
async fn refused(kind: &str, file: &[u8], internal: InternalKey) -> String {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("key");
    std::fs::write(&path, file).expect("a file");
    let source = format!("{kind}:{}", path.display()).parse().expect("a source");
    let config = AuthConfig::new(vec![source], internal);
    let loaded = Auth::load(config, Arc::new(ManualClock::at(NOW))).await;
    let AuthError::Key(error) = loaded.expect_err("refused") else { panic!("the key's fault") };
    std::error::Error::source(&error).expect("a cause").to_string()
}

#[tokio::test]
async fn a_private_key_in_place_of_the_public_one_is_refused() {
    let pair = Ed25519KeyPair::generate().expect("a key");
    let pkcs8 = pair.to_pkcs8v1().expect("pkcs8");
    for label in ["PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY"] {
        for kind in ["eddsa", "es256", "rs256"] {
            let why = refused(kind, &pem(label, pkcs8.as_ref()), InternalKey::random()).await;
            assert!(why.contains("public key"), "{why}");
        }
    }
}

#[tokio::test]
async fn callers_do_not_sign_with_the_key_of_the_suite() {
    let secret = Secret::random();
    let file = [secret.as_bytes(), b"\n"].concat();
    let why = refused("hs256", &file, InternalKey::from(secret)).await;
    assert!(why.contains("internal key"), "{why}");
}

#[test]
fn of_a_secret_in_a_file_only_the_line_end_of_a_text_is_dropped() {
    let long = "x".repeat(31);
    let of = |file: &[u8]| Secret::in_file(file).map(|secret| secret.as_bytes().to_vec());
    assert_eq!(of(format!("{long}\n").as_bytes()), Err(InvalidSecret));
    for (file, kept) in [
        (format!("{long}y\n"), format!("{long}y")),
        (format!("{long}y\r\n"), format!("{long}y")),
        (format!(" {long} \n"), format!(" {long} ")),
        (format!("{long}y\n\n"), format!("{long}y\n\n")),
        (format!("{long}y\t"), format!("{long}y\t")),
    ] {
        assert_eq!(of(file.as_bytes()), Ok(kept.into_bytes()), "{file:?}");
    }
    for end in [&b"\n"[..], b"\r\n", b" ", b"\t"] {
        let binary = [&[0, 200, 7], long.as_bytes(), end].concat();
        assert_eq!(of(&binary), Ok(binary), "{end:?}");
    }
}
