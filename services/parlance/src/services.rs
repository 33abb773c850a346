//! The composition root: the services, put together in one process or in several.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use parlance_bus::{HighWater, InProcessBus, RedisBus};
use parlance_db::{Db, Location, Migrations};
use parlance_message::attachment::Blobs;
use parlance_message::{LogOptions, StreamOptions};
use parlance_presence::state::{Doubt, MemorySessions, RedisSessions, Sessions};
use parlance_rpc::{
    Addresses, Env, Layers, Served, Tasks, Tls, Transport, balanced, balanced_outside,
};
use parlance_types::Clock;
use tokio_util::sync::CancellationToken;

use crate::Failure;
use crate::data_dir::DataDir;
use crate::environment;
use crate::fit::Files;
use crate::metrics;
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
    /// What a process is that was started by this name, which may be a path: a service by the name
    /// of its program, the whole by any other.
    pub fn named(path: Option<&OsStr>) -> Self {
        let name = path.and_then(|path| Path::new(path).file_name());
        let services = [Self::Message, Self::Membership, Self::Room, Self::Presence];
        let found = services.into_iter().find(|part| name == Some(OsStr::new(part.program())));
        found.unwrap_or(Self::Whole)
    }

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
    pub(crate) fn schemas(self) -> Vec<(&'static str, Migrations)> {
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

/// What the services of a process are made of.
pub(crate) struct Parts<'a> {
    pub(crate) config: &'a Config,
    pub(crate) env: Env,
    pub(crate) layers: &'a Layers,
    pub(crate) tls: &'a Tls,
    /// The folder, when everything is kept in one.
    pub(crate) data: Option<&'a DataDir>,
}

/// The services, running.
#[derive(Default)]
pub(crate) struct Services {
    /// What callers reach.
    pub(crate) public: Served,
    /// What the other programs of the suite reach besides. Within one process they do not
    /// need the network: it takes large requests, so callers do not reach it.
    pub(crate) internal: Served,
    /// How strong "stored" is.
    pub(crate) durability: Durability,
    /// The present epoch of the logs.
    pub(crate) epoch: String,
    message: Option<parlance_message::Service>,
    membership: Option<parlance_membership::Service>,
    room: Option<parlance_room::Service>,
    presence: Option<parlance_presence::Service>,
    pub(crate) databases: Vec<Db>,
    /// Cancelled once nothing is written any more.
    flushed: CancellationToken,
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
    /// Opens the databases and puts the services together, the lowest first: each calls only
    /// those before it.
    pub(crate) async fn open(part: Part, parts: &Parts<'_>) -> Result<Self, Failure> {
        let services = Self::put_together(part, parts).await?;
        services.run();
        Ok(services)
    }

    /// The same, with nothing that runs beside requests.
    pub(crate) async fn put_together(part: Part, parts: &Parts<'_>) -> Result<Self, Failure> {
        let mut services = Self::default();
        let (message, membership) = (&parts.config.message, &parts.config.membership);
        match part {
            Part::Whole => {
                let logs = services.message(parts).await?;
                let logs = parts.layers.in_process(logs.into_routes());
                let rosters = services.membership(parts, logs.clone()).await?;
                let rosters = parts.layers.in_process(rosters.into_routes());
                services.room(parts, rosters.clone(), logs.clone()).await?;
                services.presence(parts, rosters, logs).await?;
            }
            Part::Message => {
                services.message(parts).await?;
            }
            Part::Membership => {
                let logs = remote("message", message.as_ref(), parts).await?;
                services.membership(parts, logs).await?;
            }
            Part::Room => {
                let rosters = remote("membership", membership.as_ref(), parts).await?;
                let logs = remote("message", message.as_ref(), parts).await?;
                services.room(parts, rosters, logs).await?;
            }
            Part::Presence => {
                let rosters = remote("membership", membership.as_ref(), parts).await?;
                let logs = remote("message", message.as_ref(), parts).await?;
                services.presence(parts, rosters, logs).await?;
            }
        }
        if parts.data.is_some() {
            services.check_files().await?;
        }
        Ok(services)
    }

    /// Before anything is done that would hide it.
    async fn check_files(&self) -> Result<(), Failure> {
        match (&self.message, &self.membership, &self.room) {
            (Some(message), Some(membership), Some(room)) => {
                Files { message, membership, room }.check().await
            }
            _ => Ok(()),
        }
    }

    /// Starts what runs beside the requests.
    fn run(&self) {
        if let Some(message) = &self.message {
            message.run();
        }
        if let Some(membership) = &self.membership {
            membership.run();
        }
        if let Some(room) = &self.room {
            room.run();
        }
        if let Some(presence) = &self.presence {
            presence.run();
        }
    }

