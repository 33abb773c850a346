//! The configuration: flags, then environment, then file, then defaults.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use parlance_message::attachment::Place;
use parlance_message::hook::OnFailure;
use parlance_rpc::{Addresses, KeySource, Origin, PeerName, Reflection, TlsFiles, Web};
use parlance_telemetry::Format;
use parlance_types::TenantId;
use serde::Deserialize;

mod rules;

use self::rules::{beside, bus, first, pair, read, tenants, time, web, within};
use crate::Failure;
use crate::values::{Attachments, Bus, Span, Store, parsed, parsed_list};

/// What flags, environment or file say. The file has the same names, with `_`
/// for `-`.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// A TOML file with settings. Flags and environment win over it
    #[arg(long, env = "PARLANCE_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// The address and port to listen on; port 0 takes a free one [default: 127.0.0.1:7070]
    #[arg(long, env = "PARLANCE_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// An address and port for operators alone: /metrics for Prometheus, /livez and /readyz over
    /// HTTP/1, without a token and without TLS; port 0 takes a free one [default: none]
    #[arg(long, env = "PARLANCE_ADMIN_LISTEN", value_name = "ADDRESS")]
    pub admin_listen: Option<SocketAddr>,
    /// Where everything is kept: sqlite://FOLDER, or postgres://USER:PASSWORD@HOST/DATABASE
    /// (15 or later) [default: sqlite://./data]
    #[arg(long, env = "PARLANCE_STORE", value_name = "URL", hide_env_values = true)]
    #[serde(deserialize_with = "parsed")]
    pub store: Option<Store>,
    /// Where the bytes of attachments are kept: none; file:///FOLDER, which all replicas share;
    /// or s3://BUCKET/PREFIX, with region, credentials and, if it is not Amazon's, endpoint in
    /// the variables AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT
    /// [default: none; with SQLite the folder attachments beside the databases]
    #[arg(long, env = "PARLANCE_ATTACHMENTS", value_name = "URL")]
    #[serde(deserialize_with = "parsed")]
    pub attachments: Option<Attachments>,
    /// What carries hints between nodes: memory, for one process;
    /// redis://[USER:PASSWORD@]HOST:PORT (7 or later); or nodes of a Redis Cluster,
    /// redis-cluster://[USER:PASSWORD@]HOST:PORT,HOST:PORT; over TLS rediss:// or
    /// rediss-cluster://. % of a password is written as %25. Redis may come and go
    /// [default: memory]
    #[arg(long, env = "PARLANCE_BUS", value_name = "BUS", hide_env_values = true)]
    #[serde(deserialize_with = "parsed")]
    pub bus: Option<Bus>,
    /// What tells this deployment from others on the same Redis: 1 to 64 letters, digits,
    /// - and _ [default: default]
    #[arg(long, env = "PARLANCE_BUS_TAG", value_name = "TEXT")]
    #[serde(deserialize_with = "parsed")]
    pub bus_tag: Option<String>,
    /// The CA of a Redis that is reached by rediss://, as PEM [default: whom the platform trusts]
    #[arg(long, env = "PARLANCE_BUS_CA", value_name = "FILE")]
    pub bus_ca: Option<PathBuf>,
    /// Connections of each service to Postgres, 2 to 500, half of them for writes [default: 10]
    #[arg(long, env = "PARLANCE_CONNECTIONS", value_name = "COUNT")]
    pub connections: Option<u32>,
    /// Connections that append to logs on Postgres, 1 to 64 [default: 4]
    #[arg(long, env = "PARLANCE_WRITERS", value_name = "COUNT")]
    pub writers: Option<usize>,

    /// Leaves the schema to `migrate`: a start changes nothing in it, and is refused if it lacks
    /// something. Then who serves needs no right to make tables [default: false]
    #[arg(
        long,
        env = "PARLANCE_NO_MIGRATE",
        value_name = "TRUE",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub no_migrate: Option<bool>,

    /// A key that callers' tokens are signed with: hs256:FILE (a secret of at least 32
    /// bytes), eddsa:FILE, es256:FILE, rs256:FILE (a public key as PEM), jwks:FILE, or
    /// jwks:https://HOST/PATH for a key set at its issuer (http:// too). May be given several
    /// times; in the environment separated by commas. A file is read again when it changes; a
    /// URL every 5 minutes, and at once, at most once a minute, when a token names a key that
    /// is not known. Until a URL answers, tokens that only its keys could tell are refused as
    /// KEYS_UNAVAILABLE; later the last good keys are kept. SSL_CERT_FILE names certificates
    /// of a private CA [default with SQLite: a secret made at the first start]
    #[arg(long, env = "PARLANCE_AUTH_KEY", value_name = "KEY", value_delimiter = ',')]
    #[serde(deserialize_with = "parsed_list")]
    pub auth_key: Vec<KeySource>,
    /// The issuer (iss) of callers' tokens [default: parlance]
    #[arg(long, env = "PARLANCE_ISSUER", value_name = "TEXT")]
    #[serde(deserialize_with = "parsed")]
    pub issuer: Option<String>,
    /// The audience (aud) of callers' tokens [default: parlance]
    #[arg(long, env = "PARLANCE_AUDIENCE", value_name = "TEXT")]
    #[serde(deserialize_with = "parsed")]
    pub audience: Option<String>,
    /// How far clocks of issuer and server may differ, 0s to 5m [default: 5s]
    #[arg(long, env = "PARLANCE_LEEWAY", value_name = "TIME")]
    #[serde(deserialize_with = "parsed")]
    pub leeway: Option<Span>,

    /// Where the message service is: HOST:PORT, or several separated by commas; a name stands
    /// for every address it has. Not used by parlance itself [default: none; needed by
    /// parlance-membership, parlance-room and parlance-presence]
    #[arg(long, env = "PARLANCE_MESSAGE", value_name = "ADDRESSES")]
    #[serde(deserialize_with = "parsed")]
    pub message: Option<Addresses>,
    /// Where the membership service is, written as for message [default: none; needed by
    /// parlance-room and parlance-presence]
    #[arg(long, env = "PARLANCE_MEMBERSHIP", value_name = "ADDRESSES")]
    #[serde(deserialize_with = "parsed")]
    pub membership: Option<Addresses>,
    /// A file with the secret that the services of one installation sign their calls to each
    /// other with, at least 32 bytes. Of several, separated by commas, the first signs and all
    /// are accepted [default: made at the start by parlance; needed by the others]
    #[arg(long, env = "PARLANCE_INTERNAL_KEY_FILE", value_name = "FILE", value_delimiter = ',')]
    #[serde(deserialize_with = "parsed_list")]
    pub internal_key_file: Vec<PathBuf>,
    /// Where what looks at messages and edits before they are accepted is, written as for
    /// message: it serves parlance.hook.v1.HookService [default: none]
    #[arg(long, env = "PARLANCE_HOOK", value_name = "ADDRESSES")]
    #[serde(deserialize_with = "parsed")]
    pub hook: Option<Addresses>,
    /// The tenants for whose messages it is asked, separated by commas [default: all]
    #[arg(long, env = "PARLANCE_HOOK_TENANTS", value_name = "TENANTS", value_delimiter = ',')]
    #[serde(deserialize_with = "parsed_list")]
    pub hook_tenants: Vec<String>,
    /// How long it may take for a message, 10ms to 5s [default: 300ms]
    #[arg(long, env = "PARLANCE_HOOK_DEADLINE", value_name = "TIME")]
    #[serde(deserialize_with = "parsed")]
    pub hook_deadline: Option<Span>,
    /// What it means that it fails: open, messages are accepted as they are; or closed, they
    /// are refused as HOOK_UNAVAILABLE [default: closed]
    #[arg(long, env = "PARLANCE_HOOK_FAILURE", value_name = "WHAT")]
    #[serde(deserialize_with = "parsed")]
    pub hook_failure: Option<OnFailure>,

    /// The certificate of the server, with those between it and its CA, as PEM: it speaks TLS
    /// then, and nothing else. Read again when it changes, as are tls-key and tls-ca
    /// [default: none, plain text]
    #[arg(long, env = "PARLANCE_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// The key of tls-cert, as PEM [default: none]
    #[arg(long, env = "PARLANCE_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// The CA of those who are called by https:// (message, membership, hook) and, with
    /// tls-peer, of those who call, as PEM [default: whom the platform trusts]
    #[arg(long, env = "PARLANCE_TLS_CA", value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// The names in certificates of tls-ca, DNS names or URIs such as SPIFFE ids, by which
    /// services of the suite know each other, separated by commas. Without internal-key-file
    /// the certificate alone says who is one; with it both are needed [default: none, the
    /// secret alone says it]
    #[arg(long, env = "PARLANCE_TLS_PEER", value_name = "NAMES", value_delimiter = ',')]
    #[serde(deserialize_with = "parsed_list")]
    pub tls_peer: Vec<PeerName>,
    /// Whether browsers may call by gRPC-Web, over HTTP/1 too: true or false [default: false]
    #[arg(long, env = "PARLANCE_GRPC_WEB", value_name = "BOOL")]
    pub grpc_web: Option<bool>,
    /// The origins of pages that may, as https://HOST, separated by commas; * is every one
    /// [default: that of the server alone]
    #[arg(long, env = "PARLANCE_GRPC_WEB_ORIGINS", value_name = "ORIGINS", value_delimiter = ',')]
    #[serde(deserialize_with = "parsed_list")]
    pub grpc_web_origins: Vec<Origin>,

    /// Calls a second that one user may make on average, up to 1000000; 0 is no limit
    /// [default: 1000]
    #[arg(long, env = "PARLANCE_RATE", value_name = "CALLS")]
    pub rate: Option<u32>,
    /// Calls that one user may make at once, up to 1000000; 0 is no limit [default: 2000]
    #[arg(long, env = "PARLANCE_BURST", value_name = "CALLS")]
    pub burst: Option<u32>,
    /// Calls a second that one backend may make on average, whomever it acts for, up to
    /// 1000000; 0 is no limit [default: 10000]
    #[arg(long, env = "PARLANCE_SERVICE_RATE", value_name = "CALLS")]
    pub service_rate: Option<u32>,
    /// Calls that one backend may make at once, up to 2000000; 0 is no limit
    /// [default: twice service-rate]
    #[arg(long, env = "PARLANCE_SERVICE_BURST", value_name = "CALLS")]
    pub service_burst: Option<u32>,
    /// Calls a second that all callers of one tenant may make together on average, over all
    /// replicas of a service if they share a Redis, up to 1000000; 0 is no limit. Replicas
    /// tell each other every 100 ms what they admitted: N of them may admit up to
    /// (N - 1) x (tenant-burst + 0.2 s of tenant-rate + 1) + 1 calls above the limit, not per
    /// second but once, and admit nothing until that is made up for. While Redis is away
    /// each allows the whole limit. Telling costs a command of Redis per replica for every
    /// tenant that calls; an installation for one tenant may do without [default: 10000]
    #[arg(long, env = "PARLANCE_TENANT_RATE", value_name = "CALLS")]
    pub tenant_rate: Option<u32>,
    /// Calls that all callers of one tenant may make at once, up to 2000000; 0 is no limit.
    /// Less than 0.2 s of tenant-rate costs some of the rate [default: twice tenant-rate]
    #[arg(long, env = "PARLANCE_TENANT_BURST", value_name = "CALLS")]
    pub tenant_burst: Option<u32>,
    /// Calls handled at once before more are refused, 1 to 1000000: from when a request is
    /// there until its answer was taken. One user or backend has a quarter of them at most, a
    /// tenant half [default: 4096]
    #[arg(long, env = "PARLANCE_MAX_CALLS", value_name = "CALLS")]
    pub max_calls: Option<usize>,
    /// Connections from one address at once, 1 to 16384; of IPv6, from one network of 64
    /// bits. Behind a proxy that hides addresses all clients are one. All together are as many
    /// as the process may have files, less a reserve, and 16384 at most [default: 1024]
    #[arg(long, env = "PARLANCE_CONNECTIONS_PER_ADDRESS", value_name = "COUNT")]
    pub connections_per_address: Option<usize>,
    /// How old a connection gets, give or take a tenth, before its client is sent elsewhere,
    /// without a call that fails: so new replicas get their share. 1s to 24h [default: 30m]
    #[arg(long, env = "PARLANCE_CONNECTION_AGE", value_name = "TIME")]
    #[serde(deserialize_with = "parsed")]
    pub connection_age: Option<Span>,
    /// Who may ask by server reflection what services there are: nobody (off), whoever has a
    /// good token (token), or everybody (open) [default: token]
    #[arg(long, env = "PARLANCE_REFLECTION", value_name = "WHO")]
    #[serde(deserialize_with = "parsed")]
    pub reflection: Option<Reflection>,
    /// How long a call may take when its client does not say, 100ms to 10m [default: 10s]
    #[arg(long, env = "PARLANCE_DEADLINE", value_name = "TIME")]
    #[serde(deserialize_with = "parsed")]
    pub deadline: Option<Span>,
    /// The longest deadline that a client may ask for, 100ms to 1h [default: 1m]
    #[arg(long, env = "PARLANCE_MAX_DEADLINE", value_name = "TIME")]
    #[serde(deserialize_with = "parsed")]
    pub max_deadline: Option<Span>,

    /// Open streams of one user, 1 to 10000. A service may have a hundred times as many, for
    /// all the users together that it acts for [default: 100]
    #[arg(long, env = "PARLANCE_STREAMS_PER_USER", value_name = "COUNT")]
    pub streams_per_user: Option<usize>,
    /// How long a stream lives before its client is asked to come again, 1s to 24h
    /// [default: 1h]
    #[arg(long, env = "PARLANCE_STREAM_LIFE", value_name = "TIME")]
    #[serde(deserialize_with = "parsed")]
    pub stream_life: Option<Span>,
    /// By how much the lives of streams differ, in percent, 0 to 90 [default: 20]
    #[arg(long, env = "PARLANCE_STREAM_JITTER", value_name = "PERCENT")]
    pub stream_jitter: Option<u32>,
    /// How often streams look for events whose hint was lost, 100ms to 1m [default: 2s]
    #[arg(long, env = "PARLANCE_HEAD_CHECK", value_name = "TIME")]
    #[serde(deserialize_with = "parsed")]
    pub head_check: Option<Span>,
    /// How long the log of a deleted room is kept, 1m to 87600h [default: 720h]
    #[arg(long, env = "PARLANCE_DELETED_RETENTION", value_name = "TIME")]
    #[serde(deserialize_with = "parsed")]
    pub deleted_retention: Option<Span>,
    /// How long stopping may take before connections are cut, 100ms to 1h [default: 20s]
    #[arg(long, env = "PARLANCE_DRAIN", value_name = "TIME")]
    #[serde(deserialize_with = "parsed")]
    pub drain: Option<Span>,

    /// How log lines are written: text or json [default: text]
    #[arg(long, env = "PARLANCE_LOG_FORMAT", value_name = "FORMAT")]
    #[serde(deserialize_with = "parsed")]
    pub log_format: Option<Format>,
    /// What is logged: error, warn, info, debug or trace, or levels by module as in
    /// info,parlance_rpc=debug [default: info]
    #[arg(long, env = "PARLANCE_LOG_FILTER", value_name = "FILTER")]
    #[serde(deserialize_with = "parsed")]
    pub log_filter: Option<String>,
}

