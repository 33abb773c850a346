use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
};
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use parlance_types::{ManualClock, TenantId};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::testing::eventually;
use crate::{Internal, InvalidSecret, Minter, Role, Secret};

mod files;
mod urls;

const NOW: Micros = 1_800_000_000_000_000;
const SECOND: Micros = 1_000_000;

/// A key pair: what signs, and the public half as a file holds it.
struct Pair {
    algorithm: Algorithm,
    signing: EncodingKey,
    public: Vec<u8>,
}

fn pem(label: &str, der: &[u8]) -> Vec<u8> {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der)).into()
}

fn hs256() -> Pair {
    let secret = Secret::random();
    let signing = EncodingKey::from_secret(secret.as_bytes());
    Pair { algorithm: Algorithm::HS256, signing, public: secret.as_bytes().to_vec() }
}

fn eddsa() -> (Pair, Vec<u8>) {
    let pair = Ed25519KeyPair::generate().expect("a key");
    let pkcs8 = pair.to_pkcs8v1().expect("pkcs8");
    let spki: PublicKeyX509Der<'_> = pair.public_key().as_der().expect("spki");
    let public = pem("PUBLIC KEY", spki.as_ref());
    let raw = pair.public_key().as_ref().to_vec();
    let signing = EncodingKey::from_ed_der(pkcs8.as_ref());
    (Pair { algorithm: Algorithm::EdDSA, signing, public }, raw)
}

fn es256() -> (Pair, Vec<u8>) {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
    let pkcs8 = pair.to_pkcs8v1().expect("pkcs8");
    let spki: PublicKeyX509Der<'_> = pair.public_key().as_der().expect("spki");
    let public = pem("PUBLIC KEY", spki.as_ref());
    let raw = pair.public_key().as_ref().to_vec();
    let signing = EncodingKey::from_ec_der(pkcs8.as_ref());
    (Pair { algorithm: Algorithm::ES256, signing, public }, raw)
}

fn rs256() -> Pair {
    let pair = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048).expect("a key");
    let pkcs8: Pkcs8V1Der<'_> = pair.as_der().expect("pkcs8");
    let spki: PublicKeyX509Der<'_> = pair.public_key().as_der().expect("spki");
    let signing = EncodingKey::from_rsa_pem(&pem("PRIVATE KEY", pkcs8.as_ref())).expect("a key");
    Pair { algorithm: Algorithm::RS256, signing, public: pem("PUBLIC KEY", spki.as_ref()) }
}

/// Good claims, with changes: `null` takes a claim away.
fn claims(changes: &Value) -> Value {
    let seconds = NOW / SECOND;
    let mut claims = json!({
        "iss": "parlance", "aud": "parlance", "sub": "ann", "tenant": "acme",
        "nbf": seconds, "exp": seconds + 60,
    });
    for (name, value) in changes.as_object().expect("an object") {
        claims[name] = value.clone();
    }
    claims.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
    claims
}

impl Pair {
    fn token(&self, id: Option<&str>, changes: &Value) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = id.map(str::to_owned);
        jsonwebtoken::encode(&header, &claims(changes), &self.signing).expect("a token")
    }
}

struct Fixture {
    auth: Auth,
    clock: Arc<ManualClock>,
    internal: InternalKey,
    folder: TempDir,
}

/// Verifies with one key file.
async fn with(kind: &str, file: &[u8]) -> Fixture {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("key");
    std::fs::write(&path, file).expect("a file");
    let source = format!("{kind}:{}", path.display()).parse().expect("a source");
    let clock = Arc::new(ManualClock::at(NOW));
    let internal = InternalKey::random();
    let config = AuthConfig::new(vec![source], internal.clone());
    let auth = Auth::load(config, Arc::<ManualClock>::clone(&clock)).await.expect("keys");
    Fixture { auth, clock, internal, folder }
}

fn headers(token: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("authorization", format!("Bearer {token}").parse().expect("a value"));
    headers
}

impl Fixture {
    fn verify(&self, token: &str) -> Result<Caller, Reason> {
        self.auth.verify(&headers(token)).map_err(|refusal| refusal.reason())
    }
}

fn ann() -> Principal {
    Principal::User(UserId::new("ann"))
}

