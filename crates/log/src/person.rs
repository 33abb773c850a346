//! What holds for a user in every room: until when they are suspended, and whom they blocked.
//!
//! The facts that say so come in order by the user's own log, a head without events. Reads and
//! appends look at nothing but the member's row, as before, so it stands there, too:
//!
//! ```text
//! facts of ann's own log     said: 3   in one transaction, with what they say
//! ann's rows of members      3 3 2 2   follow one by one, each without the lock of a head
//!                            3 3 3 3   spread: 3; only now the facts are answered
//! ```
//!
//! A row is never written over with what is older. Who becomes a member meanwhile gets what
//! was said last: the event that lets them in, or the first contact with a broadcast, locks the
//! same row of `user_heads`.

use std::collections::BTreeSet;
use std::sync::Arc;

use parlance_db::{Conn, Db};
use parlance_types::{LogId, Micros, RoomKind, TenantId, UserId};
use uuid::Uuid;

use crate::{Error, Locked};

/// The kind of a head that is of no room: a user's own log.
pub(crate) const OWN: i16 = 0;

/// Rows of a user that are written before what was said is looked at again.
const ROWS: i64 = 10_000;

/// Users whose rows are behind that are looked for at once.
const USERS: i64 = 100;

/// What a silent fact says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Projection {
    /// Of a direct room: members whom the other one blocked, or unblocked.
    pub peer_blocks: Vec<(UserId, bool)>,
    /// Of a user's own log: until when they are suspended; 0: no longer.
    pub suspended_until: Option<Micros>,
    /// Of a user's own log: whom they blocked, or unblocked.
    pub blocks: Vec<(UserId, bool)>,
    /// Of a direct room: members whose messages the other one no longer sees, or sees again.
    pub hidden_peers: Vec<(UserId, bool)>,
    /// Of a user's own log: whom they blocked so that these are told nothing of it.
    pub hidden: Vec<(UserId, bool)>,
}

/// What was said last of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Person {
    /// How often something was said.
    pub said: i64,
    pub suspended_until: Micros,
    pub blocked: Blocked,
    /// Those of them whose messages are kept from the user in direct rooms, too.
    pub hidden: Blocked,
}

/// Users whom somebody blocked. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blocked(Option<Arc<BTreeSet<String>>>);

impl Blocked {
    /// Whether a user is blocked.
    pub fn has(&self, user_id: &str) -> bool {
        self.0.as_ref().is_some_and(|blocked| blocked.contains(user_id))
    }

    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Who is blocked.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().flat_map(|blocked| blocked.iter().map(String::as_str))
    }
}

impl FromIterator<String> for Blocked {
    fn from_iter<T: IntoIterator<Item = String>>(users: T) -> Self {
        let users: BTreeSet<_> = users.into_iter().collect();
        Self((!users.is_empty()).then(|| Arc::new(users)))
    }
}

parlance_db::row! {
    /// What `user_heads` says of a user.
    struct Saying {
        said: i64,
        spread: i64,
        suspended_until: Micros,
        has_blocks: bool,
    }
}

impl Saying {
    const SELECT: &str = "SELECT said, spread, suspended_until, has_blocks FROM user_heads
                          WHERE tenant_id = $1 AND user_id = $2";
}

/// Notes which members of a direct room may not write to the other one, and whose messages the
/// other one does not see: the streams of these others are among the `users` who are to look at
/// what holds for them.
pub(crate) async fn bar(
    log: &mut Locked<'_>,
    silent: &Projection,
    users: &mut BTreeSet<UserId>,
) -> Result<(), Error> {
    let log_id = log.id;
    let update = "UPDATE members SET peer_blocked = $3 WHERE log_id = $1 AND user_id = $2";
    for (user_id, blocked) in &silent.peer_blocks {
        let update = log.conn().query(update).bind(log_id.0).bind(user_id.as_str());
        update.bind(*blocked).execute().await?;
    }
    if log.row.kind != RoomKind::Direct as i16 {
        return Ok(());
    }
    let update = "UPDATE members SET has_blocks = $3 WHERE log_id = $1 AND user_id <> $2
                  RETURNING user_id";
    for (user_id, hidden) in &silent.hidden_peers {
        let update = log.conn().query(update).bind(log_id.0).bind(user_id.as_str());
        let others: Vec<(String,)> = update.bind(*hidden).fetch_all().await?;
        users.extend(others.into_iter().map(|(other,)| UserId::new(other)));
    }
    Ok(())
}

