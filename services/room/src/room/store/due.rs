//! What the janitor looks for.

use parlance_types::{LogId, Micros};

use super::{Store, many};
use crate::Error;
use crate::room::row::selected;
use crate::room::{Room, State};

impl Store {
    /// Rooms that the janitor should look at, the longest due first.
    pub(crate) async fn due(&self, now: Micros, limit: i64) -> Result<Vec<Room>, Error> {
        let query = self.db.read(select!("due_time <= $1 ORDER BY due_time LIMIT $2"));
        many(query.bind(now).bind(limit)).await
    }

    /// Rooms that the janitor would look at only after `time`.
    pub(crate) async fn due_after(&self, time: Micros, limit: i64) -> Result<Vec<Room>, Error> {
        let query = self.db.read(select!("due_time > $1 ORDER BY due_time LIMIT $2"));
        many(query.bind(time).bind(limit)).await
    }

    /// Lets the janitor look again at `until`, if there is still something left.
    pub(crate) async fn postpone(
        &self,
        log_id: LogId,
        state: State,
        until: Micros,
    ) -> Result<(), Error> {
        self.db
            .write(
                "UPDATE rooms SET due_time = $3
                 WHERE log_id = $1 AND state = $2 AND due_time IS NOT NULL",
            )
            .bind(log_id.0)
            .bind(state as i16)
            .bind(until)
            .execute()
            .await?;
        Ok(())
    }
}
