//! The content filters of tenants, in the message service.

use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::content_filter_service_client::ContentFilterServiceClient;
use parlance_rpc::{Below, Deadline, Internal, Peer, Reason, Transport};
use parlance_types::TenantId;

use crate::Error;

type Client = ContentFilterServiceClient<Transport>;

/// The content filters of tenants, which message keeps and obeys.
#[derive(Clone, Debug)]
pub(crate) struct Filters(Peer<Client>);

/// A filter on its way from an operator to message, or back.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ContentFilter(pub(crate) pb::ContentFilter);

impl Filters {
    pub(crate) fn new(message: Transport, internal: Internal) -> Self {
        let passes = &[Reason::RateLimited, Reason::Overloaded];
        Self(Peer::new(Below::Log, Client::new(message), internal, passes))
    }

    /// Puts the filter of a tenant in place of the one before.
    pub(crate) async fn put(
        &self,
        tenant_id: &TenantId,
        ContentFilter(filter): ContentFilter,
        deadline: Deadline,
    ) -> Result<(), Error> {
        let put = |mut to: Client, request| async move { to.put_content_filter(request).await };
        let request = pb::PutContentFilterRequest { filter: Some(filter) };
        self.0.call(tenant_id, None, deadline, request, put).await?;
        Ok(())
    }

    pub(crate) async fn get(
        &self,
        tenant_id: &TenantId,
        deadline: Deadline,
    ) -> Result<ContentFilter, Error> {
        let get = |mut to: Client, request| async move { to.get_content_filter(request).await };
        let request = pb::GetContentFilterRequest {};
        let got = self.0.call(tenant_id, None, deadline, request, get).await?;
        Ok(ContentFilter(got.filter.unwrap_or_default()))
    }
}
