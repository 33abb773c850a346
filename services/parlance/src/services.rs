//! The composition root: the services, put together in one process or in several.

use std::convert::Infallible;
use std::sync::Arc;

use http::{Request, Response};
use parlance_bus::{InProcessBus, RedisBus};
use parlance_db::{Db, Location, Migrations};
use parlance_message::{LogOptions, stream};
use parlance_presence::state::{Doubt, MemorySessions, RedisSessions, Sessions};
use parlance_rpc::{Addresses, Internal, Layers, MAX_INTERNAL, MAX_REQUEST, Transport, balanced};
use parlance_types::Clock;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tower::Service;

use crate::Failure;
use crate::data_dir::DataDir;
use crate::settings::Config;
use crate::values::{Bus, Store};

/// What a process is: all services, or one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Whole,
    Message,
    Membership,
    Room,
    Presence,
}

impl Part {
    /// The name of its program.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Whole => "parlance",
            Self::Message => "parlance-message",
            Self::Membership => "parlance-membership",
            Self::Room => "parlance-room",
            Self::Presence => "parlance-presence",
        }
    }

    /// The databases it uses: the name of the service, and its schema.
    fn schemas(self) -> Vec<(&'static str, Migrations)> {
        let all = [
            (Self::Message, "message", parlance_message::MIGRATIONS),
            (Self::Membership, "membership", parlance_membership::MIGRATIONS),
            (Self::Room, "room", parlance_room::MIGRATIONS),
            (Self::Presence, "presence", parlance_presence::MIGRATIONS),
        ];
        let mine = all.into_iter().filter(|(part, ..)| self == Self::Whole || self == *part);
        mine.map(|(_, service, migrations)| (service, migrations)).collect()
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.program())
    }
}

/// What the services share.
pub(crate) struct Ground<'a> {
    pub(crate) config: &'a Config,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) internal: Internal,
    pub(crate) layers: &'a Layers,
    /// The folder, when everything is kept in one.
    pub(crate) data: Option<&'a DataDir>,
    /// Cancelled when streams shall end.
    pub(crate) draining: CancellationToken,
}

/// The services, running.
#[derive(Default)]
pub(crate) struct Services {
    /// What callers reach.
    pub(crate) routes: Routes,
    /// The full names of the services that callers reach.
    pub(crate) names: Vec<&'static str>,
    /// How strong "stored" is.
    pub(crate) durability: Durability,
    /// The present epoch of the logs.
    pub(crate) epoch: String,
    message: Option<parlance_message::Service>,
    pub(crate) databases: Vec<Db>,
    /// What runs beside the requests: relays and janitors.
    background: JoinSet<()>,
    stop: CancellationToken,
}

/// How strong "stored" is: the settings that would lose acknowledged writes.
#[derive(Debug, Default)]
pub(crate) struct Durability(pub(crate) Vec<String>);

impl Durability {
    /// For people.
    pub(crate) fn describe(&self) -> String {
        if self.0.is_empty() {
            "an acknowledged write survives a crash".to_owned()
        } else {
            format!("UNSAFE: a crash may lose acknowledged writes ({})", self.0.join(", "))
        }
    }
}

impl Services {
    /// Opens the databases and puts the services together.
    pub(crate) async fn open(part: Part, ground: &Ground<'_>) -> Result<Self, Failure> {
        let mut services = Self::default();
        let config = ground.config;
        match part {
            Part::Whole => services.whole(ground).await?,
            Part::Message => {
                let message = services.message(ground).await?;
                services.serve_suite(message.fact_server());
                services.serve_suite(message.user_log_server());
                services.serve_suite(message.notice_relay_server());
            }
            Part::Membership => {
                let logs = remote("message", config.message.as_ref()).await?;
                let membership = services.membership(ground, logs).await?;
                let rosters = membership.rosters().max_decoding_message_size(MAX_INTERNAL);
                services.serve_suite(rosters);
            }
            Part::Room => {
                let rosters = remote("membership", config.membership.as_ref()).await?;
                let logs = remote("message", config.message.as_ref()).await?;
                services.room(ground, rosters, logs).await?;
            }
            Part::Presence => {
                let rosters = remote("membership", config.membership.as_ref()).await?;
                let logs = remote("message", config.message.as_ref()).await?;
                services.presence(ground, rosters, logs).await?;
            }
        }
        Ok(services)
    }

