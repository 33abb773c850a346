//! `StreamService`: decodes what to follow, and hands out frames.

use std::collections::HashSet;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;
use parlance_follow::{Ended, Follow, Frames, Hub, Refused, Start, TooManyStreams, Wanted};
use parlance_proto::frame::Frame;
use parlance_proto::message::v1::{Cursor, RoomCursor, StreamStart, SubscribeRequest};
use parlance_proto::stored::stream_service_server::{StreamService, StreamServiceServer};
use parlance_rpc::{Principal, Reason, Refusal, caller, fields, hold, violation};
use parlance_types::RoomId;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::Error;

/// Named rooms of one stream.
const NAMED: usize = 200;

/// Cursors of a stream that follows all rooms of its user.
const CURSORS: usize = 10_000;

/// Follows logs in real time.
#[derive(Clone, Debug)]
pub struct StreamGrpc {
    hub: Hub,
    draining: CancellationToken,
}

impl StreamGrpc {
    /// Streams of `hub`; `draining` sends them away.
    pub fn new(hub: Hub, draining: CancellationToken) -> Self {
        Self { hub, draining }
    }

    /// The server of the service.
    pub fn into_server(self) -> StreamServiceServer<Self> {
        StreamServiceServer::new(self)
    }
}

#[tonic::async_trait]
impl StreamService for StreamGrpc {
    type SubscribeStream = FrameStream;

    async fn subscribe(
        &self,
        request: Request<SubscribeRequest>,
    ) -> Result<Response<FrameStream>, Status> {
        let caller = caller(&request)?;
        let held = hold(&request, memory(&request.get_ref().rooms))?;
        let request = request.into_inner();
        if self.draining.is_cancelled() {
            return Err(Error::draining().into());
        }
        if request.all_my_rooms {
            caller.require_user()?;
        }
        let user = caller.user().cloned();
        let is_service = matches!(caller.principal, Principal::Service | Principal::ServiceFor(_));
        let all_my_rooms = request.all_my_rooms;
        let follow = Follow {
            start: start(request.start(), user.is_some()),
            rooms: rooms(request.rooms, all_my_rooms)?,
            tenant_id: caller.tenant_id,
            user,
            service: is_service.then_some(caller.subject),
            all_my_rooms,
            held,
            expires: caller.expires,
            leaves: caller.leaves,
            draining: self.draining.clone(),
        };
        let mut frames = self.hub.follow(follow).map_err(too_many)?;
        if !all_my_rooms {
            // So that the call itself fails when every room is refused.
            frames.begun().await.map_err(|ended| status(&ended))?;
        }
        Ok(Response::new(FrameStream(frames)))
    }
}

/// The frames of one call.
#[derive(Debug)]
pub struct FrameStream(Frames);

impl Stream for FrameStream {
    type Item = Result<Frame, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.0).poll_next(cx).map_err(|ended| status(&ended))
    }
}

fn start(start: StreamStart, has_user: bool) -> Start {
    match start {
        StreamStart::FromJoin if has_user => Start::Join,
        // A caller who acts for nobody never joined: the whole log.
        StreamStart::FromJoin => Start::After(Cursor::default()),
        StreamStart::Latest | StreamStart::Unspecified => Start::Latest,
    }
}

/// What a room takes until it is followed, besides its texts: it stands in two lists.
const A_ROOM: usize = 512;

/// About how much memory the rooms of a request take until they are followed, in bytes.
fn memory(rooms: &[RoomCursor]) -> usize {
    let texts = rooms.iter().map(|room| {
        room.room_id.len() + room.cursor.as_ref().map_or(0, |cursor| cursor.epoch.len())
    });
    texts.map(|texts| A_ROOM + 2 * texts).sum()
}

fn rooms(rooms: Vec<RoomCursor>, all_my_rooms: bool) -> Result<Vec<Wanted>, Status> {
    if rooms.is_empty() && !all_my_rooms {
        return Err(violation("rooms", "must name a room unless all_my_rooms is set").into());
    }
    let most = if all_my_rooms { CURSORS } else { NAMED };
    if rooms.len() > most {
        return Err(violation("rooms", format!("must have at most {most} entries")).into());
    }
    let mut seen = HashSet::new();
    let mut wanted = Vec::with_capacity(rooms.len());
    for (at, RoomCursor { room_id, cursor }) in rooms.into_iter().enumerate() {
        let field = format!("rooms[{at}].room_id");
        let room_id =
            RoomId::parse(room_id).map_err(|error| violation(&field, error.to_string()))?;
        if !seen.insert(room_id.clone()) {
            return Err(violation(field, "must not be named twice").into());
        }
        let start = cursor.map(|cursor| after(at, cursor)).transpose()?;
        wanted.push(Wanted { room_id, start });
    }
    Ok(wanted)
}

fn after(at: usize, cursor: Cursor) -> Result<Start, Status> {
    let Cursor { epoch, seq, time } = &cursor;
    let field = |name| format!("rooms[{at}].cursor.{name}");
    if *seq < 0 {
        return Err(violation(field("seq"), "must not be negative").into());
    }
    if epoch.is_empty() && *seq > 0 {
        return Err(violation(field("epoch"), "must be given with a seq").into());
    }
    if epoch.len() > 256 || epoch.chars().any(char::is_control) {
        return Err(violation(field("epoch"), "must be as the server gave it").into());
    }
    if time.as_ref().is_some_and(|time| fields::micros(time).is_none()) {
        return Err(violation(field("time"), "must be as the server gave it").into());
    }
    Ok(Start::After(cursor))
}

/// Says no time to wait: another try helps only once the caller closed a stream.
fn too_many(error: TooManyStreams) -> Status {
    Refusal::new(Reason::TooManyStreams, error.to_string()).into()
}

fn status(ended: &Ended) -> Status {
    match ended {
        Ended::TokenExpired => Refusal::new(Reason::TokenExpired, ended.to_string()).into(),
        Ended::Refused(Refused::RoomNotFound) => Error::room_not_found().into(),
        Ended::Refused(Refused::NotAMember) => Error::not_a_member().into(),
        Ended::Refused(Refused::Suspended { until }) => Error::Suspended { until: *until }.into(),
        Ended::Unavailable(unavailable) => {
            let error = unavailable as &dyn std::error::Error;
            tracing::warn!(error, "a stream could not be opened");
            parlance_rpc::status(unavailable.error())
        }
    }
}
