//! A store over an empty database, and short words for what is done to it.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use parlance_db::{Db, Location};
use parlance_log::{
    Actor, Appended, Applied, Entry, Fact, FactBatch, Options, Priority, Publish, Sent, Store,
};
use parlance_message::inbox::{Unread, UserLog, Walk};
use parlance_message::mark::{Mark, Marker, Marks};
use parlance_message::message::{Content, Deletion, Edit, Edited, Message, Range};
use parlance_message::{Error, MIGRATIONS, inbox, mark, message};
use parlance_proto::message::v1 as pb;
use parlance_rpc::Reason;
use parlance_rpc::Tasks;
use parlance_types::{Clock, LogId, ManualClock, MessageId, RequestId, Seq, TenantId, UserId};

use crate::rooms::{self, plan, updated};

pub(crate) struct World {
    pub(crate) db: Db,
    pub(crate) store: Store,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) published: Arc<Mutex<Vec<Appended>>>,
    /// How often something was published: once for each transaction.
    pub(crate) commits: Arc<AtomicUsize>,
}

pub(crate) fn tenant() -> TenantId {
    TenantId::new("acme")
}

pub(crate) fn user(id: &str) -> UserId {
    UserId::new(id)
}

pub(crate) fn options() -> Options {
    Options { writers: 2, ..Options::default() }
}

/// Another connection to the same database, as another replica would have.
pub(crate) async fn reopen(db: &Db) -> Db {
    match db {
        Db::Sqlite(sqlite) => {
            let path = sqlite.options.get_filename().to_owned();
            Db::open(&Location::Sqlite(path), MIGRATIONS).await.expect("open it again")
        }
        Db::Postgres(_) => db.clone(),
    }
}

impl AsRef<Store> for World {
    fn as_ref(&self) -> &Store {
        &self.store
    }
}

impl World {
    pub(crate) async fn open(db: Db) -> Self {
        Self::with(db, options()).await
    }

    pub(crate) async fn with(db: Db, options: Options) -> Self {
        let clock = Arc::new(ManualClock::at(1_000_000));
        let published = Arc::new(Mutex::new(Vec::new()));
        let commits = Arc::new(AtomicUsize::new(0));
        let (heard, counted) = (published.clone(), commits.clone());
        let publish: Publish = Arc::new(move |appended| {
            heard.lock().expect("a lock").extend(appended);
            counted.fetch_add(1, Ordering::Relaxed);
        });
        let shown: Arc<dyn Clock> = clock.clone();
        let tasks = Tasks::default();
        let store = Store::open(db.clone(), shown, options, publish, &tasks);
        let store = store.await.expect("a store");
        Self { db, store, clock, published, commits }
    }

    /// A group of members; the first one owns it.
    pub(crate) async fn group(&self, room: &str, members: &[&str]) -> LogId {
        plan(room).owned(members).make(self).await.log_id
    }

    pub(crate) async fn fact(
        &self,
        log_id: LogId,
        version: i64,
        effects: pb::Effects,
    ) -> Result<Applied, Error> {
        self.store.apply(facts(log_id, &[(version, effects)])).await
    }

    /// Sends without a request id.
    pub(crate) async fn say(&self, log_id: LogId, sender: &str, text: &str) -> Sent {
        self.append(draft(log_id, sender, None, text)).await.expect("a message")
    }

    pub(crate) async fn send(
        &self,
        log_id: LogId,
        sender: &str,
        request_id: &str,
        text: &str,
    ) -> Result<Sent, Error> {
        self.append(draft(log_id, sender, Some(request_id), text)).await
    }

    pub(crate) async fn edit(
        &self,
        message_id: MessageId,
        editor: &str,
        request_id: &str,
        text: &str,
    ) -> Result<Edited, Error> {
        let edit = Edit {
            actor: actor(editor),
            message_id,
            request: Some(RequestId::new(request_id)).into(),
            content: content(text),
            instead: None,
        };
        self.store.run(edit).await
    }

    pub(crate) async fn append(&self, draft: Draft) -> Result<Sent, Error> {
        self.store.append(draft.entry()).await
    }

    pub(crate) async fn delete(&self, message_id: MessageId, by: &str) -> Result<Seq, Error> {
        self.store.run(Deletion { actor: actor(by), message_id, on_delete: &[] }).await
    }

    pub(crate) async fn mark(
        &self,
        log_id: LogId,
        user_id: &str,
        mark: Mark,
    ) -> Result<Marks, Error> {
        let marker = Marker::new(self.store.clone(), Arc::new(|_| {}));
        marker.raise(log_id, &user(user_id), mark).await
    }

    pub(crate) async fn flag_unread(&self, log_id: LogId, user_id: &str) -> Result<(), Error> {
        mark::store::flag(&self.db, log_id, &user(user_id), self.store.now()).await
    }