/// B-174, B-177.
#[tokio::test]
async fn tokens_of_every_algorithm_are_verified_by_their_key_and_no_other() {
    let pairs =
        [("hs256", hs256()), ("eddsa", eddsa().0), ("es256", es256().0), ("rs256", rs256())];
    for (kind, pair) in &pairs {
        let fixture = with(kind, &pair.public).await;
        for (other, signer) in &pairs {
            let got = fixture.verify(&signer.token(None, &json!({})));
            if kind == other {
                let caller = got.expect("a caller");
                assert_eq!(caller.principal, ann(), "{kind}");
                assert_eq!(caller.tenant_id.as_str(), "acme");
                assert_eq!(caller.expires, NOW + 65 * SECOND);
            } else {
                assert_eq!(got, Err(Reason::TokenInvalid), "{other} signed for {kind}");
            }
        }
    }
}

#[tokio::test]
async fn a_public_key_used_as_a_secret_signs_nothing() {
    let (pair, raw) = eddsa();
    let fixture = with("eddsa", &pair.public).await;
    for secret in [&pair.public, &raw] {
        let signing = EncodingKey::from_secret(secret);
        let forged = Pair { algorithm: Algorithm::HS256, signing, public: Vec::new() };
        assert_eq!(fixture.verify(&forged.token(None, &json!({}))), Err(Reason::TokenInvalid));
    }
}

#[tokio::test]
async fn a_token_without_signature_is_invalid() {
    let pair = hs256();
    let fixture = with("hs256", &pair.public).await;
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let body = encode(&claims(&json!({})));
    for algorithm in ["none", "None", "HS256"] {
        let header = encode(&json!({ "alg": algorithm, "typ": "JWT" }));
        assert_eq!(fixture.verify(&format!("{header}.{body}.")), Err(Reason::TokenInvalid));
    }
    for nonsense in ["", ".", "..", "a.b.c", "é", &"x".repeat(10_000)] {
        assert_eq!(fixture.verify(nonsense), Err(Reason::TokenInvalid), "{nonsense:.20}");
    }
}

#[tokio::test]
async fn every_claim_is_required_and_must_be_right() {
    let pair = hs256();
    let fixture = with("hs256", &pair.public).await;
    let bad = [
        json!({ "iss": null }),
        json!({ "iss": "someone else" }),
        json!({ "aud": null }),
        json!({ "aud": "something else" }),
        json!({ "aud": ["a", "b"] }),
        json!({ "aud": "parlance-internal" }),
        json!({ "sub": null }),
        json!({ "sub": "" }),
        json!({ "sub": "a\u{0}b" }),
        json!({ "sub": "x".repeat(129) }),
        json!({ "tenant": null }),
        json!({ "tenant": "" }),
        json!({ "exp": null }),
        json!({ "exp": "tomorrow" }),
        json!({ "exp": -1 }),
        json!({ "exp": 1e300 }),
        json!({ "nbf": "now" }),
        json!({ "nbf": NOW / SECOND + 6 }),
        json!({ "role": "king" }),
        json!({ "role": "service", "sub": "" }),
    ];
    for changes in bad {
        let got = fixture.verify(&pair.token(None, &changes));
        assert_eq!(got, Err(Reason::TokenInvalid), "{changes}");
    }
    for changes in [
        json!({ "aud": ["a", "parlance"] }),
        json!({ "nbf": NOW / SECOND + 5 }),
        json!({ "nbf": 1.5 }),
        // As most issuers make them.
        json!({ "nbf": null, "groups": vec!["a group of some length"; 300] }),
        json!({ "role": "user", "extra": true }),
    ] {
        assert!(fixture.verify(&pair.token(None, &changes)).is_ok(), "{changes}");
    }
}

#[tokio::test]
async fn a_token_holds_until_its_end_and_the_leeway() {
    let pair = hs256();
    let fixture = with("hs256", &pair.public).await;
    let token = pair.token(None, &json!({}));
    fixture.clock.advance(65 * SECOND - 1);
    assert!(fixture.verify(&token).is_ok());
    fixture.clock.advance(1);
    assert_eq!(fixture.verify(&token), Err(Reason::TokenExpired));
    // Also when it was never seen before.
    let other = pair.token(None, &json!({ "sub": "bob" }));
    assert_eq!(fixture.verify(&other), Err(Reason::TokenExpired));
}

