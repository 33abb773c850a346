//! `SeatService`: how the room service lets devices into live rooms, and the presence service
//! ends the seats of sessions that are over.

use std::time::Duration;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use parlance_db::StoreError;
use parlance_outbox::DriveError;
use parlance_proto::membership::v1 as pb;
use parlance_proto::membership::v1::seat_service_server::SeatService;
use parlance_proto::message::v1::LeaveCause;
use parlance_rpc::{Deadline, Violation, detached, fields, internal};
use parlance_types::{LogId, Query, Resource, SessionId, TenantId, UserId, cut};
use tonic::{Request, Response, Status};

use super::{Endings, Left, MAX_SEATS, Place, Seat, Seated, Switch, Switched};
use crate::clients::Notices;
use crate::handler::{Handler, MAX_LIST};
use crate::roster::{Cause, Device, Membership};
use crate::{Error, codec};

/// How many seats a page has unless the request says.
const SEATS: usize = 100;

/// How many logs are told at once that have no order among them.
const LOGS: usize = 8;

/// How long the log of a room that ended may take to hear of it.
const DRIVE: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub struct SeatGrpc {
    pub(crate) handler: Handler,
    pub(crate) notices: Notices,
}

/// Whose seats it is about.
struct Owner {
    tenant_id: TenantId,
    user_id: UserId,
}

/// Whose seats, until when, and what is asked.
fn open<T>(request: Request<T>) -> Result<(Owner, Deadline, T), Status> {
    let caller = internal(&request)?;
    let user_id = caller.require_user()?.clone();
    let deadline = Deadline::of(&request).reserve();
    Ok((Owner { tenant_id: caller.tenant_id, user_id }, deadline, request.into_inner()))
}

#[tonic::async_trait]
impl SeatService for SeatGrpc {
    async fn enter_seat(
        &self,
        request: Request<pb::EnterSeatRequest>,
    ) -> Result<Response<pb::EnterSeatResponse>, Status> {
        let (Owner { tenant_id, user_id }, deadline, request) = open(request)?;
        self.handler.not_suspended(deadline, &tenant_id, Some(&user_id)).await?;
        let log_id = fields::log_id("log_id", &request.log_id)?;
        let device = device("", request.resource, request.session_id)?;
        let max_rooms = max_rooms("max_rooms", request.max_rooms)?;
        let (store, tenant) = (self.handler.store.clone(), tenant_id.clone());
        let enter =
            async move { store.enter_seat(&tenant, &user_id, log_id, &device, max_rooms).await };
        let handler = self.handler.clone();
        let settled = async move { handler.settle(deadline, enter).await };
        let entered = self.telling(deadline, tenant_id, settled, |seated| seated).await;
        let Seated { membership, .. } = self.ended(deadline, log_id, entered).await?;
        Ok(Response::new(pb::EnterSeatResponse { membership: told(&membership) }))
    }

    async fn leave_seat(
        &self,
        request: Request<pb::LeaveSeatRequest>,
    ) -> Result<Response<pb::LeaveSeatResponse>, Status> {
        let (Owner { tenant_id, user_id }, deadline, request) = open(request)?;
        let log_id = fields::log_id("log_id", &request.log_id)?;
        let resource = resource("", request.resource)?;
        let store = self.handler.store.clone();
        let leave = async move { store.leave_seat(&tenant_id, &user_id, log_id, &resource).await };
        let ended = self.handler.settle(deadline, leave).await?;
        Ok(Response::new(pb::LeaveSeatResponse { ended }))
    }

    async fn leave_seats(
        &self,
        request: Request<pb::LeaveSeatsRequest>,
    ) -> Result<Response<pb::LeaveSeatsResponse>, Status> {
        let (Owner { tenant_id, user_id }, deadline, request) = open(request)?;
        let resource = resource("", request.resource)?;
        let store = self.handler.store.clone();
        let leave = async move { store.leave_seats(&tenant_id, &user_id, &resource).await };
        let left = self.handler.settle_all(deadline, LOGS, leave).await?;
        let left = left.into_iter().map(|Left { log_id, room_id, ended }| pb::LeftSeat {
            log_id: log_id.0.to_string(),
            room_id: room_id.into_string(),
            ended,
        });
        Ok(Response::new(pb::LeaveSeatsResponse { left: left.collect() }))
    }

