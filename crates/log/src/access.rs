//! Whose log a request means, and what its caller may see there.

use parlance_rpc::{Caller, Reason};
use parlance_types::{LogId, MessageId, RoomId, RoomKind, TenantId, UserId};

use crate::{Change, Error, Store, View, Visible};

/// Whose rights count in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    pub tenant_id: TenantId,
    /// `None`: somebody who acts for the tenant, and may read every room of it.
    pub user: Option<UserId>,
}

impl From<Caller> for Actor {
    fn from(caller: Caller) -> Self {
        let user = caller.user().cloned();
        Self { tenant_id: caller.tenant_id, user }
    }
}

impl Store {
    /// Runs `attempt` on the log of a room; once more if it was refused for a
    /// reason that no longer holds, such as a room id that began a new life.
    pub async fn on_log<T, F>(
        &self,
        actor: &Actor,
        room_id: &RoomId,
        attempt: impl Fn(LogId) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        match attempt(self.log_of(actor, room_id).await?).await {
            Err(refused) if may_be_outdated(&refused) => {
                self.on_log_now(actor, room_id, attempt).await
            }
            done => done,
        }
    }

    /// Runs `attempt` on the log that a room has now, if the actor may see it.
    pub async fn on_log_now<T, F>(
        &self,
        actor: &Actor,
        room_id: &RoomId,
        attempt: impl Fn(LogId) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let view = self.view_of_room(actor, room_id).await?;
        view.visible_to(actor.user.as_ref())?;
        match attempt(view.log_id).await {
            Err(Error::Refused(Reason::NotAMember, _)) if view.kind == RoomKind::Direct => {
                Err(Error::room_not_found())
            }
            done => done,
        }
    }

    /// What the actor may see of a room's present life.
    pub async fn view_of_room(&self, actor: &Actor, room_id: &RoomId) -> Result<View, Error> {
        let viewer = actor.user.as_ref();
        let view = async |log_id| Ok(self.view(log_id, viewer).await?.map(|view| (view, ())));
        Ok(self.present_view(actor, room_id, view).await?.0)
    }

    /// The view of a room's present life that `read` gives of its log, and what was read
    /// with it.
    pub async fn present_view<T, F>(
        &self,
        actor: &Actor,
        room_id: &RoomId,
        read: impl Fn(LogId) -> F,
    ) -> Result<(View, T), Error>
    where
        F: Future<Output = Result<Option<(View, T)>, Error>>,
    {
        let mut before = None;
        // The second look is for a room id that began a new life since it was cached.
        for _ in 0..2 {
            let log_id = self.log_of(actor, room_id).await?;
            if before == Some(log_id) {
                break;
            }
            match self.read_met(actor, log_id, &read).await? {
                Some((view, rest)) if view.closed.is_none() => return Ok((view, rest)),
                _ => before = Some(log_id),
            }
        }
        Err(Error::room_not_found())
    }

    /// The view of a log that `read` gives, and what was read with it; once more if it was
    /// the first contact of the actor with a broadcast.
    pub async fn read_met<T, F>(
        &self,
        actor: &Actor,
        log_id: LogId,
        read: impl Fn(LogId) -> F,
    ) -> Result<Option<(View, T)>, Error>
    where
        F: Future<Output = Result<Option<(View, T)>, Error>>,
    {
        match read(log_id).await? {
            Some((view, _)) if self.make_contact(actor, &view).await? => read(log_id).await,
            found => Ok(found),
        }
    }

    /// What the actor may see of a message's log; fails unless the message is within.
    pub async fn view_of_message(
        &self,
        actor: &Actor,
        message_id: MessageId,
    ) -> Result<(View, Visible), Error> {
        let viewer = actor.user.as_ref();
        let view = async |log_id| Ok(self.view(log_id, viewer).await?.map(|view| (view, ())));
        let found = self.read_met(actor, message_id.log_id, view).await?;
        let (view, ()) = found.ok_or(Error::message_not_found())?;
        let visible = view.shows_to(actor, message_id)?;
        Ok((view, visible))
    }

    /// Runs a change of a message; once more if it was refused to a stranger who is none any
    /// more. A refusal does not tell of more than the actor may see.
    pub async fn change_message<C: Change + Clone>(
        &self,
        actor: &Actor,
        message_id: MessageId,
        change: C,
    ) -> Result<C::Done, Error> {
        let done = self.run(change.clone()).await;
        if !matches!(&done, Err(refused) if hides(refused)) {
            return done;
        }
        self.view_of_message(actor, message_id).await?;
        match done {
            Err(Error::Refused(Reason::NotAMember, _)) => self.run(change).await,
            done => done,
        }
    }

    /// The log of a room, as it was known last.
    pub async fn log_of(&self, actor: &Actor, room_id: &RoomId) -> Result<LogId, Error> {
        self.resolve(&actor.tenant_id, room_id).await?.ok_or(Error::room_not_found())
    }
}

/// Whether a refusal may be for a reason that no longer holds: the room began a new life, or it
/// was the actor's first contact with it.
pub fn may_be_outdated(refused: &Error) -> bool {
    matches!(refused, Error::Refused(Reason::RoomNotFound | Reason::NotAMember, _))
}

/// Whether a refusal says something about a message that not everybody may know.
fn hides(refused: &Error) -> bool {
    let Error::Refused(reason, _) = refused else { return false };
    !matches!(
        reason,
        Reason::MessageNotFound | Reason::RequestIdReused | Reason::Overloaded | Reason::Draining
    )
}
