//! What changes a log in a transaction of several statements.

use parlance_db::Conn;
use parlance_types::{LogId, Micros};

use crate::write::Who;
use crate::{Actor, Appended, Error, Locked};

/// A change of a log that exists: a noun's rule and its SQL, run under the log's lock.
pub trait Change: Send + Sync + 'static {
    /// What came of it.
    type Done: Send + Sync + 'static;

    /// The log. Where it does not exist, or is of another tenant than the actor, a message of
    /// it is not found.
    fn log_id(&self) -> LogId;

    /// Whose rights count.
    fn actor(&self) -> &Actor;

    /// Judges and carries out the change. May run twice: if it is not known whether the
    /// first run was committed, the second one must find that it was.
    ///
    /// Changes share a transaction, each judged by what the one before it left. So of what
    /// others may lock, too, this locks nothing but the log, and the rows of members that
    /// [`Locked::view`] holds. What it refuses it refuses before it has written anything; what it refuses after its event was appended is rolled back.
    fn run(&self, log: &mut Locked<'_>) -> impl Future<Output = Result<Self::Done, Error>> + Send;
}

/// What a writer runs between BEGIN and COMMIT.
pub(crate) trait Transaction: Send + Sync + 'static {
    type Done: Send + Sync + 'static;

    /// Whether it may share a transaction with others; see [`Change::run`].
    const SHARES: bool;

    fn log(&self) -> LogId;

    /// Whose turn it takes.
    fn who(&self) -> Who;

    /// What fails is rolled back, with all that shares the transaction.
    fn execute(
        &self,
        conn: &mut Conn,
        now: Micros,
    ) -> impl Future<Output = Result<Executed<Self::Done>, Error>> + Send;
}

/// What a transaction came to.
#[derive(Debug)]
pub(crate) struct Executed<D> {
    /// Or why it was refused; then nothing was written.
    pub(crate) done: Result<D, Error>,
    pub(crate) appended: Option<Appended>,
    /// Whether the log is closed now.
    pub(crate) closed: bool,
}

impl<C: Change> Transaction for C {
    type Done = <C as Change>::Done;

    const SHARES: bool = true;

    fn log(&self) -> LogId {
        self.log_id()
    }

    fn who(&self) -> Who {
        Who::from(self.actor())
    }

    async fn execute(
        &self,
        conn: &mut Conn,
        now: Micros,
    ) -> Result<Executed<<C as Change>::Done>, Error> {
        let refused = |refused| Executed { done: Err(refused), appended: None, closed: false };
        let log = Locked::lock(conn, self.log_id(), Some(&self.actor().tenant_id), now).await?;
        let Some(mut log) = log else { return Ok(refused(Error::message_not_found())) };
        let done = match self.run(&mut log).await {
            Err(error) if error.is_refusal() && !log.has_appended() => return Ok(refused(error)),
            done => Ok(done?),
        };
        let appended = if log.has_appended() { log.save(Vec::new()).await? } else { None };
        Ok(Executed { done, appended, closed: false })
    }
}