/// The configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    pub listen: SocketAddr,
    pub admin_listen: Option<SocketAddr>,
    pub store: Store,
    pub attachments: Option<Place>,
    pub bus: Bus,
    pub bus_tag: String,
    pub connections: u32,
    pub writers: usize,
    pub no_migrate: bool,
    pub auth_keys: Vec<KeySource>,
    pub issuer: String,
    pub audience: String,
    pub leeway: Duration,
    pub message: Option<Addresses>,
    pub membership: Option<Addresses>,
    pub hook: Option<Addresses>,
    /// Empty: all.
    pub hook_tenants: Vec<TenantId>,
    pub hook_deadline: Duration,
    pub hook_failure: OnFailure,
    pub tls: TlsFiles,
    pub web: Option<Web>,
    /// The first signs, all are accepted.
    pub internal_keys: Vec<PathBuf>,
    /// Calls a second; 0 is no limit.
    pub rate: u32,
    pub burst: u32,
    /// Calls of a backend, likewise.
    pub service_rate: u32,
    pub service_burst: u32,
    /// Calls of all callers of a tenant, likewise.
    pub tenant_rate: u32,
    pub tenant_burst: u32,
    pub max_calls: usize,
    pub connections_per_address: usize,
    pub connection_age: Duration,
    pub reflection: Reflection,
    pub deadline: Duration,
    pub max_deadline: Duration,
    pub streams_per_user: usize,
    /// The shortest and the longest life of a stream.
    pub stream_life: RangeInclusive<Duration>,
    pub head_check: Duration,
    pub deleted_retention: Duration,
    pub drain: Duration,
    pub log_format: Format,
    pub log_filter: String,
}