/// Takes what the facts of a user's own log say, the last of each. Of the user's rows nothing is
/// written yet: see [`spread`].
pub(crate) async fn say(
    conn: &mut Conn,
    tenant_id: &TenantId,
    user_id: &UserId,
    facts: &[&Projection],
) -> Result<(), Error> {
    for fact in facts {
        list(conn, tenant_id, user_id, &fact.blocks, false).await?;
        list(conn, tenant_id, user_id, &fact.hidden, true).await?;
    }
    let any = "SELECT 1 FROM blocks WHERE tenant_id = $1 AND user_id = $2 LIMIT 1";
    let any = conn.query(any).bind(tenant_id.as_str()).bind(user_id.as_str());
    let has_blocks = any.fetch_optional::<(i32,)>().await?.is_some();
    let suspended_until = facts.iter().rev().find_map(|fact| fact.suspended_until);
    let say = "INSERT INTO user_heads
                 (tenant_id, user_id, version, suspended_until, has_blocks, said, spread)
               VALUES ($1, $2, 1, COALESCE($3, 0), $4, 1, 0)
               ON CONFLICT (tenant_id, user_id) DO UPDATE
                 SET version = user_heads.version + 1, said = user_heads.said + 1,
                     suspended_until = COALESCE($3, user_heads.suspended_until),
                     has_blocks = excluded.has_blocks";
    let say = conn.query(say).bind(tenant_id.as_str()).bind(user_id.as_str());
    say.bind(suspended_until).bind(has_blocks).execute().await?;
    Ok(())
}

/// Takes users onto a user's list, or off it.
async fn list(
    conn: &mut Conn,
    tenant_id: &TenantId,
    user_id: &UserId,
    changes: &[(UserId, bool)],
    hidden: bool,
) -> Result<(), Error> {
    let put = "INSERT INTO blocks (tenant_id, user_id, blocked_id, hidden) VALUES ($1, $2, $3, $4)
               ON CONFLICT (tenant_id, user_id, blocked_id) DO UPDATE SET hidden = excluded.hidden";
    let delete = "DELETE FROM blocks WHERE tenant_id = $1 AND user_id = $2 AND blocked_id = $3";
    for (other, blocked) in changes {
        let change = conn.query(if *blocked { put } else { delete });
        let change = change.bind(tenant_id.as_str()).bind(user_id.as_str()).bind(other.as_str());
        if *blocked {
            change.bind(hidden).execute().await?
        } else {
            change.execute().await?
        };
    }
    Ok(())
}

/// Writes what was said of a user to those of their rows that are behind: each in a statement of
/// its own, since many rows locked at once and beside the appends would wait in circles. May run
/// anywhere, and at once.
pub(crate) async fn spread(db: &Db, tenant_id: &TenantId, user_id: &UserId) -> Result<(), Error> {
    let behind = "SELECT log_id FROM members
                  WHERE tenant_id = $1 AND user_id = $2 AND said < $3 LIMIT $4";
    let done = "UPDATE user_heads SET spread = $3
                WHERE tenant_id = $1 AND user_id = $2 AND said = $3";
    loop {
        let saying = db.read(Saying::SELECT).bind(tenant_id.as_str()).bind(user_id.as_str());
        let saying: Option<Saying> = saying.fetch_optional().await?;
        let Some(saying) = saying.filter(|saying| saying.spread < saying.said) else {
            return Ok(());
        };
        let rows = db.read(behind).bind(tenant_id.as_str()).bind(user_id.as_str());
        let rows: Vec<(Uuid,)> = rows.bind(saying.said).bind(ROWS).fetch_all().await?;
        if rows.is_empty() {
            let done = db.write(done).bind(tenant_id.as_str()).bind(user_id.as_str());
            done.bind(saying.said).execute().await?;
        }
        for (log_id,) in rows {
            db.write(WRITE)
                .bind(log_id)
                .bind(user_id.as_str())
                .bind(saying.said)
                .bind(saying.suspended_until)
                .bind(saying.has_blocks)
                .bind(RoomKind::Direct as i16)
                .execute()
                .await?;
        }
    }
}

