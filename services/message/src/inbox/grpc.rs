//! `InboxService` and `UserLogService`.

use parlance_follow::frames::stands;
use parlance_log::codec::{role_to_pb, room_kind, timestamp};
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::inbox_service_server::InboxService;
use parlance_proto::stored;
use parlance_proto::stored::user_log_service_server::UserLogService;
use parlance_rpc::{Deadline, Violation, caller, fields, internal, violation};
use parlance_types::{InvalidPageToken, LogId, Query, Role, RoomId, fitting};
use prost::Message;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{Filter, Inbox, Recount, Unread, UserLog, Walk};
use crate::message::grpc::message;

/// How many rooms one call may ask about.
const MAX_ROOMS: usize = 100;

/// How many ids of logs come at once.
const MAX_IDS: usize = 5000;

/// How many kinds, and roles, a filter may name.
const MAX_BITS: usize = 10;

/// Serves unread counts to the users whose they are.
#[derive(Clone, Debug)]
pub struct InboxGrpc {
    inbox: Inbox,
}

impl InboxGrpc {
    pub const fn new(inbox: Inbox) -> Self {
        Self { inbox }
    }
}

#[tonic::async_trait]
impl InboxService for InboxGrpc {
    async fn get_unread(
        &self,
        request: Request<pb::GetUnreadRequest>,
    ) -> Result<Response<pb::GetUnreadResponse>, Status> {
        let (caller, deadline) = (caller(&request)?, Deadline::of(&request));
        let user = caller.require_user()?.clone();
        let request = request.into_inner();
        let rooms = fields::ids("room_ids", request.room_ids, 0..=MAX_ROOMS, RoomId::parse)?;
        let unread = self.inbox.unread(&caller.tenant_id, &user, &rooms, request.these_only);
        let (rooms, total) = deadline.bound(unread).await?;
        let rooms = rooms.into_iter().map(room_unread).collect();
        Ok(Response::new(pb::GetUnreadResponse { rooms, total }))
    }

    async fn recount_unread(
        &self,
        request: Request<pb::RecountUnreadRequest>,
    ) -> Result<Response<pb::RecountUnreadResponse>, Status> {
        let (caller, deadline) = (caller(&request)?, Deadline::of(&request));
        let user = caller.require_user()?.clone();
        let found = deadline.bound(self.inbox.recount(&caller.tenant_id, &user)).await?;
        let mut differences: Vec<_> = found.differences.into_iter().map(difference).collect();
        differences.truncate(fitting(differences.iter().map(Message::encoded_len)));
        Ok(Response::new(pb::RecountUnreadResponse {
            rooms_checked: i64::try_from(found.rooms).unwrap_or(i64::MAX),
            total: found.total,
            differences,
        }))
    }
}

/// Serves the logs of a user to the other services of the suite.
#[derive(Clone, Debug)]
pub struct UserLogGrpc {
    inbox: Inbox,
}

impl UserLogGrpc {
    pub const fn new(inbox: Inbox) -> Self {
        Self { inbox }
    }
}

#[tonic::async_trait]
impl UserLogService for UserLogGrpc {
    async fn list_user_logs(
        &self,
        request: Request<pb::ListUserLogsRequest>,
    ) -> Result<Response<stored::ListUserLogsResponse>, Status> {
        let (caller, deadline) = (internal(&request)?, Deadline::of(&request));
        let request = request.into_inner();
        let user = fields::user_id("user_id", request.user_id)?;
        let size = fields::page_size(request.page_size)?.get();
        let (tenant_id, told) = (&caller.tenant_id, request.filter.clone().unwrap_or_default());
        if !request.log_ids.is_empty() {
            let logs = fields::each("log_ids", request.log_ids, 1..=MAX_ROOMS, |field, id| {
                fields::log_id(field, &id)
            })?;
            let logs = deadline.bound(self.inbox.logs_named(tenant_id, &user, &logs)).await?;
            return Ok(Response::new(stored::ListUserLogsResponse {
                logs: logs.into_iter().map(user_log).collect(),
                ..stored::ListUserLogsResponse::default()
            }));
        }
        let filter = filter(request.skip_empty, &told)?;
        let order = pb::UserLogOrder::try_from(request.order);
        let order = order.map_err(|_| violation("order", "must be a known order"))?;
        let asked = format!("{filter:?}");
        let query =
            ["ListUserLogs", tenant_id.as_str(), user.as_str(), &asked, order.as_str_name()];
        let query = Query::new(&query);
        let invalid = |invalid: InvalidPageToken| violation("page_token", invalid.to_string());
        let (logs, next_page_token, total_size) = if order == pb::UserLogOrder::Creation {
            let after = query.position::<u128>(&request.page_token).map_err(invalid)?;
            let after = after.map(|id| LogId(Uuid::from_u128(id)));
            let page = self.inbox.logs_by_creation(tenant_id, &user, after, &filter, size);
            let page = deadline.bound(page).await?;
            (page.logs, page.next.map(|next| query.token(next.0.as_u128())), page.total)
        } else {
            let walk = query.position::<Walk>(&request.page_token).map_err(invalid)?;
            let page = self.inbox.logs(tenant_id, &user, walk, &filter, size);
            let page = deadline.bound(page).await?;
            (page.logs, page.next.map(|next| query.token(next)), page.total)
        };
        Ok(Response::new(stored::ListUserLogsResponse {
            logs: logs.into_iter().map(user_log).collect(),
            next_page_token: next_page_token.unwrap_or_default(),
            total_size,
        }))
    }

