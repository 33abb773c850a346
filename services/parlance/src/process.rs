//! A process of the suite: every service on one port, or one of them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parlance_bus::Tallies;
use parlance_rpc::{
    Admin, Auth, AuthConfig, ConnectionLimits, Deadlines, Env, Health, Internal, InternalKey,
    KeySource, Layers, Minter, RateLimit, Secret, Server, Shed, Tasks, TenantRate, Tls, TlsError,
    TlsFiles, termination,
};
use parlance_types::{Clock, SystemClock};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::Failure;
use crate::data_dir::DataDir;
use crate::environment;
use crate::failure::{chain, print};
use crate::files;
use crate::guide::guide;
use crate::metrics;
use crate::readiness::Readiness;
use crate::services::{self, Part, Parts, Services};
use crate::settings::Config;
use crate::tenant_rate;
use crate::values::{Bus, Store};

/// How long services may take to finish what they have begun, after the last
/// connection is closed.
const CLOSE: Duration = Duration::from_secs(30);

/// How long what collects traces and metrics may take for the last of them.
const LAST: Duration = Duration::from_secs(3);

/// How often is looked whether log lines were lost.
const LOOK_AT_LOG: Duration = Duration::from_secs(1);

/// Runs everything until the process is asked to stop; then drains.
pub async fn run(part: Part, config: Config) -> Result<(), Failure> {
    parlance_telemetry::init(config.log_format, &config.log_filter, parlance_rpc::within)
        .map_err(|error| Failure::unusable("log-filter", &error))?;
    parlance_telemetry::start(
        part.program(),
        env!("CARGO_PKG_VERSION"),
        config.admin_listen.is_some(),
    )
    .map_err(|error| Failure::Usage(chain(&error)))?;
    let ended = run_measured(part, &config).await;
    parlance_telemetry::stop(LAST).await;
    ended
}

