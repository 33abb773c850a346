use parlance_bus::RedisUrl;
use parlance_bus::testing::{PATIENCE, RedisServer};
use parlance_rpc::{Caller, Principal};
use parlance_types::TenantId;
use tokio::time::{sleep, timeout};
use tonic::Status;
use tonic_types::StatusExt as _;

use super::*;

/// Calls a second, and at once.
const RATE: u32 = 20;
const BURST: u32 = 100;

/// A replica of a service; it stops when it is dropped.
struct Replica {
    rate: TenantRate,
    tasks: Tasks,
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.tasks.stop().cancel();
    }
}

impl Replica {
    fn start(url: &RedisUrl) -> Self {
        let rate = TenantRate::shared(RATE, BURST).expect("a limit");
        let tallies = Tallies::open(url, "test", "message").expect("an address");
        let tasks = Tasks::default();
        share(rate.clone(), tallies, &tasks);
        Self { rate, tasks }
    }

    /// Calls once; how long to wait if it is refused.
    fn call(&self, tenant: &str) -> Result<(), Duration> {
        let (tenant_id, principal) = (TenantId::new(tenant), Principal::Service);
        let called = self.rate.check(&Caller {
            tenant_id,
            subject: "test".to_owned(),
            principal,
            expires: 0,
            leaves: None,
        });
        called.map_err(|refusal| {
            let info = Status::from(refusal).get_details_retry_info();
            info.and_then(|info| info.retry_delay).expect("a delay")
        })
    }

    /// Calls until it is refused; how many were admitted.
    fn exhaust(&self, tenant: &str) -> usize {
        (0..10 * BURST).take_while(|_| self.call(tenant).is_ok()).count()
    }

    /// Calls now and then until it is refused; how many were admitted.
    async fn trickle(&self, tenant: &str) -> usize {
        let mut admitted = 0;
        while self.call(tenant).is_ok() {
            admitted += 1;
            sleep(Duration::from_millis(10)).await;
        }
        admitted
    }
}

const WHOLE: usize = BURST as usize;

#[tokio::test]
async fn replicas_share_the_limit_of_a_tenant_within_the_slack() {
    let server = RedisServer::start().await;
    let (here, there) = (Replica::start(&server.url()), Replica::start(&server.url()));
    let began = Instant::now();
    let admitted = here.exhaust("acme");
    assert!((WHOLE..WHOLE + WHOLE / 4).contains(&admitted), "{admitted}");
    let late = there.trickle("acme").await;
    assert!(late < WHOLE / 2, "it learns what the other one admitted: {late}");
    let by_time = usize::try_from(began.elapsed().as_millis()).expect("short") / 50;
    assert!(admitted + late <= 2 * WHOLE + by_time + 6);
    // Another tenant has its own.
    assert!(there.exhaust("other") >= WHOLE);

    // Nobody else calls: the wait is the time to wait.
    for replica in [&here, &there] {
        let wait = loop {
            if let Err(wait) = replica.call("acme") {
                break wait;
            }
        };
        sleep(wait).await;
        assert_eq!(replica.call("acme"), Ok(()));
    }
}

#[tokio::test]
async fn without_redis_each_replica_goes_on_alone_and_they_share_again_when_it_is_back() {
    let mut server = RedisServer::start().await;
    let (here, there) = (Replica::start(&server.url()), Replica::start(&server.url()));
    assert!(here.exhaust("before") >= WHOLE);
    assert!(there.trickle("before").await < WHOLE / 2);

    server.kill().await;
    for tenant in ["during", "during it too"] {
        let began = Instant::now();
        assert!(here.exhaust(tenant) >= WHOLE);
        assert!(there.exhaust(tenant) >= WHOLE);
        assert!(began.elapsed() < WITHIN, "no call waits for Redis");
    }
    server.restart().await;
    let heals = async {
        let mut tenants = (0..).map(|number| format!("after {number}"));
        loop {
            let tenant = tenants.next().expect("endless");
            assert!(here.exhaust(&tenant) >= WHOLE);
            if there.trickle(&tenant).await < WHOLE / 2 {
                return;
            }
        }
    };
    timeout(PATIENCE, heals).await.expect("they share again");
}
