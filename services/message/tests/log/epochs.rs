//! Epochs and what they mean for cursors.

use parlance_db::{Db, test_on_each_db};
use parlance_log::{CursorCheck, EpochId};
use parlance_types::Seq;

use crate::world::World;

test_on_each_db!(parlance_message::MIGRATIONS =>
    a_cursor_of_an_old_epoch_holds_below_the_next_ones_first_event,
    a_cursor_above_the_head_is_refused_and_begins_no_epoch,
    what_a_node_finds_rewound_begins_one_epoch,
    an_unknown_epoch_is_told,
);

async fn a_cursor_of_an_old_epoch_holds_below_the_next_ones_first_event(db: Db) {
    let world = World::open(db).await;
    let (store, log_id) = (&world.store, world.group("r", &["ann"]).await);
    let first = store.epoch().await.expect("an epoch");
    assert_eq!(world.say(log_id, "ann", "3").await.epoch, first);
    let second = store.bump_epoch("test").await.expect("an epoch");
    assert_ne!(first, second);
    assert_eq!(store.epoch().await.expect("an epoch"), second);
    let check = async |epoch: &EpochId, seq: Seq| {
        store.check_cursor(log_id, epoch, seq, false).await.expect("checked")
    };
    // Nothing was appended since: both hold up to the head.
    assert_eq!(check(&first, 3).await, CursorCheck::Holds);
    assert_eq!(check(&second, 3).await, CursorCheck::Holds);
    assert_eq!(check(&first, 4).await, CursorCheck::Rewound { keep_through: 3 });

    assert_eq!(world.say(log_id, "ann", "4").await.epoch, second);
    assert_eq!(check(&first, 3).await, CursorCheck::Holds);
    assert_eq!(check(&first, 4).await, CursorCheck::Rewound { keep_through: 3 });
    assert_eq!(check(&second, 4).await, CursorCheck::Holds);
    assert_eq!(check(&EpochId::default(), 0).await, CursorCheck::Holds);

    let view = store.view(log_id, None).await.expect("a view").expect("a log");
    let head = store.heads(&[log_id]).await.expect("heads").remove(0);
    assert_eq!((view.epoch, head.epoch), (second.clone(), second));
    let published = world.published.lock().expect("a lock");
    assert_ne!(published[0].epoch, published[published.len() - 1].epoch);
}

/// It may be made up: what it does to its own stream it does to no other.
async fn a_cursor_above_the_head_is_refused_and_begins_no_epoch(db: Db) {
    let world = World::open(db).await;
    let (store, log_id) = (&world.store, world.group("r", &["ann"]).await);
    let first = store.epoch().await.expect("an epoch");
    let rewound = CursorCheck::Rewound { keep_through: 2 };
    for seq in [3, 9, 1 << 62] {
        let check = store.check_cursor(log_id, &first, seq, false).await;
        assert_eq!(check.expect("checked"), rewound);
    }
    assert_eq!(store.epoch().await.expect("an epoch"), first);
    assert_eq!(world.say(log_id, "ann", "3").await.epoch, first);
}

/// A node knows for itself what it has read or stored; of all who find it one begins the epoch.
async fn what_a_node_finds_rewound_begins_one_epoch(db: Db) {
    let world = World::open(db).await;
    let (store, log_id) = (&world.store, world.group("r", &["ann"]).await);
    let first = store.epoch().await.expect("an epoch");
    store.rewound(&first).await.expect("begun");
    let second = store.epoch().await.expect("an epoch");
    assert_ne!(first, second);
    store.rewound(&first).await.expect("begun before");
    assert_eq!(store.epoch().await.expect("an epoch"), second);
    let rewound = CursorCheck::Rewound { keep_through: 2 };
    for _ in 0..8 {
        assert_eq!(store.check_cursor(log_id, &first, 9, false).await.expect("checked"), rewound);
        world.say(log_id, "ann", "x").await;
    }
    // What was refused once is refused for ever.
    assert_eq!(store.check_cursor(log_id, &first, 9, false).await.expect("checked"), rewound);
}

async fn an_unknown_epoch_is_told(db: Db) {
    let world = World::open(db).await;
    let log_id = world.group("r", &["ann"]).await;
    for epoch in ["", "made up"] {
        let check = world.store.check_cursor(log_id, &EpochId(epoch.to_owned()), 1, false).await;
        assert_eq!(check.expect("checked"), CursorCheck::UnknownEpoch);
    }
}