    /// All of them, the lowest first: each calls only those before it.
    async fn whole(&mut self, ground: &Ground<'_>) -> Result<(), Failure> {
        let services = self;
        let message = services.message(ground).await?;
        let logs = Routes::new(message.fact_server())
            .add_service(message.user_log_server())
            .add_service(message.notice_relay_server());
        let logs = ground.layers.in_process(logs);
        let membership = services.membership(ground, logs.clone()).await?;
        let rosters = Routes::new(membership.rosters().max_decoding_message_size(MAX_INTERNAL));
        let rosters = ground.layers.in_process(rosters);
        services.room(ground, rosters.clone(), logs.clone()).await?;
        services.presence(ground, rosters, logs).await
    }

    async fn message(&mut self, ground: &Ground<'_>) -> Result<parlance_message::Service, Failure> {
        let failed =
            |error: parlance_message::Error| Failure::fatal("cannot open the logs", &error);
        let db = self.database(ground, "message", parlance_message::MIGRATIONS).await?;
        let bus = ground.bus();
        let config = parlance_message::Config { store: ground.writers(), stream: ground.streams() };
        let clock = Arc::clone(&ground.clock);
        let message = parlance_message::Service::open(db, bus, clock, config);
        let message = message.await.map_err(failed)?;
        self.epoch = message.store().epoch().await.map_err(failed)?.to_string();
        self.serve(message.message_server());
        self.serve(message.mark_server());
        self.serve(message.inbox_server());
        self.serve(message.stream_server(ground.draining.clone()));
        self.serve(message.operator_server());
        self.message = Some(message.clone());
        Ok(message)
    }

    async fn membership(
        &mut self,
        ground: &Ground<'_>,
        logs: Transport,
    ) -> Result<parlance_membership::Service, Failure> {
        let db = self.database(ground, "membership", parlance_membership::MIGRATIONS).await?;
        let (clock, internal) = (Arc::clone(&ground.clock), ground.internal.clone());
        let membership = parlance_membership::Service::open(db, clock, internal, logs);
        self.serve(membership.users().max_decoding_message_size(MAX_REQUEST));
        self.serve(membership.memberships().max_decoding_message_size(MAX_REQUEST));
        self.serve(membership.operators());
        let (outbox, stop) = (membership.outbox().clone(), self.stop.clone());
        self.background.spawn(async move { outbox.relay(stop).await });
        Ok(membership)
    }

    async fn room(
        &mut self,
        ground: &Ground<'_>,
        rosters: Transport,
        logs: Transport,
    ) -> Result<(), Failure> {
        let db = self.database(ground, "room", parlance_room::MIGRATIONS).await?;
        let (clock, internal) = (Arc::clone(&ground.clock), ground.internal.clone());
        let room = parlance_room::Service::open(db, clock, internal, rosters, logs);
        self.serve(room.server().max_decoding_message_size(MAX_REQUEST));
        self.serve(room.lists().max_decoding_message_size(MAX_REQUEST));
        self.serve(room.operators());
        let stop = self.stop.clone();
        self.background.spawn(async move { room.run(stop).await });
        Ok(())
    }

    async fn presence(
        &mut self,
        ground: &Ground<'_>,
        membership: Transport,
        message: Transport,
    ) -> Result<(), Failure> {
        let sessions = ground.sessions()?;
        let presence = parlance_presence::Ground {
            db: self.database(ground, "presence", parlance_presence::MIGRATIONS).await?,
            sessions,
            clock: Arc::clone(&ground.clock),
            internal: ground.internal.clone(),
            membership,
            message,
        };
        let options = ground.presence();
        let presence = parlance_presence::Service::open(presence, options);
        let server = presence.server(ground.draining.clone());
        self.serve(server.max_decoding_message_size(MAX_REQUEST));
        let sessions = presence.sessions(ground.draining.clone());
        self.serve(sessions.max_decoding_message_size(MAX_REQUEST));
        self.serve(presence.typing().max_decoding_message_size(MAX_REQUEST));
        let stop = self.stop.clone();
        self.background.spawn(async move { presence.run(stop).await });
        Ok(())
    }

    /// Lets callers reach a service.
    fn serve<S>(&mut self, server: S)
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
    {
        self.names.push(S::NAME);
        self.serve_suite(server);
    }

    /// Lets the other programs of the suite reach a service. Within one process they
    /// do not need the network: it takes large requests, so callers do not reach it.
    fn serve_suite<S>(&mut self, server: S)
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
    {
        self.routes = std::mem::take(&mut self.routes).add_service(server);
    }

