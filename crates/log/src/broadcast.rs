//! Broadcasts: logs that every user of a tenant is in.
//!
//! Nobody has a row of members there until something must be kept of them. The first contact
//! makes it, and from then on every statement finds a member like any other:
//!
//! ```text
//! events        1 created   2 "hello"   3 "maintenance tonight"   4 "done"
//! ann lists her rooms here ...^         joined 1, read up to 2: she has 2 unread now
//! bob marks the room as read here ..............................^ joined 1, read up to 4
//! eve has not called yet: no row, and nothing unread
//! ```

use futures::future::join_all;
use parlance_db::Conn;
use parlance_types::{LogId, Micros, Role, RoomKind, TenantId, UserId};
use uuid::Uuid;

use crate::change::{Executed, Transaction};
use crate::head::{self, HeadRow};
use crate::write::{Party, Who};
use crate::{Actor, Error, Locked, Store, View, person};

/// Makes a log that begins one of its tenant's broadcasts, if it is of that kind; says so.
pub(crate) async fn open(log: &mut Locked<'_>) -> Result<bool, Error> {
    if !is_one(log) {
        return Ok(false);
    }
    let (log_id, now, tenant_id) = (log.id, log.now(), log.row.tenant_id.clone());
    let insert = "INSERT INTO broadcasts (tenant_id, log_id, begun) VALUES ($1, $2, $3)";
    let insert = log.conn().query(insert).bind(tenant_id).bind(log_id.0).bind(now);
    insert.execute().await?;
    Ok(true)
}

/// Makes a log that ends none of its tenant's broadcasts any more.
pub(crate) async fn close(log: &mut Locked<'_>) -> Result<(), Error> {
    if is_one(log) {
        let (log_id, tenant_id) = (log.id, log.row.tenant_id.clone());
        let delete = "DELETE FROM broadcasts WHERE tenant_id = $1 AND log_id = $2";
        log.conn().query(delete).bind(tenant_id).bind(log_id.0).execute().await?;
    }
    Ok(())
}

fn is_one(log: &Locked<'_>) -> bool {
    log.row.kind == RoomKind::Broadcast as i16
}

/// A user's first contact with a broadcast. Once made it has no effect.
#[derive(Clone, Debug)]
struct Contact {
    tenant_id: TenantId,
    user: UserId,
    log_id: LogId,
}

impl Transaction for Contact {
    type Done = ();

    /// It locks the row of the user, which is the last that is locked.
    const SHARES: bool = false;

    fn log(&self) -> LogId {
        self.log_id
    }

    fn who(&self) -> Who {
        Who { tenant_id: self.tenant_id.clone(), party: Party::User(self.user.clone()) }
    }

    /// Under the lock of the head: the mark stands where the log does, and a log that is
    /// closed gets no more members than are let go of.
    async fn execute(&self, conn: &mut Conn, _now: Micros) -> Result<Executed<()>, Error> {
        // What was closed or purged meanwhile is met no more.
        if let Some(head) = head::lock(conn, self.log_id, Some(&self.tenant_id)).await?
            && self.insert(conn, &head).await?
        {
            let said = person::lock(conn, &self.tenant_id, &self.user).await?;
            person::greet(conn, self.log_id, said.as_slice()).await?;
        }
        Ok(Executed { done: Ok(()), appended: None, closed: false })
    }
}

impl Contact {
    /// Makes the user a member; says whether they were none.
    async fn insert(&self, conn: &mut Conn, head: &HeadRow) -> Result<bool, Error> {
        let select = "SELECT begun FROM broadcasts WHERE tenant_id = $1 AND log_id = $2";
        let select = conn.query(select).bind(self.tenant_id.as_str()).bind(self.log_id.0);
        let Some((begun,)) = select.fetch_optional::<(Micros,)>().await? else {
            return Ok(false);
        };
        let insert = "
            INSERT INTO members (log_id, user_id, tenant_id, role, joined_seq, joined_time,
                                 read_seq, read_ord, delivered_seq, marked_unread)
            VALUES ($1, $2, $3, $4, 1, $5, $6, $7, $6, FALSE)
            ON CONFLICT (log_id, user_id) DO NOTHING";
        let insert = conn.query(insert).bind(self.log_id.0).bind(self.user.as_str());
        let insert = insert.bind(self.tenant_id.as_str()).bind(Role::Member as i16).bind(begun);
        Ok(insert.bind(head.head).bind(head.ord).execute().await? > 0)
    }
}

impl Store {
    /// Makes the first contact of the actor whose view it is, if they are a stranger to a
    /// broadcast of their tenant; says whether the view is another by now.
    pub async fn make_contact(&self, actor: &Actor, view: &View) -> Result<bool, Error> {
        let theirs = view.kind == RoomKind::Broadcast && view.tenant_id == actor.tenant_id;
        let stranger = actor.user.as_ref().filter(|_| view.member.is_none());
        let Some(user) = stranger.filter(|_| theirs && view.closed.is_none()) else {
            return Ok(false);
        };
        self.contact(&actor.tenant_id, user, view.log_id).await?;
        Ok(true)
    }

    /// Makes a user's first contacts with those broadcasts of their tenant that they have
    /// none with: to be called before what is about all of a user's logs. For a tenant
    /// without broadcasts it is one look into an index.
    pub async fn make_contacts(&self, tenant_id: &TenantId, user: &UserId) -> Result<(), Error> {
        let select = "SELECT log_id FROM broadcasts WHERE tenant_id = $1";
        let open = self.db().read(select).bind(tenant_id.as_str());
        let open: Vec<(Uuid,)> = open.fetch_all().await?;
        if open.is_empty() {
            return Ok(());
        }
        let select = "SELECT log_id FROM members WHERE user_id = $1 AND log_id IN ($2..)";
        let known = self.db().read(select).bind(user.as_str());
        let known = known.bind_list(open.iter().map(|(log_id,)| *log_id));
        let known: Vec<(Uuid,)> = known.fetch_all().await?;
        let new = open.into_iter().filter(|log| !known.contains(log));
        let contacts = new.map(|(log_id,)| self.contact(tenant_id, user, LogId(log_id)));
        join_all(contacts).await.into_iter().collect()
    }

    async fn contact(
        &self,
        tenant_id: &TenantId,
        user: &UserId,
        log_id: LogId,
    ) -> Result<(), Error> {
        let (tenant_id, user) = (tenant_id.clone(), user.clone());
        self.run_alone(Contact { tenant_id, user, log_id }).await
    }
}
