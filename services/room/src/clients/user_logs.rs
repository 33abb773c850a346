//! The logs of users, in the message service.

use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::user_log_service_client::UserLogServiceClient;
use parlance_rpc::{Below, Deadline, Internal, MAX_INTERNAL, Peer, Reason, Transport};
use parlance_types::LogId;

use crate::Error;
use crate::room::Actor;

type Client = UserLogServiceClient<Transport>;

/// The logs of users, in the message service.
#[derive(Clone, Debug)]
pub(crate) struct UserLogs(Peer<Client>);

impl UserLogs {
    pub(crate) fn new(message: Transport, internal: Internal) -> Self {
        // A page of 100 logs comes with their last messages.
        let client = Client::new(message).max_decoding_message_size(MAX_INTERNAL);
        let passes = &[Reason::Suspended, Reason::RateLimited, Reason::Overloaded];
        Self(Peer::new(Below::Log, client, internal, passes))
    }

    /// One page of the acting user's logs.
    pub(crate) async fn list(
        &self,
        actor: &Actor,
        request: pb::ListUserLogsRequest,
        deadline: Deadline,
    ) -> Result<pb::ListUserLogsResponse, Error> {
        let list = |mut to: Client, request| async move { to.list_user_logs(request).await };
        let page = self.0.call(&actor.tenant_id, actor.user.as_ref(), deadline, request, list);
        page.await.map_err(|error| match error.given() {
            // All else of the request was checked before.
            Some(Reason::InvalidField) => {
                Error::invalid("page_token", "was not made for this query")
            }
            _ => error.into(),
        })
    }

    /// The ids of the acting user's logs.
    pub(crate) async fn all_ids(
        &self,
        actor: &Actor,
        request: pb::ListUserLogIdsRequest,
        deadline: Deadline,
    ) -> Result<Vec<LogId>, Error> {
        let list = |mut to: Client, request| async move { to.list_user_log_ids(request).await };
        let ids = self.0.call(&actor.tenant_id, actor.user.as_ref(), deadline, request, list);
        let strange = |_| self.0.strange("the reply names a log that is not a UUID").into();
        ids.await?.log_ids.iter().map(|log_id| log_id.parse().map_err(strange)).collect()
    }

    /// The logs of a page, in its order.
    pub(crate) fn ids(&self, logs: &[pb::UserLog]) -> Result<Vec<LogId>, Error> {
        let strange = |_| self.0.strange("the reply names a log that is not a UUID").into();
        logs.iter().map(|seen| seen.log_id.parse().map_err(strange)).collect()
    }
}