    async fn message(&mut self, parts: &Parts<'_>) -> Result<Served, Failure> {
        let failed =
            |error: parlance_message::Error| Failure::fatal("cannot open the logs", &error);
        let db = self.database(parts, "message", parlance_message::MIGRATIONS).await?;
        let bus = self.bus(parts);
        let (store, stream) = (parts.writers()?, parts.streams());
        let (hook, blobs) = (parts.hook().await, blobs(parts.config)?);
        let config = parlance_message::Config { store, stream, hook, blobs };
        let message = parlance_message::Service::open(&parts.env, db, bus, config);
        let message = message.await.map_err(failed)?;
        self.epoch = message.store().epoch().await.map_err(failed)?.to_string();
        self.serve(message.public());
        self.serve_suite(message.internal());
        let beside = message.internal();
        metrics::of_message(&message);
        self.message = Some(message);
        Ok(beside)
    }

    async fn membership(&mut self, parts: &Parts<'_>, logs: Transport) -> Result<Served, Failure> {
        let db = self.database(parts, "membership", parlance_membership::MIGRATIONS).await?;
        let membership = parlance_membership::Service::open(&parts.env, db, logs);
        self.serve(membership.public());
        self.serve_suite(membership.internal());
        let beside = membership.internal();
        metrics::of_outbox("membership", membership.outbox(), &parts.env.tasks);
        self.membership = Some(membership);
        Ok(beside)
    }

    async fn room(
        &mut self,
        parts: &Parts<'_>,
        rosters: Transport,
        logs: Transport,
    ) -> Result<(), Failure> {
        let db = self.database(parts, "room", parlance_room::MIGRATIONS).await?;
        let room = parlance_room::Service::open(&parts.env, db, rosters, logs);
        self.serve(room.public());
        metrics::of_outbox("room", room.outbox(), &parts.env.tasks);
        self.room = Some(room);
        Ok(())
    }

    async fn presence(
        &mut self,
        parts: &Parts<'_>,
        rosters: Transport,
        logs: Transport,
    ) -> Result<(), Failure> {
        let sessions = parts.sessions()?;
        let db = self.database(parts, "presence", parlance_presence::MIGRATIONS).await?;
        let (env, options) = (&parts.env, parts.presence());
        let presence = parlance_presence::Service::open(env, db, sessions, rosters, logs, options);
        self.serve(presence.public());
        metrics::of_presence(&presence, &parts.env.tasks);
        self.presence = Some(presence);
        Ok(())
    }

    /// Lets the other services of the suite reach services; everybody else is refused there,
    /// also where the suite is this one process and nobody has their key.
    fn serve_suite(&mut self, services: Served) {
        self.internal = std::mem::take(&mut self.internal).and(services);
    }

    /// Lets callers reach services.
    fn serve(&mut self, services: Served) {
        self.public = std::mem::take(&mut self.public).and(services);
    }

    /// What carries hints between nodes. Redis need not be there.
    fn bus(&self, parts: &Parts<'_>) -> Arc<dyn parlance_bus::Bus> {
        match &parts.config.bus {
            Bus::Memory => Arc::new(InProcessBus::default()),
            Bus::Redis(url) => {
                let tag = parts.config.bus_tag.clone();
                let options = parlance_bus::Options { tag, ..parlance_bus::Options::default() };
                let (bus, link) = RedisBus::new(url, options);
                let flushed = self.flushed.clone();
                parts.env.tasks.vital("redis link", async move {
                    flushed.run_until_cancelled_owned(link).await;
                });
                Arc::new(bus)
            }
        }
    }

    /// Opens the database of a service.
    async fn database(
        &mut self,
        parts: &Parts<'_>,
        service: &'static str,
        migrations: Migrations,
    ) -> Result<Db, Failure> {
        let failed = |error: &(dyn std::error::Error + 'static)| cannot_open(service, error);
        let db = open(parts.config, parts.data, service, migrations).await?;
        metrics::of_database(service, &db);
        self.databases.push(db.clone());
        if self.durability.0.is_empty() {
            self.durability.0 = db.unsafe_settings().await.map_err(|error| failed(&error))?;
        }
        Ok(db)
    }

    /// Lets what runs beside the requests finish, flushes the writers, and closes
    /// the databases.
    pub(crate) async fn close(&self, env: &Env) {
        env.tasks.stop().cancel();
        if let Some(message) = &self.message {
            message.close().await;
        }
        self.flushed.cancel();
        env.tasks.close().await;
        for db in &self.databases {
            db.close().await;
        }
    }
}

/// Reaches a service that runs in processes of its own.
async fn remote(
    service: &str,
    addresses: Option<&Addresses>,
    parts: &Parts<'_>,
) -> Result<Transport, Failure> {
    let addresses = addresses.cloned();
    let addresses = addresses.ok_or_else(|| Failure::setting(service, "is required"))?;
    Ok(balanced(addresses, parts.tls, &parts.env.tasks).await)
}

/// Opens the database of a service, and tells if a later version has been there.
async fn open(
    config: &Config,
    data: Option<&DataDir>,
    service: &str,
    migrations: Migrations,
) -> Result<Db, Failure> {
    let location = location(config, data, service);
    let opened = if config.no_migrate {
        Db::open_as_it_is(&location, migrations).await
    } else {
        Db::open(&location, migrations).await
    };
    let db = opened.map_err(|error| cannot_open(service, &error))?;
    if !db.newer().is_empty() {
        let migrations = db.newer();
        tracing::warn!(
            service,
            ?migrations,
            "the schema is newer than this program, which can serve on it: start the version that \
             it was made for as soon as that is possible"
        );
    }
    Ok(db)
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
        open(config, data, service, migrations).await?.close().await;
    }
    Ok(())
}

