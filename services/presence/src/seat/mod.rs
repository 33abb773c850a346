//! Seats in live rooms end with the sessions that hold them.
//!
//! Every node looks for sessions that have ended, so that nobody has to take the place of a
//! node that died. Sessions may be lost without a trace: a slow walk over all seats finds
//! those that nothing holds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use parlance_rpc::{Deadline, Tasks};
use parlance_types::TenantId;

use crate::clients::Seats;
use crate::state::{Named, Sessions};
use crate::{Error, Options};

/// For how long a session that has ended is this node's to tell. A node that dies meanwhile
/// leaves it to the others.
const HOLD: Duration = Duration::from_millis(1200);

/// How long one call may take: when it is over the session is everybody's again.
const CALL: Duration = Duration::from_secs(1);

/// How many sessions one call is about, and how many calls are made at once.
const SESSIONS: usize = 100;
const AT_ONCE: usize = 8;

/// Ends seats. Clones share what they look at.
#[derive(Clone, Debug)]
pub(crate) struct SeatEnds {
    pub(crate) sessions: Arc<dyn Sessions>,
    pub(crate) seats: Seats,
}

impl SeatEnds {
    pub(crate) fn run(&self, options: &Options, tasks: &Tasks) {
        let this = self.clone();
        tasks.every("ended sessions", options.ended, Arc::default(), move || {
            let this = this.clone();
            async move { this.end_ended().await }
        });
        let this = self.clone();
        tasks.every("seat walk", options.seat_walk, Arc::default(), move || {
            let this = this.clone();
            async move { this.walk().await }
        });
    }

    /// Ends the seats of all sessions that have ended by now.
    async fn end_ended(&self) -> Result<(), Error> {
        loop {
            let ended = self.sessions.ended(HOLD).await?;
            if ended.is_empty() {
                return Ok(());
            }
            self.end(ended).await?;
        }
    }

    /// Ends the seats that are held by sessions which are not there.
    async fn walk(&self) -> Result<(), Error> {
        let mut page = String::new();
        loop {
            let (held, next) = self.seats.list(page, Deadline::within(CALL)).await?;
            let gone = self.sessions.gone(held).await?;
            self.end(gone).await?;
            if next.is_empty() {
                return Ok(());
            }
            page = next;
        }
    }

    /// Ends seats, tenant by tenant. What failed of it is told again.
    async fn end(&self, ended: Vec<Named>) -> Result<(), Error> {
        let calls = stream::iter(of_tenants(ended)).map(async |(tenant_id, ended)| {
            self.seats.end(&tenant_id, &ended, Deadline::within(CALL)).await?;
            self.sessions.forget(&ended).await?;
            Ok(())
        });
        let ended: Vec<Result<(), Error>> = calls.buffer_unordered(AT_ONCE).collect().await;
        ended.into_iter().collect()
    }
}

/// What one call may be about: sessions of one tenant.
fn of_tenants(ended: Vec<Named>) -> Vec<(TenantId, Vec<Named>)> {
    let mut tenants: BTreeMap<TenantId, Vec<_>> = BTreeMap::new();
    for ended in ended {
        tenants.entry(ended.device.user.0.clone()).or_default().push(ended);
    }
    let mut calls = Vec::new();
    for (tenant_id, ended) in tenants {
        calls.extend(ended.chunks(SESSIONS).map(|some| (tenant_id.clone(), some.to_vec())));
    }
    calls
}
