//! A subscriber of the demo: it keeps a cursor, as every client does.

use std::time::Duration;

use parlance_proto::message::v1::event::Body;
use parlance_proto::message::v1::notice;
use parlance_proto::message::v1::subscribe_response::Frame;
use parlance_proto::message::v1::{
    ClosedReason, Cursor, Event, MemberGrant, RoomCursor, SubscribeRequest, SubscribeResponse,
};
use tonic::Streaming;

use super::stage::Stage;
use super::{DemoError, ROOM, Who};

/// How long the next frame may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Somebody who follows the room.
pub(super) struct Follower {
    who: Who,
    cursor: Cursor,
    stream: Option<Streaming<SubscribeResponse>>,
}

impl Follower {
    pub(super) fn new(who: Who) -> Self {
        Self { who, cursor: Cursor::default(), stream: None }
    }

    pub(super) const fn seq(&self) -> i64 {
        self.cursor.seq
    }

    /// The beginning of the epoch, which is opaque.
    pub(super) fn epoch(&self) -> String {
        self.cursor.epoch.chars().take(8).collect()
    }

    /// Opens a stream where the cursor stands.
    pub(super) async fn subscribe(&mut self, stage: &mut Stage<'_>) -> Result<(), DemoError> {
        let room = RoomCursor { room_id: ROOM.to_owned(), cursor: Some(self.cursor.clone()) };
        let request = SubscribeRequest { rooms: vec![room], ..SubscribeRequest::default() };
        let stream = stage
            .open(self.who, request, async |request, on| on.streams().subscribe(request).await)
            .await?;
        self.stream = Some(stream);
        Ok(())
    }

    /// Loses the connection.
    pub(super) fn cut(&mut self) {
        self.stream = None;
    }

    /// Handles frames until everything up to `seq` was handled.
    pub(super) async fn until(&mut self, stage: &mut Stage<'_>, seq: i64) -> Result<(), DemoError> {
        while self.cursor.seq < seq {
            self.step(stage).await?;
        }
        Ok(())
    }

    /// Handles frames until the past is delivered.
    pub(super) async fn caught_up(&mut self, stage: &mut Stage<'_>) -> Result<(), DemoError> {
        while !matches!(self.step(stage).await?, Frame::CaughtUp(_)) {}
        Ok(())
    }

    /// Handles frames until a receipt of somebody else comes.
    pub(super) async fn receipt_of(
        &mut self,
        stage: &mut Stage<'_>,
        who: Who,
    ) -> Result<(), DemoError> {
        loop {
            if let Frame::Notice(notice) = self.step(stage).await?
                && let Some(notice::Notice::Receipt(receipt)) = notice.notice
                && receipt.user_id == who.name()
            {
                return Ok(());
            }
        }
    }

    /// Handles frames until the room is closed to the follower.
    pub(super) async fn closed(&mut self, stage: &mut Stage<'_>) -> Result<(), DemoError> {
        while !matches!(self.step(stage).await?, Frame::Closed(_)) {}
        self.stream = None;
        Ok(())
    }

    /// Handles one frame.
    async fn step(&mut self, stage: &mut Stage<'_>) -> Result<Frame, DemoError> {
        const BROKEN: DemoError = DemoError::Broken("StreamService.Subscribe");
        let stream = self.stream.as_mut().ok_or(BROKEN)?;
        let response =
            tokio::time::timeout(PATIENCE, stream.message()).await.map_err(|_| BROKEN)?;
        let response = response.map_err(|status| DemoError::Refused {
            rpc: "StreamService.Subscribe",
            source: Box::new(status),
        })?;
        let frame = response.and_then(|response| response.frame).ok_or(BROKEN)?;
        match &frame {
            Frame::Attached(attached) => {
                self.cursor.epoch.clone_from(&attached.epoch);
                self.cursor.move_to(attached.resume_from, None);
            }
            Frame::Event(event) => {
                let event = event.event.as_ref().ok_or(BROKEN)?;
                if event.seq != self.cursor.seq + 1 {
                    return Err(BROKEN);
                }
                self.cursor.move_to(event.seq, event.time);
            }
            Frame::Skipped(skipped) => self.cursor.move_to(skipped.to_seq, None),
            _ => {}
        }
        if let Some(line) = describe(&frame) {
            stage.frame(self.who, &line)?;
        }
        Ok(frame)
    }
}