/// Begins a new epoch of the logs, since a backup was put back, and returns its id.
pub(crate) async fn restored(
    config: &Config,
    data: Option<&DataDir>,
    clock: Arc<dyn Clock>,
) -> Result<String, Failure> {
    let failed = |error: &(dyn std::error::Error + 'static)| {
        Failure::fatal("cannot begin a new epoch", error)
    };
    let db = open(config, data, "message", parlance_message::MIGRATIONS).await?;
    let (publish, tasks) = (Arc::new(|_| {}), Tasks::default());
    let logs =
        parlance_message::Store::open(db.clone(), clock, LogOptions::default(), publish, &tasks);
    let logs = logs.await.map_err(|error| failed(&error))?;
    let epoch = logs.bump_epoch("restored").await.map_err(|error| failed(&error))?;
    logs.close().await;
    db.close().await;
    Ok(epoch.to_string())
}

impl Parts<'_> {
    /// Where presence keeps who is here.
    fn sessions(&self) -> Result<Arc<dyn Sessions>, Failure> {
        let Bus::Redis(url) = &self.config.bus else {
            return Ok(Arc::new(MemorySessions::new(Doubt::default())));
        };
        let (space, doubt) = (format!("parlance:{}", self.config.bus_tag), Doubt::default());
        let sessions = RedisSessions::open(url, &space, doubt);
        let sessions = sessions.map_err(|error| Failure::fatal("cannot use Redis", &error))?;
        Ok(Arc::new(sessions))
    }

    /// How logs are written.
    fn writers(&self) -> Result<LogOptions, Failure> {
        // A file that is put back needs no witness: every start of SQLite begins an epoch.
        let high_water = match (&self.config.store, &self.config.bus) {
            (Store::Postgres(_), Bus::Redis(url)) => {
                let marks = HighWater::open(url, &self.config.bus_tag);
                let marks = marks.map_err(|error| Failure::fatal("cannot use Redis", &error))?;
                Some(Arc::new(marks))
            }
            _ => None,
        };
        let (writers, deleted_retention) = (self.config.writers, self.config.deleted_retention);
        Ok(LogOptions { writers, high_water, deleted_retention, ..LogOptions::default() })
    }

    /// What looks at messages before they are accepted.
    async fn hook(&self) -> Option<parlance_message::hook::Options> {
        let addresses = self.config.hook.clone()?;
        let transport = balanced_outside(addresses, self.tls, &self.env.tasks).await;
        let (deadline, on_failure) = (self.config.hook_deadline, self.config.hook_failure);
        let tenants = self.config.hook_tenants.clone();
        Some(parlance_message::hook::Options { transport, tenants, deadline, on_failure })
    }

    /// How presence is laid out.
    fn presence(&self) -> parlance_presence::Options {
        let default = parlance_presence::Options::default();
        // What a drain has for requests is half of its bound, for streams too.
        let spread = default.spread.min(self.config.drain / 4);
        parlance_presence::Options { life: self.config.stream_life.clone(), spread, ..default }
    }

    /// How logs are followed.
    fn streams(&self) -> StreamOptions {
        StreamOptions {
            head_check: self.config.head_check,
            life: self.config.stream_life.clone(),
            streams_per_user: self.config.streams_per_user,
            streams_per_service: 100 * self.config.streams_per_user,
            ..StreamOptions::default()
        }
    }
}

/// Where the bytes of attachments are, if there are attachments.
pub(crate) fn blobs(config: &Config) -> Result<Option<Blobs>, Failure> {
    let Some(place) = &config.attachments else { return Ok(None) };
    let place = place.clone().with_options(environment::of_aws());
    let blobs = Blobs::open(&place);
    blobs.map(Some).map_err(|error| Failure::unusable("attachments", &error))
}

/// Where the database of a service is.
pub(crate) fn location(config: &Config, data: Option<&DataDir>, service: &str) -> Location {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_which_service_a_process_is() {
        for part in [Part::Message, Part::Membership, Part::Room, Part::Presence] {
            let path = Path::new("/usr/local/bin").join(part.program());
            assert_eq!(Part::named(Some(path.as_os_str())), part);
            assert_eq!(Part::named(Some(OsStr::new(part.program()))), part);
        }
        for other in ["parlance", "/srv/parlance-message/parlance", "parlance-0.1.0", "", "/"] {
            assert_eq!(Part::named(Some(OsStr::new(other))), Part::Whole, "{other}");
        }
        assert_eq!(Part::named(None), Part::Whole);
    }
}
