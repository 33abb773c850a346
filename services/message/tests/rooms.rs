//! Rooms, made by facts as the other services of the suite make them.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use parlance_log::{Applied, Fact, FactBatch, LogIdentity, Projection, Source, Store, codec};
use parlance_proto::message::v1::event::Body;
use parlance_proto::message::v1::{
    Effects, Event, HistoryVisibility, LogRules, MemberGrant, MemberRole, MembersJoined,
    MembersLeft, PostRule, RolesChanged, RoomClosed, RoomCreated, RoomKind, RoomUpdated,
};
use parlance_types::{LogId, Micros, RoomId, Seq, TenantId, UserId};
use prost::Message as _;
use uuid::Uuid;

use crate::harness::TENANT;

/// A room, and the store that its facts go into.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    pub(crate) log_id: LogId,
    pub(crate) id: RoomId,
    tenant_id: TenantId,
    store: Store,
    /// Of its last fact.
    version: Arc<AtomicI64>,
}

/// A room that is yet to be made: a group of acme whose members see and post everything.
pub(crate) struct Plan {
    tenant_id: TenantId,
    id: RoomId,
    kind: RoomKind,
    rules: LogRules,
    members: Vec<MemberGrant>,
}

/// A group with these members.
pub(crate) async fn group(on: &impl AsRef<Store>, room_id: &str, members: &[&str]) -> Room {
    plan(room_id).members(members).make(on).await
}

pub(crate) fn plan(room_id: &str) -> Plan {
    Plan {
        tenant_id: TenantId::new(TENANT),
        id: RoomId::new(room_id),
        kind: RoomKind::Group,
        rules: LogRules::default(),
        members: Vec::new(),
    }
}

impl Plan {
    pub(crate) fn of_tenant(mut self, tenant_id: &str) -> Self {
        self.tenant_id = TenantId::new(tenant_id);
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

    /// Members of whom the first owns the room.
    pub(crate) fn owned(self, users: &[&str]) -> Self {
        self.member(users[0], MemberRole::Owner).members(&users[1..])
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

    /// The fact that a log begins with.
    pub(crate) fn fact(self, log_id: LogId) -> FactBatch {
        let Self { tenant_id, id, kind, rules, members } = self;
        let created = RoomCreated { kind: kind.into(), ..RoomCreated::default() };
        let events = vec![event(ruled(rules), Body::RoomCreated(created)), joined(members)];
        let kind = codec::room_kind(kind).expect("a kind");
        let identity = Some(LogIdentity::Room { room_id: id, kind });
        FactBatch {
            identity,
            ..facts(tenant_id, log_id, vec![Fact { version: 1, events, ..Fact::default() }])
        }
    }

    /// Makes the room: its first message will have seq 3.
    pub(crate) async fn make(self, on: &impl AsRef<Store>) -> Room {
        let (store, log_id) = (on.as_ref().clone(), LogId(Uuid::now_v7()));
        let (tenant_id, id) = (self.tenant_id.clone(), self.id.clone());
        store.apply(self.fact(log_id)).await.expect("make a room");
        Room { log_id, id, tenant_id, store, version: Arc::new(AtomicI64::new(1)) }
    }
}

impl Room {
    /// The room, of which another node applies the facts.
    pub(crate) fn on(&self, on: &impl AsRef<Store>) -> Self {
        Self { store: on.as_ref().clone(), ..self.clone() }
    }

    pub(crate) async fn join(&self, user: &str) -> Seq {
        self.happen(joined(vec![grant(user, MemberRole::Member)])).await
    }

    pub(crate) async fn leave(&self, user: &str) -> Seq {
        let left = MembersLeft { user_ids: vec![user.to_owned()], ..MembersLeft::default() };
        self.happen(event(lost(user), Body::MembersLeft(left))).await
    }

    pub(crate) async fn set_role(&self, user: &str, to: MemberRole) -> Seq {
        let members = vec![grant(user, to)];
        self.happen(event(role(user, to), Body::RolesChanged(RolesChanged { members }))).await
    }

    pub(crate) async fn set_rules(&self, rules: LogRules) -> Seq {
        self.happen(updated(ruled(rules))).await
    }

    pub(crate) async fn close(&self) -> Seq {
        self.happen(event(closed(), Body::RoomClosed(RoomClosed {}))).await
    }

    /// Applies the next fact; gives the head.
    pub(crate) async fn happen(&self, event: Bytes) -> Seq {
        self.tell(Fact { events: vec![event], ..Fact::default() }).await
    }

    /// Says of a direct room that one of its members blocked the other, or unblocked them.
    pub(crate) async fn block_peer(&self, blocked_id: &str, blocked: bool) -> Seq {
        let peer_blocks = vec![(UserId::new(blocked_id), blocked)];
        let silent = Some(Projection { peer_blocks, ..Projection::default() });
        self.tell(Fact { silent, ..Fact::default() }).await
    }

    /// Says of a direct room that one of its members does not see what the other one writes, who
    /// is told nothing of it, or sees it again.
    pub(crate) async fn hide_peer(&self, hidden_id: &str, hidden: bool) -> Seq {
        let hidden_peers = vec![(UserId::new(hidden_id), hidden)];
        let silent = Some(Projection { hidden_peers, ..Projection::default() });
        self.tell(Fact { silent, ..Fact::default() }).await
    }

    async fn tell(&self, fact: Fact) -> Seq {
        let version = self.version.fetch_add(1, Ordering::SeqCst) + 1;
        let fact = Fact { version, ..fact };
        let batch = facts(self.tenant_id.clone(), self.log_id, vec![fact]);
        self.store.apply(batch).await.expect("apply a fact").head
    }
}

/// A user's own log, and the store that its facts go into.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    log_id: LogId,
    user_id: UserId,
    store: Store,
    version: Arc<AtomicI64>,
}

impl Own {
    /// The log, of which nothing was said yet.
    pub(crate) fn of(on: &impl AsRef<Store>, user: &str) -> Self {
        let (log_id, user_id) = (LogId(Uuid::now_v7()), UserId::new(user));
        Self { log_id, user_id, store: on.as_ref().clone(), version: Arc::default() }
    }

