//! Tallies that the replicas of a service share: what was used of a rate, and when
//! that is paid for.

use redis::{ErrorKind, RedisError, Script, ServerErrorKind};

use super::link::RedisLink;
use super::{ANSWER, RedisUrl};

const SCRIPT: &str = include_str!("tallies.lua");

/// A tally could not be reached, or is none.
#[derive(Debug, thiserror::Error)]
#[error("cannot add to a tally")]
pub struct TallyError(#[from] RedisError);

/// Tallies in a Redis, or in a Redis Cluster. Each is one key, gone some seconds after
/// it is paid for.
#[derive(Debug)]
pub struct Tallies {
    link: RedisLink,
    space: String,
    hash: String,
}

impl Tallies {
    /// The tallies of `service` in the deployment `tag`.
    pub fn open(url: &RedisUrl, tag: &str, service: &str) -> Result<Self, TallyError> {
        let hash = Script::new(SCRIPT).get_hash().to_owned();
        let link = RedisLink::open(url, 2 * ANSWER, 1)?;
        Ok(Self { link, space: format!("parlance:{tag}:rate:{service}"), hash })
    }

    /// Adds `used` to the tally of `name`, which is paid for in `own` at the earliest;
    /// both in nanoseconds. Tells in how many nanoseconds the tally is paid for:
    /// negative once it is.
    ///
    /// Repeated after a lost answer it adds twice.
    pub async fn add(&self, name: &str, used: i64, own: i64) -> Result<i64, TallyError> {
        let command = |how: &str, script: &str| {
            let mut command = redis::cmd(how);
            command.arg(script).arg(1).arg(format!("{}:{{{name}}}", self.space)).arg(used).arg(own);
            command
        };
        match self.link.query(0, &command("EVALSHA", &self.hash)).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                Ok(self.link.query(0, &command("EVAL", SCRIPT)).await?)
            }
            answer => Ok(answer?),
        }
    }
}
