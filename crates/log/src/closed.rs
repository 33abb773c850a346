//! What a log that was closed leaves behind: memberships, which end afterwards in bounded
//! steps, so that neither the closing nor the lists of its members' rooms cost with them.

use parlance_db::{Conn, Db};
use parlance_types::{LogId, Micros, Seq, TenantId};
use uuid::Uuid;

use crate::change::{Executed, Transaction};
use crate::write::{Party, Who};
use crate::{Error, head, hidden};

/// How many closed logs are looked for at once.
const LOGS: i64 = 100;

/// How many memberships end in one step.
const STEP: i64 = 1000;

/// Closed logs that may still have members.
pub(crate) async fn peopled(db: &Db) -> Result<Vec<(TenantId, LogId)>, Error> {
    let select = "SELECT tenant_id, log_id FROM heads
                  WHERE closed_seq IS NOT NULL AND peopled LIMIT $1";
    let logs: Vec<(String, Uuid)> = db.read(select).bind(LOGS).fetch_all().await?;
    let log = |(tenant_id, log_id)| (TenantId::new(tenant_id), LogId(log_id));
    Ok(logs.into_iter().map(log).collect())
}

/// Ends some memberships of a closed log.
#[derive(Debug)]
pub(crate) struct Emptying {
    pub(crate) tenant_id: TenantId,
    pub(crate) log_id: LogId,
    /// Where the step before ended, in order of user.
    pub(crate) after: String,
}

impl Transaction for Emptying {
    /// Where the step ended, if there may be more.
    type Done = Option<String>;

    /// It is as much work as a step may be.
    const SHARES: bool = false;

    fn log(&self) -> LogId {
        self.log_id
    }

    fn who(&self) -> Who {
        Who { tenant_id: self.tenant_id.clone(), party: Party::Suite }
    }

    async fn execute(
        &self,
        conn: &mut Conn,
        _now: Micros,
    ) -> Result<Executed<Option<String>>, Error> {
        let row = head::lock(conn, self.log_id, None).await?;
        let closed = row.is_some_and(|row| row.closed_seq.is_some());
        let done = if closed { self.step(conn).await? } else { None };
        Ok(Executed { done: Ok(done), appended: None, closed: false })
    }
}

impl Emptying {
    async fn step(&self, conn: &mut Conn) -> Result<Option<String>, Error> {
        let select = "SELECT user_id FROM members
                      WHERE log_id = $1 AND user_id > $2
                      ORDER BY user_id LIMIT 1 OFFSET $3";
        let select = conn.query(select).bind(self.log_id.0).bind(&self.after).bind(STEP - 1);
        let last: Option<(String,)> = select.fetch_optional().await?;
        let last = last.map(|(last,)| last);
        let select = "SELECT user_id, joined_seq FROM members
                       WHERE log_id = $1 AND user_id > $2 AND ($3 IS NULL OR user_id <= $3)
                         AND has_hidden";
        let hid = conn.query(select).bind(self.log_id.0).bind(&self.after);
        let hid: Vec<(String, Seq)> = hid.bind(last.as_deref()).fetch_all().await?;
        hidden::remain(conn, self.log_id, hid).await?;
        let delete = "DELETE FROM members WHERE log_id = $1 AND user_id > $2
                         AND ($3 IS NULL OR user_id <= $3)";
        let delete = conn.query(delete).bind(self.log_id.0).bind(&self.after);
        delete.bind(last.as_deref()).execute().await?;
        if last.is_none() {
            let update = "UPDATE heads SET peopled = FALSE WHERE log_id = $1";
            conn.query(update).bind(self.log_id.0).execute().await?;
        }
        Ok(last)
    }
}
