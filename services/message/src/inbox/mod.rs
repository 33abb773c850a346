//! A user's inbox: what is unread, and the rooms by activity.

pub mod grpc;
pub mod store;
mod walk;

pub use self::walk::Walk;

use std::collections::HashMap;

use parlance_db::Db;
use parlance_log::{Error, Role, Stands, Store};
use parlance_types::{LogId, Micros, RoomId, Seq, TenantId, UserId};

use crate::message::Message;

/// What a member has not read in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    pub log_id: LogId,
    pub room_id: RoomId,
    pub unread: i64,
    /// How many of these mention the member; 100 if there are more.
    pub mentions: i64,
    /// Whether the member hid the room.
    pub hidden: bool,
    pub marked_unread: bool,
    pub read: Seq,
    /// Until when the member is suspended; it may be over.
    pub suspended_until: Micros,
    /// Where the log stood.
    pub stands: Stands,
}

/// A member's unread count beside the one that the events give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recount {
    pub log_id: LogId,
    pub room_id: RoomId,
    /// Whether the member hid the room: then it is not in the total.
    pub hidden: bool,
    /// Until when the member is suspended; it may be over.
    pub suspended_until: Micros,
    /// What [`Inbox::unread`] gives.
    pub reported: i64,
    /// What the events give.
    pub counted: i64,
}

/// What a recount of a user's unread messages found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recounted {
    pub rooms: usize,
    pub total: i64,
    /// Rooms whose count is not what their log says.
    pub differences: Vec<Recount>,
}

/// A log, as one of its members sees it in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserLog {
    pub unread: Unread,
    pub role: Role,
    pub last_message: Option<Message>,
    pub activity: Micros,
}

/// Which logs of a user are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Logs without a message to show are not.
    pub skip_empty: bool,
    /// Kinds of rooms, each the bit of its number.
    pub kinds: i64,
    /// Roles of the user, each the bit of its number.
    pub roles: i64,
    /// Only logs with something unread, or flagged so.
    pub unread_only: bool,
    /// Only logs with activity since then.
    pub since: Micros,
}

/// One page of a user's logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing<P> {
    pub logs: Vec<UserLog>,
    /// Where to go on; `None`: nowhere.
    pub next: Option<P>,
    /// How many logs there are, if this is the first page.
    pub total: Option<i64>,
}

impl Default for Filter {
    /// Every log.
    fn default() -> Self {
        Self { skip_empty: false, kinds: -1, roles: -1, unread_only: false, since: i64::MIN }
    }
}

/// The inboxes of all users. What is about all of a user's rooms is a contact with the
/// broadcasts among them.
#[derive(Clone, Debug)]
pub struct Inbox {
    store: Store,
}

impl Inbox {
    pub const fn new(store: Store) -> Self {
        Self { store }
    }

    /// What a user has not read: in those of `rooms` the user is in, in the order
    /// asked for, and in total over all rooms that are not hidden or, to spare what these
    /// cost, over those.
    pub async fn unread(
        &self,
        tenant_id: &TenantId,
        user: &UserId,
        rooms: &[RoomId],
        these_only: bool,
    ) -> Result<(Vec<Unread>, i64), Error> {
        self.store.make_contacts(tenant_id, user).await?;
        let only =
            if these_only { Some(self.store.resolve_all(tenant_id, rooms).await?) } else { None };
        let all = store::unread(self.store.db(), tenant_id, user, only.as_deref()).await?;
        self.admit(all.iter().map(|room| room.suspended_until))?;
        let in_total = |room: &&Unread| these_only || !room.hidden;
        let total = all.iter().filter(in_total).map(|room| room.unread).sum();
        let by_id: HashMap<_, _> = all.iter().map(|room| (&room.room_id, room)).collect();
        let asked = rooms.iter().filter_map(|room| by_id.get(room).copied().cloned()).collect();
        Ok((asked, total))
    }

    /// Counts a user's unread messages again, from the logs themselves.
    pub async fn recount(&self, tenant_id: &TenantId, user: &UserId) -> Result<Recounted, Error> {
        self.store.make_contacts(tenant_id, user).await?;
        let mut found = Recounted::default();
        let rooms = store::recount(self.store.db(), tenant_id, user).await?;
        self.admit(rooms.iter().map(|room| room.suspended_until))?;
        for room in rooms {
            found.rooms += 1;
            found.total += if room.hidden { 0 } else { room.counted };
            if room.counted != room.reported {
                found.differences.push(room);
            }
        }
        Ok(found)
    }

    /// One page of a user's logs, latest activity first, and where to go on: down, then
    /// once more up through the logs that moved meanwhile. A log that moved may come twice,
    /// none is missed.
    pub async fn logs(
        &self,
        tenant_id: &TenantId,
        user: &UserId,
        walk: Option<Walk>,
        filter: &Filter,
        limit: usize,
    ) -> Result<Listing<Walk>, Error> {
        self.store.make_contacts(tenant_id, user).await?;
        let page = store::user_logs(self.at(), tenant_id, user, walk, filter, limit).await?;
        self.admit_all(&page.logs)?;
        Ok(page)
    }

    /// One page of a user's logs by when they were made, the newest first.
    pub async fn logs_by_creation(
        &self,
        tenant_id: &TenantId,
        user: &UserId,
        after: Option<LogId>,
        filter: &Filter,
        limit: usize,
    ) -> Result<Listing<LogId>, Error> {
        self.store.make_contacts(tenant_id, user).await?;
        let page = store::by_creation(self.at(), tenant_id, user, after, filter, limit);
        let page = page.await?;
        self.admit_all(&page.logs)?;
        Ok(page)
    }

    /// Those of some logs that a user is in, in order of their ids.
    pub async fn logs_named(
        &self,
        tenant_id: &TenantId,
        user: &UserId,
        logs: &[LogId],
    ) -> Result<Vec<UserLog>, Error> {
        let logs = store::named(self.at(), tenant_id, user, logs).await?;
        self.admit_all(&logs)?;
        Ok(logs)
    }

    /// The ids of a user's logs, of more than `limit` those that were made last.
    pub async fn log_ids(
        &self,
        tenant_id: &TenantId,
        user: &UserId,
        filter: &Filter,
        limit: usize,
    ) -> Result<Vec<LogId>, Error> {
        self.store.make_contacts(tenant_id, user).await?;
        let (ids, suspended_until) = store::ids(self.at(), tenant_id, user, filter, limit).await?;
        self.admit(suspended_until)?;
        Ok(ids)
    }

    /// The database, and the time as of which it is read.
    fn at(&self) -> (&Db, Micros) {
        (self.store.db(), self.store.now())
    }

    /// Refuses a user who is suspended: each row of theirs says so.
    fn admit(&self, suspended_until: impl IntoIterator<Item = Micros>) -> Result<(), Error> {
        let now = self.store.now();
        match suspended_until.into_iter().find(|until| *until > now) {
            Some(until) => Err(Error::Suspended { until }),
            None => Ok(()),
        }
    }

    fn admit_all(&self, logs: &[UserLog]) -> Result<(), Error> {
        self.admit(logs.iter().map(|log| log.unread.suspended_until))
    }
}