    async fn list_user_log_ids(
        &self,
        request: Request<pb::ListUserLogIdsRequest>,
    ) -> Result<Response<pb::ListUserLogIdsResponse>, Status> {
        let (caller, deadline) = (internal(&request)?, Deadline::of(&request));
        let request = request.into_inner();
        let user = fields::user_id("user_id", request.user_id)?;
        let filter = filter(request.skip_empty, &request.filter.unwrap_or_default())?;
        let ids = self.inbox.log_ids(&caller.tenant_id, &user, &filter, MAX_IDS);
        let ids = deadline.bound(ids).await?;
        let log_ids = ids.iter().map(ToString::to_string).collect();
        Ok(Response::new(pb::ListUserLogIdsResponse { log_ids }))
    }
}

/// A filter from the wire; nothing named is everything.
fn filter(skip_empty: bool, filter: &pb::UserLogFilter) -> Result<Filter, Violation> {
    fields::length("filter.kinds", filter.kinds.len(), 0..=MAX_BITS)?;
    fields::length("filter.roles", filter.roles.len(), 0..=MAX_BITS)?;
    let kind = |kind: &i32| Some(room_kind(pb::RoomKind::try_from(*kind).ok()?)? as i16);
    let role = |held: &i32| Some(role(pb::MemberRole::try_from(*held).ok()?)? as i16);
    let (kinds, roles) = (filter.kinds.iter().map(kind), filter.roles.iter().map(role));
    let kinds =
        bits(kinds).ok_or_else(|| Violation::new("filter.kinds", "must be kinds of rooms"))?;
    let roles = bits(roles).ok_or_else(|| Violation::new("filter.roles", "must be roles"))?;
    let since = filter.active_since.as_ref().map(fields::micros);
    let since = since.unwrap_or(Some(i64::MIN));
    let since = since.ok_or_else(|| Violation::new("filter.active_since", "must be a time"))?;
    let unread_only = filter.unread_only;
    Ok(Filter { skip_empty, kinds, roles, unread_only, since })
}

const fn role(role: pb::MemberRole) -> Option<Role> {
    match role {
        pb::MemberRole::Owner => Some(Role::Owner),
        pb::MemberRole::Admin => Some(Role::Admin),
        pb::MemberRole::Member => Some(Role::Member),
        pb::MemberRole::Unspecified => None,
    }
}

/// The bits of some numbers, all bits if there are none.
fn bits(numbers: impl ExactSizeIterator<Item = Option<i16>>) -> Option<i64> {
    if numbers.len() == 0 {
        return Some(-1);
    }
    let mut numbers = numbers;
    numbers.try_fold(0, |bits, number| Some(bits | (1_i64 << number?)))
}

fn room_unread(room: Unread) -> pb::RoomUnread {
    pb::RoomUnread {
        room_id: room.room_id.into_string(),
        unread: room.unread,
        marked_unread: room.marked_unread,
        read_seq: room.read,
        cursor: Some(stands(&room.stands)),
        mentions: i32::try_from(room.mentions).unwrap_or(i32::MAX),
    }
}

fn difference(difference: Recount) -> pb::UnreadDifference {
    pb::UnreadDifference {
        room_id: difference.room_id.into_string(),
        reported: difference.reported,
        counted: difference.counted,
    }
}

fn user_log(log: UserLog) -> stored::UserLog {
    let UserLog { unread, role, last_message, activity } = log;
    stored::UserLog {
        log_id: unread.log_id.to_string(),
        role: role_to_pb(role).into(),
        unread: unread.unread,
        marked_unread: unread.marked_unread,
        last_message: last_message.map(|last| message(&unread.room_id, last)),
        activity_time: Some(timestamp(activity)),
        read_seq: unread.read,
        head: unread.stands.seq,
        cursor: Some(stands(&unread.stands)),
        mentions: i32::try_from(unread.mentions).unwrap_or(i32::MAX),
        room_id: unread.room_id.into_string(),
    }
}