    /// Opens the database of a service.
    async fn database(
        &mut self,
        ground: &Ground<'_>,
        service: &str,
        migrations: Migrations,
    ) -> Result<Db, Failure> {
        let failed = |error: &(dyn std::error::Error + 'static)| cannot_open(service, error);
        let opened = Db::open(&location(ground.config, ground.data, service), migrations).await;
        let db = opened.map_err(|error| failed(&error))?;
        self.databases.push(db.clone());
        if self.durability.0.is_empty() {
            self.durability.0 = db.unsafe_settings().await.map_err(|error| failed(&error))?;
        }
        Ok(db)
    }

    /// Lets what runs beside the requests finish, flushes the writers, and closes
    /// the databases.
    pub(crate) async fn close(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.background.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a task beside the requests failed");
            }
        }
        if let Some(message) = &self.message {
            message.close().await;
        }
        for db in &self.databases {
            db.close().await;
        }
    }
}

/// Reaches a service that runs in processes of its own.
async fn remote(service: &str, addresses: Option<&Addresses>) -> Result<Transport, Failure> {
    let addresses = addresses.cloned();
    let addresses = addresses.ok_or_else(|| Failure::Usage(format!("{service} is required")))?;
    Ok(balanced(addresses).await)
}

fn cannot_open(service: &str, error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::fatal(format_args!("cannot open the database of the {service} service"), error)
}

/// Brings the schemas of a part up to date.
pub(crate) async fn migrate(
    part: Part,
    config: &Config,
    data: Option<&DataDir>,
) -> Result<(), Failure> {
    for (service, migrations) in part.schemas() {
        let db = Db::open(&location(config, data, service), migrations).await;
        db.map_err(|error| cannot_open(service, &error))?.close().await;
    }
    Ok(())
}

/// Begins a new epoch of the logs, and returns its id.
pub(crate) async fn bump_epoch(
    config: &Config,
    data: Option<&DataDir>,
    clock: Arc<dyn Clock>,
) -> Result<String, Failure> {
    let failed = |error: &(dyn std::error::Error + 'static)| {
        Failure::fatal("cannot begin a new epoch", error)
    };
    let location = location(config, data, "message");
    let db = Db::open(&location, parlance_message::MIGRATIONS).await;
    let db = db.map_err(|error| failed(&error))?;
    let options = LogOptions::default();
    let logs = parlance_message::Store::open(db.clone(), clock, options, Arc::new(|_| {})).await;
    let logs = logs.map_err(|error| failed(&error))?;
    let epoch =
        logs.bump_epoch("an operator asked for it").await.map_err(|error| failed(&error))?;
    logs.close().await;
    db.close().await;
    Ok(epoch.to_string())
}

impl Ground<'_> {
    /// What carries hints between nodes. Redis need not be there.
    fn bus(&self) -> Arc<dyn parlance_bus::Bus> {
        match &self.config.bus {
            Bus::Memory => Arc::new(InProcessBus::default()),
            Bus::Redis(url) => {
                let tag = self.config.bus_tag.clone();
                let options = parlance_bus::Options { tag, ..parlance_bus::Options::default() };
                Arc::new(RedisBus::start(url, options))
            }
        }
    }

    /// Where presence keeps who is here.
    fn sessions(&self) -> Result<Arc<dyn Sessions>, Failure> {
        let Bus::Redis(url) = &self.config.bus else {
            return Ok(Arc::new(MemorySessions::new(Doubt::default())));
        };
        let (tag, doubt) = (&self.config.bus_tag, Doubt::default());
        let sessions = match url.servers() {
            [server] if !url.is_cluster() => RedisSessions::open(server, tag, doubt),
            nodes => RedisSessions::on_cluster(nodes, tag, doubt),
        };
        let sessions = sessions.map_err(|error| Failure::fatal("cannot use Redis", &error))?;
        Ok(Arc::new(sessions))
    }

    /// How logs are written.
    fn writers(&self) -> LogOptions {
        LogOptions { writers: self.config.writers, ..LogOptions::default() }
    }

    /// How presence is laid out.
    fn presence(&self) -> parlance_presence::Options {
        let default = parlance_presence::Options::default();
        // What a drain has for requests is half of its bound, for streams too.
        let spread = default.spread.min(self.config.drain / 4);
        parlance_presence::Options { life: self.config.stream_life.clone(), spread, ..default }
    }

    /// How logs are followed.
    fn streams(&self) -> stream::Options {
        stream::Options {
            head_check: self.config.head_check,
            life: self.config.stream_life.clone(),
            streams_per_user: self.config.streams_per_user,
            ..stream::Options::default()
        }
    }
}

/// Where the database of a service is.
fn location(config: &Config, data: Option<&DataDir>, service: &str) -> Location {
    match (&config.store, data) {
        (Store::Postgres(url), _) => Location::Postgres {
            url: url.clone(),
            schema: format!("parlance_{service}"),
            connections: config.connections,
        },
        (Store::Sqlite(_), Some(data)) => Location::Sqlite(data.database(service)),
        (Store::Sqlite(folder), None) => Location::Sqlite(folder.join(service)),
    }
}
