//! What holds for all rooms of a tenant together.

use std::collections::BTreeMap;

use parlance_db::{Conn, StoreError};
use parlance_types::{LogId, Micros, RoomKind, TenantId};

use super::Store;
use crate::Error;
use crate::room::row::allowed;
use crate::room::{Limits, OfTenant, Room, State, TenantRules, Use};

/// The most broadcasts of a tenant: each list of a user's rooms looks at all of them.
const MAX_BROADCASTS: i64 = 20;

/// How long after a limit was set rooms are counted once more: longer than anybody takes to make
/// or delete one.
const UNCOUNTED: Micros = 60_000_000;

const _: () = assert!(RoomKind::Broadcast as i16 == 4);

parlance_db::row! {
    /// The settings of a tenant, as they are stored.
    pub(crate) struct TenantRow {
        /// The names of the fields that rooms may have.
        pub(crate) allowed_fields: String,
        pub(crate) version: i64,
        pub(crate) block_policy: i16,
        max_rooms: Option<i64>,
        max_live_rooms: Option<i64>,
        max_members: Option<i32>,
        max_users: Option<i64>,
        max_live_rooms_per_user: Option<i32>,
        retention: i64,
        rooms: Option<i64>,
        live_rooms: Option<i64>,
    }
}

impl TenantRow {
    pub(crate) const fn limits(&self) -> Limits {
        Limits {
            rooms: self.max_rooms,
            live_rooms: self.max_live_rooms,
            members: self.max_members,
            users: self.max_users,
        }
    }

    pub(crate) fn rules(&self) -> TenantRules {
        TenantRules::stored(self.max_live_rooms_per_user, Some(self.retention))
    }

    /// How many rooms there are, if they are counted.
    pub(crate) fn used(&self) -> Option<Use> {
        Some(Use { rooms: self.rooms?, live_rooms: self.live_rooms? })
    }
}

/// The columns of [`TenantRow`].
macro_rules! columns {
    () => {
        "allowed_fields, version, block_policy, max_rooms, max_live_rooms, max_members, max_users,
         max_live_rooms_per_user, retention, rooms, live_rooms"
    };
}
pub(crate) const SETTINGS: &str =
    concat!("SELECT ", columns!(), " FROM tenant_settings WHERE tenant_id = $1");

/// Locks the settings of a tenant until the transaction ends. From now on there is a row of them.
/// Rooms are locked first.
pub(crate) async fn lock_tenant(
    tx: &mut Conn,
    tenant_id: &TenantId,
) -> Result<TenantRow, StoreError> {
    let lock = concat!(
        "INSERT INTO tenant_settings (tenant_id, allowed_fields, version)
         VALUES ($1, '{}', 0)
         ON CONFLICT (tenant_id) DO UPDATE SET version = tenant_settings.version
         RETURNING ",
        columns!()
    );
    tx.query(lock).bind(tenant_id.as_str()).fetch_one().await
}

