//! Serves over the network, and stops without cutting anyone off.

use std::io;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::reflection::with_reflection;
use crate::{Health, Layers, Reflection, Tls};

mod answer;
mod connections;
mod guard;
mod opening;
mod watched;
mod web;

pub use connections::ConnectionLimits;
use connections::Connections;
pub use web::{InvalidOrigin, Origin, Web};

/// Cancelled when the process is asked to stop: SIGTERM or SIGINT. Asked a second time, it
/// ends at once, after its `last` words.
pub fn termination(last: fn()) -> io::Result<CancellationToken> {
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    tokio::spawn(async move {
        let mut asked = async || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        asked().await;
        stopped.cancel();
        asked().await;
        tracing::error!("asked to stop a second time: what is under way is cut");
        last();
        std::process::exit(1);
    });
    Ok(stop)
}

/// Serves services over the network.
#[derive(Clone, Debug)]
pub struct Server {
    pub layers: Layers,
    pub health: Health,
    pub limits: ConnectionLimits,
    /// The certificate that it shows; without one it speaks plain text.
    pub tls: Option<Tls>,
    /// Who may call from a browser.
    pub web: Option<Web>,
    /// Cancelled when the server begins to drain: open streams watch it and say
    /// goodbye.
    pub draining: CancellationToken,
    /// How long draining may take in all.
    pub drain: Duration,
}

impl Server {
    /// Serves `routes`, health and reflection on `listener` until `shutdown`, then
    /// drains: says it is not ready, tells streams to end, lets requests finish,
    /// stops listening, lets connections close. What is left after `drain` is cut.
    pub async fn serve(
        self,
        listener: TcpListener,
        routes: Routes,
        shutdown: CancellationToken,
    ) -> io::Result<()> {
        let mut routes = self.health.with_health(routes);
        if self.layers.auth.reflection() != Reflection::Off {
            routes = with_reflection(routes).map_err(io::Error::other)?;
        }
        let app = self.layers.network(routes);
        let app = self.web.as_ref().map_or_else(|| app.clone(), |web| web.open(app.clone()));
        let tls = self.tls.filter(Tls::serves);
        let connections = Connections::new(self.limits, tls, self.web.is_some());
        let accepting = tokio::spawn(connections.clone().accept(listener, app));

        shutdown.cancelled().await;
        let end = Instant::now() + self.drain;
        tracing::info!(bound = ?self.drain, "draining");
        self.health.drain().await;
        self.draining.cancel();
        self.layers.in_flight.close();
        // Half of the bound; the other half is for connections to close.
        let requests = timeout(self.drain / 2, self.layers.in_flight.wait()).await;
        connections.close.cancel();
        self.health.end().await;
        let closed = timeout_at(end, connections.closed(accepting)).await;
        connections.cut.cancel();
        match (requests, closed) {
            (_, Ok(())) => tracing::info!("drained"),
            (_, Err(_)) => tracing::warn!("cut what did not end within the bound"),
        }
        Ok(())
    }
}
