//! What happens at once, on several connections and replicas.

use futures::future::join_all;
use parlance_db::Db;
use parlance_proto::membership::v1 as pb;
use parlance_rpc::Reason;
use tokio::sync::Notify;
use tokio::task::yield_now;

use super::rooms::{
    MOST, Plan, all_seats, end, enter, entering, held, leave, live, new_log, session, story,
    switch, try_enter,
};
use crate::harness::{Member, Owner, World, refused};

parlance_db::test_on_each_db!(
    parlance_membership::MIGRATIONS =>
        an_entry_at_the_deadline_is_in_a_living_room_or_refused,
        two_switches_at_once_end_in_one_room,
        switches_that_cross_do_not_wait_for_each_other,
        seventy_join_fifty_seats,
        a_user_who_enters_everywhere_at_once_keeps_to_the_limit,
        a_reconnect_beside_the_end_of_the_older_session_is_no_leave,
        the_last_two_who_leave_at_once_end_the_room,
);

/// Lets a user enter a room whose time is over, while the service, which is told, ends such
/// rooms; whether the user came in.
async fn enter_at_the_deadline(
    world: &World,
    (db, over): (&Db, &Notify),
    user: &str,
    round: usize,
) -> bool {
    let den = live(world, &format!("{user} {round}"), 0).await;
    let due = "UPDATE rosters SET destroy_time = 1 WHERE log_id = $1";
    db.write(due).bind(den.0).execute().await.expect("due");
    over.notify_one();
    // Either is first now and then.
    for _ in 0..round % 8 {
        yield_now().await;
    }
    let entered = try_enter(world, user, den, "a").await;
    let inside = entered.is_ok();
    if inside {
        assert_eq!(story(world, den), ["created", &format!("{user} joined")], "round {round}");
        assert!(leave(world, user, den, "a").await);
        assert_eq!(story(world, den)[2..], [&format!("{user} left: LEFT"), "closed"]);
    } else {
        refused(entered, Reason::LogNotFound);
        assert_eq!(story(world, den), ["created", "closed"], "round {round}");
    }
    inside
}

async fn an_entry_at_the_deadline_is_in_a_living_room_or_refused(db: Db) {
    let world = World::new(db.clone());
    let (other, over) = (world.replica(db.clone()), Notify::new());
    let users = (0..20).map(|number| {
        let (world, over) = (&world, (&db, &over));
        async move {
            let (user, mut inside) = (format!("user {number}"), 0);
            for round in 0..25 {
                inside += usize::from(enter_at_the_deadline(world, over, &user, round).await);
            }
            inside
        }
    });
    let end = async {
        loop {
            over.notified().await;
            other.service.end_due().await.expect("ended");
        }
    };
    let inside: usize = tokio::select! {
        inside = join_all(users) => inside.into_iter().sum(),
        () = end => unreachable!("it goes on"),
    };
    println!("{inside} of 500 came in");
    assert!(all_seats(&world).await.is_empty());
}

async fn two_switches_at_once_end_in_one_room(db: Db) {
    let world = World::new(db.clone());
    let other = world.replica(db);
    for round in 0..20 {
        let from = live(&world, &format!("from {round}"), 0).await;
        let one = live(&world, &format!("one {round}"), 0).await;
        let two = live(&world, &format!("two {round}"), 0).await;
        enter(&world, "ann", from, "a").await;
        let (to_one, to_two) = tokio::join!(
            switch(&world, "ann", from, one, "a"),
            switch(&other, "ann", from, two, "a")
        );
        let (won, lost) = match (to_one, to_two) {
            (Ok(_), Err(status)) => (one, status),
            (Err(status), Ok(_)) => (two, status),
            both => panic!("one of two moves: {both:?}"),
        };
        refused::<()>(Err(lost), Reason::SeatNotFound);
        let seats = all_seats(&world).await;
        assert_eq!(seats.iter().map(|(log, ..)| *log).collect::<Vec<_>>(), [won]);
        assert_eq!(story(&world, from)[2..], ["ann left: SWITCHED", "closed"]);
        leave(&world, "ann", won, "a").await;
    }
}

async fn switches_that_cross_do_not_wait_for_each_other(db: Db) {
    let world = World::new(db.clone());
    let other = world.replica(db);
    let (den, tea) = (live(&world, "den", 60).await, live(&world, "tea", 60).await);
    enter(&world, "ann", den, "a").await;
    enter(&world, "bob", tea, "b").await;
    for round in 0..20 {
        let (ann, bob) = if round % 2 == 0 { (den, tea) } else { (tea, den) };
        let (one, two) = tokio::join!(
            switch(&world, "ann", ann, bob, "a"),
            switch(&other, "bob", bob, ann, "b")
        );
        one.expect("moved");
        two.expect("moved");
    }
    assert_eq!(all_seats(&world).await.len(), 2);
}