#[tokio::test]
async fn there_must_be_exactly_one_bearer_token() {
    let pair = hs256();
    let fixture = with("hs256", &pair.public).await;
    let token = pair.token(None, &json!({}));
    let verify = |headers: &HeaderMap| fixture.auth.verify(headers).map_err(|got| got.reason());

    assert_eq!(verify(&HeaderMap::new()), Err(Reason::TokenMissing));
    let mut headers = headers(&token);
    assert!(verify(&headers).is_ok());
    headers.append("authorization", format!("Bearer {token}").parse().expect("a value"));
    assert_eq!(verify(&headers), Err(Reason::TokenInvalid));
    headers.insert("authorization", format!("Basic {token}").parse().expect("a value"));
    assert_eq!(verify(&headers), Err(Reason::TokenInvalid));
    headers.insert("authorization", format!("bearer {token}").parse().expect("a value"));
    assert!(verify(&headers).is_ok());
}

#[tokio::test]
async fn only_a_service_may_name_the_user_that_it_acts_for() {
    let pair = hs256();
    let fixture = with("hs256", &pair.public).await;
    let call = |role: &str, key: &'static str, users: &[&[u8]]| {
        let mut headers = headers(&pair.token(None, &json!({ "role": role })));
        for user in users {
            headers.append(key, http::HeaderValue::from_bytes(user).expect("a value"));
        }
        let caller = fixture.auth.verify(&headers).map_err(|refusal| refusal.reason());
        caller.map(|caller| caller.principal)
    };
    let acting = |user: &str| Ok(Principal::ServiceFor(UserId::new(user)));

    assert_eq!(call("service", ACTING_USER, &[]), Ok(Principal::Service));
    assert_eq!(call("operator", ACTING_USER, &[]), Ok(Principal::Operator));
    assert_eq!(call("service", ACTING_USER, &[b"bob"]), acting("bob"));
    assert_eq!(call("service", ACTING_USER, &["jörg".as_bytes()]), acting("jörg"));
    for encoded in [STANDARD.encode("jörg"), STANDARD_NO_PAD.encode("jörg")] {
        assert_eq!(call("service", ACTING_USER_BIN, &[encoded.as_bytes()]), acting("jörg"));
    }
    for role in ["user", "operator"] {
        assert_eq!(call(role, ACTING_USER, &[b"bob"]), Err(Reason::NotAllowed), "{role}");
    }
    for bad in [&[&b""[..]][..], &[b"\xff"], &[&[b'x'; 129]], &[b"ann", b"bob"]] {
        assert_eq!(call("service", ACTING_USER, bad), Err(Reason::InvalidField));
    }
}

#[tokio::test]
async fn internal_tokens_are_of_the_internal_key_only() {
    let pair = hs256();
    let fixture = with("hs256", &pair.public).await;
    let (tenant, bob) = (TenantId::new("acme"), UserId::new("bob"));
    let minted = |key: InternalKey, actor| {
        let internal = Internal::new(key, Arc::<ManualClock>::clone(&fixture.clock));
        internal
            .request(&tenant, actor, Duration::from_secs(1), ())
            .metadata()
            .clone()
            .into_headers()
    };
    let verify = |headers: &HeaderMap| fixture.auth.verify(headers).map_err(|got| got.reason());

    let headers = minted(fixture.internal.clone(), Some(&bob));
    let caller = verify(&headers).expect("a caller");
    assert_eq!(caller.principal, Principal::Internal(Some(bob.clone())));
    assert_eq!(caller.tenant_id, tenant);
    let headers = minted(fixture.internal.clone(), None);
    assert_eq!(verify(&headers).map(|caller| caller.principal), Ok(Principal::Internal(None)));
    let mut acting = headers.clone();
    acting.insert(ACTING_USER, "ann".parse().expect("a value"));
    assert_eq!(verify(&acting), Err(Reason::NotAllowed));
    assert_eq!(verify(&minted(InternalKey::random(), None)), Err(Reason::TokenInvalid));

    // A key of callers signs nothing internal, nor the internal key a caller's token.
    let secret = fixture.internal.0.clone();
    let signing = EncodingKey::from_secret(secret.as_bytes());
    let suite = Pair { algorithm: Algorithm::HS256, signing, public: Vec::new() };
    assert_eq!(fixture.verify(&suite.token(None, &json!({}))), Err(Reason::TokenInvalid));
    fixture.clock.advance(121 * SECOND);
    assert_eq!(verify(&headers), Err(Reason::TokenExpired));
}

