//! The services that rooms stand on: rosters in membership, logs in message.
//!
//! Every call is idempotent, so one that an outage hit is tried again, at most
//! three times, each time bounded and all within the caller's deadline.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use parlance_outbox::{DriveError, Outbox};
use parlance_proto::membership::v1 as roster;
use parlance_proto::membership::v1::roster_service_client::RosterServiceClient;
use parlance_proto::message::v1 as log;
use parlance_proto::message::v1::user_log_service_client::UserLogServiceClient;
use parlance_rpc::{Internal, Reason, Transport};
use parlance_types::{LogId, UserId};
use prost::Message as _;
use tonic::{Code, Request, Response, Status};

use crate::domain::{Actor, Deadline, NewRoom, Role, Room};
use crate::{Error, codec};

/// How long one try of a call may take.
const TRY: Duration = Duration::from_secs(3);

/// Tries after the first.
const RETRIES: usize = 2;

/// The longest reply, in bytes: a page of 100 logs with their last messages.
const MAX_REPLY: usize = 16 * 1024 * 1024;

/// Rosters: who is in which room.
#[derive(Clone, Debug)]
pub(crate) struct Roster {
    client: RosterServiceClient<Transport>,
    internal: Internal,
}

/// Logs, to read.
#[derive(Clone, Debug)]
pub(crate) struct Logs {
    client: UserLogServiceClient<Transport>,
    internal: Internal,
}

/// Logs, to tell facts to.
#[derive(Clone, Debug)]
pub(crate) struct Facts(pub(crate) Outbox);

/// Calls a service on behalf of `actor`, again if it cannot be reached.
async fn call<M, R, F, W>(
    internal: &Internal,
    actor: &Actor,
    deadline: Deadline,
    message: M,
    rpc: F,
) -> Result<R, Status>
where
    M: Clone,
    F: Fn(Request<M>) -> W,
    W: Future<Output = Result<Response<R>, Status>>,
{
    let attempt = || async {
        let bound = deadline.left().min(TRY);
        let user = actor.user.as_ref();
        let request = internal.request(&actor.tenant_id, user, bound, message.clone());
        let late = || Status::unavailable("the service did not answer in time");
        let reply = tokio::time::timeout(bound, rpc(request)).await;
        reply.unwrap_or_else(|_| Err(late())).map(Response::into_inner)
    };
    let backoff = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(20))
        .with_max_delay(Duration::from_millis(500))
        .with_max_times(RETRIES)
        .with_jitter();
    let outage = |status: &Status| status.code() == Code::Unavailable && !deadline.left().is_zero();
    attempt.retry(backoff).when(outage).await
}

/// What the failure of a call to membership means.
fn roster_error(status: Status) -> Error {
    let status = Box::new(status);
    match Reason::of(&status) {
        Some(Reason::LogNotFound | Reason::RoomNotFound) => Error::NoRoster,
        Some(Reason::LogUnavailable) => Error::Log(status),
        Some(
            Reason::UserNotFound
            | Reason::RoomFull
            | Reason::RemovedFromRoom
            | Reason::RoomIdTaken
            | Reason::RateLimited
            | Reason::Overloaded,
        ) => Error::Refused(status),
        _ if is_misunderstanding(&status) => Error::Misunderstood(status),
        _ => Error::Membership(status),
    }
}

/// Whether repeating the very same call can never help.
fn is_misunderstanding(status: &Status) -> bool {
    matches!(status.code(), Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange)
}

impl Roster {
    pub(crate) fn new(membership: Transport, internal: Internal) -> Self {
        Self { client: RosterServiceClient::new(membership), internal }
    }

    /// Fails as `open` would, and changes nothing.
    pub(crate) async fn check(
        &self,
        actor: &Actor,
        new: &NewRoom,
        deadline: Deadline,
    ) -> Result<(), Error> {
        let request = roster::CheckRosterRequest {
            rules: Some(codec::roster_rules(new.settings.roster_rules())),
            members: codec::grants(&new.founding),
            ensure_user_ids: new.founding.ensure().to_vec(),
        };
        let rpc = |request| {
            let mut client = self.client.clone();
            async move { client.check_roster(request).await }
        };
        call(&self.internal, actor, deadline, request, rpc).await.map_err(roster_error)?;
        Ok(())
    }

    /// Lets the acting user come into being.
    pub(crate) async fn ensure_user(&self, actor: &Actor, deadline: Deadline) -> Result<(), Error> {
        let rpc = |request| {
            let mut client = self.client.clone();
            async move { client.ensure_user(request).await }
        };
        let request = roster::EnsureUserRequest {};
        call(&self.internal, actor, deadline, request, rpc).await.map_err(roster_error)?;
        Ok(())
    }

