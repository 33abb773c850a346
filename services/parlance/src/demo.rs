//! `parlance demo`: a conversation over real gRPC, told RPC by RPC.

mod follow;
mod live;
mod stage;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parlance_proto::membership::v1::BatchUpsertUsersRequest;
use parlance_proto::membership::v1::{AddMembersRequest, RemoveMembersRequest, User};
use parlance_proto::message::v1::{
    DeleteMessageRequest, EditMessageRequest, GetUnreadRequest, ListMessagesRequest,
    MarkReadRequest, MessageContent, RecountUnreadRequest, RoomKind, SendMessageRequest,
    SendMessageResponse,
};
use parlance_proto::room::v1::{CreateRoomRequest, ListMyRoomsRequest};
use parlance_rpc::{Role, termination};
use parlance_types::{Clock, SystemClock, TenantId, UserId};
use tonic::transport::Endpoint;
use tonic::{Code, Status};

use crate::Failure;
use crate::process::Process;
use crate::services::Part;
use crate::settings::Settings;
use crate::values::Store;

use follow::Follower;
use stage::Stage;

/// Who calls in the demo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    User(&'static str),
    /// A backend that acts for its tenant.
    Service(&'static str),
}

const ANNA: Who = Who::User("anna");
const BORIS: Who = Who::User("boris");
const CLARA: Who = Who::User("clara");
const SHOP: Who = Who::Service("shop");

const ROOM: &str = "tea";

/// How long the tokens of the demo hold.
const LIFE: Duration = Duration::from_mins(10);

