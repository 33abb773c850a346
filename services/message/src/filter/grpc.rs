//! `ContentFilterService`: how the room service hands along what operators decided.

use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::content_filter_service_server::ContentFilterService;
use parlance_rpc::{Deadline, Violation, fields, internal};
use parlance_types::{FilterWord, InvalidFilterWord, MAX_FILTER_WORDS};
use tonic::{Request, Response, Status};

use super::{Action, ContentFilter, Filters};

/// Serves [`Filters`] to the suite.
#[derive(Clone, Debug)]
pub struct ContentFilterGrpc {
    filters: Filters,
}

impl ContentFilterGrpc {
    pub const fn new(filters: Filters) -> Self {
        Self { filters }
    }
}

#[tonic::async_trait]
impl ContentFilterService for ContentFilterGrpc {
    async fn put_content_filter(
        &self,
        request: Request<pb::PutContentFilterRequest>,
    ) -> Result<Response<pb::PutContentFilterResponse>, Status> {
        let (tenant_id, deadline) = (internal(&request)?.tenant_id, Deadline::of(&request));
        let filter = decode(request.into_inner().filter.unwrap_or_default())?;
        deadline.bound(self.filters.put(&tenant_id, &filter)).await?;
        Ok(Response::new(pb::PutContentFilterResponse {}))
    }

    async fn get_content_filter(
        &self,
        request: Request<pb::GetContentFilterRequest>,
    ) -> Result<Response<pb::GetContentFilterResponse>, Status> {
        let (tenant_id, deadline) = (internal(&request)?.tenant_id, Deadline::of(&request));
        let filter = deadline.bound(self.filters.get(&tenant_id)).await?;
        let filter = Some(encode(filter));
        Ok(Response::new(pb::GetContentFilterResponse { filter }))
    }
}

fn decode(filter: pb::ContentFilter) -> Result<ContentFilter, Violation> {
    let action = match filter.action() {
        pb::FilterAction::Unspecified | pb::FilterAction::Mask => Action::Mask,
        pb::FilterAction::Refuse => Action::Refuse,
    };
    let words = fields::each("filter.words", filter.words, 0..=MAX_FILTER_WORDS, |field, word| {
        let wrong = |InvalidFilterWord| Violation::new(field, FilterWord::RULE);
        FilterWord::parse(word).map_err(wrong)
    })?;
    Ok(ContentFilter { words, action })
}

fn encode(ContentFilter { words, action }: ContentFilter) -> pb::ContentFilter {
    let action = match action {
        Action::Mask => pb::FilterAction::Mask,
        Action::Refuse => pb::FilterAction::Refuse,
    };
    let words = words.into_iter().map(FilterWord::into_string).collect();
    pb::ContentFilter { words, action: action.into() }
}
