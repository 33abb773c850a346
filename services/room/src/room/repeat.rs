//! Changes that their caller may repeat, under one request id.

use std::sync::Arc;

use parlance_requests::{Found, RequestKey};
use parlance_rpc::{Deadline, Failure as _};
use parlance_types::LogId;

use super::{Actor, Room, Rooms, State};
use crate::Error;

/// How often a change is tried that another one of the same request keeps from its end.
const TRIES: usize = 4;

/// Who asks for a change, under which request id, and until when.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub actor: Actor,
    pub request: Option<RequestKey>,
    pub deadline: Deadline,
}

/// The outcome of a change.
#[derive(Clone, Debug)]
pub(crate) enum Changed<T = Room> {
    /// What this call came to.
    Now(Box<T>),
    /// A repeat: what was recorded of the first reply; empty of a deletion.
    Before { log_id: LogId, reply: Vec<u8> },
}

impl Rooms {
    /// Makes a change once, however often it is asked for. A repeat gets the first reply,
    /// and finishes what the first call left.
    pub(crate) async fn repeatable<T, W>(
        &self,
        asked: Asked,
        change: impl Fn(Self, Arc<Asked>) -> W + Send + 'static,
    ) -> Result<Changed<T>, Error>
    where
        T: Send + 'static,
        W: Future<Output = Result<T, Error>> + Send,
    {
        let (rooms, asked) = (self.clone(), Arc::new(asked));
        self.change(asked.deadline, async move {
            for _ in 0..TRIES {
                if let Some((log_id, reply)) = rooms.repeat(&asked).await? {
                    return Ok(Changed::Before { log_id, reply });
                }
                match change(rooms.clone(), Arc::clone(&asked)).await {
                    Ok(done) => return Ok(Changed::Now(Box::new(done))),
                    // Another call of the same request was given up at once.
                    Err(Error::RequestIdReused) => {}
                    // Two of the same request at once: what the other did may be the reason.
                    Err(error) if error.is_refusal() => {
                        let (log_id, reply) = rooms.repeat(&asked).await?.ok_or(error)?;
                        return Ok(Changed::Before { log_id, reply });
                    }
                    Err(error) => return Err(error),
                }
            }
            Err(Error::GivenUp)
        })
        .await
    }

    /// What a repeat is told; `None` if this is the first time.
    async fn repeat(&self, asked: &Asked) -> Result<Option<(LogId, Vec<u8>)>, Error> {
        let Some(request) = &asked.request else { return Ok(None) };
        let (log_id, reply) = match self.store.found(&asked.actor.tenant_id, request).await? {
            Found::New => return Ok(None),
            Found::Repeat { log_id, reply } => (log_id, reply),
            Found::Reused => return Err(Error::RequestIdReused),
        };
        let room = self.store.by_log_id(log_id).await?;
        self.go_on(room.as_ref(), reply.is_empty(), asked.deadline).await?;
        Ok(Some((log_id, reply)))
    }

    /// A repeat finds its room at whatever point the first call left it. One that was
    /// deleted since is not said to be there.
    async fn go_on(
        &self,
        room: Option<&Room>,
        deletes: bool,
        deadline: Deadline,
    ) -> Result<(), Error> {
        let Some(room) = room else { return Err(Error::GivenUp) };
        match room.state {
            State::Creating => self.finish_creation(room, deadline).await,
            State::Active => self.settle(room, deadline).await,
            State::Deleting if deletes => self.finish_deletion(room, deadline).await,
            State::Deleted if deletes => Ok(()),
            State::Deleting | State::Deleted => Err(Error::RoomNotFound),
            State::Abandoned => Err(Error::GivenUp),
        }
    }
}
