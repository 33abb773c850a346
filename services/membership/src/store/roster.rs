//! Opening, ruling and closing rosters.

use std::collections::BTreeSet;

use parlance_outbox::OutboxLog;
use parlance_types::{LogId, TenantId, UserId};

use super::{Done, Store, Tx, in_tx};
use crate::Error;
use crate::codec;
use crate::domain::{
    Actor, Grant, NewRoster, Refused, Roster, Rules, Scene, Step, admit, may_open,
};

/// A roster to be opened, and the event that creates its log.
#[derive(Clone, Debug)]
pub struct Opening {
    pub roster: NewRoster,
    pub created: codec::Event,
}

impl Store {
    /// Opens a roster. Opening the same one again has no effect.
    pub async fn open_roster(&self, actor: &Actor, opening: &Opening) -> Result<Done<()>, Error> {
        let Opening { roster: new, created } = opening;
        let done = Done { log_id: new.log_id, value: () };
        let now = self.clock.now();
        let mut tx = Tx::begin(&self.db).await?;
        let ensured = new.ensure.iter().collect();
        tx.ensure_users(&actor.tenant_id, &ensured, now).await?;
        let roster = Roster {
            log_id: new.log_id,
            tenant_id: actor.tenant_id.clone(),
            room_id: new.room_id.clone(),
            kind: new.kind,
            rules: new.rules,
            member_count: 0,
            closed: false,
        };
        if !tx.insert_roster(&roster, new.rules_version).await? {
            return match tx.lock_log(&actor.tenant_id, new.log_id).await? {
                Some(found) if found.room_id == new.room_id => Ok(done),
                _ => Err(Refused::RoomIdTaken.into()),
            };
        }
        let named: Vec<_> = new.members.iter().map(|member| &member.user_id).collect();
        let known = tx.known_users(&actor.tenant_id, &named).await?;
        may_open(new.rules, &new.members, |user_id| known.contains(user_id))?;
        tx.register(&roster).await?;
        let mut events = vec![created.clone()];
        if !new.members.is_empty() {
            let joined = Step::Gained(new.members.clone());
            tx.take(&roster, &joined, now).await?;
            events.push(codec::event(actor.user.as_ref(), &joined));
        }
        tx.enqueue(new.log_id, &events).await?;
        tx.commit().await?;
        Ok(done)
    }

    /// What opening a roster with these first members would be refused for.
    pub async fn check_roster(
        &self,
        tenant_id: &TenantId,
        rules: Rules,
        members: &[Grant],
        ensure: &[UserId],
    ) -> Result<(), Error> {
        let named: Vec<_> = members.iter().map(|member| member.user_id.clone()).collect();
        let known = self.users(tenant_id, &named).await?;
        may_open(rules, members, |user| known.contains_key(user) || ensure.contains(user))?;
        Ok(())
    }

    /// Makes users members whatever the rules say; those who do not exist come into being.
    pub async fn ensure_members(
        &self,
        actor: &Actor,
        log_id: LogId,
        user_ids: &[UserId],
        readmit: bool,
    ) -> Result<Done<()>, Error> {
        let now = self.clock.now();
        let mut tx = Tx::begin(&self.db).await?;
        tx.ensure_users(&actor.tenant_id, &user_ids.iter().collect(), now).await?;
        let roster = tx.lock_log(&actor.tenant_id, log_id).await?;
        let roster = roster.filter(|roster| !roster.closed).ok_or(Error::LogNotFound)?;
        let rows = tx.members(log_id, &user_ids.iter().collect::<Vec<_>>()).await?;
        let scene = Scene { roster, rows, known: BTreeSet::new(), owners: 0 };
        let gained = admit(&scene, user_ids, readmit)?;
        if !gained.is_empty() {
            let steps = [Step::Gained(gained)];
            tx.take_all(&scene.roster, actor.user.as_ref(), &steps, now).await?;
        }
        tx.commit().await?;
        Ok(Done { log_id, value: () })
    }

    /// Replaces the rules, unless later ones are known.
    pub async fn set_rules(
        &self,
        tenant_id: &TenantId,
        log_id: LogId,
        rules: Rules,
        version: i64,
    ) -> Result<(), Error> {
        let mut tx = Tx::begin(&self.db).await?;
        let roster = tx.lock_log(tenant_id, log_id).await?;
        roster.filter(|roster| !roster.closed).ok_or(Error::LogNotFound)?;
        tx.update_rules(log_id, rules, version).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Ends a roster. Ending it again has no effect.
    pub async fn close_roster(&self, actor: &Actor, log_id: LogId) -> Result<Done<()>, Error> {
        let mut tx = Tx::begin(&self.db).await?;
        let roster = tx.lock_log(&actor.tenant_id, log_id).await?.ok_or(Error::LogNotFound)?;
        if !roster.closed {
            tx.mark_closed(log_id).await?;
            tx.enqueue(log_id, &[codec::closing(actor.user.as_ref())]).await?;
            tx.commit().await?;
        }
        Ok(Done { log_id, value: () })
    }
}

impl Tx {
    /// `false`: the log has a roster, or another open one holds the room.
    async fn insert_roster(&mut self, roster: &Roster, version: i64) -> Result<bool, Error> {
        let written = in_tx!(self, |tx| {
            sqlx::query(
                "INSERT INTO rosters
                   (log_id, tenant_id, room_id, kind, join_rule, add_rule, remove_rule, capacity,
                    rules_version, member_count, closed)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, FALSE) ON CONFLICT DO NOTHING",
            )
            .bind(roster.log_id.0)
            .bind(roster.tenant_id.as_str())
            .bind(roster.room_id.as_str())
            .bind(roster.kind as i16)
            .bind(roster.rules.join as i16)
            .bind(roster.rules.add as i16)
            .bind(roster.rules.remove as i16)
            .bind(roster.rules.capacity)
            .bind(version)
            .execute(&mut **tx)
            .await
            .map(|done| done.rows_affected())
        })?;
        Ok(written == 1)
    }

    async fn register(&mut self, roster: &Roster) -> Result<(), Error> {
        let log = OutboxLog {
            log_id: roster.log_id,
            tenant_id: roster.tenant_id.clone(),
            room_id: roster.room_id.clone(),
            kind: codec::kind(roster.kind),
        };
        in_tx!(self, |tx| parlance_outbox::register(tx, &log).await)?;
        Ok(())
    }

    async fn update_rules(
        &mut self,
        log_id: LogId,
        rules: Rules,
        version: i64,
    ) -> Result<(), Error> {
        in_tx!(self, |tx| {
            sqlx::query(
                "UPDATE rosters SET join_rule = $2, add_rule = $3, remove_rule = $4,
                   capacity = $5, rules_version = $6
                 WHERE log_id = $1 AND rules_version < $6",
            )
            .bind(log_id.0)
            .bind(rules.join as i16)
            .bind(rules.add as i16)
            .bind(rules.remove as i16)
            .bind(rules.capacity)
            .bind(version)
            .execute(&mut **tx)
            .await
            .map(drop)
        })?;
        Ok(())
    }

    async fn mark_closed(&mut self, log_id: LogId) -> Result<(), Error> {
        in_tx!(self, |tx| {
            sqlx::query("UPDATE rosters SET closed = TRUE WHERE log_id = $1")
                .bind(log_id.0)
                .execute(&mut **tx)
                .await
                .map(drop)
        })?;
        Ok(())
    }
}
