use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use parlance_cluster::{Client, Cluster, Device, Kept, Kind};
use parlance_proto::message::v1::event::Body;
use parlance_proto::message::v1::subscribe_response::Frame;
use parlance_proto::message::v1::{LeaveCause, RoomCursor, SubscribeRequest};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

const LEASE: Duration = Duration::from_secs(10);

/// Far beyond every bound: what is measured is printed, a busy machine fails nothing.
const PATIENCE: Duration = Duration::from_mins(1);

/// How many devices go at once.
const MANY: usize = 8;

/// A room that everybody is in.
const DEN: &str = "den";

/// When the room told that somebody left, and why.
type Left = BTreeMap<String, (Instant, LeaveCause)>;

/// A live room with devices in it that stay whatever happens, and with one who watches.
struct Den {
    cluster: Cluster,
    staying: Vec<Kept>,
    left: watch::Receiver<Left>,
    watching: JoinHandle<()>,
}

async fn device(cluster: &Cluster, user: &str, resource: &str, replica: usize) -> Device {
    let client = cluster.user(user);
    let mut device = Device::open(client, user, resource, LEASE, replica).await;
    device.enter(DEN).await;
    device
}

/// Notes every leave that a stream of the room tells of.
async fn watch_leaves(client: Client, told: watch::Sender<Left>) {
    let rooms = vec![RoomCursor { room_id: DEN.to_owned(), ..RoomCursor::default() }];
    let request = SubscribeRequest { rooms, ..SubscribeRequest::default() };
    let mut frames = client.follow(request).await;
    while let Some(frame) = frames.message().await.expect("the stream holds") {
        let Some(Frame::Event(frame)) = frame.frame else { continue };
        let Some(Body::MembersLeft(left)) = frame.event.unwrap_or_default().body else { continue };
        let (at, cause) = (Instant::now(), left.cause());
        told.send_modify(|seen| {
            seen.extend(left.user_ids.into_iter().map(|user| (user, (at, cause))));
        });
    }
}

impl Den {
    async fn start() -> Self {
        let cluster = Cluster::start(2).await;
        cluster.redis.settles().await;
        let staying = (0..MANY).map(|n| {
            let cluster = &cluster;
            async move { device(cluster, &format!("staying-{n}"), "phone", n).await.keep() }
        });
        let staying = join_all(staying).await;
        let (told, left) = watch::channel(Left::new());
        let watching = tokio::spawn(watch_leaves(cluster.user("staying-0"), told));
        Self { cluster, staying, left, watching }
    }

    /// Devices that came in and are not heard of after a last renewal.
    async fn silent(&self, group: &str, replicas: usize) -> Vec<Device> {
        let devices = (0..MANY).map(|n| async move {
            let user = format!("{group}-{n}");
            let mut device = device(&self.cluster, &user, "phone", n % replicas).await;
            device.beat().await;
            device
        });
        join_all(devices).await
    }

    /// Waits until the users of these devices have left.
    async fn all_leave(&self, gone: &[Device]) -> Left {
        let mut left = self.left.clone();
        let all = |left: &Left| gone.iter().all(|device| left.contains_key(&device.user));
        let told = timeout(PATIENCE, left.wait_for(all)).await.expect("they leave in time");
        told.expect("somebody watches").clone()
    }

    /// Waits until they have left, none before its lease ended. How long after its lease the
    /// last one was gone.
    async fn leave(&self, gone: &[Device]) -> Duration {
        let told = self.all_leave(gone).await;
        let late = gone.iter().map(|device| {
            let (at, cause) = told[&device.user];
            assert_eq!(cause, LeaveCause::LeaseEnded, "{}", device.user);
            // To the millisecond, in which Redis counts.
            let after = at + Duration::from_millis(1) - device.beaten;
            after.checked_sub(LEASE).expect("nobody leaves before the lease ends")
        });
        late.max().expect("some")
    }

    fn has_left(&self, user: &str) -> bool {
        self.left.borrow().contains_key(user)
    }

    fn sessions(&self) -> Vec<String> {
        self.staying.iter().map(Kept::session_id).collect()
    }

