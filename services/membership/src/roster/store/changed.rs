//! Rosters that the room service watches.

use uuid::Uuid;

use crate::Error;
use crate::roster::Changed;
use crate::store::Store;
use parlance_types::LogId;

/// How many rosters are told of at once.
const ROSTERS: i64 = 100;

impl Store {
    /// Watched rosters in which somebody came or went that was not heard of.
    pub(crate) async fn changed(&self) -> Result<Vec<Changed>, Error> {
        let select = "SELECT log_id, changes, member_count FROM rosters
                      WHERE changes > heard AND NOT closed LIMIT $1";
        let found: Vec<(Uuid, i64, i64)> = self.db.read(select).bind(ROSTERS).fetch_all().await?;
        let changed = |(log_id, changes, member_count)| Changed {
            log_id: LogId(log_id),
            changes,
            member_count,
        };
        Ok(found.into_iter().map(changed).collect())
    }

    /// Notes what was heard of. What happened meanwhile is not.
    pub(crate) async fn heard(&self, heard: &[Changed]) -> Result<(), Error> {
        for Changed { log_id, changes, .. } in heard {
            let note = "UPDATE rosters SET heard = $2
                        WHERE log_id = $1 AND heard < $2 AND changes >= $2";
            self.db.write(note).bind(log_id.0).bind(*changes).execute().await?;
        }
        Ok(())
    }
}
