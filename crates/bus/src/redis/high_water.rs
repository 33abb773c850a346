//! How far databases have counted, remembered where their backups do not reach.

use redis::{Cmd, RedisError};
use tokio::time::timeout;

use super::link::RedisLink;
use super::{ANSWER, RedisUrl};

/// Redis could not be asked, or not be told.
#[derive(Debug, thiserror::Error)]
pub enum HighWaterError {
    #[error("redis does not remember how far the database has counted")]
    Redis(#[from] RedisError),
    #[error("redis did not answer within {ANSWER:?}")]
    Late,
}

/// The high-water mark of each database: the greatest number that it is known to have
/// counted to. One that is below its mark was put back to an older copy.
///
/// The marks of a deployment are one sorted set in a Redis, or in a Redis Cluster. One that
/// is lost with it is unknown, which is no harm: it is told again.
#[derive(Debug)]
pub struct HighWater {
    link: RedisLink,
    key: String,
}

impl HighWater {
    /// The marks of the deployment `tag`.
    pub fn open(url: &RedisUrl, tag: &str) -> Result<Self, HighWaterError> {
        let link = RedisLink::open(url, 2 * ANSWER, 1)?;
        Ok(Self { link, key: format!("parlance:{tag}:high-water") })
    }

    /// The mark of a database; `None` if nothing is known of it.
    pub async fn of(&self, database: &str) -> Result<Option<i64>, HighWaterError> {
        let mut score = redis::cmd("ZSCORE");
        score.arg(&self.key).arg(database);
        let asked = async {
            match self.link.query(0, &score).await {
                // A connection that was idle may be gone, and another one be there.
                Err(error) if error.is_unrecoverable_error() => self.link.query(0, &score).await,
                answer => answer,
            }
        };
        Ok(timeout(ANSWER, asked).await.map_err(|_| HighWaterError::Late)??)
    }

    /// Raises the mark of a database to what it has committed; one that is higher stays.
    pub async fn raise(&self, database: &str, to: i64) -> Result<(), HighWaterError> {
        let mut add: Cmd = redis::cmd("ZADD");
        add.arg(&self.key).arg("GT").arg(to).arg(database);
        let told = self.link.query::<()>(0, &add);
        Ok(timeout(ANSWER, told).await.map_err(|_| HighWaterError::Late)??)
    }
}