    async fn switch_seat(
        &self,
        request: Request<pb::SwitchSeatRequest>,
    ) -> Result<Response<pb::SwitchSeatResponse>, Status> {
        let (Owner { tenant_id, user_id }, deadline, request) = open(request)?;
        self.handler.not_suspended(deadline, &tenant_id, Some(&user_id)).await?;
        let from = fields::given(request.from_log_id);
        let from = from.map(|id| fields::log_id("from_log_id", &id)).transpose()?;
        let to = fields::log_id("to_log_id", &request.to_log_id)?;
        if from == Some(to) {
            return Err(Violation::new("to_log_id", "must be another log").into());
        }
        let device = device("", request.resource, request.session_id)?;
        let switch = Switch { from, to, device };
        let (store, tenant) = (self.handler.store.clone(), tenant_id.clone());
        let moved = async move { store.switch_seat(&tenant, &user_id, &switch).await };
        let handler = self.handler.clone();
        // One after the other: the user sees the new room before the old one closes.
        let settled = async move { handler.settle_all(deadline, 1, moved).await };
        let moved = self.telling(deadline, tenant_id, settled, |moved| &moved.seated).await;
        let Switched { seated: Seated { membership, .. }, from_ended } =
            self.ended(deadline, to, moved).await?;
        Ok(Response::new(pb::SwitchSeatResponse { membership: told(&membership), from_ended }))
    }

    async fn check_seat_limit(
        &self,
        request: Request<pb::CheckSeatLimitRequest>,
    ) -> Result<Response<pb::CheckSeatLimitResponse>, Status> {
        let (Owner { tenant_id, user_id }, deadline, request) = open(request)?;
        let max_rooms = max_rooms("max_rooms", request.max_rooms)?;
        let check = self.handler.store.check_seat_limit(&tenant_id, &user_id, max_rooms);
        deadline.bound(check).await?;
        Ok(Response::new(pb::CheckSeatLimitResponse {}))
    }

    async fn end_seats(
        &self,
        request: Request<pb::EndSeatsRequest>,
    ) -> Result<Response<pb::EndSeatsResponse>, Status> {
        let tenant_id = internal(&request)?.tenant_id;
        let deadline = Deadline::of(&request).reserve();
        let request = request.into_inner();
        let cause = cause(request.cause)?;
        let sessions = sessions(request.sessions)?;
        let endings = Endings { tenant_id, sessions, cause };
        let seats = deadline.bound(self.handler.store.seats_of(&endings)).await?;
        let (tenant_id, cause) = (&endings.tenant_id, endings.cause);
        let end = |(log_id, sessions): (LogId, Vec<_>)| {
            let (store, tenant_id) = (self.handler.store.clone(), tenant_id.clone());
            let end = async move { store.end_seats(&tenant_id, log_id, &sessions, cause).await };
            self.handler.settle(deadline, end)
        };
        stream::iter(seats.into_iter().map(end))
            .buffer_unordered(LOGS)
            .try_for_each(|()| async { Ok(()) })
            .await?;
        Ok(Response::new(pb::EndSeatsResponse {}))
    }

    async fn list_seats(
        &self,
        request: Request<pb::ListSeatsRequest>,
    ) -> Result<Response<pb::ListSeatsResponse>, Status> {
        internal(&request)?;
        let (deadline, request) = (Deadline::of(&request), request.into_inner());
        let size = match usize::try_from(request.page_size) {
            Ok(0) => SEATS,
            Ok(size) => size.min(MAX_SEATS),
            Err(_) => return Err(Violation::new("page_size", "must not be negative").into()),
        };
        let query = Query::new(&["ListSeats"]);
        let after = fields::page_token(query.position(&request.page_token))?;
        let after = after.map(place).transpose()?.unwrap_or_else(Place::first);
        let mut seats = deadline.bound(self.handler.store.seats(&after, size + 1)).await?;
        let last = cut(&mut seats, size).map(|seat| &seat.at);
        let token = last.map(|Place { log_id, user_id, resource }| {
            query.token((log_id.to_string(), user_id.as_str(), resource.as_str()))
        });
        Ok(Response::new(pb::ListSeatsResponse {
            next_page_token: token.unwrap_or_default(),
            seats: seats.into_iter().map(encode).collect(),
        }))
    }

    async fn list_ended_rosters(
        &self,
        request: Request<pb::ListEndedRostersRequest>,
    ) -> Result<Response<pb::ListEndedRostersResponse>, Status> {
        internal(&request)?;
        let deadline = Deadline::of(&request).reserve();
        let untold = deadline.bound(self.handler.store.untold()).await?;
        let closed = |log_id: LogId| async move {
            // Whose closing does not stand in its log is told of later.
            let driven = self.handler.outbox.drive(log_id, deadline.left()).await;
            driven.ok().map(|_| log_id.0.to_string())
        };
        let told = stream::iter(untold).map(closed).buffer_unordered(LOGS);
        let log_ids: Vec<Option<String>> = told.collect().await;
        let log_ids = log_ids.into_iter().flatten().collect();
        Ok(Response::new(pb::ListEndedRostersResponse { log_ids }))
    }

