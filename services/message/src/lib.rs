//! The message service: the log of every room, and the streams that follow it.
//!
//! A folder for each noun: its values and rules (`mod.rs`), its SQL (`store.rs`), its RPCs
//! (`grpc.rs`). The logs themselves are `parlance_log`; `parlance_follow` streams them.

pub mod attachment;
pub mod expiry;
pub mod fact;
pub mod filter;
pub mod hide;
pub mod history;
pub mod hook;
pub mod inbox;
pub mod mark;
pub mod mention;
pub mod message;
pub mod notice;
pub mod operator;
pub mod pin;
pub mod reaction;
pub mod stream;
pub mod thread;

use std::sync::Arc;
use std::time::Duration;

use parlance_bus::Bus;
use parlance_db::{Db, Migrations};
use parlance_follow::Hub;
use parlance_proto::message::v1::attachment_service_server::AttachmentServiceServer;
use parlance_proto::message::v1::content_filter_service_server::ContentFilterServiceServer;
use parlance_proto::message::v1::fact_service_server::FactServiceServer;
use parlance_proto::message::v1::hide_service_server::HideServiceServer;
use parlance_proto::message::v1::history_service_server::HistoryServiceServer;
use parlance_proto::message::v1::inbox_service_server::InboxServiceServer;
use parlance_proto::message::v1::mark_service_server::MarkServiceServer;
use parlance_proto::message::v1::notice_relay_service_server::NoticeRelayServiceServer;
use parlance_proto::message::v1::notice_service_server::NoticeServiceServer;
use parlance_proto::message::v1::operator_service_server::OperatorServiceServer;
use parlance_proto::message::v1::reaction_service_server::ReactionServiceServer;
use parlance_proto::stored::mention_service_server::MentionServiceServer;
use parlance_proto::stored::message_service_server::MessageServiceServer;
use parlance_proto::stored::pin_service_server::PinServiceServer;
use parlance_proto::stored::thread_service_server::ThreadServiceServer;
use parlance_proto::stored::user_log_service_server::UserLogServiceServer;
use parlance_rpc::{Env, Served, internal, public};

use self::attachment::grpc::AttachmentGrpc;
use self::attachment::{Attachments, Blobs, detach_deleted, detach_pruned};
use self::expiry::Expiries;
use self::fact::grpc::FactGrpc;
use self::filter::Filters;
use self::filter::grpc::ContentFilterGrpc;
use self::hide::grpc::HideGrpc;
use self::hide::{Hider, forget_pruned as unhide_pruned};
use self::history::History;
use self::history::grpc::HistoryGrpc;
use self::hook::Hook;
use self::inbox::Inbox;
use self::inbox::grpc::{InboxGrpc, UserLogGrpc};
use self::mark::Marker;
use self::mark::grpc::{MarkGrpc, PresentMarks, receipts};
use self::mention::grpc::MentionGrpc;
use self::mention::{Mentioning, unmention_deleted, unmention_pruned};
use self::message::grpc::{MessageGrpc, Pace};
use self::message::{Messages, OnDelete, Screens};
use self::notice::Notices;
use self::notice::grpc::{NoticeGrpc, NoticeRelayGrpc};
use self::operator::grpc::OperatorGrpc;
use self::pin::grpc::PinGrpc;
use self::pin::{Pins, unpin_deleted, unpin_pruned};
use self::reaction::grpc::ReactionGrpc;
use self::reaction::{Reactions, forget_deleted, forget_pruned};
use self::stream::grpc::StreamGrpc;
use self::thread::grpc::ThreadGrpc;
use self::thread::{Threads, discount_deleted};

pub use parlance_follow::Options as StreamOptions;
pub use parlance_log::{Error, LogFacts, OnPrune, Options as LogOptions, Store};

/// The schema of this service.
pub const MIGRATIONS: Migrations = parlance_db::migrations!();

/// The largest request for a stream, in bytes: it may name 10,000 cursors.
const MAX_SUBSCRIBE: usize = 4 * 1024 * 1024;