    pub(crate) async fn suspend(&self, until: Micros) -> Applied {
        let suspended_until = Some(until);
        self.say(Projection { suspended_until, ..Projection::default() }).await
    }

    pub(crate) async fn block(&self, other: &str, blocked: bool) -> Applied {
        let blocks = vec![(UserId::new(other), blocked)];
        self.say(Projection { blocks, ..Projection::default() }).await
    }

    /// Blocks somebody who is told nothing of it.
    pub(crate) async fn hide(&self, other: &str) -> Applied {
        let hidden = vec![(UserId::new(other), true)];
        self.say(Projection { hidden, ..Projection::default() }).await
    }

    /// Applies the next fact.
    pub(crate) async fn say(&self, silent: Projection) -> Applied {
        let version = self.version.fetch_add(1, Ordering::SeqCst) + 1;
        let fact = Fact { version, silent: Some(silent), ..Fact::default() };
        let identity = Some(LogIdentity::Own(self.user_id.clone()));
        let batch = FactBatch { identity, ..facts(TenantId::new(TENANT), self.log_id, vec![fact]) };
        self.store.apply(batch).await.expect("apply a fact")
    }
}

/// Facts of the membership service.
pub(crate) fn facts(tenant_id: TenantId, log_id: LogId, facts: Vec<Fact>) -> FactBatch {
    FactBatch { tenant_id, log_id, source: Source::Membership, facts, identity: None }
}

/// The event of a fact.
pub(crate) fn event(effects: Effects, body: impl Into<Option<Body>>) -> Bytes {
    let body = body.into();
    Event { effects: Some(effects), body, ..Event::default() }.encode_to_vec().into()
}

pub(crate) fn updated(effects: Effects) -> Bytes {
    event(effects, Body::RoomUpdated(RoomUpdated::default()))
}

pub(crate) fn joined(members: Vec<MemberGrant>) -> Bytes {
    let effects = Effects { gained: members.clone(), ..Effects::default() };
    event(effects, Body::MembersJoined(MembersJoined { members }))
}

pub(crate) fn grant(user: &str, role: MemberRole) -> MemberGrant {
    MemberGrant { user_id: user.to_owned(), role: role.into() }
}

pub(crate) fn gained(user: &str) -> Effects {
    Effects { gained: vec![grant(user, MemberRole::Member)], ..Effects::default() }
}

pub(crate) fn lost(user: &str) -> Effects {
    Effects { lost_user_ids: vec![user.to_owned()], ..Effects::default() }
}

pub(crate) fn role(user: &str, role: MemberRole) -> Effects {
    Effects { roles: vec![grant(user, role)], ..Effects::default() }
}

pub(crate) fn ruled(rules: LogRules) -> Effects {
    Effects { rules: Some(rules), ..Effects::default() }
}

pub(crate) fn closed() -> Effects {
    Effects { closed: true, ..Effects::default() }
}

pub(crate) fn only_admins_post() -> LogRules {
    LogRules { post: PostRule::Admins.into(), ..LogRules::default() }
}
