//! Who enters at the moment at which a room's time is over.

use futures::future::join_all;
use parlance_db::{Db, test_on_each_db};
use parlance_proto::message::v1::Event;
use parlance_proto::message::v1::event::Body;
use tokio::sync::Notify;
use tokio::task::yield_now;

use super::rooms::{entered, leave, live, waiting, word};
use crate::beside_membership::{beside, role};
use crate::harness::{Harness, Membership, SECOND};

test_on_each_db!(parlance_room::MIGRATIONS =>
    an_entry_at_the_deadline_goes_on_or_begins_anew_and_says_which,
);

/// How many rooms come to their ends beside each other, and how often each does.
const ROOMS: usize = 4;
const ROUNDS: usize = 125;

/// What happened in the lives of the room that this user, and nobody else, was in: those that
/// are over, and those that are not.
fn lives(suite: &Harness, user: &str) -> (Vec<Vec<&'static str>>, Vec<Vec<&'static str>>) {
    let was_in = |event: &Event| match event.body.as_ref().expect("a body") {
        Body::MembersJoined(joined) => joined.members.iter().any(|member| member.user_id == user),
        _ => false,
    };
    let logs = suite.logs.state();
    let lives = logs.events.values().filter(|events| events.iter().any(was_in));
    let lives = lives.map(|events| events.iter().map(word).collect::<Vec<_>>());
    lives.partition(|life| life.last() == Some(&"closed"))
}

/// Lets the user go, and come back when the room's time is over, while the membership service,
/// which is told, ends such rooms; whether the room began anew.
async fn come_back(
    suite: &Harness,
    (membership, due): (&Membership, &Notify),
    (room, user): (&str, &str),
    round: usize,
) -> bool {
    let mut client = live(suite, user);
    let (over, here) = lives(suite, user);
    let [mut life] = here.try_into().expect("a life that goes on");
    leave(&mut client, room).await;
    life.push("left");
    let end = async {
        // At any moment of the entry.
        for _ in 0..round % 25 {
            yield_now().await;
        }
        suite.clock.advance(SECOND);
        due.notify_one();
    };
    let (back, ()) = tokio::join!(entered(&mut client, waiting(room, 1)), end);
    let anew = back.created;
    let (still_over, now) = lives(suite, user);
    if anew {
        assert_eq!(now, [["created", "joined"]], "{room}");
        life.push("closed");
        assert_eq!(still_over.len(), over.len() + 1);
        assert!(still_over.contains(&life), "{room}: {life:?}, {still_over:?}");
    } else {
        life.push("joined");
        assert_eq!((now, still_over.len()), (vec![life], over.len()), "{room}");
    }
    assert!(role(membership, user, room).await.is_some(), "{user} is in");
    anew
}

async fn an_entry_at_the_deadline_goes_on_or_begins_anew_and_says_which(db: Db) {
    beside(db, |suite, membership| async move {
        let due = Notify::new();
        let (suite, beside) = (&suite, (&membership, &due));
        let rooms = (0..ROOMS).map(|number| async move {
            let (room, user) = (format!("room {number}"), format!("user {number}"));
            assert!(entered(&mut live(suite, &user), waiting(&room, 1)).await.created);
            let mut anew = 0;
            for round in 0..ROUNDS {
                anew += usize::from(come_back(suite, beside, (&room, &user), round).await);
            }
            anew
        });
        let end = async {
            loop {
                due.notified().await;
                membership.end_due().await;
            }
        };
        let anew: usize = tokio::select! {
            anew = join_all(rooms) => anew.into_iter().sum(),
            () = end => unreachable!("it goes on"),
        };
        println!("{anew} of {} entries began the room anew", ROOMS * ROUNDS);
    })
    .await;
}