/// Why the demo did not reach its end.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error("cannot print")]
    Print(#[from] io::Error),
    #[error("cannot reach the server")]
    Connect(#[from] tonic::transport::Error),
    #[error("{rpc} was refused")]
    Refused { rpc: &'static str, source: Box<Status> },
    #[error("{0} did not do what it promises")]
    Broken(&'static str),
}

/// Makes a bearer token for a caller of the demo.
type Tokens<'a> = &'a (dyn Fn(Who) -> String + Sync);

/// Starts a server in a temporary folder, tells the story against it, and stops it.
pub(crate) async fn run() -> Result<(), Failure> {
    let folder = tempfile::tempdir()
        .map_err(|error| Failure::fatal("cannot make a temporary folder", &error))?;
    let settings = Settings {
        listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        store: Some(Store::Sqlite(folder.path().join("data"))),
        ..Settings::default()
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let shutdown = termination(parlance_telemetry::flush)
        .map_err(|error| Failure::fatal("cannot listen for signals", &error))?;
    let config = settings.resolve()?;
    let opened = Process::open(Part::Whole, &config, Arc::clone(&clock), shutdown.clone()).await;
    let server = opened?;
    let (address, minter) = (server.address, server.minter.clone());
    let minter = minter.ok_or_else(|| Failure::Fatal("the server has no key".to_owned()))?;
    let serving = tokio::spawn(server.serve());

    let tokens = |who: Who| {
        let (role, name) = match who {
            Who::User(name) => (Role::User, name),
            Who::Service(name) => (Role::Service, name),
        };
        minter.token(&TenantId::new("demo"), role, &UserId::new(name), clock.now(), LIFE)
    };
    let mut out = io::stdout();
    let told = tokio::select! {
        told = tell(address, &tokens, &mut out) => told,
        () = shutdown.cancelled() => Ok(()),
    };
    shutdown.cancel();
    let ended = serving.await.map_err(|error| Failure::fatal("the server failed", &error))?;
    told.map_err(|error| Failure::fatal("the demo did not reach its end", &error))?;
    ended
}

/// Tells the story against the server at `address`.
async fn tell(
    address: SocketAddr,
    tokens: Tokens<'_>,
    out: &mut (dyn Write + Send),
) -> Result<(), DemoError> {
    writeln!(out, "A server in a temporary folder listens on {address}.")?;
    let channel = Endpoint::from_shared(format!("http://{address}"))?.connect().await?;
    let mut stage = Stage::new(channel, tokens, out);
    make_a_room(&mut stage).await?;
    let mut boris = stream_and_cut(&mut stage).await?;
    change_the_past(&mut stage, &mut boris).await?;
    count_unread(&mut stage, &mut boris).await?;
    remove_a_member(&mut stage, &mut boris).await?;
    look_back(&mut stage).await?;
    live::meet(&mut stage).await?;
    stage.end()
}

async fn make_a_room(stage: &mut Stage<'_>) -> Result<(), DemoError> {
    stage.chapter("A backend knows its users; one of them makes a room")?;
    let user = |id: &str, name: &str| User {
        user_id: id.to_owned(),
        name: name.to_owned(),
        ..User::default()
    };
    let users = vec![user("anna", "Anna"), user("boris", "Boris"), user("clara", "Clara")];
    stage.says(SHOP, "UserService.BatchUpsertUsers", "Anna, Boris and Clara")?;
    let request = BatchUpsertUsersRequest { users };
    stage
        .call(SHOP, request, async |request, on| on.users().batch_upsert_users(request).await)
        .await?;

    stage.says(ANNA, "RoomService.CreateRoom", "a group, \"Tea at five\", with Boris")?;
    let request = CreateRoomRequest {
        room_id: ROOM.to_owned(),
        kind: RoomKind::Group.into(),
        name: "Tea at five".to_owned(),
        member_user_ids: vec!["boris".to_owned()],
        request_id: "demo-create".to_owned(),
        ..CreateRoomRequest::default()
    };
    let reply = stage
        .call(ANNA, request, async |request, on| on.rooms().create_room(request).await)
        .await?;
    let room = reply.room.ok_or(DemoError::Broken("CreateRoom"))?;
    stage.note(&format!("room \"{}\": its log now holds events 1 and 2", room.room_id))
}

async fn stream_and_cut(stage: &mut Stage<'_>) -> Result<Follower, DemoError> {
    stage.chapter("Boris follows the room's log, live")?;
    stage.says(BORIS, "StreamService.Subscribe", "from the first event on")?;
    let mut boris = Follower::new(BORIS);
    boris.subscribe(stage).await?;
    boris.caught_up(stage).await?;
    let reply = send(stage, ANNA, "anna-1", "Is the kettle on?").await?;
    boris.until(stage, reply.seq).await?;
    let reply = send(stage, BORIS, "boris-1", "It is. Bring biscuits.").await?;
    boris.until(stage, reply.seq).await?;

    stage.chapter("His train enters a tunnel: the stream is cut, the room goes on")?;
    boris.cut();
    stage.note(&format!("the last event that Boris handled is {}", boris.seq()))?;
    let first = send(stage, ANNA, "anna-2", "Shortbread or ginger?").await?;
    stage.note("Anna's reply gets lost, she retries with the same request id")?;
    let again = send(stage, ANNA, "anna-2", "Shortbread or ginger?").await?;
    if again != first {
        return Err(DemoError::Broken("the retried SendMessage"));
    }
    stage.note("the first reply again, and one message")?;
    send(stage, ANNA, "anna-3", "Both, then.").await?;

    stage.chapter("Out of the tunnel: he gives back his cursor and misses nothing")?;
    let cursor = format!("from his cursor: epoch {}, seq {}", boris.epoch(), boris.seq());
    stage.says(BORIS, "StreamService.Subscribe", &cursor)?;
    boris.subscribe(stage).await?;
    boris.caught_up(stage).await?;
    Ok(boris)
}

async fn change_the_past(stage: &mut Stage<'_>, boris: &mut Follower) -> Result<(), DemoError> {
    stage.chapter("An edit and a deletion are events too")?;
    let typo = send(stage, ANNA, "anna-4", "See you at fife").await?;
    boris.until(stage, typo.seq).await?;
    stage.says(ANNA, "MessageService.EditMessage", "\"See you at five\"")?;
    let request = EditMessageRequest {
        message_id: typo.message_id,
        content: Some(text("See you at five")),
        request_id: "anna-5".to_owned(),
    };
    let edit = stage
        .call(ANNA, request, async |request, on| on.messages().edit_message(request).await)
        .await?;
    boris.until(stage, edit.seq).await?;
    let secret = send(stage, ANNA, "anna-6", "The biscuits are for Clara!").await?;
    boris.until(stage, secret.seq).await?;
    stage.says(ANNA, "MessageService.DeleteMessage", "for everyone, content and all")?;
    let request = DeleteMessageRequest { message_id: secret.message_id };
    let deletion = stage
        .call(ANNA, request, async |request, on| on.messages().delete_message(request).await)
        .await?;
    boris.until(stage, deletion.seq).await
}

async fn count_unread(stage: &mut Stage<'_>, boris: &mut Follower) -> Result<(), DemoError> {
    stage.chapter("Clara joins, reads a little, and her unread count is exact")?;
    stage.says(ANNA, "MembershipService.AddMembers", "Clara; she may read all that was said")?;
    let request = AddMembersRequest {
        room_id: ROOM.to_owned(),
        user_ids: vec!["clara".to_owned()],
        request_id: "demo-add".to_owned(),
    };
    stage.call(ANNA, request, async |request, on| on.members().add_members(request).await).await?;
    let read = send(stage, BORIS, "boris-2", "Welcome, Clara").await?;
    boris.until(stage, read.seq).await?;
    send(stage, ANNA, "anna-7", "Take the blue cup").await?;
    let last = send(stage, ANNA, "anna-8", "And a biscuit").await?;
    boris.until(stage, last.seq).await?;
    unread(stage, CLARA).await?;

    stage.says(CLARA, "MarkService.MarkRead", &format!("up to {}", read.seq))?;
    let request = MarkReadRequest { room_id: ROOM.to_owned(), seq: read.seq };
    stage.call(CLARA, request, async |request, on| on.marks().mark_read(request).await).await?;
    boris.receipt_of(stage, CLARA).await?;
    unread(stage, CLARA).await?;
    stage.says(CLARA, "InboxService.RecountUnread", "counted from the log itself")?;
    let request = RecountUnreadRequest {};
    let recount = stage
        .call(CLARA, request, async |request, on| on.inbox().recount_unread(request).await)
        .await?;
    if !recount.differences.is_empty() {
        return Err(DemoError::Broken("RecountUnread"));
    }
    stage.note(&format!("{} unread, no difference", recount.total))
}

async fn remove_a_member(stage: &mut Stage<'_>, boris: &mut Follower) -> Result<(), DemoError> {
    stage.chapter("Boris is removed while his stream is open")?;
    stage.says(ANNA, "MembershipService.RemoveMembers", "Boris: \"ate all the biscuits\"")?;
    let request = RemoveMembersRequest {
        room_id: ROOM.to_owned(),
        user_ids: vec!["boris".to_owned()],
        reason: "ate all the biscuits".to_owned(),
        request_id: "demo-remove".to_owned(),
    };
    stage
        .call(ANNA, request, async |request, on| on.members().remove_members(request).await)
        .await?;
    send(stage, ANNA, "anna-9", "Now that we are alone...").await?;
    boris.closed(stage).await?;
    stage.note("the removal is the last event he gets; what follows it is not for him")?;

    stage.says(BORIS, "MessageService.ListMessages", "")?;
    let request = ListMessagesRequest { room_id: ROOM.to_owned(), ..Default::default() };
    stage
        .refused(BORIS, request, Code::PermissionDenied, async |request, on| {
            on.messages().list_messages(request).await
        })
        .await?;
    stage.says(BORIS, "MessageService.SendMessage", "\"It was only three\"")?;
    stage
        .refused(
            BORIS,
            message("boris-3", "It was only three"),
            Code::PermissionDenied,
            async |request, on| on.messages().send_message(request).await,
        )
        .await
}

async fn look_back(stage: &mut Stage<'_>) -> Result<(), DemoError> {
    stage.chapter("What the room looks like to Clara")?;
    stage.says(CLARA, "RoomListService.ListMyRooms", "")?;
    let request = ListMyRoomsRequest::default();
    let rooms = stage
        .call(CLARA, request, async |request, on| on.lists().list_my_rooms(request).await)
        .await?;
    for mine in rooms.rooms {
        let name = mine.room.unwrap_or_default().name;
        let last = mine.last_message.and_then(|message| message.content).unwrap_or_default().text;
        stage.note(&format!("{name}: {} unread, last: \"{last}\"", mine.unread))?;
    }
    stage.says(CLARA, "MessageService.ListMessages", "the latest, as they read now")?;
    let request = ListMessagesRequest { room_id: ROOM.to_owned(), ..Default::default() };
    let page = stage
        .call(CLARA, request, async |request, on| on.messages().list_messages(request).await)
        .await?;
    for message in page.messages {
        let edited = if message.edit_seq > 0 { " (edited)" } else { "" };
        let said = message.content.map_or("(deleted)".to_owned(), |content| content.text);
        stage.note(&format!("{:>3}  {}: {said}{edited}", message.seq, message.sender_id))?;
    }
    Ok(())
}

async fn unread(stage: &mut Stage<'_>, who: Who) -> Result<(), DemoError> {
    stage.says(who, "InboxService.GetUnread", "")?;
    let request =
        GetUnreadRequest { room_ids: vec![ROOM.to_owned()], ..GetUnreadRequest::default() };
    let reply =
        stage.call(who, request, async |request, on| on.inbox().get_unread(request).await).await?;
    stage.note(&format!("{} unread", reply.total))
}

async fn send(
    stage: &mut Stage<'_>,
    who: Who,
    request_id: &str,
    said: &str,
) -> Result<SendMessageResponse, DemoError> {
    stage.says(who, "MessageService.SendMessage", &format!("\"{said}\""))?;
    let request = message(request_id, said);
    let reply = stage
        .call(who, request, async |request, on| on.messages().send_message(request).await)
        .await?;
    stage.note(&format!("stored as event {}", reply.seq))?;
    Ok(reply)
}

fn message(request_id: &str, said: &str) -> SendMessageRequest {
    SendMessageRequest {
        room_id: ROOM.to_owned(),
        content: Some(text(said)),
        request_id: request_id.to_owned(),
        ..SendMessageRequest::default()
    }
}

fn text(said: &str) -> MessageContent {
    MessageContent { text: said.to_owned(), ..MessageContent::default() }
}
