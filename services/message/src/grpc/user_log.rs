//! `UserLogService`: what other services of the suite read from logs.

use std::sync::Arc;

use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::user_log_service_server::UserLogService;
use parlance_rpc::{internal, remaining, violation};
use parlance_types::Query;
use tonic::{Request, Response, Status};

use super::{message, parse, reply, within};
use crate::codec::{role_to_pb, timestamp};
use crate::domain::Logs;
use crate::store::{UserLog, Walk};

/// Serves the logs of a user to the other services of the suite.
#[derive(Clone, Debug)]
pub struct UserLogGrpc {
    logs: Arc<Logs>,
}

impl UserLogGrpc {
    pub const fn new(logs: Arc<Logs>) -> Self {
        Self { logs }
    }
}

#[tonic::async_trait]
impl UserLogService for UserLogGrpc {
    async fn list_user_logs(
        &self,
        request: Request<pb::ListUserLogsRequest>,
    ) -> Result<Response<pb::ListUserLogsResponse>, Status> {
        let (caller, deadline) = (internal(&request)?, remaining(&request));
        let request = request.into_inner();
        let user = parse::user_id(request.user_id)?;
        let size = parse::page_size(request.page_size)?.get();
        let skip_empty = request.skip_empty;
        let query = Query::new(&[
            "ListUserLogs",
            caller.tenant_id.as_str(),
            user.as_str(),
            if skip_empty { "skip_empty" } else { "" },
        ]);
        let walk = query.position::<Walk>(&request.page_token);
        let walk = walk.map_err(|invalid| violation("page_token", invalid.to_string()))?;

        let actor = caller.into();
        let page = self.logs.user_logs(&actor, &user, walk, skip_empty, size);
        let (logs, next) = within(deadline, page).await?;
        let next_page_token = next.map(|walk| query.token(walk)).unwrap_or_default();
        let logs = logs.into_iter().map(user_log).collect();
        reply(pb::ListUserLogsResponse { logs, next_page_token })
    }
}

fn user_log(log: UserLog) -> pb::UserLog {
    let UserLog { unread, role, last_message, activity, head } = log;
    pb::UserLog {
        log_id: unread.log_id.to_string(),
        role: role_to_pb(role).into(),
        unread: unread.unread,
        marked_unread: unread.marked_unread,
        last_message: last_message.map(|last| message(&unread.room_id, last)),
        activity_time: Some(timestamp(activity)),
        read_seq: unread.read,
        head,
        room_id: unread.room_id.into_string(),
    }
}
