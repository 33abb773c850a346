//! The certificate that is shown to callers and to the other services.

use parlance_rpc::{Shown, Tls};
use parlance_types::{Clock as _, SystemClock};

use super::{Found, Report};
use crate::Failure;
use crate::process::unusable_tls;
use crate::settings::Config;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// How many days before its end a certificate should have been renewed.
const SOON: i64 = 14;

/// What handshakes are made with; nothing if the files are of no use.
pub(super) fn look(config: &Config, report: &mut Report) -> Result<Option<Tls>, Failure> {
    let tls = match Tls::load(config.tls.clone()) {
        Ok(tls) => tls,
        Err(error) => {
            report.say(Found::Wrong, unusable_tls(config, &error))?;
            return Ok(None);
        }
    };
    let Some(shown) = tls.shown() else { return Ok(Some(tls)) };
    let (found, sentence) = of_time(&shown, SystemClock.now() / 1_000_000);
    report.say(found, sentence)?;
    if !config.tls.peers.is_empty() && found != Found::Wrong {
        let (found, sentence) = of_suite(&shown, config);
        report.say(found, sentence)?;
    }
    Ok(Some(tls))
}

/// What clients say of the certificate at a time, in seconds since 1970.
fn of_time(shown: &Shown, now: i64) -> (Found, String) {
    let (path, (begins, ends)) = (shown.path.display(), shown.holds);
    if now < begins {
        let sentence = format!(
            "the certificate in {path} does not hold for another {}: clients refuse it",
            span(begins - now)
        );
        (Found::Wrong, sentence)
    } else if ends < now {
        let sentence = format!(
            "the certificate in {path} expired {} ago: clients refuse it",
            span(now - ends)
        );
        (Found::Wrong, sentence)
    } else if ends - now < SOON * DAY {
        let sentence = format!(
            "the certificate in {path} ends in {}: put a new one in its place, which needs no \
             restart",
            span(ends - now)
        );
        (Found::Unwise, sentence)
    } else {
        (Found::Well, format!("the certificate in {path} holds for {}", span(ends - now)))
    }
}

/// What the other services say of it, so far as they trust whom this one trusts.
fn of_suite(shown: &Shown, config: &Config) -> (Found, String) {
    let (path, peers) = (shown.path.display(), &config.tls.peers);
    if let Some(why) = &shown.refused {
        let ca = config.tls.ca.as_deref().unwrap_or(&shown.path).display();
        let sentence = format!(
            "the certificate in {path} is not of the CA in {ca} ({why}): services that trust this \
             CA alone refuse it"
        );
        return (Found::Unwise, sentence);
    }
    if let Some(name) = peers.iter().find(|name| shown.names.contains(name)) {
        return (Found::Well, format!("other services know the certificate as {name}"));
    }
    let peers: Vec<_> = peers.iter().map(ToString::to_string).collect();
    let sentence = format!(
        "the certificate in {path} has none of the names in tls-peer ({}): services with the same \
         tls-peer refuse it",
        peers.join(", ")
    );
    (Found::Unwise, sentence)
}

/// So many days, or hours if they are few.
fn span(seconds: i64) -> String {
    match seconds {
        ..HOUR => "less than an hour".to_owned(),
        HOUR..DAY => format!("{} h", seconds / HOUR),
        _ => format!("{} d", seconds / DAY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_judged_by_what_is_left_of_its_time() {
        let judged = |begins: i64, ends: i64| {
            let shown = Shown {
                path: "tls.crt".into(),
                holds: (begins, ends),
                names: Vec::new(),
                refused: None,
            };
            of_time(&shown, 0)
        };
        for (begins, ends, found, says) in [
            (-1, 14 * DAY, Found::Well, "holds for 14 d"),
            (-1, 14 * DAY - 1, Found::Unwise, "ends in 13 d"),
            (-1, DAY - 1, Found::Unwise, "ends in 23 h"),
            (-1, 1, Found::Unwise, "ends in less than an hour"),
            (-9, -2 * DAY, Found::Wrong, "expired 2 d ago"),
            (2 * HOUR, DAY, Found::Wrong, "does not hold for another 2 h"),
        ] {
            let (judgement, sentence) = judged(begins, ends);
            assert_eq!(judgement, found, "{sentence}");
            assert!(sentence.contains(says), "{sentence}");
        }
    }
}
