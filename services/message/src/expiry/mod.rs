//! Messages that expire: from then on they are shown to nobody, and soon they are deleted.
//!
//! Who reads looks at the time alone, so that nobody waits for the deletion:
//!
//! ```text
//! time      0 s: sent, for 60 s     60 s                    61 s: a janitor looks
//! readers   the content             no content              no content: it is deleted
//! the log   message_sent                                    message_deleted, expired
//! ```

mod store;

use parlance_log::{Actor, Error, Store};
use parlance_rpc::Reason;
use parlance_types::LogId;

use crate::message::OnDelete;

/// How many logs are looked for at once.
const LOGS: usize = 100;

/// Steps in one log before others have their turn, and how often it is looked for logs.
const STEPS: usize = 20;

/// A step of deleting what has expired in one log.
#[derive(Clone, Debug)]
struct Expiring {
    /// Nobody, of the log's tenant.
    actor: Actor,
    log_id: LogId,
    on_delete: OnDelete,
}

/// Deletes what has expired.
#[derive(Clone, Debug)]
pub struct Expiries {
    store: Store,
    on_delete: OnDelete,
}

impl Expiries {
    pub const fn new(store: Store, on_delete: OnDelete) -> Self {
        Self { store, on_delete }
    }

    /// Deletes the messages of all logs that have expired by now. To be called every second;
    /// every replica may, and at once.
    pub async fn sweep(&self) -> Result<(), Error> {
        let mut failed = None;
        for _ in 0..STEPS {
            let due = store::due(self.store.db(), self.store.now()).await?;
            let all = due.len() < LOGS;
            for (actor, log_id) in due {
                // One log that fails holds up no other.
                if let Err(error) = self.sweep_log(&actor, log_id).await {
                    failed.get_or_insert(error);
                }
            }
            if all || failed.is_some() {
                break;
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn sweep_log(&self, actor: &Actor, log_id: LogId) -> Result<(), Error> {
        for _ in 0..STEPS {
            let (actor, on_delete) = (actor.clone(), self.on_delete);
            match self.store.run(Expiring { actor, log_id, on_delete }).await {
                Ok(true) => {}
                // It was purged meanwhile.
                Ok(false) | Err(Error::Refused(Reason::MessageNotFound, _)) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