impl Settings {
    /// Adds the file and the defaults, and checks everything.
    pub fn resolve(self) -> Result<Config, Failure> {
        let file = self.config.as_deref().map(read).transpose()?.unwrap_or_default();
        self.or(file).check()
    }

    /// Adds the file and the defaults for work that verifies no caller: keys are
    /// neither required nor looked at.
    pub(crate) fn without_callers(self) -> Result<Config, Failure> {
        Self { auth_key: vec![KeySource::secret("-")], ..self }.resolve()
    }

    /// The address of a server with these settings, and whether it speaks TLS. Its key is not
    /// looked for: who asks need not have it.
    pub(crate) fn listening(self) -> Result<(SocketAddr, bool), Failure> {
        let file = self.config.as_deref().map(read).transpose()?.unwrap_or_default();
        let all = Self { auth_key: vec![KeySource::secret("-")], ..self }.or(file);
        let secure = all.tls_cert.is_some();
        let config = Self { tls_cert: None, tls_key: None, tls_peer: Vec::new(), ..all }.check()?;
        Ok((config.listen, secure))
    }

    /// The store, the issuer and the audience: what minting a token needs. Whoever
    /// mints has the secret.
    pub(crate) fn naming(self) -> Result<(Store, String, String), Failure> {
        let Config { store, issuer, audience, .. } = self.without_callers()?;
        Ok((store, issuer, audience))
    }