#[tokio::test]
async fn the_audience_of_callers_cannot_be_the_internal_one() {
    let mut config = AuthConfig::new(Vec::new(), InternalKey::random());
    config.audience = token::INTERNAL_AUDIENCE.to_owned();
    let loaded = Auth::load(config, Arc::new(ManualClock::at(NOW))).await;
    assert!(matches!(loaded, Err(AuthError::Audience)));
}

#[tokio::test]
async fn a_key_set_is_matched_by_key_id_and_holds_public_signing_keys_only() {
    let ((edwards, edwards_raw), (curve, curve_raw)) = (eddsa(), es256());
    let (hidden, hidden_raw) = eddsa();
    let secret = hs256();
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let okp = |raw: &[u8], id, usage| json!({ "kty": "OKP", "crv": "Ed25519", "x": encode(raw), "kid": id, "use": usage });
    let set = json!({ "keys": [
        okp(&edwards_raw, "one", "sig"),
        okp(&hidden_raw, "hidden", "enc"),
        { "kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "two",
          "x": encode(&curve_raw[1..33]), "y": encode(&curve_raw[33..]) },
        { "kty": "oct", "k": encode(&secret.public), "alg": "HS256", "kid": "three" },
        { "kty": "unheard of", "kid": "four" },
    ]});
    let fixture = with("jwks", set.to_string().as_bytes()).await;
    let none = json!({});
    assert!(fixture.verify(&edwards.token(Some("one"), &none)).is_ok());
    assert!(fixture.verify(&edwards.token(None, &none)).is_ok());
    assert!(fixture.verify(&curve.token(Some("two"), &none)).is_ok());
    for bad in [
        edwards.token(Some("two"), &none),
        edwards.token(Some("nobody"), &none),
        hidden.token(Some("hidden"), &none),
        secret.token(Some("three"), &none),
    ] {
        assert_eq!(fixture.verify(&bad), Err(Reason::TokenInvalid));
    }
}