/// What a frame says, for people.
fn describe(frame: &Frame) -> Option<String> {
    Some(match frame {
        Frame::Attached(attached) => {
            format!(
                "Attached: event {} is next, the head is {}",
                attached.resume_from + 1,
                attached.head
            )
        }
        Frame::Event(event) => {
            let event = event.event.as_ref()?;
            format!("{:>3}  {}", event.seq, tell(event))
        }
        Frame::CaughtUp(caught_up) => format!("CaughtUp at {}: live from here", caught_up.seq),
        Frame::Skipped(skipped) => format!("Skipped {} to {}", skipped.from_seq, skipped.to_seq),
        Frame::Reset(reset) => format!("Reset: keep what is up to {}", reset.keep_through),
        Frame::Closed(closed) => {
            let reason = ClosedReason::try_from(closed.reason).unwrap_or_default();
            let reason = reason.as_str_name().trim_start_matches("CLOSED_REASON_");
            format!("Closed at {}: {reason}", closed.seq)
        }
        Frame::GoAway(_) => "GoAway".to_owned(),
        Frame::Notice(notice) => match notice.notice.as_ref()? {
            notice::Notice::Receipt(receipt) => {
                format!("{} read up to {}", receipt.user_id, receipt.read_seq)
            }
            notice::Notice::Typing(typing) => {
                let does = if typing.typing { "is typing" } else { "stopped typing" };
                format!("{} {does}", typing.user_id)
            }
            notice::Notice::SeatEnded(seat) => format!("{} lost its seat", seat.resource),
            notice::Notice::Custom(custom) => {
                let text = custom.content.as_ref().map_or("", |content| content.text.as_str());
                format!("{}, in passing: {text}", custom.sender_id)
            }
            notice::Notice::Receipts(_) | notice::Notice::MessagesHidden(_) => return None,
        },
        Frame::Heartbeat(_) => return None,
    })
}

fn tell(event: &Event) -> String {
    let actor = &event.actor_id;
    let names = |members: &[MemberGrant]| {
        members.iter().map(|member| member.user_id.as_str()).collect::<Vec<_>>().join(", ")
    };
    match &event.body {
        Some(Body::MessageSent(sent)) => match &sent.content {
            Some(content) => format!("{actor}: {}", content.text),
            None => format!("{actor}: (deleted)"),
        },
        Some(Body::MessageEdited(edited)) => match &edited.content {
            Some(content) => format!("{actor} edited {}: {}", edited.message_seq, content.text),
            None => format!("{actor} edited {}: (deleted)", edited.message_seq),
        },
        Some(Body::MessageDeleted(deleted)) => format!("{actor} deleted {}", deleted.message_seq),
        Some(Body::RoomCreated(created)) => format!("{actor} created \"{}\"", created.name),
        Some(Body::RoomUpdated(updated)) => {
            format!("{actor} changed {}", updated.changed_fields.join(", "))
        }
        Some(Body::RoomClosed(_)) => format!("{actor} deleted the room"),
        Some(Body::MembersJoined(joined)) => format!("{} joined", names(&joined.members)),
        Some(Body::MembersLeft(left)) if left.removed => {
            format!("{actor} removed {}: {}", left.user_ids.join(", "), left.reason)
        }
        Some(Body::MembersLeft(left)) => format!("{} left", left.user_ids.join(", ")),
        Some(Body::RolesChanged(changed)) => {
            format!("roles of {} changed", names(&changed.members))
        }
        _ => "something that this demo does not know".to_owned(),
    }
}