    async fn acknowledge_ended_rosters(
        &self,
        request: Request<pb::AcknowledgeEndedRostersRequest>,
    ) -> Result<Response<pb::AcknowledgeEndedRostersResponse>, Status> {
        internal(&request)?;
        let (deadline, request) = (Deadline::of(&request), request.into_inner());
        let log_ids = fields::each("log_ids", request.log_ids, 1..=MAX_LIST, |field, id| {
            fields::log_id(field, &id)
        })?;
        fields::once(log_ids.iter(), |at| format!("log_ids[{at}]"))?;
        let store = self.handler.store.clone();
        let told = async move { store.told(&log_ids).await };
        deadline.bound(detached(told)).await?;
        Ok(Response::new(pb::AcknowledgeEndedRostersResponse {}))
    }
}

impl SeatGrpc {
    /// Lets a device in, and then tells its user which others lost their seats to it, even if
    /// the caller goes away.
    async fn telling<T: Send + 'static>(
        &self,
        deadline: Deadline,
        tenant_id: TenantId,
        entering: impl Future<Output = Result<T, Error>> + Send + 'static,
        seated: impl Fn(&T) -> &Seated + Send + 'static,
    ) -> Result<T, Error> {
        let notices = self.notices.clone();
        detached(async move {
            let entered = entering.await?;
            let Seated { membership, replaced } = seated(&entered);
            notices.replaced(&tenant_id, membership, replaced, deadline).await;
            Ok(entered)
        })
        .await
    }

    /// What came of entering a room. That it has ended stands in its log before anybody is
    /// told: a room may be made with its id then.
    async fn ended<T>(
        &self,
        deadline: Deadline,
        log_id: LogId,
        entered: Result<T, Error>,
    ) -> Result<T, Error> {
        if let Err(Error::LogNotFound) = &entered
            && let Err(error) = self.handler.outbox.drive(log_id, deadline.left()).await
            && !matches!(error, DriveError::UnknownLog)
        {
            return Err(Error::of_log(error));
        }
        entered
    }
}

impl Handler {
    /// Closes live rooms whose time is over, and tells their logs.
    pub(crate) async fn close_due(&self) -> Result<(), StoreError> {
        loop {
            let closed = self.store.close_due().await?;
            if closed.is_empty() {
                return Ok(());
            }
            let drive = |log_id| async move {
                // What fails the relay goes on with.
                let _driven = self.outbox.drive(log_id, DRIVE).await;
            };
            stream::iter(closed).for_each_concurrent(LOGS, drive).await;
        }
    }
}

/// A name of a device, in the part `at` of a request.
fn resource(at: &str, text: String) -> Result<Resource, Violation> {
    fields::id(format!("{at}resource"), Resource::parse(text))
}

fn device(at: &str, name: String, session_id: String) -> Result<Device, Violation> {
    let resource = resource(at, name)?;
    let session_id = fields::id(format!("{at}session_id"), SessionId::parse(session_id))?;
    Ok(Device { resource, session_id })
}

fn max_rooms(field: &str, most: i32) -> Result<i64, Violation> {
    fields::at_least(field, most.into(), 1)
}

fn cause(cause: i32) -> Result<Cause, Violation> {
    match LeaveCause::try_from(cause) {
        Ok(LeaveCause::Left) => Ok(Cause::Left),
        Ok(LeaveCause::LeaseEnded) => Ok(Cause::LeaseEnded),
        _ => Err(Violation::new("cause", "must be left or lease ended")),
    }
}

fn sessions(sessions: Vec<pb::SeatSession>) -> Result<Vec<(UserId, Device)>, Violation> {
    fields::length("sessions", sessions.len(), 1..=MAX_LIST)?;
    let session = |(at, session): (usize, pb::SeatSession)| {
        let at = format!("sessions[{at}].");
        let user_id = fields::user_id(format!("{at}user_id"), session.user_id)?;
        Ok((user_id, device(&at, session.resource, session.session_id)?))
    };
    let parsed: Vec<_> =
        sessions.into_iter().enumerate().map(session).collect::<Result<_, Violation>>()?;
    let keys = parsed.iter().map(|(user_id, device)| {
        (user_id.as_str(), device.resource.as_str(), device.session_id.as_str())
    });
    fields::once(keys, |at| format!("sessions[{at}]"))?;
    Ok(parsed)
}

fn place((log_id, user_id, resource): (String, String, String)) -> Result<Place, Violation> {
    let log_id = fields::log_id("page_token", &log_id)?;
    let (user_id, resource) = (UserId::new(user_id), Resource::new(resource));
    Ok(Place { log_id, user_id, resource })
}

#[expect(clippy::unnecessary_wraps, reason = "a message in a message is optional")]
fn told(membership: &Membership) -> Option<pb::Membership> {
    Some(codec::membership(membership))
}

fn encode(seat: Seat) -> pb::Seat {
    let Place { log_id, user_id, resource } = seat.at;
    pb::Seat {
        tenant_id: seat.tenant_id.into_string(),
        log_id: log_id.0.to_string(),
        user_id: user_id.into_string(),
        resource: resource.into_string(),
        session_id: seat.session_id.into_string(),
        enter_time: Some(codec::timestamp(seat.entered)),
    }
}