/// How often memberships of closed logs are looked for.
const CLOSED: Duration = Duration::from_secs(5);

/// How often the database is compared with its high-water mark, and that is raised.
const BEAT: Duration = Duration::from_secs(5);

/// What goes with a message when it is deleted: a noun that keeps something of messages
/// is named here.
const ON_DELETE: OnDelete =
    &[unpin_deleted, discount_deleted, unmention_deleted, forget_deleted, detach_deleted];

/// What goes with messages that are pruned, likewise.
pub const ON_PRUNE: OnPrune =
    &[unpin_pruned, unmention_pruned, forget_pruned, unhide_pruned, detach_pruned];

/// How often it is looked for what logs are to let go of.
const PRUNE: Duration = Duration::from_secs(5);

/// How often it is looked for users of whom something is not said everywhere yet.
const SPREAD: Duration = Duration::from_secs(5);

/// How often it is looked for messages that have expired: as long as it may take until an event
/// says that they are deleted.
const EXPIRE: Duration = Duration::from_secs(1);

/// How often it is looked for what is left of reactions to messages that are gone, and of what
/// was hidden by those who are no members any more.
const SWEEP: Duration = Duration::from_secs(5);

/// How often it is looked for attachments that are to be removed.
const TIDY: Duration = Duration::from_secs(5);

/// How the service is laid out.
#[derive(Debug, Default)]
pub struct Config {
    pub store: LogOptions,
    pub stream: StreamOptions,
    /// What looks at messages before they are accepted, if anything does.
    pub hook: Option<hook::Options>,
    /// Where the bytes of attachments are; without it there are none.
    pub blobs: Option<Blobs>,
}

/// The message service, running.
#[derive(Clone, Debug)]
pub struct Service {
    store: Store,
    messages: Messages,
    filters: Filters,
    marker: Arc<Marker>,
    inbox: Inbox,
    attachments: Option<Attachments>,
    hub: Hub,
    pace: Pace,
    env: Env,
}

impl Service {
    /// Opens the service on its database. `bus` carries hints between its nodes.
    pub async fn open(env: &Env, db: Db, bus: Arc<dyn Bus>, config: Config) -> Result<Self, Error> {
        let (heartbeat, life) = (config.stream.heartbeat.clone(), config.stream.life.clone());
        let pace = Pace { heartbeat, life };
        let hub = Hub::new(bus, Arc::clone(&env.clock), config.stream);
        let (clock, publish) = (Arc::clone(&env.clock), hub.publisher());
        let store = Store::open(db, clock, config.store, publish, &env.tasks).await?;
        let marker = Arc::new(Marker::new(store.clone(), receipts(hub.clone())));
        let filters = Filters::new(store.db().clone());
        let hook = config.hook.map(|options| Arc::new(Hook::new(options)) as _);
        let screens = Screens { filter: Arc::new(filters.clone()), hook };
        let on_read = Arc::clone(&marker) as _;
        let messages = Messages::new(store.clone(), screens, on_read, ON_DELETE);
        let inbox = Inbox::new(store.clone());
        let attachments = config.blobs.map(|blobs| Attachments::new(store.clone(), blobs));
        let env = env.clone();
        Ok(Self { store, messages, filters, marker, inbox, attachments, hub, pace, env })
    }

