use std::collections::BTreeMap;
use std::time::Duration;

use parlance_cluster::client::Sessions;
use parlance_cluster::{Cluster, Kind};
use parlance_proto::presence::v1::{
    Availability, CloseSessionRequest, KeepSessionRequest, KeepSessionResponse, OpenSessionRequest,
    WatchPresenceRequest, WatchPresenceResponse,
};
use parlance_rpc::Reason;
use tokio::time::{Instant, timeout};
use tonic::Streaming;

/// The longest lease: for so long after the start who has no session is unknown.
const DOUBT: Duration = Duration::from_mins(1);

/// What is told of a lease's end, and of any other change, comes within so long after it.
const TOLD_WITHIN: Duration = Duration::from_secs(5);

const LEASE: Duration = Duration::from_secs(10);

/// Somebody who watches, by one replica.
struct Watcher {
    frames: Streaming<WatchPresenceResponse>,
    told: BTreeMap<String, Availability>,
    /// Everything that was told of anybody, in order.
    all: Vec<(String, Availability)>,
}

impl Watcher {
    async fn start(cluster: &Cluster, replica: usize) -> Self {
        let user_ids = ["ann", "bob"].map(str::to_owned).to_vec();
        let mut client = cluster.user("eve").presence(replica);
        let frames = client.watch_presence(WatchPresenceRequest { user_ids }).await;
        let frames = frames.expect("a stream").into_inner();
        let mut watcher = Self { frames, told: BTreeMap::new(), all: Vec::new() };
        watcher.frame().await;
        watcher
    }

    async fn frame(&mut self) {
        let frame = self.frames.message().await.expect("no failure").expect("not ended");
        for presence in frame.presences {
            let availability = presence.availability();
            self.told.insert(presence.user_id.clone(), availability);
            self.all.push((presence.user_id, availability));
        }
    }

    /// Waits until this is told of a user.
    async fn hears(&mut self, user: &str, availability: Availability, within: Duration) {
        let wait = async {
            while self.told.get(user) != Some(&availability) {
                self.frame().await;
            }
        };
        let heard = timeout(within, wait).await;
        assert!(heard.is_ok(), "{user} is {:?}, not {availability:?}", self.told.get(user));
    }

    fn was_told(&self, user: &str, availability: Availability) -> bool {
        self.all.iter().any(|(of, told)| of == user && *told == availability)
    }
}

async fn open(mut at: Sessions, resource: &str, availability: Availability, lease: Duration) {
    let request = OpenSessionRequest {
        resource: resource.to_owned(),
        availability: availability.into(),
        lease: Some(lease.try_into().expect("a lease")),
        ..OpenSessionRequest::default()
    };
    at.open_session(request).await.expect("opened");
}

async fn keep(
    mut at: Sessions,
    resource: &str,
    availability: Availability,
) -> Streaming<KeepSessionResponse> {
    let request = KeepSessionRequest {
        resource: resource.to_owned(),
        availability: availability.into(),
        lease: Some(LEASE.try_into().expect("a lease")),
        ..KeepSessionRequest::default()
    };
    let mut kept = at.keep_session(request).await.expect("kept").into_inner();
    kept.message().await.expect("no failure").expect("opened");
    kept
}

/// The replica that keeps a session dies, with its client gone elsewhere and with its client
/// gone for good; Redis forgets everything. Nobody who is there is ever told to be offline.
#[tokio::test]
async fn presence_outlives_its_replicas_and_doubts_what_redis_forgot() {
    use Availability::{Away, Offline, Online, Unknown};
    let mut cluster = Cluster::start(2).await;
    let (began, ann) = (Instant::now(), cluster.user("ann"));
    let first = Kind::Presence.replica(0);

    // Sessions of both replicas add up.
    let mut laptop = keep(ann.sessions(1), "laptop", Away).await;
    let phone = keep(ann.sessions(0), "phone", Online).await;
    let mut near = Watcher::start(&cluster, 0).await;
    let mut far = Watcher::start(&cluster, 1).await;
    for watcher in [&near, &far] {
        assert_eq!(watcher.told["ann"], Online, "the first frame holds what is so already");
        assert_eq!(watcher.told["bob"], Unknown, "nobody had the time to come back yet");
    }

    // The owner dies, and the phone comes to the other replica within its lease.
    cluster.kill(first).await;
    drop(phone);
    let phone = keep(ann.sessions(1), "phone", Online).await;
    cluster.restart(first).await;
    near = Watcher::start(&cluster, 0).await;

    // Who never came is offline after the longest lease, and not before.
    far.hears("bob", Offline, DOUBT + TOLD_WITHIN).await;
    assert!(began.elapsed() + Duration::from_secs(2) >= DOUBT, "{:?}", began.elapsed());
    near.hears("bob", Offline, TOLD_WITHIN).await;
    assert!(far.all.iter().filter(|(user, _)| user == "ann").count() == 1, "{:?}", far.all);

    // The owner dies, and the phone with it: the other replica notices the lease's end.
    drop(phone);
    let phone = keep(ann.sessions(0), "phone", Online).await;
    cluster.kill(first).await;
    drop(phone);
    far.hears("ann", Away, LEASE + TOLD_WITHIN).await;
    cluster.restart(first).await;

    // Redis forgets: everybody is unknown, and who comes back is there at once.
    near = Watcher::start(&cluster, 0).await;
    let before = far.all.len();
    cluster.redis.flush().await;
    for watcher in [&mut near, &mut far] {
        watcher.hears("ann", Unknown, TOLD_WITHIN).await;
        watcher.hears("bob", Unknown, TOLD_WITHIN).await;
    }
    let ended = async {
        loop {
            if let Err(status) = laptop.message().await {
                return status;
            }
        }
    };
    let lost = timeout(LEASE + TOLD_WITHIN, ended).await.expect("the stream says so");
    assert_eq!(Reason::of(&lost), Some(Reason::SessionNotFound));
    open(ann.sessions(0), "laptop", Online, DOUBT).await;
    for watcher in [&mut near, &mut far] {
        watcher.hears("ann", Online, TOLD_WITHIN).await;
        assert!(!watcher.was_told("ann", Offline), "{:?}", watcher.all);
    }
    assert!(!far.all[before..].contains(&("bob".to_owned(), Offline)), "{:?}", far.all);
    cluster.finish().await;
}

/// Watches that begin in the middle of changes end up with what is so, on both replicas.
#[tokio::test]
async fn what_changes_while_a_watch_begins_is_not_missed() {
    use Availability::{Away, Online};
    let cluster = Cluster::start(2).await;
    let ann = cluster.user("ann");
    for round in 0..crate::rounds(5) {
        let flaps = async {
            for flap in 0..20 {
                let now = if flap % 2 == 0 { Away } else { Online };
                open(ann.sessions(flap), "phone", now, DOUBT).await;
            }
            let last = if round % 2 == 0 { Away } else { Online };
            open(ann.sessions(round), "phone", last, DOUBT).await;
            last
        };
        let watches = async {
            let mut watchers = Vec::new();
            for replica in 0..6 {
                watchers.push(Watcher::start(&cluster, replica).await);
            }
            watchers
        };
        let (last, watching) = tokio::join!(flaps, watches);
        for mut watcher in watching {
            watcher.hears("ann", last, TOLD_WITHIN).await;
        }
    }
    let close = CloseSessionRequest { resource: "phone".to_owned() };
    ann.sessions(0).close_session(close).await.expect("closed");
    cluster.finish().await;
}
