//! The figures, one module for each kind.

mod endings;
mod fanout;
mod latency;
mod memory;
mod outage;
mod pages;
mod sends;
mod transfers;

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::measured::Measured;
use crate::plan::Plan;

/// Measures and prints all that the plan has for a suite.
pub(crate) async fn all(plan: &Plan, suite: &mut Measured) {
    if plan.has(&["S1", "S2", "S3"]) {
        sends::measure(plan, suite).await;
    }
    if plan.has(&["P1", "P2"]) {
        pages::measure(plan, suite).await;
    }
    if plan.has(&["S6", "S7"]) {
        fanout::measure(plan, suite).await;
    }
    if plan.has(&["S8"]) {
        latency::measure(plan, suite).await;
    }
    if plan.has(&["L1"]) {
        endings::measure(plan, suite).await;
    }
    if plan.has(&["G7"]) && matches!(suite, Measured::Distributed(_)) {
        outage::measure(plan, suite).await;
    }
    // The distributed suite of the bench keeps no attachments.
    if plan.has(&["T1", "T2", "T3"]) && matches!(suite, Measured::Embedded(_)) {
        transfers::measure(plan, suite).await;
    }
    if plan.has(&["S9"]) {
        memory::measure(plan, suite).await;
    }
}

/// A request id that was not used before.
fn fresh_id() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("request-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}