#[tokio::test]
async fn a_token_that_names_no_key_is_tried_on_a_few() {
    let pairs: Vec<_> = (0..=TRIED).map(|_| eddsa()).collect();
    let keys = pairs.iter().enumerate().map(|(at, (_, raw))| {
        let x = URL_SAFE_NO_PAD.encode(raw);
        json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": at.to_string() })
    });
    let set = json!({ "keys": keys.collect::<Vec<_>>() });
    let fixture = with("jwks", set.to_string().as_bytes()).await;
    for (at, (pair, _)) in pairs.iter().enumerate() {
        let tried = fixture.verify(&pair.token(None, &json!({})));
        assert_eq!(tried.is_ok(), at < TRIED, "{at}");
        assert!(fixture.verify(&pair.token(Some(&at.to_string()), &json!({}))).is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn keys_are_loaded_again_when_their_file_changes_and_kept_when_it_breaks() {
    let (old, new) = (hs256(), hs256());
    let fixture = with("hs256", &old.public).await;
    let path = fixture.folder.path().join("key");
    let stop = CancellationToken::new();
    let reload = tokio::spawn(fixture.auth.clone().reload(stop.clone()));
    let (old_token, new_token) = (old.token(None, &json!({})), new.token(None, &json!({})));
    assert!(fixture.verify(&old_token).is_ok());

    let in_new_trouble = async |old: Option<String>| {
        let trouble = || fixture.auth.0.ring.trouble();
        eventually(|| async { trouble().is_some() && trouble() != old }).await;
        trouble()
    };
    std::fs::write(&path, b"too short").expect("a file");
    let broken = in_new_trouble(None).await;
    assert!(fixture.verify(&old_token).is_ok());
    std::fs::remove_file(&path).expect("no file");
    in_new_trouble(broken).await;
    assert!(fixture.verify(&old_token).is_ok());

    std::fs::write(&path, &new.public).expect("a file");
    eventually(|| async { fixture.verify(&new_token).is_ok() }).await;
    assert_eq!(fixture.verify(&old_token), Err(Reason::TokenInvalid));
    stop.cancel();
    reload.await.expect("ended");
}

#[tokio::test]
async fn a_key_file_that_is_of_no_use_stops_the_start() {
    let clock = Arc::new(ManualClock::at(NOW));
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("key");
    for (kind, file) in [
        ("hs256", &b"short"[..]),
        ("eddsa", b"no pem"),
        ("es256", &eddsa().0.public),
        ("rs256", &eddsa().0.public),
        ("jwks", b"{}"),
        ("jwks", br#"{"keys":[]}"#),
    ] {
        std::fs::write(&path, file).expect("a file");
        let source = format!("{kind}:{}", path.display()).parse().expect("a source");
        let config = AuthConfig::new(vec![source], InternalKey::random());
        assert!(Auth::load(config, Arc::<ManualClock>::clone(&clock)).await.is_err(), "{kind}");
    }
    for bad in ["", "hs256", "hs256:", "none:x", "HS256:x"] {
        assert!(bad.parse::<KeySource>().is_err(), "{bad}");
    }
}

#[test]
fn a_minted_token_says_who_it_is_for() {
    let minter = Minter {
        secret: Secret::random(),
        issuer: "parlance".to_owned(),
        audience: "parlance".to_owned(),
    };
    let (tenant, life) = (TenantId::new("acme"), Duration::from_mins(1));
    let token = minter.token(&tenant, Role::Service, &UserId::new("billing"), NOW, life);
    let body = token.split('.').nth(1).expect("three parts");
    let body: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(body).expect("base64")).expect("json");
    assert_eq!(body["role"], "service");
    assert_eq!(body["sub"], "billing");
    assert_eq!(body["tenant"], "acme");
    assert!(body.get("actor").is_none());
}

#[tokio::test]
async fn a_token_with_an_extension_that_must_be_understood_is_refused() {
    let pair = hs256();
    let fixture = with("hs256", &pair.public).await;
    let mut header = Header::new(pair.algorithm);
    header.crit = Some(vec!["exp".to_owned()]);
    let token = jsonwebtoken::encode(&header, &claims(&json!({})), &pair.signing).expect("a token");
    assert_eq!(fixture.verify(&token), Err(Reason::TokenInvalid));
}

#[tokio::test]
async fn an_internal_token_lives_for_minutes() {
    let fixture = with("hs256", &hs256().public).await;
    let signing = EncodingKey::from_secret(fixture.internal.0.as_bytes());
    let pair = Pair { algorithm: Algorithm::HS256, signing, public: Vec::new() };
    let seconds = NOW / SECOND;
    for (changes, good) in [
        (json!({ "exp": seconds + 300 }), true),
        (json!({ "exp": seconds + 301 }), false),
        (json!({ "nbf": null }), false),
    ] {
        let mut changes = changes;
        changes["aud"] = "parlance-internal".into();
        assert_eq!(fixture.verify(&pair.token(None, &changes)).is_ok(), good, "{changes}");
    }
}

#[tokio::test]
async fn clocks_of_services_may_be_a_minute_apart_and_no_more() {
    let fixture = with("hs256", &hs256().public).await;
    for (ahead, refused) in [
        (0, None),
        (60, None),
        (61, Some(Reason::TokenInvalid)),
        (-119, None),
        (-120, Some(Reason::TokenExpired)),
    ] {
        let clock = Arc::new(ManualClock::at(NOW + ahead * SECOND));
        let caller = Internal::new(fixture.internal.clone(), clock);
        let request = caller.request(&TenantId::new("acme"), None, Duration::from_secs(1), ());
        let headers = request.metadata().clone().into_headers();
        let verified = fixture.auth.verify(&headers).map_err(|refusal| refusal.reason());
        assert_eq!(verified.err(), refused, "{ahead} s");
    }
}

#[test]
fn secrets_are_long_and_do_not_show() {
    assert_eq!(Secret::new("x".repeat(31)), Err(InvalidSecret));
    let secret = Secret::new("x".repeat(32)).expect("long enough");
    let shown = format!("{secret:?} {:?}", InternalKey(secret.clone()));
    assert!(!shown.contains('x'), "{shown}");
}