async fn run_measured(part: Part, config: &Config) -> Result<(), Failure> {
    let shutdown = termination(parlance_telemetry::flush)
        .map_err(|error| Failure::fatal("cannot listen for signals", &error))?;
    for variable in environment::unknown() {
        tracing::warn!(variable, "no setting has this name");
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let process = Process::open(part, config, Arc::clone(&clock), shutdown).await?;
    let Process { address, services, .. } = &process;
    let durability = services.durability.describe();
    let (store, epoch) = (&config.store, &services.epoch);
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(%part, version, %address, %store, durability, epoch, "started");
    if !services.durability.0.is_empty() {
        tracing::warn!("{durability}");
    }
    if part == Part::Message && config.bus == Bus::Memory {
        tracing::warn!(
            "the bus is memory: streams on other replicas hear of an event at the next look at \
             the heads, and of notices never; set bus to a Redis if there is more than one"
        );
    }
    parlance_telemetry::print(&match (&process.minter, &config.store) {
        (Some(_), Store::Sqlite(folder)) => guide(*address, folder, config),
        _ => format!("Parlance listens on {address}"),
    });
    if let Some((address, _)) = &process.admin {
        parlance_telemetry::print(&format!(
            "Operators find /metrics, /livez and /readyz on {address}"
        ));
    }
    process.serve().await
}

/// Services, put together and listening.
pub(crate) struct Process {
    pub(crate) address: SocketAddr,
    /// The means to mint tokens, when the key is our own.
    pub(crate) minter: Option<Minter>,
    /// Where operators look, served until the process has ended.
    pub(crate) admin: Option<(SocketAddr, AbortOnDropHandle<()>)>,
    env: Env,
    services: Box<Services>,
    server: Server,
    listener: TcpListener,
    shutdown: CancellationToken,
    /// Ours until everything is closed.
    _data: Option<DataDir>,
}

impl Process {
    /// Opens everything; `shutdown` will end it.
    pub(crate) async fn open(
        part: Part,
        config: &Config,
        clock: Arc<dyn Clock>,
        shutdown: CancellationToken,
    ) -> Result<Self, Failure> {
        let data = data(config)?;
        let (keys, minter) = keys(config, data.as_ref())?;
        let tls = Tls::load(config.tls.clone()).map_err(|error| unusable_tls(config, &error))?;
        let shared = internal_keys(part, config)?;
        let env =
            Env::new(Arc::clone(&clock), Internal::new(shared[0].clone(), Arc::clone(&clock)));
        let pages = Admin::new(env.tasks.clone());
        let admin = admin(config, &pages).await?;
        let auth = auth(config, keys, shared, clock).await?;
        count_lost_lines(&env.tasks);
        tls.keep(&env.tasks);
        env.tasks.vital("key reload", auth.clone().reload(env.tasks.stop().clone()));

        let mut layers = layers(config, auth);
        layers.tenant_rate = tenant_rate(part, config, &env.tasks)?;
        let parts =
            Parts { config, env: env.clone(), layers: &layers, tls: &tls, data: data.as_ref() };
        let services = Box::new(Box::pin(Services::open(part, &parts)).await?);
        for database in &services.databases {
            database.when_broken(parlance_telemetry::nothing_works);
        }
        let (listener, address) = listen(config.listen).await?;
        let health = Health::new(services.public.names().iter().copied()).await;
        health.set_all(true).await;
        pages.follow(health.clone());
        metrics::of_process(part, &health, &env.tasks);
        metrics::of_certificates(&tls);
        Readiness::of(&services.databases).tell(health.clone(), &env.tasks);
        let limits = ConnectionLimits {
            all: files::connections(config.connections)?,
            per_address: config.connections_per_address,
            age: config.connection_age,
            ..ConnectionLimits::default()
        };
        let draining = env.draining.clone();
        let (tls, web, drain) = (Some(tls), config.web.clone(), config.drain);
        let server = Server { layers, health, limits, tls, web, draining, drain };
        Ok(Self { address, minter, admin, env, services, server, listener, shutdown, _data: data })
    }

    /// Serves until it is shut down, or has lost a task; then drains.
    pub(crate) async fn serve(self) -> Result<(), Failure> {
        let Self { env, mut services, server, listener, shutdown, admin: _admin, _data, .. } = self;
        let (tasks, lost) = (env.tasks.clone(), shutdown.clone());
        let watch = tokio::spawn(async move {
            tasks.broken().await;
            lost.cancel();
        });
        let served =
            std::mem::take(&mut services.public).and(std::mem::take(&mut services.internal));
        let ended = server.serve(listener, served.into_routes(), shutdown).await;
        if tokio::time::timeout(CLOSE, services.close(&env)).await.is_err() {
            tracing::error!("services did not finish within {CLOSE:?}");
        }
        watch.abort();
        ended.map_err(|error| Failure::fatal("cannot serve", &error))?;
        match env.tasks.broken_by() {
            None => Ok(()),
            Some(task) => Err(Failure::Fatal(format!("lost the task \"{task}\""))),
        }
    }
}

/// Listens on an address; which one that is in the end.
async fn listen(on: SocketAddr) -> Result<(TcpListener, SocketAddr), Failure> {
    let failed =
        |error: std::io::Error| Failure::fatal(format_args!("cannot listen on {on}"), &error);
    let listener = TcpListener::bind(on).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// Serves the pages for operators, if they want any: at once, so that a process which takes long
/// to open its databases is alive meanwhile.
async fn admin(
    config: &Config,
    pages: &Admin,
) -> Result<Option<(SocketAddr, AbortOnDropHandle<()>)>, Failure> {
    let Some(on) = config.admin_listen else { return Ok(None) };
    let (listener, address) = listen(on).await?;
    let serving = tokio::spawn(pages.clone().serve(listener));
    Ok(Some((address, AbortOnDropHandle::new(serving))))
}

/// Brings the schemas of the databases up to date, and ends.
pub async fn migrate(part: Part, config: Config) -> Result<(), Failure> {
    let data = data(&config)?;
    services::migrate(part, &config, data.as_ref()).await
}

/// Begins a new epoch of the logs, since a backup was put back, and prints its id.
pub async fn restored(config: Config) -> Result<(), Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let data = data(&config)?;
    print(&services::restored(&config, data.as_ref(), clock).await?)
}

/// Opens a folder as a start does, mends what a start mends, and closes it.
pub(crate) async fn hold_against_each_other(config: &Config) -> Result<(), Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let data = data(config)?;
    let shared = internal_keys(Part::Whole, config)?;
    let env = Env::new(Arc::clone(&clock), Internal::new(shared[0].clone(), Arc::clone(&clock)));
    // Nobody calls.
    let layers = layers(config, auth(config, Vec::new(), shared, clock).await?);
    let tls = Tls::load(TlsFiles::default()).map_err(|error| unusable_tls(config, &error))?;
    let parts = Parts { config, env: env.clone(), layers: &layers, tls: &tls, data: data.as_ref() };
    let services = Box::pin(services::Services::put_together(Part::Whole, &parts)).await?;
    services.close(&env).await;
    Ok(())
}