/// Counts the rooms of a tenant whose settings are locked.
async fn count(
    tx: &mut Conn,
    tenant_id: &TenantId,
    again: Option<Micros>,
) -> Result<(), StoreError> {
    let count = concat!(
        "UPDATE tenant_settings SET recount_time = $2,
                rooms = (SELECT COUNT(*) FROM rooms WHERE tenant_id = $1 AND ",
        held!(),
        "), live_rooms = (SELECT COUNT(*) FROM rooms WHERE tenant_id = $1 AND kind = $3 AND ",
        held!(),
        ") WHERE tenant_id = $1"
    );
    let count = tx.query(count).bind(tenant_id.as_str()).bind(again);
    count.bind(RoomKind::Live as i16).execute().await.map(drop)
}

/// Sets the limits of a tenant whose settings are locked.
pub(crate) async fn limit(
    tx: &mut Conn,
    tenant_id: &TenantId,
    (before, limits): (Limits, Limits),
    now: Micros,
) -> Result<(), StoreError> {
    let set = "UPDATE tenant_settings SET max_rooms = $2, max_live_rooms = $3, max_members = $4,
                      max_users = $5
                WHERE tenant_id = $1";
    let set = tx.query(set).bind(tenant_id.as_str()).bind(limits.rooms);
    let set = set.bind(limits.live_rooms).bind(limits.members).bind(limits.users);
    set.execute().await?;
    match (before.count(), limits.count()) {
        (false, true) => count(tx, tenant_id, Some(now.saturating_add(UNCOUNTED))).await,
        (true, false) => {
            let forget = "UPDATE tenant_settings
                             SET rooms = NULL, live_rooms = NULL, recount_time = NULL
                           WHERE tenant_id = $1";
            tx.query(forget).bind(tenant_id.as_str()).execute().await.map(drop)
        }
        _ => Ok(()),
    }
}

/// Counts so many rooms of a tenant more, or fewer, if their number is limited. If not, nothing
/// is locked.
async fn counted(
    tx: &mut Conn,
    tenant_id: &TenantId,
    more: Use,
) -> Result<Option<TenantRow>, StoreError> {
    let count = concat!(
        "UPDATE tenant_settings SET rooms = rooms + $2, live_rooms = live_rooms + $3
          WHERE tenant_id = $1 AND (max_rooms IS NOT NULL OR max_live_rooms IS NOT NULL)
         RETURNING ",
        columns!()
    );
    let count = tx.query(count).bind(tenant_id.as_str()).bind(more.rooms);
    count.bind(more.live_rooms).fetch_optional().await
}

/// Fails if a room, which was inserted, is one more than its tenant may have.
pub(super) async fn admit(tx: &mut Conn, room: &Room) -> Result<(), Error> {
    let more = Use { rooms: 1, live_rooms: i64::from(room.kind == RoomKind::Live) };
    if let Some(row) = counted(tx, &room.tenant_id, more).await?
        && let Some(used) = row.used()
    {
        row.limits().judge(room.kind, used)?;
    }
    if room.kind != RoomKind::Broadcast {
        return Ok(());
    }
    // They are made one after the other.
    lock_tenant(tx, &room.tenant_id).await?;
    // Not bound: an index holds these rooms only.
    let count =
        concat!("SELECT COUNT(*) FROM rooms WHERE tenant_id = $1 AND kind = 4 AND ", held!());
    let (broadcasts,): (i64,) = tx.query(count).bind(room.tenant_id.as_str()).fetch_one().await?;
    if broadcasts <= MAX_BROADCASTS { Ok(()) } else { Err(Error::TooManyBroadcasts) }
}

/// Counts off rooms that no longer hold their ids: of which tenants and kinds they were.
pub(super) async fn release(tx: &mut Conn, rooms: Vec<(String, i16)>) -> Result<(), StoreError> {
    // In one order, since two who release rooms of several tenants would wait in circles.
    let mut tenants = BTreeMap::new();
    for (tenant_id, kind) in rooms {
        let fewer = tenants.entry(tenant_id).or_insert(Use { rooms: 0, live_rooms: 0 });
        fewer.rooms -= 1;
        fewer.live_rooms -= i64::from(kind == RoomKind::Live as i16);
    }
    for (tenant_id, fewer) in tenants {
        counted(tx, &TenantId::new(tenant_id), fewer).await?;
    }
    Ok(())
}

impl Store {
    /// What rooms of a tenant have to keep to.
    pub(crate) async fn of_tenant(&self, tenant_id: &TenantId) -> Result<OfTenant, Error> {
        let settings = self.db.read(SETTINGS).bind(tenant_id.as_str());
        let found: Option<TenantRow> = settings.fetch_optional().await?;
        let Some(row) = found else { return Ok(OfTenant::default()) };
        let allowed_fields = allowed(Some(&row.allowed_fields))?;
        Ok(OfTenant { allowed_fields, limits: row.limits(), rules: row.rules() })
    }

    /// Counts once more where a limit was set a minute ago.
    pub(crate) async fn recount(&self, now: Micros) -> Result<(), Error> {
        let due = "SELECT tenant_id FROM tenant_settings WHERE recount_time <= $1 LIMIT 10";
        let due: Vec<(String,)> = self.db.read(due).bind(now).fetch_all().await?;
        for (tenant_id,) in due {
            let tenant_id = TenantId::new(tenant_id);
            let mut tx = self.db.begin().await?;
            if lock_tenant(&mut tx, &tenant_id).await?.limits().count() {
                count(&mut tx, &tenant_id, None).await?;
            }
            tx.commit().await?;
        }
        Ok(())
    }

    /// `deleting` → `deleted`. One that never was stays `abandoned`, so that whoever
    /// still drives its creation learns that. Nothing is left to do for either.
    pub(crate) async fn bury(&self, log_id: LogId) -> Result<(), Error> {
        let bury = "UPDATE rooms SET state = CASE WHEN state = $2 THEN $3 ELSE state END,
                           due_time = NULL
                     WHERE log_id = $1 AND state IN ($2, $4) RETURNING tenant_id, kind, state";
        let mut tx = self.db.begin().await?;
        let bury = tx.query(bury).bind(log_id.0).bind(State::Deleting as i16);
        let bury = bury.bind(State::Deleted as i16).bind(State::Abandoned as i16);
        let mut buried: Vec<(String, i16, i16)> = bury.fetch_all().await?;
        // One that was given up was counted off then.
        buried.retain(|(.., state)| *state == State::Deleted as i16);
        let buried = buried.into_iter().map(|(tenant_id, kind, _)| (tenant_id, kind)).collect();
        release(&mut tx, buried).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Notes that live rooms have ended by themselves.
    pub(crate) async fn note_ended(&self, ended: &[LogId], now: Micros) -> Result<(), Error> {
        let note = concat!(
            "UPDATE rooms SET state = $1, due_time = NULL, update_time = $2
              WHERE kind = $3 AND log_id IN ($4..) AND ",
            held!(),
            " RETURNING tenant_id, kind"
        );
        let mut tx = self.db.begin().await?;
        let note = tx.query(note).bind(State::Deleted as i16).bind(now);
        let note = note.bind(RoomKind::Live as i16);
        let noted = note.bind_list(ended.iter().map(|log_id| log_id.0)).fetch_all().await?;
        release(&mut tx, noted).await?;
        tx.commit().await?;
        Ok(())
    }
}
