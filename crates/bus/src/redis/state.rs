//! What a Redis is like, for whoever looks before it is used.

use redis::RedisError;
use tokio::time::timeout;

use super::link::RedisLink;
use super::{ANSWER, RedisUrl};

/// How long the two answers may take together.
const WITHIN: u32 = 8;

/// Redis could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("redis cannot be reached, or refuses what is asked")]
    Redis(#[from] RedisError),
    #[error("redis did not answer within {:?}", ANSWER * WITHIN)]
    Late,
}

/// What a Redis says of itself. Of a Redis Cluster no node speaks for the others, so
/// that nothing of this is known there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisState {
    pub version: Option<String>,
    /// What it does when its memory is full.
    pub eviction: Option<String>,
    /// Its clock, in microseconds.
    pub clock: Option<i64>,
}

impl RedisState {
    /// Asks it, and has it write and remove a key of the deployment `tag`, which is what its user
    /// must be allowed to do.
    pub async fn ask(url: &RedisUrl, tag: &str) -> Result<Self, StateError> {
        let link = RedisLink::open(url, 2 * ANSWER, 1)?;
        let asked = async {
            let key = format!("parlance:{tag}:check");
            let mut set = redis::cmd("SET");
            set.arg(&key).arg(1).arg("EX").arg(60);
            link.query::<()>(0, &set).await?;
            let mut remove = redis::cmd("DEL");
            remove.arg(&key);
            link.query::<()>(0, &remove).await?;
            if url.cluster {
                return Ok(Self::default());
            }
            let (seconds, micros): (i64, i64) = link.query(0, &redis::cmd("TIME")).await?;
            // Not everybody may ask for it.
            let info = link.query::<String>(0, &redis::cmd("INFO")).await.unwrap_or_default();
            Ok(Self { clock: Some(seconds * 1_000_000 + micros), ..Self::read(&info) })
        };
        timeout(ANSWER * WITHIN, asked).await.map_err(|_| StateError::Late)?
    }

    fn read(info: &str) -> Self {
        let value = |name: &str| {
            let mut lines = info.lines().filter_map(|line| line.trim_end().split_once(':'));
            lines.find(|(of, _)| *of == name).map(|(_, value)| value.to_owned())
        };
        Self { version: value("redis_version"), eviction: value("maxmemory_policy"), clock: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_redis_says_of_itself_is_read() {
        let info =
            "# Server\r\nredis_version:7.0.15\r\n# Memory\r\nmaxmemory_policy:noeviction\r\n";
        let state = RedisState::read(info);
        assert_eq!(state.version.as_deref(), Some("7.0.15"));
        assert_eq!(state.eviction.as_deref(), Some("noeviction"));
        assert_eq!(RedisState::read(""), RedisState::default());
    }
}
