//! Rooms, made by facts as the other services of the suite make them.

use parlance_proto::message::v1::event::Body;
use parlance_proto::message::v1::{
    ApplyFactsRequest, ApplyFactsResponse, Effects, Event, Fact, FactSource, HistoryVisibility,
    LogIdentity, LogRules, MemberGrant, MemberRole, MembersJoined, MembersLeft, PostRule,
    RolesChanged, RoomClosed, RoomCreated, RoomKind, RoomUpdated,
};
use parlance_types::LogId;
use prost::Message as _;
use tonic::{Response, Status};
use uuid::Uuid;

use crate::harness::{InternalClient, TENANT, World};

/// The log of a room, and the services that put facts into it.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    pub(crate) log_id: LogId,
    logs: InternalClient,
    version: i64,
}

/// A room that is yet to be made: a group of acme whose members see and post everything.
pub(crate) struct Plan {
    tenant_id: String,
    room_id: String,
    kind: RoomKind,
    rules: LogRules,
    members: Vec<MemberGrant>,
}

/// A group with these members.
pub(crate) async fn group(world: &World, room_id: &str, members: &[&str]) -> Room {
    plan(room_id).members(members).make(world).await
}

pub(crate) fn plan(room_id: &str) -> Plan {
    Plan {
        tenant_id: TENANT.to_owned(),
        room_id: room_id.to_owned(),
        kind: RoomKind::Group,
        rules: LogRules::default(),
        members: Vec::new(),
    }
}

impl Plan {
    pub(crate) fn of_tenant(mut self, tenant_id: &str) -> Self {
        tenant_id.clone_into(&mut self.tenant_id);
        self
    }

    pub(crate) fn kind(mut self, kind: RoomKind) -> Self {
        self.kind = kind;
        self
    }

    pub(crate) fn members(mut self, users: &[&str]) -> Self {
        self.members.extend(users.iter().map(|user| grant(user, MemberRole::Member)));
        self
    }

    pub(crate) fn member(mut self, user: &str, role: MemberRole) -> Self {
        self.members.push(grant(user, role));
        self
    }

    pub(crate) fn admins_post(mut self) -> Self {
        self.rules.post = PostRule::Admins.into();
        self
    }

    pub(crate) fn since_join(mut self) -> Self {
        self.rules.history = HistoryVisibility::SinceJoin.into();
        self
    }

    pub(crate) fn allow_preview(mut self) -> Self {
        self.rules.allow_preview = true;
        self
    }

    /// Makes the room: its first message will have seq 3.
    pub(crate) async fn make(self, world: &World) -> Room {
        let Self { tenant_id, room_id, kind, rules, members } = self;
        let logs = world.internal(&tenant_id);
        let mut room = Room { log_id: LogId(Uuid::now_v7()), logs, version: 0 };
        let facts = vec![Fact { version: 1, events: first(kind, rules, members) }];
        let identity = LogIdentity { room_id, kind: kind.into() };
        let request = ApplyFactsRequest { identity: Some(identity), ..room.facts(facts) };
        room.logs.facts.apply_facts(request).await.expect("make a room");
        room.version = 1;
        room
    }
}

impl Room {
    pub(crate) async fn join(&mut self, user: &str) -> i64 {
        let members = vec![grant(user, MemberRole::Member)];
        let effects = Effects { gained: members.clone(), ..Effects::default() };
        self.happen(effects, Body::MembersJoined(MembersJoined { members })).await
    }

    pub(crate) async fn leave(&mut self, user: &str) -> i64 {
        let user_ids = vec![user.to_owned()];
        let effects = Effects { lost_user_ids: user_ids.clone(), ..Effects::default() };
        let left = MembersLeft { user_ids, ..MembersLeft::default() };
        self.happen(effects, Body::MembersLeft(left)).await
    }

    pub(crate) async fn set_role(&mut self, user: &str, role: MemberRole) -> i64 {
        let members = vec![grant(user, role)];
        let effects = Effects { roles: members.clone(), ..Effects::default() };
        self.happen(effects, Body::RolesChanged(RolesChanged { members })).await
    }

    pub(crate) async fn set_rules(&mut self, rules: LogRules) -> i64 {
        let effects = Effects { rules: Some(rules), ..Effects::default() };
        self.happen(effects, Body::RoomUpdated(RoomUpdated::default())).await
    }

    pub(crate) async fn close(&mut self) -> i64 {
        let effects = Effects { closed: true, ..Effects::default() };
        self.happen(effects, Body::RoomClosed(RoomClosed {})).await
    }

    /// Applies the next fact of the membership service; gives the head.
    async fn happen(&mut self, effects: Effects, body: Body) -> i64 {
        let version = self.version + 1;
        let events = vec![event(effects, body)];
        let applied = self.apply(vec![Fact { version, events }]).await.expect("apply a fact");
        self.version = version;
        applied.into_inner().head
    }

    /// Applies facts of the membership service.
    pub(crate) async fn apply(
        &mut self,
        facts: Vec<Fact>,
    ) -> Result<Response<ApplyFactsResponse>, Status> {
        let request = self.facts(facts);
        self.logs.facts.apply_facts(request).await
    }

    pub(crate) fn facts(&self, facts: Vec<Fact>) -> ApplyFactsRequest {
        ApplyFactsRequest {
            log_id: self.log_id.to_string(),
            source: FactSource::Membership.into(),
            facts,
            identity: None,
        }
    }
}

pub(crate) fn grant(user: &str, role: MemberRole) -> MemberGrant {
    MemberGrant { user_id: user.to_owned(), role: role.into() }
}

/// The events that a log begins with.
pub(crate) fn first(kind: RoomKind, rules: LogRules, members: Vec<MemberGrant>) -> Vec<Vec<u8>> {
    let created = RoomCreated { kind: kind.into(), ..RoomCreated::default() };
    let policy = Effects { rules: Some(rules), ..Effects::default() };
    let gained = Effects { gained: members.clone(), ..Effects::default() };
    let joined = MembersJoined { members };
    vec![event(policy, Body::RoomCreated(created)), event(gained, Body::MembersJoined(joined))]
}

/// The event of a fact.
pub(crate) fn event(effects: Effects, body: Body) -> Vec<u8> {
    Event { effects: Some(effects), body: Some(body), ..Event::default() }.encode_to_vec()
}