/// In a direct room the other member alone matters, of whom its own facts tell.
const WRITE: &str = "UPDATE members
                        SET said = $3, suspended_until = $4,
                            has_blocks = CASE WHEN h.kind = $6 THEN members.has_blocks ELSE $5 END
                       FROM heads h
                      WHERE h.log_id = $1 AND members.log_id = $1 AND members.user_id = $2
                        AND members.said < $3";

/// Locks the row of a user, who need not have one yet, and gives what was said of them, if
/// anything was. The last lock that is taken.
pub(crate) async fn lock(
    conn: &mut Conn,
    tenant_id: &TenantId,
    user_id: &UserId,
) -> Result<Option<(String, i64, Micros, bool)>, Error> {
    let lock = "INSERT INTO user_heads (tenant_id, user_id, version) VALUES ($1, $2, 0)
                ON CONFLICT (tenant_id, user_id) DO UPDATE SET version = user_heads.version
                RETURNING user_id, said, suspended_until, has_blocks";
    let lock = conn.query(lock).bind(tenant_id.as_str()).bind(user_id.as_str());
    let told: (String, i64, Micros, bool) = lock.fetch_one().await?;
    Ok(Some(told).filter(|(_, said, ..)| *said > 0))
}

/// Writes what was said of users to the rows that they have just got.
pub(crate) async fn greet(
    conn: &mut Conn,
    log_id: LogId,
    users: &[(String, i64, Micros, bool)],
) -> Result<(), Error> {
    for (user_id, said, suspended_until, has_blocks) in users {
        let write = conn.query(WRITE).bind(log_id.0).bind(user_id.as_str());
        let write = write.bind(*said).bind(*suspended_until).bind(*has_blocks);
        write.bind(RoomKind::Direct as i16).execute().await?;
    }
    Ok(())
}

/// Users of whose rows some are behind.
pub(crate) async fn unspread(db: &Db) -> Result<Vec<(TenantId, UserId)>, Error> {
    let select = "SELECT tenant_id, user_id FROM user_heads WHERE spread < said LIMIT $1";
    let users: Vec<(String, String)> = db.read(select).bind(USERS).fetch_all().await?;
    let user = |(tenant_id, user_id)| (TenantId::new(tenant_id), UserId::new(user_id));
    Ok(users.into_iter().map(user).collect())
}

/// What was said last of a user. The blocks are at least as new as the number says.
pub(crate) async fn person(
    db: &Db,
    tenant_id: &TenantId,
    user_id: &UserId,
) -> Result<Person, Error> {
    let saying = db.read(Saying::SELECT).bind(tenant_id.as_str()).bind(user_id.as_str());
    let Some(saying) = saying.fetch_optional::<Saying>().await? else {
        return Ok(Person::default());
    };
    let mut listed: Vec<(String, bool)> = Vec::new();
    if saying.has_blocks {
        let select = "SELECT blocked_id, hidden FROM blocks WHERE tenant_id = $1 AND user_id = $2";
        let select = db.read(select).bind(tenant_id.as_str()).bind(user_id.as_str());
        listed = select.fetch_all().await?;
    }
    let hidden = listed.iter().filter(|(_, hidden)| *hidden).map(|(user, _)| user.clone());
    Ok(Person {
        said: saying.said,
        suspended_until: saying.suspended_until,
        hidden: hidden.collect(),
        blocked: listed.into_iter().map(|(user, _)| user).collect(),
    })
}

/// Whom a user blocked.
pub async fn blocked(db: &Db, tenant_id: &TenantId, user_id: &UserId) -> Result<Blocked, Error> {
    let select = "SELECT blocked_id FROM blocks WHERE tenant_id = $1 AND user_id = $2";
    let select = db.read(select).bind(tenant_id.as_str()).bind(user_id.as_str());
    let found: Vec<(String,)> = select.fetch_all().await?;
    Ok(found.into_iter().map(|(blocked,)| blocked).collect())
}