/// Counts the log lines that are lost, for operators.
fn count_lost_lines(tasks: &Tasks) {
    let mut known = 0;
    tasks.every("log", LOOK_AT_LOG, Arc::default(), move || {
        let lost = parlance_telemetry::lost();
        let more = lost > std::mem::replace(&mut known, lost);
        let looked = if more { Err(format!("{lost} log lines were lost")) } else { Ok(()) };
        std::future::ready(looked)
    });
}

/// Which of the settings it is that holds what is of no use.
pub(crate) fn unusable_tls(config: &Config, error: &TlsError) -> Failure {
    let of = |path: Option<&PathBuf>| path.is_some_and(|path| error.is_of(path));
    let key = config.tls.identity.as_ref().map(|(_, key)| key);
    let name = if of(config.tls.ca.as_ref()) {
        "tls-ca"
    } else if of(key) {
        "tls-key"
    } else {
        "tls-cert"
    };
    Failure::unusable(name, error)
}

/// The keys that the services share: the first signs. A process on its own makes one. Where
/// certificates alone tell who is a service, everybody knows the key.
pub(crate) fn internal_keys(part: Part, config: &Config) -> Result<Vec<InternalKey>, Failure> {
    let read = |path: &std::path::PathBuf| {
        Secret::read(path).map(InternalKey::from).map_err(|error| {
            Failure::fatal(format_args!("cannot read the secret in {}", path.display()), &error)
        })
    };
    let keys: Result<Vec<_>, _> = config.internal_keys.iter().map(read).collect();
    let without = || match part {
        Part::Whole => InternalKey::random(),
        _ => InternalKey::vouched_for(),
    };
    keys.map(|keys| if keys.is_empty() { vec![without()] } else { keys })
}

/// Takes the folder, if everything is kept in one.
fn data(config: &Config) -> Result<Option<DataDir>, Failure> {
    match &config.store {
        Store::Sqlite(folder) => {
            let data = DataDir::take(folder)?;
            data.look()?;
            Ok(Some(data))
        }
        Store::Postgres(_) => Ok(None),
    }
}

/// The keys of callers; and the means to mint tokens, when the key is our own.
fn keys(
    config: &Config,
    data: Option<&DataDir>,
) -> Result<(Vec<KeySource>, Option<Minter>), Failure> {
    let Some(data) = data.filter(|_| config.auth_keys.is_empty()) else {
        return Ok((config.auth_keys.clone(), None));
    };
    let path = data.signing_key()?;
    let secret = Secret::read(&path).map_err(|error| {
        Failure::fatal(format_args!("cannot read the secret in {}", path.display()), &error)
    })?;
    let (issuer, audience) = (config.issuer.clone(), config.audience.clone());
    Ok((vec![KeySource::secret(path)], Some(Minter { secret, issuer, audience })))
}

pub(crate) async fn auth(
    config: &Config,
    keys: Vec<KeySource>,
    internal: Vec<InternalKey>,
    clock: Arc<dyn Clock>,
) -> Result<Auth, Failure> {
    let auth = AuthConfig {
        keys,
        issuer: config.issuer.clone(),
        audience: config.audience.clone(),
        leeway: config.leeway,
        internal,
        reflection: config.reflection,
    };
    Auth::load(auth, clock).await.map_err(|error| Failure::unusable("auth-key", &error))
}

/// The limit of a tenant: shared by the replicas of a part, if they have a Redis.
fn tenant_rate(part: Part, config: &Config, tasks: &Tasks) -> Result<Option<TenantRate>, Failure> {
    let (rate, burst) = (config.tenant_rate, config.tenant_burst);
    let Bus::Redis(url) = &config.bus else { return Ok(TenantRate::alone(rate, burst)) };
    let Some(rate) = TenantRate::shared(rate, burst) else { return Ok(None) };
    let tallies = Tallies::open(url, &config.bus_tag, part.program());
    let tallies = tallies.map_err(|error| Failure::fatal("cannot use Redis", &error))?;
    tenant_rate::share(rate.clone(), tallies, tasks);
    Ok(Some(rate))
}

fn layers(config: &Config, auth: Auth) -> Layers {
    Layers {
        deadlines: Deadlines::new(config.deadline, config.max_deadline),
        rate: RateLimit::new(config.rate, config.burst),
        service_rate: RateLimit::of_services(config.service_rate, config.service_burst),
        shed: Some(Shed::new(config.max_calls)),
        ..Layers::new(auth)
    }
}

#[cfg(test)]
mod tests;