    /// A page as `viewer` sees it; nobody sees all.
    pub(crate) async fn page(
        &self,
        log_id: LogId,
        viewer: Option<&str>,
        range: Range,
        limit: usize,
    ) -> Vec<Message> {
        let viewer = viewer.map(user);
        let page = message::store::page(&self.store, log_id, viewer.as_ref(), range, limit);
        let Some((view, mut messages)) = page.await.expect("a page") else { return Vec::new() };
        messages
            .retain(|message| !view.leaves_out(message.message_id.seq, message.sender.as_ref()));
        messages
    }

    pub(crate) async fn user_logs(
        &self,
        tenant_id: &TenantId,
        user_id: &UserId,
        walk: Option<Walk>,
        skip_empty: bool,
        limit: usize,
    ) -> Result<(Vec<UserLog>, Option<Walk>), Error> {
        let filter = inbox::Filter { skip_empty, ..inbox::Filter::default() };
        let at = (&self.db, self.store.now());
        let page = inbox::store::user_logs(at, tenant_id, user_id, walk, &filter, limit);
        page.await.map(|page| (page.logs, page.next))
    }

    pub(crate) async fn unreads(&self, tenant_id: &TenantId, user_id: &UserId) -> Vec<Unread> {
        inbox::store::unread(&self.db, tenant_id, user_id, None).await.expect("counts")
    }

    /// The unread count of a room, which is the same when counted from the events.
    pub(crate) async fn unread(&self, user_id: &str, log_id: LogId) -> Option<i64> {
        let unread = self.unreads(&tenant(), &user(user_id)).await;
        let recounts = inbox::store::recount(&self.db, &tenant(), &user(user_id)).await;
        let recounts = recounts.expect("counts");
        assert_eq!(unread.len(), recounts.len());
        for (unread, recount) in unread.iter().zip(recounts) {
            assert_eq!(unread.log_id, recount.log_id);
            assert_eq!((unread.unread, unread.unread), (recount.reported, recount.counted));
        }
        unread.into_iter().find(|room| room.log_id == log_id).map(|room| room.unread)
    }

    /// One message as it reads now.
    pub(crate) async fn message(&self, message_id: MessageId) -> Option<Message> {
        let MessageId { log_id, seq } = message_id;
        let found = self.page(log_id, None, Range::After(seq - 1), 1).await;
        found.into_iter().find(|message| message.message_id == message_id)
    }

    pub(crate) async fn head(&self, log_id: LogId) -> Seq {
        self.store.view(log_id, None).await.expect("a view").expect("a log").head
    }
}

pub(crate) fn facts(log_id: LogId, effects: &[(i64, pb::Effects)]) -> FactBatch {
    let fact = |(version, effects): &(i64, pb::Effects)| Fact {
        version: *version,
        events: vec![updated(effects.clone())],
        ..Fact::default()
    };
    rooms::facts(tenant(), log_id, effects.iter().map(fact).collect())
}

/// Empty: the system.
pub(crate) fn named(user_id: &str) -> Option<UserId> {
    (!user_id.is_empty()).then(|| user(user_id))
}

pub(crate) fn actor(user_id: &str) -> Actor {
    Actor { tenant_id: tenant(), user: named(user_id) }
}

/// A message that a test sends.
pub(crate) struct Draft {
    log_id: LogId,
    sender: Option<UserId>,
    request_id: Option<RequestId>,
    pub(crate) content: Content,
    pub(crate) uncounted: bool,
    pub(crate) priority: Priority,
}

impl Draft {
    pub(crate) fn entry(self) -> Entry {
        self.entry_of(tenant())
    }

    pub(crate) fn entry_of(self, tenant_id: TenantId) -> Entry {
        let Self { log_id, sender: user, request_id, content, uncounted, priority } = self;
        let (expire_after, origin) = (None, None);
        let draft =
            message::Draft { content, request_id, uncounted, expire_after, origin, priority };
        draft.entry(log_id, Actor { tenant_id, user })
    }
}

pub(crate) fn content(text: &str) -> Content {
    Content::parse(String::new(), text.to_owned(), BTreeMap::new(), None).expect("a content")
}

pub(crate) fn draft(log_id: LogId, sender: &str, request_id: Option<&str>, text: &str) -> Draft {
    Draft {
        log_id,
        sender: named(sender),
        request_id: request_id.map(RequestId::new),
        content: content(text),
        uncounted: false,
        priority: Priority::Normal,
    }
}

/// Asserts that something was refused for a reason.
#[track_caller]
pub(crate) fn refused<T: Debug>(result: Result<T, Error>, reason: Reason) {
    let why = result.expect_err(reason.as_str());
    assert!(matches!(why, Error::Refused(found, _) if found == reason), "{why:?}, not {reason:?}");
}