    /// These settings, and those of `other` where these say nothing.
    fn or(self, other: Self) -> Self {
        macro_rules! merge {
            ($($name:ident),+) => {
                Self {
                    internal_key_file: first(self.internal_key_file, other.internal_key_file),
                    auth_key: first(self.auth_key, other.auth_key),
                    hook_tenants: first(self.hook_tenants, other.hook_tenants),
                    tls_peer: first(self.tls_peer, other.tls_peer),
                    grpc_web_origins: first(self.grpc_web_origins, other.grpc_web_origins),
                    $($name: self.$name.or(other.$name)),+
                }
            };
        }
        merge!(
            config,
            listen,
            admin_listen,
            store,
            attachments,
            bus,
            bus_tag,
            bus_ca,
            connections,
            writers,
            no_migrate,
            issuer,
            audience,
            leeway,
            message,
            membership,
            hook,
            hook_deadline,
            hook_failure,
            tls_cert,
            tls_key,
            tls_ca,
            grpc_web,
            rate,
            burst,
            service_rate,
            service_burst,
            tenant_rate,
            tenant_burst,
            max_calls,
            connections_per_address,
            connection_age,
            reflection,
            deadline,
            max_deadline,
            streams_per_user,
            stream_life,
            stream_jitter,
            head_check,
            deleted_retention,
            drain,
            log_format,
            log_filter
        )
    }

