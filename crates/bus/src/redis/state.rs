//! What a Redis is like, for whoever looks before it is used.

use std::collections::HashMap;

use redis::{Cmd, RedisError, Value};
use tokio::time::timeout;

use super::connection::{Connection, Lost};
use super::link::RedisLink;
use super::{ANSWER, Options, RedisUrl, Shared};

/// How long the answers may take together.
const WITHIN: u32 = 16;

/// What the services ask of a key, each of a kind that can be refused by itself. They begin and
/// end with nothing there.
const TRIED: [&[&str]; 19] = [
    &["DEL", KEY],
    &["SET", KEY, "1", "EX", "60"],
    &["GET", KEY],
    &["DEL", KEY],
    &["ZADD", KEY, "GT", "1", "member"],
    &["ZSCORE", KEY, "member"],
    &["ZRANGEBYSCORE", KEY, "-inf", "0"],
    &["ZREM", KEY, "member"],
    &["HSET", KEY, "field", "1"],
    &["HMGET", KEY, "field"],
    &["HGETALL", KEY],
    &["HKEYS", KEY],
    &["PEXPIREAT", KEY, "1"],
    &["HDEL", KEY, "field"],
    &["DEL", KEY],
    &["EVAL", "return 1", "1", KEY],
    &["EVALSHA", NO_SCRIPT, "1", KEY],
    &["TIME"],
    &["PUBLISH", KEY, ""],
];

/// Stands for the key.
const KEY: &str = "KEY";

/// The hash of a script that nobody has.
const NO_SCRIPT: &str = "0000000000000000000000000000000000000000";

/// Redis could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("redis cannot be reached, or refuses what is asked")]
    Redis(#[from] RedisError),
    #[error("the bus over redis does not come up")]
    Bus(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("redis did not answer within {:?}", ANSWER * WITHIN)]
    Late,
}

/// What a Redis says of itself. Of a Redis Cluster no node speaks for the others, so
/// that of this only what it refuses is known there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisState {
    pub version: Option<String>,
    /// What it does when its memory is full.
    pub eviction: Option<String>,
    /// Whether it writes what it holds to its disk, now and then or at once.
    pub keeps: Option<bool>,
    /// Its clock, in microseconds.
    pub clock: Option<i64>,
    /// What its user may not do, and must: commands, keys, channels.
    pub lacks: Vec<String>,
}

impl RedisState {
    /// Asks it, and has it do to a key of the deployment `tag` and to the channels of its bus what
    /// the services will.
    pub async fn ask(url: &RedisUrl, tag: &str) -> Result<Self, StateError> {
        let link = RedisLink::open(url, 2 * ANSWER, 1)?;
        let asked = async {
            let lacks = Self::try_out(&link, url, tag).await?;
            if !lacks.is_empty() || url.cluster {
                return Ok(Self { lacks, ..Self::default() });
            }
            let (seconds, micros): (i64, i64) = link.query(0, &redis::cmd("TIME")).await?;
            // Not everybody may ask for these.
            let info = link.query::<String>(0, &redis::cmd("INFO")).await.unwrap_or_default();
            let (saves, hello) = (command(&["CONFIG", "GET", "save"], ""), redis::cmd("HELLO"));
            let saves = link.query::<HashMap<String, String>>(0, &saves).await.ok();
            let saves = saves.and_then(|mut found| found.remove("save"));
            let hello = link.query::<HashMap<String, Value>>(0, &hello).await.ok();
            let hello = hello.and_then(|mut found| found.remove("version"));
            let version = hello.and_then(|version| redis::from_redis_value(version).ok());
            let clock = Some(seconds * 1_000_000 + micros);
            Ok(Self { version, clock, ..Self::read(&info, saves.as_deref()) })
        };
        timeout(ANSWER * WITHIN, asked).await.map_err(|_| StateError::Late)?
    }

    /// What the user may not do.
    async fn try_out(
        link: &RedisLink,
        url: &RedisUrl,
        tag: &str,
    ) -> Result<Vec<String>, StateError> {
        let key = format!("parlance:{tag}:check");
        let mut lacks: Vec<String> = Vec::new();
        let mut note = |error: &RedisError, name: &str| match refusal(error, name) {
            Some(lack) if lacks.contains(&lack) => true,
            Some(lack) => {
                lacks.push(lack);
                true
            }
            None => false,
        };
        for tried in TRIED {
            let name = match tried[0] {
                "PUBLISH" if url.cluster => "SPUBLISH",
                name => name,
            };
            let words = [&[name][..], &tried[1..]].concat();
            if let Err(error) = link.query::<Value>(0, &command(&words, &key)).await
                && error.code() != Some("NOSCRIPT")
                && !note(&error, name)
            {
                return Err(error.into());
            }
        }
        // Nobody hears what it hears.
        let options = Options { tag: tag.to_owned(), ..Options::default() };
        match Connection::open(url, &options, &Shared::unheard()).await {
            Ok(_) => {}
            Err(Lost::Redis(error)) if note(&error, "SUBSCRIBE") => {}
            Err(error) => return Err(StateError::Bus(error.into())),
        }
        Ok(lacks)
    }

    /// Reads what `INFO` says, and what `save` is set to.
    fn read(info: &str, saves: Option<&str>) -> Self {
        let value = |name: &str| {
            let mut lines = info.lines().filter_map(|line| line.trim_end().split_once(':'));
            lines.find(|(of, _)| *of == name).map(|(_, value)| value.to_owned())
        };
        let keeps = match (value("aof_enabled").as_deref(), saves) {
            (Some("1"), _) => Some(true),
            (_, saves) => saves.map(|saves| !saves.is_empty()),
        };
        Self { eviction: value("maxmemory_policy"), keeps, ..Self::default() }
    }
}

fn command(words: &[&str], key: &str) -> Cmd {
    let mut command = redis::cmd(words[0]);
    for word in &words[1..] {
        command.arg(if *word == KEY { key } else { *word });
    }
    command
}

/// What the right is called that a command was refused for.
fn refusal(error: &RedisError, name: &str) -> Option<String> {
    if error.code() != Some("NOPERM") {
        return None;
    }
    let text = error.to_string();
    // "to access a key", "one of the keys used", as versions have it.
    let right = if text.contains(" channel") {
        "the channels &parlance:*"
    } else if text.contains(" key") {
        "the keys ~parlance:*"
    } else {
        name
    };
    Some(right.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_redis_says_of_itself_is_read() {
        let info = "# Memory\r\nmaxmemory_policy:noeviction\r\n# Persistence\r\naof_enabled:0\r\n";
        let state = RedisState::read(info, None);
        assert_eq!(state.eviction.as_deref(), Some("noeviction"));
        assert_eq!(RedisState::read("", None), RedisState::default());
        let keeps = |info: &str, saves| RedisState::read(info, saves).keeps;
        assert_eq!(keeps(info, None), None, "it does not say");
        assert_eq!((keeps(info, Some("")), keeps(info, Some("3600 1"))), (Some(false), Some(true)));
        assert_eq!(keeps("aof_enabled:1\r\n", Some("")), Some(true));
    }
}
