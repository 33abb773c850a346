//! The services that presence stands on: rosters in membership, streams in message.
//!
//! Every call is idempotent, so one that an outage hit is tried again, within the
//! caller's deadline.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use parlance_proto::membership::v1 as roster;
use parlance_proto::membership::v1::roster_service_client::RosterServiceClient;
use parlance_proto::message::v1 as log;
use parlance_proto::message::v1::notice_relay_service_client::NoticeRelayServiceClient;
use parlance_proto::message::v1::publish_notice_request::Notice;
use parlance_rpc::{Internal, Reason, Transport};
use parlance_types::{RoomId, TenantId, UserId};
use tokio::time::Instant;
use tonic::{Code, Request, Response, Status};

use crate::Error;
use crate::domain::User;

/// How long one try of a call may take.
const TRY: Duration = Duration::from_secs(3);

/// Tries after the first.
const RETRIES: usize = 2;

/// Who is in which room.
#[derive(Clone, Debug)]
pub(crate) struct Roster {
    client: RosterServiceClient<Transport>,
    internal: Internal,
}

/// The streams of rooms.
#[derive(Clone, Debug)]
pub(crate) struct Notices {
    client: NoticeRelayServiceClient<Transport>,
    internal: Internal,
}

/// The members of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Members {
    All(Vec<UserId>),
    /// So many, more than asked for.
    TooMany(i64),
}

/// On whose behalf a service is called, and for how long.
struct Call<'a> {
    internal: &'a Internal,
    tenant_id: &'a TenantId,
    actor: Option<&'a UserId>,
    left: Duration,
}

impl Call<'_> {
    async fn call<M, R, F, W>(&self, message: M, rpc: F) -> Result<R, Status>
    where
        M: Clone,
        F: Fn(Request<M>) -> W,
        W: Future<Output = Result<Response<R>, Status>>,
    {
        let due = Instant::now() + self.left;
        let attempt = || async {
            let bound = due.saturating_duration_since(Instant::now()).min(TRY);
            let request = self.internal.request(self.tenant_id, self.actor, bound, message.clone());
            let late = || Status::unavailable("the service did not answer in time");
            let reply = tokio::time::timeout(bound, rpc(request)).await;
            reply.unwrap_or_else(|_| Err(late())).map(Response::into_inner)
        };
        let backoff = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(20))
            .with_max_delay(Duration::from_millis(500))
            .with_max_times(RETRIES)
            .with_jitter();
        let outage = |status: &Status| status.code() == Code::Unavailable && Instant::now() < due;
        attempt.retry(backoff).when(outage).await
    }
}

/// What the failure of a call means: a refusal that concerns the caller, a bug of
/// ours, or an outage.
fn failure(status: Status, outage: fn(Box<Status>) -> Error) -> Error {
    let status = Box::new(status);
    match Reason::of(&status) {
        Some(
            Reason::RoomNotFound | Reason::NotAMember | Reason::RateLimited | Reason::Overloaded,
        ) => Error::Refused(status),
        _ => match status.code() {
            Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
                Error::Misunderstood(status)
            }
            _ => outage(status),
        },
    }
}

impl Roster {
    pub(crate) fn new(membership: Transport, internal: Internal) -> Self {
        Self { client: RosterServiceClient::new(membership), internal }
    }

    /// Lets a user come into being.
    pub(crate) async fn ensure(
        &self,
        (tenant_id, user_id): &User,
        left: Duration,
    ) -> Result<(), Error> {
        let call = Call { internal: &self.internal, tenant_id, actor: Some(user_id), left };
        let request = roster::EnsureUserRequest {};
        let rpc = |request| {
            let mut client = self.client.clone();
            async move { client.ensure_user(request).await }
        };
        let reply = call.call(request, rpc).await;
        reply.map_err(|status| failure(status, Error::Membership))?;
        Ok(())
    }

    /// The members of a room that `actor` may see, up to `most`.
    pub(crate) async fn members(
        &self,
        tenant_id: &TenantId,
        actor: Option<&UserId>,
        room_id: &RoomId,
        most: i32,
        left: Duration,
    ) -> Result<Members, Error> {
        let call = Call { internal: &self.internal, tenant_id, actor, left };
        let room_id = room_id.to_string();
        let request = roster::GetRoomMembersRequest { room_id, max_members: most };
        let rpc = |request| {
            let mut client = self.client.clone();
            async move { client.get_room_members(request).await }
        };
        let reply = call.call(request, rpc).await;
        let reply = reply.map_err(|status| failure(status, Error::Membership))?;
        if reply.total_size > i64::from(most) || reply.user_ids.is_empty() && reply.total_size > 0 {
            return Ok(Members::TooMany(reply.total_size));
        }
        Ok(Members::All(reply.user_ids.into_iter().map(UserId::new).collect()))
    }
}

impl Notices {
    pub(crate) fn new(message: Transport, internal: Internal) -> Self {
        Self { client: NoticeRelayServiceClient::new(message), internal }
    }

    /// Tells the streams of a room that a member is typing for so long; zero: stopped.
    pub(crate) async fn typing(
        &self,
        (tenant_id, user_id): &User,
        room_id: &RoomId,
        lasts: Duration,
        left: Duration,
    ) -> Result<(), Error> {
        let call = Call { internal: &self.internal, tenant_id, actor: Some(user_id), left };
        let lasts = prost_types::Duration::try_from(lasts).ok();
        let request = log::PublishNoticeRequest {
            room_id: room_id.to_string(),
            user_id: user_id.to_string(),
            notice: Some(Notice::Typing(log::TypingNotice { lasts })),
        };
        let rpc = |request| {
            let mut client = self.client.clone();
            async move { client.publish_notice(request).await }
        };
        call.call(request, rpc).await.map_err(|status| failure(status, Error::Log))?;
        Ok(())
    }
}
