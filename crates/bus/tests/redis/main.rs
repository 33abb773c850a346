//! The conformance suite on every bus, and Redis with its faults.

mod faults;
mod high_water;
mod tallies;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parlance_bus::testing::redis_url;
use parlance_bus::{Bus, InProcessBus, Options, RedisBus, RedisUrl, test_bus};

test_bus!(in_process => {
    let bus = Arc::new(InProcessBus::default());
    move || Arc::clone(&bus) as Arc<dyn Bus>
});
test_bus!(redis_single => redis(&redis_url("TEST_REDIS_URL")));
test_bus!(redis_cluster => redis(&redis_url("TEST_REDIS_CLUSTER_URL")));

/// Makes nodes of a bus of its own.
fn redis(url: &RedisUrl) -> impl Fn() -> Arc<dyn Bus> + Sync + use<> {
    let (url, tag) = (url.clone(), tag());
    move || Arc::new(RedisBus::start(&url, Options { tag: tag.clone(), ..Options::default() }))
}

/// A tag that no other test uses.
fn tag() -> String {
    static TAGS: AtomicU64 = AtomicU64::new(0);
    format!("test-{}-{}", std::process::id(), TAGS.fetch_add(1, Ordering::Relaxed))
}
