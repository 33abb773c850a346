//! A source whose database holds nothing but its outbox.

use std::sync::Arc;

use parlance_db::{Db, StoreError};
use parlance_outbox::testing::Logs;
use parlance_outbox::{Outbox, OutboxLog, enqueue, register};
use parlance_proto::message::v1::event::Body;
use parlance_proto::message::v1::{
    Effects, Event, FactSource, MemberGrant, MemberRole, MembersJoined, RoomKind,
};
use parlance_rpc::{Internal, InternalKey};
use parlance_types::{LogId, ManualClock, RoomId, TenantId};
use uuid::Uuid;

pub(crate) struct Source {
    pub(crate) db: Db,
    pub(crate) logs: Logs,
    pub(crate) outbox: Outbox,
}

pub(crate) fn new_log() -> LogId {
    LogId(Uuid::now_v7())
}

pub(crate) fn member_joins(user: &str) -> Event {
    let members = vec![MemberGrant { user_id: user.to_owned(), role: MemberRole::Member.into() }];
    Event {
        effects: Some(Effects { gained: members.clone(), ..Effects::default() }),
        body: Some(Body::MembersJoined(MembersJoined { members })),
        ..Event::default()
    }
}

fn outbox(db: &Db, source: FactSource, logs: &Logs) -> Outbox {
    let internal = Internal::new(InternalKey::random(), Arc::new(ManualClock::at(1)));
    Outbox::new(db.clone(), source, logs.transport(), internal)
}

impl Source {
    pub(crate) fn new(db: Db) -> Self {
        Self::of(db, FactSource::Membership)
    }

    pub(crate) fn of(db: Db, source: FactSource) -> Self {
        let logs = Logs::default();
        let outbox = outbox(&db, source, &logs);
        Self { db, logs, outbox }
    }

    /// The same source, whose outbox leads to the logs it has now.
    pub(crate) fn reconnected(self) -> Self {
        let outbox = outbox(&self.db, FactSource::Membership, &self.logs);
        Self { outbox, ..self }
    }

    pub(crate) async fn register(&self, room: &str) -> LogId {
        let log_id = new_log();
        self.register_as(log_id, room).await;
        log_id
    }

    pub(crate) async fn register_as(&self, log_id: LogId, room: &str) {
        let (tenant_id, room_id) = (TenantId::new("acme"), RoomId::new(room));
        let log = OutboxLog { log_id, tenant_id, room_id, kind: RoomKind::Group };
        let mut tx = self.db.begin().await.expect("begin");
        register(&mut tx, &log).await.expect("register");
        tx.commit().await.expect("commit");
    }

    pub(crate) async fn enqueue(&self, log_id: LogId, events: &[Event]) -> i64 {
        self.try_enqueue(log_id, events).await.expect("enqueue")
    }

    pub(crate) async fn try_enqueue(
        &self,
        log_id: LogId,
        events: &[Event],
    ) -> Result<i64, StoreError> {
        let mut tx = self.db.begin().await?;
        let version = enqueue(&mut tx, log_id, events).await?;
        tx.commit().await?;
        Ok(version)
    }

    pub(crate) async fn enqueue_and_roll_back(&self, log_id: LogId, events: &[Event]) {
        let mut tx = self.db.begin().await.expect("begin");
        enqueue(&mut tx, log_id, events).await.expect("enqueue");
        tx.rollback().await.expect("roll back");
    }

    /// Puts the source back to where its facts of a log ended at `version`, as a restored
    /// database does.
    pub(crate) async fn rewind(&self, log_id: LogId, version: i64) {
        for rewind in [
            "DELETE FROM outbox WHERE log_id = $1 AND version > $2",
            "UPDATE outbox_logs SET version = $2, applied = $2 WHERE log_id = $1",
        ] {
            self.db.write(rewind).bind(log_id.0).bind(version).execute().await.expect("rewound");
        }
    }

    /// Who joined, in the order of the log.
    pub(crate) fn users(&self, log_id: LogId) -> Vec<String> {
        let gained = |event: Event| event.effects.unwrap_or_default().gained;
        let events = self.logs.log(log_id).events.into_iter().flat_map(gained);
        events.map(|grant| grant.user_id).collect()
    }
}
