//! What a Redis is like, and what its user may do.

use parlance_bus::RedisState;

use super::{Found, Report, of_clock};
use crate::Failure;
use crate::failure::chain;
use crate::settings::Config;
use crate::values::Bus;

/// What goes with it when it forgets.
const FORGOTTEN: &str = "who is online is then unknown for a minute, until devices have opened \
                         their sessions again; messages are not in it";

pub(super) async fn look(config: &Config, report: &mut Report) -> Result<(), Failure> {
    let Bus::Redis(url) = &config.bus else { return Ok(()) };
    let state = match RedisState::ask(url, &config.bus_tag).await {
        Ok(state) => state,
        Err(error) => return report.say(Found::Wrong, chain(&error)),
    };
    if !state.lacks.is_empty() {
        let lacks = state.lacks.join(", ");
        let sentence = format_args!(
            "the user of Redis may not use {lacks}: docs/operations.md has the rights that it needs"
        );
        return report.say(Found::Wrong, sentence);
    }
    report.say(Found::Well, "the user of Redis may do what it must")?;
    if url.is_cluster() {
        return Ok(());
    }
    let version = state.version.as_deref().unwrap_or("of a version that it does not tell");
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    let found = if major.is_some_and(|major| major < 7) { Found::Wrong } else { Found::Well };
    report.say(found, format_args!("Redis {version} takes writes (7 or later is needed)"))?;
    if let Some(policy) = state.eviction.filter(|policy| policy != "noeviction") {
        let sentence = format_args!(
            "maxmemory-policy of Redis is {policy}: it may forget who is online; noeviction is \
             what fits"
        );
        report.say(Found::Unwise, sentence)?;
    }
    match state.keeps {
        Some(true) => report.say(Found::Well, "Redis keeps what it holds on its disk")?,
        Some(false) => {
            let sentence = format_args!(
                "Redis keeps nothing on its disk (appendonly is no, save is empty) and forgets all \
                 when it ends: {FORGOTTEN}"
            );
            report.say(Found::Unwise, sentence)?;
        }
        None => {
            let sentence = format_args!(
                "Redis does not tell whether it keeps anything on its disk; if not, it forgets all \
                 when it ends: {FORGOTTEN}"
            );
            report.say(Found::Well, sentence)?;
        }
    }
    state.clock.map_or(Ok(()), |clock| of_clock("Redis", clock, report))
}
