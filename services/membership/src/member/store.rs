//! What is said of members in SQL.

use std::collections::BTreeMap;

use parlance_db::{Conn, StoreError, Stored};
use parlance_outbox::enqueue;
use parlance_rpc::Violation;
use parlance_types::{LogId, Micros, UserId};

use super::{Update, grpc, may_update};
use crate::Error;
use crate::roster::store::{Act, look};
use crate::roster::{Roster, State};
use crate::store::Store;

type Said = BTreeMap<UserId, BTreeMap<String, String>>;

impl Act for Update {
    async fn run(
        &self,
        tx: &mut Conn,
        roster: Roster,
        actor: Option<&UserId>,
        _: Micros,
    ) -> Result<Vec<u8>, Error> {
        let log_id = roster.log_id;
        let locked = look(tx, roster, actor.into_iter().chain([&self.user_id])).await?;
        may_update(&locked, actor, &self.user_id)?;
        let before = metadata(tx, log_id, &[&self.user_id]).await?.into_values().next();
        let too_many = || Violation::new("set", "must leave the member with at most 8 keys");
        let updated = self.apply(before.unwrap_or_default()).ok_or_else(too_many)?;
        if !updated.is_nothing() {
            let set = "UPDATE members SET metadata = $3 WHERE log_id = $1 AND user_id = $2";
            let set = tx.query(set).bind(log_id.0).bind(self.user_id.as_str());
            let json = serde_json::to_string(&updated.metadata).expect("a map of texts is JSON");
            set.bind(json).execute().await?;
            enqueue(tx, log_id, &[grpc::event(actor, &self.user_id, &updated)]).await?;
        }
        Ok(grpc::reply(&self.user_id, &updated))
    }
}

impl Store {
    /// What is said of those of the users who are members.
    pub(super) async fn member_metadata(
        &self,
        roster: &Roster,
        user_ids: &[UserId],
    ) -> Result<Said, Error> {
        let named: Vec<_> = user_ids.iter().collect();
        Ok(metadata(&mut self.db.reader().await?, roster.log_id, &named).await?)
    }
}

/// What is said of those of the users who are members.
async fn metadata(
    conn: &mut Conn,
    log_id: LogId,
    user_ids: &[&UserId],
) -> Result<Said, StoreError> {
    let select = "SELECT user_id, state, metadata FROM (VALUES ($1, $2..)) w JOIN members
                      ON log_id = w.column1 AND user_id = w.column2";
    let select = conn.query(select).bind(log_id.0);
    let found = select.bind_list(user_ids.iter().map(|id| id.as_str()));
    let found: Vec<(String, i16, String)> = found.fetch_all().await?;
    let present = found.into_iter().filter(|(_, state, _)| *state == State::Present as i16);
    let said = present.map(|(user_id, _, metadata)| {
        let stored = Stored { table: "members", row: log_id };
        let metadata = stored.value("metadata", serde_json::from_str(&metadata).ok())?;
        Ok((UserId::new(user_id), metadata))
    });
    said.collect()
}
