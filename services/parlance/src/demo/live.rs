//! The act about a live room, which lives as long as somebody is in it.

use parlance_proto::presence::v1::OpenSessionRequest;
use parlance_proto::room::v1::{
    EnterRoomRequest, EnterRoomResponse, LeaveAllRoomsRequest, LeaveRoomRequest, NewLiveRoom,
    SwitchRoomRequest,
};
use tonic::Code;

use super::stage::Stage;
use super::{ANNA, CLARA, DemoError, Who};

/// The device of everybody in this act.
const PHONE: &str = "phone";

const KITCHEN: &str = "kitchen";
const BALCONY: &str = "balcony";

pub(super) async fn meet(stage: &mut Stage<'_>) -> Result<(), DemoError> {
    stage.chapter("Anna and Clara meet in a live room: it lives as long as somebody is in it")?;
    let anna = session(stage, ANNA).await?;
    let entered = enter(stage, ANNA, &anna, true).await?;
    if !entered.created {
        return Err(DemoError::Broken("EnterRoom"));
    }
    stage.note("the room began with it")?;
    let clara = session(stage, CLARA).await?;
    enter(stage, CLARA, &clara, false).await?;

    stage.says(CLARA, "LiveRoomService.SwitchRoom", "out to the balcony, in one step")?;
    let request = SwitchRoomRequest {
        from_room_id: KITCHEN.to_owned(),
        to_room_id: BALCONY.to_owned(),
        resource: PHONE.to_owned(),
        session_id: clara.clone(),
        create_if_missing: true,
        room: Some(NewLiveRoom { name: "The balcony".to_owned(), ..NewLiveRoom::default() }),
    };
    stage.call(CLARA, request, async |request, on| on.live().switch_room(request).await).await?;

    stage.says(ANNA, "LiveRoomService.LeaveRoom", "the last one in the kitchen")?;
    let request = LeaveRoomRequest { room_id: KITCHEN.to_owned(), resource: PHONE.to_owned() };
    stage.call(ANNA, request, async |request, on| on.live().leave_room(request).await).await?;
    stage.says(CLARA, "LiveRoomService.EnterRoom", "back to the kitchen")?;
    let request = entering(&clara, false);
    stage
        .refused(CLARA, request, Code::NotFound, async |request, on| {
            on.live().enter_room(request).await
        })
        .await?;
    stage.says(CLARA, "LiveRoomService.LeaveAllRooms", "")?;
    let request = LeaveAllRoomsRequest { resource: PHONE.to_owned() };
    let left = stage
        .call(CLARA, request, async |request, on| on.live().leave_all_rooms(request).await)
        .await?;
    stage.note(&format!("she left: {}", left.room_ids.join(", ")))
}

/// Opens the session that a device enters with.
async fn session(stage: &mut Stage<'_>, who: Who) -> Result<String, DemoError> {
    stage.says(who, "SessionService.OpenSession", "with a phone")?;
    let request =
        OpenSessionRequest { resource: PHONE.to_owned(), ..OpenSessionRequest::default() };
    let opened = stage
        .call(who, request, async |request, on| on.sessions().open_session(request).await)
        .await?;
    Ok(opened.session.ok_or(DemoError::Broken("OpenSession"))?.session_id)
}

async fn enter(
    stage: &mut Stage<'_>,
    who: Who,
    session_id: &str,
    create: bool,
) -> Result<EnterRoomResponse, DemoError> {
    stage.says(who, "LiveRoomService.EnterRoom", "the kitchen")?;
    let request = entering(session_id, create);
    stage.call(who, request, async |request, on| on.live().enter_room(request).await).await
}

fn entering(session_id: &str, create: bool) -> EnterRoomRequest {
    let room = NewLiveRoom { name: "The kitchen".to_owned(), ..NewLiveRoom::default() };
    EnterRoomRequest {
        room_id: KITCHEN.to_owned(),
        resource: PHONE.to_owned(),
        session_id: session_id.to_owned(),
        create_if_missing: create,
        room: create.then_some(room),
    }
}
