//! What changes a log alone, in a transaction of its own.

use parlance_db::Conn;
use parlance_types::{LogId, Micros, TenantId};

use crate::{Appended, Error, Locked};

/// A change of a log that exists: a noun's rule and its SQL, run under the log's lock.
pub trait Change: Send + Sync + 'static {
    /// What came of it.
    type Done: Send + 'static;

    /// The log. Where it does not exist, or is of another tenant, a message of it is not
    /// found.
    fn log_id(&self) -> LogId;

    fn tenant_id(&self) -> &TenantId;

    /// Judges and carries out the change. May run twice: if it is not known whether the
    /// first run was committed, the second one must find that it was.
    fn run(&self, log: &mut Locked<'_>) -> impl Future<Output = Result<Self::Done, Error>> + Send;
}

/// What a writer runs between BEGIN and COMMIT.
pub(crate) trait Transaction: Send + Sync + 'static {
    type Done: Send + 'static;

    fn log(&self) -> LogId;

    fn execute(
        &self,
        conn: &mut Conn,
        now: Micros,
    ) -> impl Future<Output = Result<Executed<Self::Done>, Error>> + Send;
}

/// What a transaction came to.
#[derive(Debug)]
pub(crate) struct Executed<D> {
    pub(crate) done: D,
    pub(crate) appended: Option<Appended>,
    /// Whether the log is closed now.
    pub(crate) closed: bool,
}

impl<C: Change> Transaction for C {
    type Done = <C as Change>::Done;

    fn log(&self) -> LogId {
        self.log_id()
    }

    async fn execute(
        &self,
        conn: &mut Conn,
        now: Micros,
    ) -> Result<Executed<<C as Change>::Done>, Error> {
        let log = Locked::lock(conn, self.log_id(), Some(self.tenant_id()), now).await?;
        let mut log = log.ok_or(Error::message_not_found())?;
        let done = self.run(&mut log).await?;
        let appended = if log.has_appended() { log.save(Vec::new()).await? } else { None };
        Ok(Executed { done, appended, closed: false })
    }
}