    /// Waits until all who stay are in with other sessions than before, and for a while in
    /// which who is silent would leave if it were known that they are gone.
    async fn come_back(&self, before: &[String]) {
        let back = self.staying.iter().zip(before).map(|(device, id)| async move {
            device.comes_back(id).await;
            device.beats().await;
        });
        timeout(PATIENCE, join_all(back)).await.expect("they come back");
    }

    /// Who is in is who stays, and nobody of them ever left.
    async fn only_who_stays_is_in(&self) {
        assert!(!self.watching.is_finished(), "somebody watches");
        let seats = self.cluster.database.seats().await;
        let mut users: Vec<_> = seats.iter().map(|seat| seat.user.as_str()).collect();
        users.dedup();
        let expected: Vec<_> = (0..MANY).map(|n| format!("staying-{n}")).collect();
        assert_eq!(users, expected, "{seats:?}");
        for user in expected {
            assert!(!self.has_left(&user), "{user} left: {:?}", self.left.borrow()[&user]);
        }
    }

    /// Their leases end, and everything works.
    async fn while_all_is_well(&self) {
        let gone = self.silent("quiet", 2).await;
        println!("all nodes alive: gone {:.1?} after the lease", self.leave(&gone).await);
        self.only_who_stays_is_in().await;
    }

    /// The replica dies by which they renewed. Those who stay go to the other one, and one of
    /// them has a device that does not.
    async fn while_a_replica_of_presence_dies(&mut self) {
        let dead = Kind::Presence.replica(0);
        let second = device(&self.cluster, "staying-1", "tablet", 0).await;
        let gone = self.silent("bereft", 1).await;
        self.cluster.kill(dead).await;
        println!("its replica killed: gone {:.1?} after the lease", self.leave(&gone).await);
        let ended = async {
            while self.cluster.database.seats().await.iter().any(|seat| seat.resource == "tablet") {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(PATIENCE, ended).await.expect("the tablet is gone, its user is not");
        println!(
            "a second device: gone {:.1?} after its lease",
            second.beaten.elapsed().saturating_sub(LEASE)
        );
        self.only_who_stays_is_in().await;
        self.cluster.restart(dead).await;
    }

    /// Redis stands still until every lease has ended. Who is there comes back with a new
    /// session, and nobody leaves before there was time for that.
    async fn while_redis_hangs(&self) {
        let gone = self.silent("stuck", 2).await;
        let before = self.sessions();
        self.cluster.redis.pause().await;
        // The harm is that this time passes.
        sleep_until(Instant::now() + LEASE).await;
        self.cluster.redis.resume().await;
        self.come_back(&before).await;
        assert!(!gone.iter().any(|device| self.has_left(&device.user)), "nobody leaves in doubt");
        self.cluster.redis.settles().await;
        let settled = Instant::now();
        self.leave(&gone).await;
        println!("redis hung: gone {:.1?} after the doubt", settled.elapsed());
        self.only_who_stays_is_in().await;
    }

    /// Redis forgets all sessions, those that have ended too.
    async fn while_redis_forgets(&self) {
        let gone = self.silent("forgotten", 2).await;
        let before = self.sessions();
        self.cluster.redis.flush().await;
        self.come_back(&before).await;
        assert!(!gone.iter().any(|device| self.has_left(&device.user)), "nobody leaves in doubt");
        self.cluster.redis.settles().await;
        let settled = Instant::now();
        self.all_leave(&gone).await;
        println!("redis flushed: gone {:.1?} after the doubt", settled.elapsed());
        self.only_who_stays_is_in().await;
    }
}

/// B-089.
/// Devices in a live room fall silent, with all nodes alive, with the presence replica that
/// they renewed by killed, with Redis hanging and with Redis empty. They leave when their
/// sessions have ended, and nobody leaves who is there.
#[tokio::test]
async fn seats_end_with_their_sessions_and_no_others_whatever_dies() {
    let mut den = Den::start().await;
    den.while_all_is_well().await;
    den.while_a_replica_of_presence_dies().await;
    den.while_redis_hangs().await;
    den.while_redis_forgets().await;
    den.staying.clear();
    den.watching.abort();
    den.cluster.finish().await;
}
