//! A device in live rooms that does what a client should.

use std::time::Duration;

use parlance_proto::presence::v1::session_service_client::SessionServiceClient;
use parlance_proto::presence::v1::{HeartbeatRequest, OpenSessionRequest, Session};
use parlance_proto::room::v1::live_room_service_client::LiveRoomServiceClient;
use parlance_proto::room::v1::{
    EnterRoomRequest, EnterRoomResponse, NewLiveRoom, SwitchRoomRequest, SwitchRoomResponse,
};
use parlance_rpc::Reason;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tonic::Status;

use crate::{Client, Kind};

/// How long a room waits for somebody after the last one left: longer than any test.
const WAITS: Duration = Duration::from_hours(1);

/// A device of a user, in the live rooms that it entered.
#[derive(Debug)]
pub struct Device {
    client: Client,
    pub user: String,
    resource: String,
    lease: Duration,
    /// The replica of each service that is called first.
    replica: usize,
    session_id: String,
    rooms: Vec<String>,
    /// When the last renewal was asked for that was granted.
    pub beaten: Instant,
}

/// A device whose session is renewed until it is dropped.
#[derive(Debug)]
pub struct Kept {
    held: watch::Receiver<Held>,
    task: JoinHandle<()>,
}

/// By which session a device is in its rooms, and how often it was renewed.
#[derive(Clone, Debug, Default)]
struct Held {
    session_id: String,
    beats: u64,
}

impl Device {
    /// Opens a session.
    pub async fn open(
        client: Client,
        user: &str,
        resource: &str,
        lease: Duration,
        replica: usize,
    ) -> Self {
        let mut device = Self {
            client,
            user: user.to_owned(),
            resource: resource.to_owned(),
            lease,
            replica,
            session_id: String::new(),
            rooms: Vec::new(),
            beaten: Instant::now(),
        };
        device.reopen().await;
        device
    }

    /// Opens the session again; whether it is another one than before.
    async fn reopen(&mut self) -> bool {
        let request = OpenSessionRequest {
            resource: self.resource.clone(),
            lease: Some(self.lease.try_into().expect("a lease")),
            ..OpenSessionRequest::default()
        };
        let rpc = |channel, request| async move {
            SessionServiceClient::new(channel).open_session(request).await
        };
        let asked = Instant::now();
        let reply = self.client.call((Kind::Presence, self.replica), request, rpc).await;
        self.renewed(asked, reply.expect("a session").session)
    }

    fn renewed(&mut self, asked: Instant, session: Option<Session>) -> bool {
        self.beaten = asked;
        let session_id = session.expect("a session").session_id;
        let another = self.session_id != session_id;
        self.session_id = session_id;
        another
    }

    /// Renews the session. Where that has ended the device opens another one, and enters its
    /// rooms with it.
    pub async fn beat(&mut self) {
        let request = HeartbeatRequest { resource: self.resource.clone() };
        let rpc = |channel, request| async move {
            SessionServiceClient::new(channel).heartbeat(request).await
        };
        let asked = Instant::now();
        let another = match self.client.call((Kind::Presence, self.replica), request, rpc).await {
            Ok(reply) => self.renewed(asked, reply.session),
            Err(status) if Reason::of(&status) == Some(Reason::SessionNotFound) => {
                self.reopen().await
            }
            Err(status) => panic!("{} cannot renew: {status}", self.user),
        };
        if another {
            for room in self.rooms.clone() {
                self.call_enter(&room).await.expect("entered again");
            }
        }
    }

    /// Enters a room, which waits long for whoever comes; creates it if there is none.
    pub async fn enter(&mut self, room: &str) {
        self.call_enter(room).await.expect("entered");
        self.rooms.push(room.to_owned());
    }

    async fn call_enter(&self, room: &str) -> Result<EnterRoomResponse, Status> {
        let waits = NewLiveRoom {
            destroy_delay: Some(WAITS.try_into().expect("a delay")),
            ..NewLiveRoom::default()
        };
        let request = EnterRoomRequest {
            room_id: room.to_owned(),
            resource: self.resource.clone(),
            session_id: self.session_id.clone(),
            create_if_missing: true,
            room: Some(waits),
        };
        let rpc = |channel, request| async move {
            LiveRoomServiceClient::new(channel).enter_room(request).await
        };
        self.client.call((Kind::Room, self.replica), request, rpc).await
    }

    /// Moves from one room to another, which the call creates if there is none: then it is
    /// over when nobody is in. Asked again until there is an answer.
    pub async fn switch(&self, from: &str, to: &str) -> Result<SwitchRoomResponse, Status> {
        let request = SwitchRoomRequest {
            from_room_id: from.to_owned(),
            to_room_id: to.to_owned(),
            resource: self.resource.clone(),
            session_id: self.session_id.clone(),
            create_if_missing: true,
            room: None,
        };
        let rpc = |channel, request| async move {
            LiveRoomServiceClient::new(channel).switch_room(request).await
        };
        self.client.call((Kind::Room, self.replica), request, rpc).await
    }

    /// Renews the session from now on, thrice in each lease.
    pub fn keep(mut self) -> Kept {
        let held = Held { session_id: self.session_id.clone(), beats: 0 };
        let (told, held) = watch::channel(held);
        let task = tokio::spawn(async move {
            for beats in 1.. {
                sleep(self.lease / 3).await;
                self.beat().await;
                told.send_replace(Held { session_id: self.session_id.clone(), beats });
            }
        });
        Kept { held, task }
    }
}

impl Kept {
    /// The session that holds the seats.
    pub fn session_id(&self) -> String {
        self.held.borrow().session_id.clone()
    }

    /// Waits until the device is in its rooms with another session than this one.
    pub async fn comes_back(&self, before: &str) {
        let mut held = self.held.clone();
        held.wait_for(|now| now.session_id != before).await.expect("it is kept");
    }

    /// Waits until the session was renewed once more.
    pub async fn beats(&self) {
        let (mut held, before) = (self.held.clone(), self.held.borrow().beats);
        held.wait_for(|now| now.beats > before).await.expect("it is kept");
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.task.abort();
    }
}
