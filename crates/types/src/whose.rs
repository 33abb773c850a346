//! For whom the present task works.

use std::sync::Arc;

tokio::task_local! {
    static WHOSE: Whose;
}

/// For whom something is done: where many want the same, tenants take turns, and within a tenant
/// its callers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Whose {
    pub tenant: Arc<str>,
    /// Who counts as one within the tenant; what it says means nothing.
    pub caller: Arc<str>,
}

impl Whose {
    /// For whom the present task works, if that is known.
    pub fn of_task() -> Option<Self> {
        WHOSE.try_with(Self::clone).ok()
    }

    /// Does `work` as what it is: this one's.
    pub fn does<W: Future>(self, work: W) -> impl Future<Output = W::Output> {
        WHOSE.scope(self, work)
    }
}