    /// Opens the roster of a room in creation, and with it the room's log.
    pub(crate) async fn open(&self, room: &Room, deadline: Deadline) -> Result<(), Error> {
        let request = roster::OpenRosterRequest {
            log_id: codec::log_id(room.log_id),
            room_id: room.room_id.to_string(),
            kind: codec::kind(room.kind).into(),
            rules: Some(codec::roster_rules(room.settings.roster_rules())),
            rules_version: room.rules_version,
            members: codec::grants(&room.founding),
            ensure_user_ids: room.founding.ensure().to_vec(),
            created_event: codec::created_event(room).encode_to_vec(),
        };
        let rpc = |request| {
            let mut client = self.client.clone();
            async move { client.open_roster(request).await }
        };
        let reply = call(&self.internal, &room.founder(), deadline, request, rpc).await;
        reply.map_err(roster_error)?;
        Ok(())
    }

    /// Makes users members whatever the rules say. Fails with `NoRoster` where
    /// there is none any more.
    pub(crate) async fn ensure(
        &self,
        actor: &Actor,
        log_id: LogId,
        users: &[UserId],
        readmit_removed: bool,
        deadline: Deadline,
    ) -> Result<(), Error> {
        if users.is_empty() {
            return Ok(());
        }
        let request = roster::EnsureMembersRequest {
            log_id: codec::log_id(log_id),
            user_ids: users.iter().map(ToString::to_string).collect(),
            readmit_removed,
        };
        let rpc = |request| {
            let mut client = self.client.clone();
            async move { client.ensure_members(request).await }
        };
        call(&self.internal, actor, deadline, request, rpc).await.map_err(roster_error)?;
        Ok(())
    }

    /// Gives a roster the present rules of its room.
    pub(crate) async fn set_rules(&self, room: &Room, deadline: Deadline) -> Result<(), Error> {
        let request = roster::SetRosterRulesRequest {
            log_id: codec::log_id(room.log_id),
            rules: Some(codec::roster_rules(room.settings.roster_rules())),
            rules_version: room.rules_version,
        };
        let rpc = |request| {
            let mut client = self.client.clone();
            async move { client.set_roster_rules(request).await }
        };
        let reply = call(&self.internal, &room.founder(), deadline, request, rpc).await;
        reply.map_err(roster_error)?;
        Ok(())
    }

    /// Ends a roster and closes its log. One that never was is ended already.
    pub(crate) async fn close(
        &self,
        actor: &Actor,
        log_id: LogId,
        deadline: Deadline,
    ) -> Result<(), Error> {
        let request = roster::CloseRosterRequest { log_id: codec::log_id(log_id) };
        let rpc = |request| {
            let mut client = self.client.clone();
            async move { client.close_roster(request).await }
        };
        match call(&self.internal, actor, deadline, request, rpc).await.map_err(roster_error) {
            Ok(_) | Err(Error::NoRoster) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The role of the acting user in each of 1 to 100 rooms, in their order.
    pub(crate) async fn roles(
        &self,
        actor: &Actor,
        log_ids: &[LogId],
        deadline: Deadline,
    ) -> Result<Vec<Option<Role>>, Error> {
        let user_id = actor.user.as_ref().ok_or(Error::UserRequired)?.to_string();
        let log_ids_sent = log_ids.iter().copied().map(codec::log_id).collect();
        let request = roster::BatchGetRolesRequest { log_ids: log_ids_sent, user_id };
        let rpc = |request| {
            let mut client = self.client.clone();
            async move { client.batch_get_roles(request).await }
        };
        let reply = call(&self.internal, actor, deadline, request, rpc).await;
        let roles = reply.map_err(roster_error)?.roles;
        if roles.len() != log_ids.len() {
            let status = Status::internal("the reply has another number of roles than asked for");
            return Err(Error::Misunderstood(Box::new(status)));
        }
        Ok(roles.into_iter().map(codec::role).collect())
    }
}

impl Logs {
    pub(crate) fn new(message: Transport, internal: Internal) -> Self {
        let client = UserLogServiceClient::new(message).max_decoding_message_size(MAX_REPLY);
        Self { client, internal }
    }

    /// One page of the acting user's logs.
    pub(crate) async fn list(
        &self,
        actor: &Actor,
        request: log::ListUserLogsRequest,
        deadline: Deadline,
    ) -> Result<log::ListUserLogsResponse, Error> {
        let rpc = |request| {
            let mut client = self.client.clone();
            async move { client.list_user_logs(request).await }
        };
        call(&self.internal, actor, deadline, request, rpc).await.map_err(|status| {
            match Reason::of(&status) {
                Some(Reason::RateLimited | Reason::Overloaded) => Error::Refused(Box::new(status)),
                // All else of the request was checked before.
                Some(Reason::InvalidField) => {
                    Error::invalid("page_token", "was not made for this query")
                }
                _ if is_misunderstanding(&status) => Error::Misunderstood(Box::new(status)),
                _ => Error::Log(Box::new(status)),
            }
        })
    }
}

impl Facts {
    /// Sees to it that every fact of a log that was decided stands in the log.
    pub(crate) async fn drive(&self, log_id: LogId, deadline: Deadline) -> Result<(), Error> {
        match self.0.drive(log_id, deadline.left()).await {
            Ok(_) => Ok(()),
            Err(DriveError::Store(error)) => Err(Error::Store(error)),
            Err(error) => Err(Error::Log(Box::new(error))),
        }
    }
}