    fn check(self) -> Result<Config, Failure> {
        let (ms, seconds) = (Duration::from_millis, Duration::from_secs);
        let (minutes, hours) = (Duration::from_mins, Duration::from_hours);
        let life = time("stream-life", self.stream_life, hours(1), seconds(1)..=hours(24))?;
        let jitter = within("stream-jitter", self.stream_jitter, 20, 0..=90)?;
        let max_deadline = time("max-deadline", self.max_deadline, minutes(1), ms(100)..=hours(1))?;
        let tenant_rate = within("tenant-rate", self.tenant_rate, 10_000, 0..=1_000_000)?;
        let service_rate = within("service-rate", self.service_rate, 10_000, 0..=1_000_000)?;
        let (twice, services) = (2 * tenant_rate, 2 * service_rate);
        let store = self.store.unwrap_or_else(|| Store::Sqlite("./data".into()));
        let attachments = self.attachments.map_or_else(|| beside(&store), |Attachments(at)| at);
        let web = web(self.grpc_web, self.grpc_web_origins)?;
        let identity = pair(self.tls_cert, self.tls_key)?;
        let (ca, peers, http1) = (self.tls_ca, self.tls_peer, web.is_some());
        let tls = TlsFiles { identity, ca, peers, http1 };
        let config = Config {
            listen: self.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 7070))),
            admin_listen: self.admin_listen,
            store,
            attachments,
            bus: bus(self.bus, self.bus_ca.as_deref())?,
            bus_tag: self.bus_tag.unwrap_or_else(|| "default".to_owned()),
            connections: within("connections", self.connections, 10, 2..=500)?,
            writers: within("writers", self.writers, 4, 1..=64)?,
            no_migrate: self.no_migrate.unwrap_or_default(),
            auth_keys: self.auth_key,
            issuer: self.issuer.unwrap_or_else(|| "parlance".to_owned()),
            audience: self.audience.unwrap_or_else(|| "parlance".to_owned()),
            leeway: time("leeway", self.leeway, seconds(5), seconds(0)..=minutes(5))?,
            message: self.message,
            membership: self.membership,
            hook: self.hook,
            hook_tenants: tenants("hook-tenants", self.hook_tenants)?,
            hook_deadline: time("hook-deadline", self.hook_deadline, ms(300), ms(10)..=seconds(5))?,
            hook_failure: self.hook_failure.unwrap_or_default(),
            tls,
            web,
            internal_keys: self.internal_key_file,
            rate: within("rate", self.rate, 1000, 0..=1_000_000)?,
            burst: within("burst", self.burst, 2000, 0..=1_000_000)?,
            service_rate,
            service_burst: within("service-burst", self.service_burst, services, 0..=2_000_000)?,
            tenant_rate,
            tenant_burst: within("tenant-burst", self.tenant_burst, twice, 0..=2_000_000)?,
            max_calls: within("max-calls", self.max_calls, 4096, 1..=1_000_000)?,
            connections_per_address: within(
                "connections-per-address",
                self.connections_per_address,
                1024,
                1..=16_384,
            )?,
            connection_age: time(
                "connection-age",
                self.connection_age,
                minutes(30),
                seconds(1)..=hours(24),
            )?,
            reflection: self.reflection.unwrap_or_default(),
            deadline: time("deadline", self.deadline, seconds(10), ms(100)..=minutes(10))?,
            max_deadline,
            streams_per_user: within("streams-per-user", self.streams_per_user, 100, 1..=10_000)?,
            stream_life: life * (100 - jitter) / 100..=life * (100 + jitter) / 100,
            head_check: time("head-check", self.head_check, seconds(2), ms(100)..=minutes(1))?,
            deleted_retention: time(
                "deleted-retention",
                self.deleted_retention,
                hours(720),
                minutes(1)..=hours(87_600),
            )?,
            drain: time("drain", self.drain, seconds(20), ms(100)..=hours(1))?,
            log_format: self.log_format.unwrap_or_default(),
            log_filter: self.log_filter.unwrap_or_else(|| "info".to_owned()),
        };
        config.check_together()
    }
}

#[cfg(test)]
mod tests;
