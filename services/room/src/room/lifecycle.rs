//! Driving a room on: from `creating` to `active`, from `deleting` to `deleted`,
//! and its rules and facts to where they hold.
//!
//! Every step may be repeated, by several at once and on any replica.

use parlance_rpc::Deadline;

use super::{FOLLOW, Room, Rooms, State};
use crate::Error;

/// A room that is still in creation after so long may have missed that its tenant decided
/// something: half of what others wait for it.
const LATE: u64 = FOLLOW.unsigned_abs() / 2;

impl Rooms {
    /// Opens the roster of a room in creation and makes the room active.
    ///
    /// If the roster can never be opened the room is given up, and its ids are
    /// free again. After any other failure somebody else goes on: a retry, a
    /// get-or-create, the janitor.
    pub(crate) async fn finish_creation(
        &self,
        room: &Room,
        deadline: Deadline,
    ) -> Result<(), Error> {
        match self.rosters.open(room, deadline).await {
            Ok(()) => {}
            Err(error) if error.is_final() => {
                if self.store.abandon(room.log_id, self.now()).await? {
                    // A roster whose log was refused may be open. If it stays so now,
                    // the janitor closes it later.
                    let closed = self.rosters.close(&room.founder(), room.log_id, deadline).await;
                    if let Err(error) = closed {
                        let (log_id, error) = (room.log_id, &error as &dyn std::error::Error);
                        tracing::warn!(%log_id, error, "the roster of no room may be open");
                    }
                    return Err(error);
                }
                // Somebody else was faster; their outcome counts.
                return self.check_opened(room, error).await;
            }
            Err(error) => return Err(error),
        }
        if self.store.activate(room.log_id).await? {
            if self.now().abs_diff(room.create_time) >= LATE {
                // It was no room that is there when others began to follow the tenant.
                self.follow(room.log_id, deadline).await?;
            }
            return Ok(());
        }
        let opened = self.check_opened(room, Error::GivenUp).await;
        if opened.is_err() {
            // The room was given up while we opened its roster: nobody may find that.
            self.rosters.close(&room.founder(), room.log_id, deadline).await?;
        }
        opened
    }

    /// Whether a room that is no longer in creation came to be; `otherwise` if not.
    async fn check_opened(&self, room: &Room, otherwise: Error) -> Result<(), Error> {
        match self.store.by_log_id(room.log_id).await?.map(|room| room.state) {
            Some(State::Active | State::Deleting | State::Deleted) => Ok(()),
            Some(State::Creating | State::Abandoned) | None => Err(otherwise),
        }
    }

    /// Closes the roster of a room in deletion; then its ids are free. Of one that
    /// was given up, closes what somebody may have opened after all.
    pub(crate) async fn finish_deletion(
        &self,
        room: &Room,
        deadline: Deadline,
    ) -> Result<(), Error> {
        self.rosters.close(&room.closer(), room.log_id, deadline).await?;
        self.store.bury(room.log_id).await
    }

    /// Sees to it that what was decided about an active room holds: the roster has
    /// its rules, the log its facts.
    pub(crate) async fn settle(&self, room: &Room, deadline: Deadline) -> Result<(), Error> {
        if room.rules_pending() && room.state == State::Active {
            self.push_rules(room, deadline).await?;
        }
        self.outbox.drive(room.log_id, deadline.left()).await?;
        Ok(())
    }

    /// Gives the roster the present rules of a room.
    pub(super) async fn push_rules(&self, room: &Room, deadline: Deadline) -> Result<(), Error> {
        match self.rosters.set_rules(room, deadline).await {
            // The roster was closed meanwhile: nothing is left to rule.
            Ok(()) | Err(Error::NoRoster) => {}
            Err(error) => return Err(error),
        }
        self.store.rules_pushed(room.log_id, room.rules_version).await
    }
}
