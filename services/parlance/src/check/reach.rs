//! Whether the services that are called can be reached, and over TLS are whom they are taken for.

use std::time::Duration;

use parlance_rpc::{Tls, shake_hands};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Found, Report};
use crate::Failure;
use crate::failure::chain;
use crate::services::Part;
use crate::settings::Config;

/// How long another service may take to accept a connection.
const WITHIN: Duration = Duration::from_secs(3);

pub(super) async fn look(
    part: Part,
    config: &Config,
    tls: &Tls,
    report: &mut Report,
) -> Result<(), Failure> {
    let called =
        [("message", &config.message), ("membership", &config.membership), ("hook", &config.hook)];
    for (name, addresses) in called {
        let of_suite = name != "hook";
        let Some(addresses) = addresses.as_ref().filter(|_| part != Part::Whole || !of_suite)
        else {
            continue;
        };
        for (host, port) in addresses.hosts() {
            let (secure, at) = (addresses.are_secure(), (host, port));
            let reached = timeout(WITHIN, async {
                if secure {
                    shake_hands(tls, at, of_suite).await
                } else {
                    TcpStream::connect(at).await.map(drop)
                }
            });
            let named = format!("{name} at {host}:{port}");
            match reached.await {
                // Who that is, calls show.
                Ok(Ok(())) => report.say(Found::Well, format_args!("{named} can be reached"))?,
                Ok(Err(error)) => {
                    let why = chain(&error);
                    let sentence = format_args!("{named} cannot be reached: {why}");
                    report.say(Found::Wrong, sentence)?;
                }
                Err(_) => {
                    let sentence = format_args!("{named} does not answer within {WITHIN:?}");
                    report.say(Found::Wrong, sentence)?;
                }
            }
        }
    }
    Ok(())
}
