use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use parlance_cluster::{Cluster, Device, Kind};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_mins(1);

/// As long as a lease may be: nobody has to renew it here.
const LEASE: Duration = Duration::from_mins(1);

const WANDERERS: usize = 8;

/// Rooms in which somebody always is.
const HALLS: [&str; 2] = ["hall-0", "hall-1"];

/// A device that goes from room to room until it is told to stop.
struct Wanderer {
    user: String,
    /// Every room that it was in, the last one in the end.
    task: JoinHandle<Vec<String>>,
}

/// What all of them share.
#[derive(Clone)]
struct Going {
    on: watch::Receiver<bool>,
    switched: Arc<AtomicUsize>,
}

async fn wander(cluster: &Cluster, user: &str, number: usize, going: Going) -> Wanderer {
    let client = cluster.user(user);
    let mut device = Device::open(client, user, "phone", LEASE, number).await;
    let home = format!("{user}-home");
    device.enter(&home).await;
    let user = user.to_owned();
    let name = user.clone();
    let task = tokio::spawn(async move {
        let mut rooms = vec![home];
        for step in 0.. {
            if !*going.on.borrow() {
                break;
            }
            // By turns one that others are in, and one that the switch creates.
            let to = match step % 2 {
                0 => HALLS[(number + step / 2) % HALLS.len()].to_owned(),
                _ => format!("{name}-{step}"),
            };
            let from = rooms.last().expect("a room");
            let moved = device.switch(from, &to).await;
            moved.unwrap_or_else(|status| panic!("{name} goes from {from} to {to}: {status}"));
            rooms.push(to);
            going.switched.fetch_add(1, Ordering::Relaxed);
        }
        rooms
    });
    Wanderer { user, task }
}

/// The users whom the log of a room has in it.
async fn members(cluster: &Cluster, room: &str) -> BTreeSet<String> {
    let mut inside = BTreeSet::new();
    for entry in cluster.database.log(room).await.entries {
        inside.extend(entry.gained);
        for lost in entry.lost {
            inside.remove(&lost);
        }
    }
    inside
}

/// Waits until so many more switches were answered.
async fn flows(switched: &AtomicUsize, more: usize) {
    let goal = switched.load(Ordering::Relaxed) + more;
    let reached = async {
        while switched.load(Ordering::Relaxed) < goal {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, reached).await.expect("switches go on");
}

/// Every replica of a service is killed in the middle of switches, and started again. Clients
/// repeat what was not answered: in the end each is in the room that it went to last and in no
/// other, in the seats as in the logs.
#[tokio::test]
async fn a_switch_that_is_cut_and_repeated_ends_in_one_room() {
    let mut cluster = Cluster::start(2).await;
    let mut hosts = Vec::new();
    for (number, hall) in HALLS.into_iter().enumerate() {
        let user = format!("host-{number}");
        let mut host = Device::open(cluster.user(&user), &user, "desk", LEASE, number).await;
        host.enter(hall).await;
        hosts.push(host.keep());
    }
    let (stop, on) = watch::channel(true);
    let going = Going { on, switched: Arc::default() };
    let wanderers = (0..WANDERERS).map(|number| {
        let (cluster, going) = (&cluster, going.clone());
        async move { wander(cluster, &format!("wanderer-{number}"), number, going).await }
    });
    let wanderers = join_all(wanderers).await;
    for kind in [Kind::Room, Kind::Membership, Kind::Message] {
        for _ in 0..crate::rounds(2) {
            flows(&going.switched, 3 * WANDERERS).await;
            for replica in [0, 1] {
                cluster.kill(kind.replica(replica)).await;
            }
            for replica in [0, 1] {
                cluster.restart(kind.replica(replica)).await;
            }
        }
    }
    flows(&going.switched, WANDERERS).await;
    stop.send_replace(false);

    let mut expected = BTreeMap::new();
    let mut rooms: BTreeSet<String> = HALLS.map(str::to_owned).into();
    for Wanderer { user, task } in wanderers {
        let been = timeout(PATIENCE, task).await.expect("an answer").expect("no refusal");
        expected.insert(user, been.last().expect("a room").clone());
        rooms.extend(been);
    }
    println!("{} switches, {} rooms", going.switched.load(Ordering::Relaxed), rooms.len());
    let seats = cluster.database.seats().await;
    let seats = seats.into_iter().filter(|seat| seat.resource == "phone");
    let seats: Vec<_> = seats.map(|seat| (seat.user, seat.room)).collect();
    assert_eq!(seats.len(), WANDERERS, "a seat each: {seats:?}");
    assert_eq!(seats.into_iter().collect::<BTreeMap<_, _>>(), expected);
    let mut logged = Vec::new();
    for room in &rooms {
        let members = members(&cluster, room).await;
        let wanderers = members.into_iter().filter(|user| expected.contains_key(user));
        logged.extend(wanderers.map(|user| (user, room.clone())));
    }
    assert_eq!(logged.len(), WANDERERS, "a room each: {logged:?}");
    assert_eq!(logged.into_iter().collect::<BTreeMap<_, _>>(), expected);
    cluster.finish().await;
}