    /// What users, backends and operators call, once the auth layer has verified them.
    pub fn public(&self) -> Served {
        let Self { store, messages, marker, inbox, attachments, hub, pace, env, .. } = self.clone();
        let stream = StreamGrpc::new(hub.clone(), env.draining.clone()).into_server();
        let attachments = AttachmentGrpc::new(attachments, env.clock, env.draining.clone());
        public![
            AttachmentServiceServer::new(attachments),
            MessageServiceServer::new(MessageGrpc::new(messages, pace, env.draining)),
            MarkServiceServer::new(MarkGrpc::new(marker)),
            InboxServiceServer::new(InboxGrpc::new(inbox)),
            HideServiceServer::new(HideGrpc::new(self.hider(), hub.clone())),
            HistoryServiceServer::new(HistoryGrpc::new(History::new(store.clone()))),
            MentionServiceServer::new(MentionGrpc::new(Mentioning::new(store.clone()))),
            ThreadServiceServer::new(ThreadGrpc::new(Threads::new(store.clone()))),
            PinServiceServer::new(PinGrpc::new(Pins::new(store.clone()))),
            ReactionServiceServer::new(ReactionGrpc::new(Reactions::new(store.clone()))),
            NoticeServiceServer::new(NoticeGrpc::new(Notices::new(store.clone(), hub.clone()))),
            OperatorServiceServer::new(OperatorGrpc::new(hub, store, env.tasks)),
        ]
        .with(stream.max_decoding_message_size(MAX_SUBSCRIBE))
    }

    /// What the services of the suite call.
    pub fn internal(&self) -> Served {
        let Self { store, filters, inbox, hub, .. } = self.clone();
        internal![
            FactServiceServer::new(FactGrpc::new(store.clone())),
            ContentFilterServiceServer::new(ContentFilterGrpc::new(filters)),
            UserLogServiceServer::new(UserLogGrpc::new(inbox)),
            NoticeRelayServiceServer::new(NoticeRelayGrpc::new(store, hub)),
        ]
    }

    /// The logs themselves.
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// The attachments, if there are any.
    pub const fn attachments(&self) -> Option<&Attachments> {
        self.attachments.as_ref()
    }

    /// What the node follows.
    pub const fn hub(&self) -> &Hub {
        &self.hub
    }

    /// What hides rooms and messages from their members.
    pub fn hider(&self) -> Hider {
        Hider::new(self.store.clone())
    }

    /// What deletes messages that have expired.
    pub fn expiries(&self) -> Expiries {
        Expiries::new(self.store.clone(), ON_DELETE)
    }

    /// Starts what runs beside requests.
    pub fn run(&self) {
        let presents = Arc::new(PresentMarks(self.store.clone()));
        self.hub.start(self.store.clone(), presents, &self.env.tasks);
        let store = self.store.clone();
        let empty = move || {
            let store = store.clone();
            async move { store.empty_closed().await }
        };
        self.env.tasks.every("closed rooms", CLOSED, Arc::default(), empty);
        let store = self.store.clone();
        let prune = move || {
            let store = store.clone();
            async move { store.prune(ON_PRUNE).await }
        };
        self.env.tasks.every("pruned logs", PRUNE, Arc::default(), prune);
        let store = self.store.clone();
        let spread = move || {
            let store = store.clone();
            async move { store.spread().await }
        };
        self.env.tasks.every("what is said of users", SPREAD, Arc::default(), spread);
        let reactions = Reactions::new(self.store.clone());
        let sweep = move || {
            let reactions = reactions.clone();
            async move { reactions.sweep().await }
        };
        self.env.tasks.every("reactions that are left", SWEEP, Arc::default(), sweep);
        let hider = self.hider();
        let unhide = move || {
            let hider = hider.clone();
            async move { hider.sweep().await }
        };
        self.env.tasks.every("hidden messages that are left", SWEEP, Arc::default(), unhide);
        let expiries = self.expiries();
        let expire = move || {
            let expiries = expiries.clone();
            async move { expiries.sweep().await }
        };
        self.env.tasks.every("messages that expire", EXPIRE, Arc::default(), expire);
        if let Some(attachments) = self.attachments.clone() {
            let tidy = move || {
                let attachments = attachments.clone();
                async move { attachments.tidy().await }
            };
            self.env.tasks.every("attachments that are gone", TIDY, Arc::default(), tidy);
        }
        if self.store.has_high_water() {
            let store = self.store.clone();
            let beat = move || {
                let store = store.clone();
                async move { store.beat().await }
            };
            self.env.tasks.every("high-water mark", BEAT, Arc::default(), beat);
        }
    }

    /// Lets every write that waits finish; later ones are refused.
    pub async fn close(&self) {
        self.store.close().await;
    }
}
