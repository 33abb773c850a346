//! The content filter: words that a tenant's users may not write, masked or refused.

pub mod grpc;
mod store;
mod words;

use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::future::Cache;
use parlance_db::Db;
use parlance_log::Error;
use parlance_rpc::Reason;
use parlance_types::{FilterWord, TenantId, stored_enum};
use tokio::time::sleep;
use uuid::Uuid;

use self::words::Words;
use crate::message::{Content, Filter, Judged};

/// How long a node may go by a look at which list a tenant has: no longer after another one was
/// put it is known everywhere.
const LEASE: Duration = Duration::from_secs(1);

/// Of how many tenants a node remembers which list they have.
const TENANTS: u64 = 100_000;

/// How many bytes of lists a node keeps ready.
const READY: u64 = 64 * 1024 * 1024;

/// How often a list is looked for that changes with every look.
const LOOKS: usize = 3;

stored_enum! {
    /// What becomes of a message with a word of the list.
    #[derive(Default)]
    Action { #[default] Mask = 1, Refuse = 2 }
}

/// What a tenant's users may not write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContentFilter {
    pub words: Vec<FilterWord>,
    pub action: Action,
}

/// A filter as it is stored: another one has another id.
#[derive(Clone, Debug)]
struct Stored {
    id: Uuid,
    filter: ContentFilter,
}

/// The same, ready to be used.
#[derive(Debug)]
struct Ready {
    words: Words,
    action: Action,
}

/// Which list a tenant has, and since when that is known.
#[derive(Clone, Copy, Debug)]
struct Seen {
    id: Option<Uuid>,
    at: Instant,
}

/// The content filters of all tenants.
#[derive(Clone, Debug)]
pub struct Filters {
    db: Db,
    seen: Cache<TenantId, Seen>,
    ready: Cache<Uuid, Arc<Ready>>,
}

impl Filters {
    pub fn new(db: Db) -> Self {
        let size =
            |_: &Uuid, ready: &Arc<Ready>| u32::try_from(ready.words.size()).unwrap_or(u32::MAX);
        Self {
            db,
            seen: Cache::builder().max_capacity(TENANTS).time_to_live(LEASE).build(),
            ready: Cache::builder().max_capacity(READY).weigher(size).build(),
        }
    }

    /// The filter of a tenant; one that was never put has no words.
    async fn get(&self, tenant_id: &TenantId) -> Result<ContentFilter, Error> {
        let stored = store::get(&self.db, tenant_id).await?;
        Ok(stored.map(|stored| stored.filter).unwrap_or_default())
    }

    /// Puts the filter of a tenant in place of the one before. It holds on every node once this
    /// is done: none may go by an earlier look any longer. No node could be asked instead, since
    /// none knows of the others.
    async fn put(&self, tenant_id: &TenantId, filter: &ContentFilter) -> Result<(), Error> {
        store::put(&self.db, tenant_id, filter).await?;
        self.seen.invalidate(tenant_id).await;
        sleep(LEASE).await;
        Ok(())
    }

    /// The filter of a tenant, ready to be used; made once for all who need it. `None`: it has
    /// none. That it cannot be read is no such thing.
    async fn ready(&self, tenant_id: &TenantId) -> Result<Option<Arc<Ready>>, Error> {
        for _ in 0..LOOKS {
            let Some(id) = self.seen(tenant_id).await? else { return Ok(None) };
            let made = self.ready.try_get_with(id, self.make(tenant_id, id)).await;
            if let Ok(ready) = made {
                return Ok(Some(ready));
            }
            // Another one was put since, or the database is away, which the next look tells.
            self.seen.invalidate(tenant_id).await;
        }
        Err(Error::restless())
    }

    /// Which list a tenant has, by a look that is young enough.
    async fn seen(&self, tenant_id: &TenantId) -> Result<Option<Uuid>, Error> {
        match self.seen.try_get_with(tenant_id.clone(), self.look(tenant_id)).await {
            Ok(seen) if seen.at.elapsed() < LEASE => Ok(seen.id),
            // A look that took long says what may have been long ago, and one that somebody else
            // waited for may have failed them alone.
            _ => Ok(self.look(tenant_id).await?.id),
        }
    }

    async fn look(&self, tenant_id: &TenantId) -> Result<Seen, Error> {
        let at = Instant::now();
        let id = store::id(&self.db, tenant_id).await?;
        Ok(Seen { id, at })
    }

    /// Makes the list of a tenant ready, unless it has another one by now.
    async fn make(&self, tenant_id: &TenantId, id: Uuid) -> Result<Arc<Ready>, Error> {
        let stored = store::get(&self.db, tenant_id).await?;
        let Some(Stored { filter, .. }) = stored.filter(|stored| stored.id == id) else {
            return Err(Error::restless());
        };
        let ContentFilter { words, action } = filter;
        // A long list takes some milliseconds, which are others' too.
        let words = tokio::task::spawn_blocking(move || Words::new(&words)).await;
        let words = words.expect("a list can be made ready");
        Ok(Arc::new(Ready { words, action }))
    }
}

impl Filter for Filters {
    fn judge<'a>(&'a self, tenant_id: &'a TenantId, content: &'a Content) -> Judged<'a> {
        Box::pin(async move {
            let Some(ready) = self.ready(tenant_id).await? else { return Ok(None) };
            ready.judge(content)
        })
    }
}

impl Ready {
    /// Only the text is for people: what else is in a content may not be other than it is.
    fn judge(&self, content: &Content) -> Result<Option<Content>, Error> {
        match self.action {
            Action::Mask => {
                let masked = self.words.masked_in(content.text());
                Ok(masked.map(|text| content.clone().saying(text)))
            }
            Action::Refuse if self.words.are_in(content.text()) => {
                let rule = "has a word that is not accepted here";
                Err(Error::RefusedField(Reason::ContentFiltered, "content.text", rule))
            }
            Action::Refuse => Ok(None),
        }
    }
}