async fn seventy_join_fifty_seats(db: Db) {
    let world = World::new(db.clone());
    let other = world.replica(db);
    let hall = Plan { capacity: 50, ..Plan::default() }.open(&world, "hall").await;
    let entries = (0..70).map(|n| {
        let world = if n % 2 == 0 { &world } else { &other };
        async move { try_enter(world, &format!("user {n}"), hall, "a").await }
    });
    let (inside, outside): (Vec<_>, Vec<_>) =
        join_all(entries).await.into_iter().partition(Result::is_ok);
    assert_eq!((inside.len(), outside.len()), (50, 20));
    for entered in outside {
        refused(entered, Reason::RoomFull);
    }
    assert_eq!(all_seats(&world).await.len(), 50);
    let roles = world.roles("hall").await;
    assert_eq!(roles.iter().filter(|(_, role)| *role == Owner).count(), 1);
    assert_eq!(roles.iter().filter(|(_, role)| *role == Member).count(), 49);
}

async fn a_user_who_enters_everywhere_at_once_keeps_to_the_limit(db: Db) {
    let world = World::new(db.clone());
    let other = world.replica(db);
    let mut rooms = Vec::new();
    for n in 0..12 {
        rooms.push((n, live(&world, &format!("room {n}"), 0).await));
    }
    let entries = rooms.iter().map(|(n, room)| {
        let world = if n % 2 == 0 { &world } else { &other };
        try_enter(world, "ann", *room, "a")
    });
    // Some of them make their rooms.
    let makes = (0..4).map(|n| {
        let mut rosters = other.room_service("acme", Some("ann")).rosters;
        let request = Plan::default().entered(new_log(), &format!("new {n}"), "ann", "a", None);
        async move { rosters.open_roster(request).await.map(drop) }
    });
    let (entered, made) = tokio::join!(join_all(entries), join_all(makes));
    let entered = entered.into_iter().map(|entered| entered.map(drop));
    let (inside, outside): (Vec<_>, Vec<_>) = entered.chain(made).partition(Result::is_ok);
    assert_eq!(inside.len(), usize::try_from(MOST).expect("positive"));
    for status in outside {
        refused(status.map(tonic::Response::new), Reason::RoomLimit);
    }
    assert_eq!(all_seats(&world).await.len(), inside.len());
}

/// A client that comes back opens a session and enters with it, while the end of the one before
/// is on its way.
async fn a_reconnect_beside_the_end_of_the_older_session_is_no_leave(db: Db) {
    let world = World::new(db.clone());
    let other = world.replica(db);
    let den = live(&world, "den", 60).await;
    enter(&world, "bob", den, "b").await;
    enter(&world, "ann", den, "a").await;
    let mut leaves = 0;
    for round in 1..=50_i32 {
        let before = if round == 1 { session("a") } else { format!("session {}", round - 1) };
        let request =
            pb::EnterSeatRequest { session_id: format!("session {round}"), ..entering(den, "a") };
        let mut seats = other.room_service("acme", Some("ann")).seats;
        let end_first = round % 2 == 0;
        if end_first {
            let (entered, ()) = tokio::join!(
                seats.enter_seat(request),
                end(&world, vec![held("ann", "a", &before)])
            );
            entered.expect("entered");
        } else {
            seats.enter_seat(request).await.expect("entered");
            end(&world, vec![held("ann", "a", &before)]).await;
        }
        let told = story(&world, den);
        let left = told.iter().filter(|told| told.contains("left")).count();
        // Beside each other either may be first; behind the entry the end takes nothing.
        assert!(end_first || left == leaves, "round {round}: {told:?}");
        leaves = left;
        assert_eq!(world.roles("den").await.len(), 2, "round {round}");
    }
    println!("{leaves} of 25 ends came before the entry beside them");
}

async fn the_last_two_who_leave_at_once_end_the_room(db: Db) {
    let world = World::new(db.clone());
    let other = world.replica(db);
    for round in 0..20 {
        let den = live(&world, &format!("den {round}"), 0).await;
        enter(&world, "ann", den, "a").await;
        enter(&world, "bob", den, "b").await;
        let (one, two) =
            tokio::join!(leave(&world, "ann", den, "a"), leave(&other, "bob", den, "b"));
        assert!(one != two, "one of them is the last");
        assert_eq!(story(&world, den).last().expect("an event"), "closed");
    }
}
