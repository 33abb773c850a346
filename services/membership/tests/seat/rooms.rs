//! Live rooms, and devices that come and go.

use parlance_proto::membership::v1 as pb;
use parlance_proto::message::v1::event::Body;
use parlance_proto::message::v1::{Event, LeaveCause, RoomKind};
use parlance_types::LogId;
use prost::Message as _;
use tonic::{Response, Status};
use uuid::Uuid;

use crate::harness::{Owner, World, created, grants, opening, rules};

/// Seconds of the service's clock.
pub(crate) const SECOND: i64 = 1_000_000;

/// In so many live rooms the users of these tests may be.
pub(crate) const MOST: i32 = 5;

/// A live room that is to be opened.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) tenant: &'static str,
    pub(crate) delay: i64,
    pub(crate) capacity: i32,
    pub(crate) single_device: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self { tenant: "acme", delay: 0, capacity: 100, single_device: false }
    }
}

pub(crate) fn new_log() -> LogId {
    LogId(Uuid::now_v7())
}

pub(crate) const fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

impl Plan {
    /// A request to open the room with nobody in it, who comes within 300 s.
    pub(crate) fn empty(&self, log_id: LogId, room: &str) -> pb::OpenRosterRequest {
        let join = pb::JoinRule::Anyone.into();
        pb::OpenRosterRequest {
            kind: RoomKind::Live.into(),
            rules: Some(pb::RosterRules { join, capacity: self.capacity, ..rules() }),
            live: Some(pb::LiveRoster {
                destroy_delay: Some(seconds(self.delay)),
                empty_timeout: Some(seconds(300)),
                single_device: self.single_device,
                seat: None,
            }),
            created_event: created().encode_to_vec(),
            ..opening(log_id, room, &[])
        }
    }

    /// A request to open it with its first member.
    pub(crate) fn entered(
        &self,
        log_id: LogId,
        room: &str,
        user: &str,
        device: &str,
        from: Option<LogId>,
    ) -> pb::OpenRosterRequest {
        let mut request = self.empty(log_id, room);
        request.members = grants(&[(user, Owner)]);
        request.ensure_user_ids = vec![user.to_owned()];
        request.live.as_mut().expect("live").seat = Some(pb::FirstSeat {
            resource: device.to_owned(),
            session_id: session(device),
            max_rooms: MOST,
            from_log_id: from.map(|log_id| log_id.0.to_string()).unwrap_or_default(),
        });
        request
    }

    /// Opens it with nobody in it.
    pub(crate) async fn open(&self, world: &World, room: &str) -> LogId {
        let log_id = new_log();
        let mut service = world.room_service(self.tenant, None).rosters;
        service.open_roster(self.empty(log_id, room)).await.expect("opened");
        log_id
    }
}

/// The first session of a device.
pub(crate) fn session(device: &str) -> String {
    format!("{device} 1")
}

/// A live room that nobody is in.
pub(crate) async fn live(world: &World, room: &str, delay: i64) -> LogId {
    Plan { delay, ..Plan::default() }.open(world, room).await
}

pub(crate) fn entering(log_id: LogId, device: &str) -> pb::EnterSeatRequest {
    pb::EnterSeatRequest {
        log_id: log_id.0.to_string(),
        resource: device.to_owned(),
        session_id: session(device),
        max_rooms: MOST,
    }
}

pub(crate) type Entered = Result<Response<pb::EnterSeatResponse>, Status>;

pub(crate) async fn try_enter(world: &World, user: &str, log_id: LogId, device: &str) -> Entered {
    let mut seats = world.room_service("acme", Some(user)).seats;
    seats.enter_seat(entering(log_id, device)).await
}

pub(crate) async fn enter(
    world: &World,
    user: &str,
    log_id: LogId,
    device: &str,
) -> pb::Membership {
    let entered = try_enter(world, user, log_id, device).await.expect("entered");
    entered.into_inner().membership.expect("a membership")
}

/// Leaves with a device; whether the room has ended.
pub(crate) async fn leave(world: &World, user: &str, log_id: LogId, device: &str) -> bool {
    let request =
        pb::LeaveSeatRequest { log_id: log_id.0.to_string(), resource: device.to_owned() };
    let mut seats = world.room_service("acme", Some(user)).seats;
    seats.leave_seat(request).await.expect("left").into_inner().ended
}

pub(crate) fn switching(from: Option<LogId>, to: LogId, device: &str) -> pb::SwitchSeatRequest {
    pb::SwitchSeatRequest {
        from_log_id: from.map(|log_id| log_id.0.to_string()).unwrap_or_default(),
        to_log_id: to.0.to_string(),
        resource: device.to_owned(),
        session_id: session(device),
    }
}

pub(crate) type Switched = Result<Response<pb::SwitchSeatResponse>, Status>;

pub(crate) async fn switch(
    world: &World,
    user: &str,
    from: LogId,
    to: LogId,
    device: &str,
) -> Switched {
    let mut seats = world.room_service("acme", Some(user)).seats;
    seats.switch_seat(switching(Some(from), to, device)).await
}

pub(crate) fn held(user: &str, device: &str, session_id: &str) -> pb::SeatSession {
    pb::SeatSession {
        user_id: user.to_owned(),
        resource: device.to_owned(),
        session_id: session_id.to_owned(),
    }
}

pub(crate) async fn end(world: &World, sessions: Vec<pb::SeatSession>) {
    let cause = LeaveCause::LeaseEnded.into();
    let mut seats = world.room_service("acme", None).seats;
    seats.end_seats(pb::EndSeatsRequest { sessions, cause }).await.expect("ended");
}

/// What happened in a room, in words.
pub(crate) fn story(world: &World, log_id: LogId) -> Vec<String> {
    let told = |event: &Event| match event.body.as_ref().expect("a body") {
        Body::RoomCreated(_) => "created".to_owned(),
        Body::RoomClosed(_) => "closed".to_owned(),
        Body::MembersJoined(joined) => {
            let who: Vec<_> = joined.members.iter().map(|member| &*member.user_id).collect();
            format!("{} joined", who.join(" and "))
        }
        Body::MembersLeft(left) => {
            assert_eq!(left.removed, left.cause() == LeaveCause::Removed);
            let cause = left.cause().as_str_name().trim_start_matches("LEAVE_CAUSE_");
            format!("{} left: {cause}", left.user_ids.join(" and "))
        }
        other => format!("{other:?}"),
    };
    world.logs.log(log_id).events.iter().map(told).collect()
}

/// All seats of all tenants: room, user, device and session.
pub(crate) async fn all_seats(world: &World) -> Vec<(LogId, String, String, String)> {
    let (mut found, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListSeatsRequest { page_size: 3, page_token };
        let mut seats = world.room_service("another", None).seats;
        let page = seats.list_seats(request).await.expect("a page").into_inner();
        found.extend(page.seats.into_iter().map(|seat| {
            let log_id = seat.log_id.parse().expect("a log");
            (log_id, seat.user_id, seat.resource, seat.session_id)
        }));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return found;
        }
    }
}
