//! Asks a hook over gRPC.

use std::time::Duration;

use parlance_proto::hook::v1::CheckRequest;
use parlance_proto::hook::v1::check_response::Verdict as Given;
use parlance_proto::hook::v1::hook_service_client::HookServiceClient;
use parlance_proto::message::v1::MessageContent;
use parlance_rpc::Transport;
use tokio::time::timeout;
use tonic::{Code, Request, Status};

use super::{Trouble, Verdict};
use crate::message::{Content, Written, codec, grpc};

/// What a hook answered instead of a verdict, or why it did not.
#[derive(Debug, thiserror::Error)]
#[error("{:?}: {}", .0.code(), .0.message())]
pub(super) struct Failed(Box<Status>);

/// What a hook says of a message within so much time.
pub(super) async fn ask(
    transport: &Transport,
    deadline: Duration,
    written: Written<'_>,
) -> Result<Verdict, Trouble> {
    let mut request = Request::new(CheckRequest {
        tenant_id: written.tenant_id.to_string(),
        room_id: written.room_id.to_string(),
        user_id: written.user_id.to_string(),
        message_id: written.message_id.map(|id| id.to_string()).unwrap_or_default(),
        content: Some(codec::to_pb(written.content)),
        request_id: written.request_id.unwrap_or_default().to_owned(),
    });
    request.set_timeout(deadline);
    let mut client = HookServiceClient::new(transport.clone());
    let late = || Err(Status::deadline_exceeded("no answer in time"));
    let answer = timeout(deadline, client.check(request)).await.unwrap_or_else(|_| late());
    let answer = answer.map_err(failed)?;
    match answer.into_inner().verdict {
        Some(Given::Allow(_)) => Ok(Verdict::Allow),
        Some(Given::Refuse(refuse)) => {
            Ok(Verdict::Refuse { reason: refuse.reason, text: refuse.text })
        }
        Some(Given::Replace(replace)) => Ok(Verdict::Replace(content(replace.content)?)),
        None => Err(useless("it said nothing of the message")),
    }
}

fn failed(status: Status) -> Trouble {
    let silent = matches!(
        status.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::ResourceExhausted
    );
    let failed = Failed(Box::new(status));
    if silent { Trouble::Silent(failed) } else { Trouble::Useless(failed) }
}

fn useless(why: impl Into<String>) -> Trouble {
    Trouble::Useless(Failed(Box::new(Status::internal(why))))
}

/// A content that a message may have. What it answers is not the hook's to say.
fn content(content: Option<MessageContent>) -> Result<Content, Trouble> {
    let mut content = content.ok_or_else(|| useless("it gave no content"))?;
    content.reply_to_message_id.clear();
    grpc::content(Some(content)).map_err(|error| useless(error.to_string()))
}
