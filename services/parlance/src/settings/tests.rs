use std::io::Write;

use super::*;

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(text.as_bytes()).expect("written");
    file
}

fn with(text: &str, settings: Settings) -> Result<Config, String> {
    let file = file(text);
    let config = Some(file.path().to_path_buf());
    Settings { config, ..settings }.resolve().map_err(|failure| failure.to_string())
}

#[test]
fn nothing_needs_to_be_said() {
    let config = Settings::default().resolve().expect("defaults");
    assert_eq!(config.listen.to_string(), "127.0.0.1:7070");
    assert_eq!(config.store, Store::Sqlite("./data".into()));
    assert_eq!(config.stream_life, Duration::from_mins(48)..=Duration::from_mins(72));
}

#[test]
fn what_is_said_wins_over_the_file_and_the_file_over_the_defaults() {
    let text = r#"
        listen = "0.0.0.0:1234"
        store = "sqlite:///var/lib/parlance"
        rate = 5
        drain = "3s"
        auth_key = ["hs256:/a", "jwks:/b"]
    "#;
    let config = with(text, Settings { rate: Some(7), ..Settings::default() }).expect("good");
    assert_eq!(config.listen.to_string(), "0.0.0.0:1234");
    assert_eq!(config.store, Store::Sqlite("/var/lib/parlance".into()));
    assert_eq!((config.rate, config.burst), (7, 2000));
    assert_eq!(config.drain, Duration::from_secs(3));
    assert_eq!(config.auth_keys.len(), 2);
    let settings = Settings { auth_key: vec![KeySource::secret("/c")], ..Settings::default() };
    assert_eq!(with(text, settings).expect("good").auth_keys, [KeySource::secret("/c")]);
}

#[test]
fn a_line_end_behind_a_value_of_the_file_is_cut_off() {
    let text = r#"
        store = "sqlite://./nl\n"
        issuer = "shop\n"
        bus_tag = "a\r\n"
    "#;
    let config = with(text, Settings::default()).expect("good");
    assert_eq!(config.store, Store::Sqlite("./nl".into()));
    assert_eq!((config.issuer.as_str(), config.bus_tag.as_str()), ("shop", "a"));
}

#[test]
fn a_wrong_value_is_one_line_that_names_it() {
    for (text, named) in [
        ("colour = 1", "colour"),
        ("rate = -1", "rate"),
        ("tls_cert = 'a'", "tls-key is required"),
        ("tls_key = 'a'", "tls-cert is required"),
        ("tls_peer = ['*.a']", "must be a DNS name"),
        ("tls_peer = ['a']", "tls-peer needs"),
        ("grpc_web_origins = ['https://a']", "grpc-web-origins needs"),
        ("bus_ca = 'a'", "bus-ca needs"),
        ("connection_age = '0s'", "connection-age must be"),
        ("rate = 1000001", "rate must be 0 to 1000000, not 1000001"),
        ("tenant_rate = 1000001", "tenant-rate must be 0 to 1000000, not 1000001"),
        ("tenant_burst = 2000001", "tenant-burst must be 0 to 2000000, not 2000001"),
        ("connections_per_address = 0", "connections-per-address must be 1 to 16384, not 0"),
        ("service_rate = 1000001", "service-rate must be 0 to 1000000, not 1000001"),
        ("reflection = 'some'", "must be off, token or open"),
        ("writers = 0", "writers must be 1 to 64, not 0"),
        ("drain = '1ms'", "drain must be 100ms to 1h, not 1ms (--drain or PARLANCE_DRAIN)"),
        ("drain = 'soon'", "must be a whole number and ms, s, m or h"),
        ("store = 'mysql://x'", "must be sqlite://FOLDER or postgres://"),
        ("bus = 'kafka://x'", "must be memory, redis://"),
        ("bus_tag = 'a b'", "bus-tag must be"),
        ("listen = 'here'", "listen"),
        ("auth_key = ['x']", "must be hs256:FILE"),
        ("log_format = 'xml'", "must be text or json"),
        ("stream_jitter = 91", "stream-jitter must be 0 to 90, not 91"),
        ("audience = 'parlance-internal'", "audience"),
        ("deadline = '2m'", "deadline must not be longer than max-deadline"),
        ("store = 'postgres://x/y'", "auth-key is required"),
        ("hook = 'nowhere'", "must be HOST:PORT"),
        ("hook_deadline = '1ms'", "hook-deadline must be 10ms to 5s, not 1ms"),
        ("hook_failure = 'shut'", "must be open or closed"),
        ("hook_tenants = ['']", "hook-tenants must have 1 to 128 bytes"),
        ("this is not TOML", "cannot use the file"),
    ] {
        let error = with(text, Settings::default()).expect_err(text);
        assert!(error.contains(named), "{text}: {error}");
        assert!(!error.contains('\n'), "{text}: {error}");
    }
    let missing = Settings { config: Some("/nowhere/parlance.toml".into()), ..Settings::default() };
    let error = missing.resolve().expect_err("no file").to_string();
    assert!(error.contains("/nowhere/parlance.toml"), "{error}");
}

#[test]
fn the_burst_of_a_tenant_is_twice_its_rate_if_nothing_is_said() {
    let limits = |text| with(text, Settings::default()).map(|it| (it.tenant_rate, it.tenant_burst));
    assert_eq!(limits(""), Ok((10_000, 20_000)));
    assert_eq!(limits("tenant_rate = 0"), Ok((0, 0)));
    assert_eq!(limits("tenant_rate = 50"), Ok((50, 100)));
    assert_eq!(limits("tenant_rate = 50\ntenant_burst = 7"), Ok((50, 7)));
}

#[test]
fn what_verifies_no_caller_needs_no_key() {
    let settings = || with_store("postgres://x/y");
    assert!(settings().resolve().is_err());
    assert!(settings().without_callers().is_ok());
}

fn with_store(url: &str) -> Settings {
    Settings { store: Some(url.parse().expect("a store")), ..Settings::default() }
}
