//! Views, and what is read together with them.

use parlance_db::{Db, row, test_on_each_db};
use parlance_log::with_view;
use parlance_types::Seq;

use crate::rooms::plan;
use crate::world::{World, user};

test_on_each_db!(parlance_message::MIGRATIONS =>
    a_statement_reads_from_where_its_viewer_sees_the_log,
);

row! {
    struct ShownRow {
        shown: Seq,
    }
}

const SHOWN: &str = with_view!(nothing: "NULL AS shown", columns: "shown", from: "viewed");

async fn a_statement_reads_from_where_its_viewer_sees_the_log(db: Db) {
    let world = World::open(db).await;
    for name in ["all", "since the join"] {
        let plan = plan(name).owned(&["ann"]);
        let plan = if name == "all" { plan } else { plan.since_join() };
        let room = plan.make(&world).await;
        world.say(room.log_id, "ann", "before").await;
        room.join("bob").await;
        room.join("cyd").await;
        room.leave("cyd").await;
        for first_stored in [1, 2, 4] {
            let update = "UPDATE heads SET first_seq = $2 WHERE log_id = $1";
            let update = world.db.write(update).bind(room.log_id.0).bind(first_stored);
            update.execute().await.expect("moved");
            for viewer in [None, Some("ann"), Some("bob"), Some("cyd"), Some("eve")] {
                let viewer = viewer.map(user);
                let (log_id, viewer) = (room.log_id, viewer.as_ref());
                let read = world.store.view_with::<ShownRow>(log_id, viewer, SHOWN, |rows| rows);
                let (view, rows) = read.await.expect("a view").expect("a log");
                let visible: Vec<_> =
                    view.visible_to(viewer).iter().map(|(from, _)| *from).collect();
                let shown: Vec<_> = rows.iter().map(|row| row.shown).collect();
                assert_eq!(shown, visible, "{name}, from {first_stored}, {viewer:?}");
                assert_eq!(Some(view), world.store.view(log_id, viewer).await.expect("a view"));
            }
        }
    }
}
