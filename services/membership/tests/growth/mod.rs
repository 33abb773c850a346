//! What each RPC costs when what it stands beside grows a hundredfold.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, Ordering};

use parlance_db::testing::costs_the_same;
use parlance_db::{Db, test_on_each_db, work};
use parlance_proto::membership::v1 as pb;
use parlance_proto::message::v1::{FactSource, MemberRole, RoomKind};
use parlance_types::LogId;
use uuid::Uuid;

mod asking;
mod growing;
mod people;
mod seats;

use crate::harness::{
    Admin, Clients, Member, Owner, World, add, join, named, opening, rules, strings,
};
use crate::tenant::users::limited;

test_on_each_db!(parlance_membership::MIGRATIONS, crate::growth, on_own_postgres =>
    beside_members,
    beside_owners,
    beside_members_who_left,
    beside_rooms_of_a_user,
    beside_rooms_that_were_left_or_closed,
    beside_earlier_lives_of_a_room,
    beside_users,
    beside_sanctions,
    beside_pending,
    beside_blocks_and_suspended_users,
    beside_request_ids,
    beside_facts,
    beside_seats,
    beside_live_rooms,
    due_rooms_cost_each_the_same,
);

/// How much of it there is, and a hundred times as much.
const SIZES: [i64; 2] = [100, 10_000];

/// As many users as a request may name: two members of the group, and strangers.
fn crowd() -> Vec<&'static str> {
    static STRANGERS: LazyLock<Vec<String>> =
        LazyLock::new(|| (0..98).map(|stranger| format!("yan {stranger:02}")).collect());
    ["ann", "zoe"].into_iter().chain(STRANGERS.iter().map(String::as_str)).collect()
}

/// A tenant with a group and a channel, in which something grows. What grows lies between
/// "f" and "t".
struct Place {
    tenant: &'static str,
    /// The group "den": Ann owns it, Bob is an admin, Zoe a member.
    den: LogId,
    news: LogId,
    /// A channel in which users ask to be let in; Ann owns it.
    club: LogId,
    /// In a group of her own before what grows, and one after it.
    rita: Clients,
    ann: Clients,
    mia: Clients,
    backend: Clients,
    room: Clients,
    /// Live rooms, where nobody is but who grows.
    lounge: LogId,
    porch: LogId,
    /// Rules, and ids of rooms, so far.
    next: AtomicI64,
}

impl Place {
    async fn new(world: &World, tenant: &'static str) -> Self {
        // Users are counted.
        world.rule(tenant, limited(1, Some(1_000_000))).await;
        world.know(tenant, &crowd()[2..]).await;
        let rules = || pb::RosterRules { capacity: 100_000, ..rules() };
        let anyone = || pb::RosterRules { join: pb::JoinRule::Anyone.into(), ..rules() };
        let members = [("ann", Owner), ("bob", Admin), ("rita", Member), ("zoe", Member)];
        let open = async |kind, room: &'static str, rules, members: &[_]| {
            world.open_as(tenant, kind, room, rules, members).await
        };
        let den = open(RoomKind::Group, "den", rules(), &members).await;
        let news = open(RoomKind::Channel, "news", anyone(), &members[..1]).await;
        let on_request = pb::RosterRules { join: pb::JoinRule::Request.into(), ..rules() };
        let club = open(RoomKind::Channel, "club", on_request, &members[..1]).await;
        open(RoomKind::Group, "vault", rules(), &members[2..3]).await;
        let (lounge, porch) =
            (seats::live(world, tenant, "lounge").await, seats::live(world, tenant, "porch").await);
        Self {
            tenant,
            den,
            news,
            club,
            lounge,
            porch,
            rita: world.user_of(tenant, "rita"),
            ann: world.user_of(tenant, "ann"),
            mia: world.user_of(tenant, "mia"),
            backend: world.service_of(tenant),
            room: world.room_service(tenant, None),
            next: AtomicI64::new(1),
        }
    }

    fn next(&self) -> i64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn den(&self) -> String {
        self.den.0.to_string()
    }

    /// A page of the group's members, and another one.
    async fn members(&self, page_size: i32, roles: &[MemberRole], users: &[&str]) {
        let mut request = pb::ListRoomMembersRequest {
            room_id: "den".to_owned(),
            page_size,
            roles: roles.iter().map(|role| i32::from(*role)).collect(),
            user_ids: strings(users),
            ..Default::default()
        };
        for _ in 0..2 {
            let page = self.ann.members.clone().list_room_members(request.clone()).await;
            request.page_token = page.expect("a page").into_inner().next_page_token;
        }
    }

    async fn memberships(&self, user_id: &str) {
        let mut request = pb::ListUserMembershipsRequest {
            user_id: user_id.to_owned(),
            page_size: 2,
            ..Default::default()
        };
        for _ in 0..2 {
            let page = self.backend.members.clone().list_user_memberships(request.clone()).await;
            request.page_token = page.expect("a page").into_inner().next_page_token;
        }
    }

    async fn change_role(&self, user_id: &str, role: MemberRole) {
        let request = pb::ChangeRoleRequest {
            room_id: "den".to_owned(),
            user_id: user_id.to_owned(),
            role: role.into(),
            ..Default::default()
        };
        self.ann.members.clone().change_role(request).await.expect("changed");
    }
}

type Work = parlance_db::testing::Work<World, Place>;

/// What is asked of the service.
const WORK: &[(&str, Work)] = work! {
    "JoinRoom and LeaveRoom": |_, place| {
        place.mia.members.clone().join_room(join("news")).await.expect("joined");
        let leave = pb::LeaveRoomRequest { room_id: "news".to_owned(), ..Default::default() };
        place.mia.members.clone().leave_room(leave).await.expect("left")
    },
    "AddMembers and RemoveMembers": |_, place| {
        let users = &crowd()[2..12];
        place.ann.members.clone().add_members(add("den", users)).await.expect("added");
        let remove = pb::RemoveMembersRequest {
            room_id: "den".to_owned(),
            user_ids: strings(users),
            ..Default::default()
        };
        place.ann.members.clone().remove_members(remove).await.expect("removed")
    },
    "AddMembers again": |_, place| {
        let request =
            pb::AddMembersRequest { request_id: "again".to_owned(), ..add("den", &["zoe"]) };
        place.ann.members.clone().add_members(request).await.expect("a reply")
    },
    "AddMembers with a request id": |_, place| {
        let request_id = format!("request {}", place.next());
        let request = pb::AddMembersRequest { request_id, ..add("den", &["zoe"]) };
        place.ann.members.clone().add_members(request).await.expect("a reply")
    },
    "BanUsers and UnbanUsers": |_, place| {
        let (room_id, users) = ("den".to_owned(), strings(&crowd()[2..12]));
        let ban = pb::BanUsersRequest {
            room_id: room_id.clone(),
            user_ids: users.clone(),
            ..Default::default()
        };
        place.ann.moderation.clone().ban_users(ban).await.expect("banned");
        let unban = pb::UnbanUsersRequest { room_id, user_ids: users, ..Default::default() };
        place.ann.moderation.clone().unban_users(unban).await.expect("lifted")
    },
    "MuteMembers and UnmuteMembers": |_, place| {
        let (room_id, users) = ("den".to_owned(), strings(&["bob", "rita", "zoe"]));
        let mute = pb::MuteMembersRequest {
            room_id: room_id.clone(),
            user_ids: users.clone(),
            ..Default::default()
        };
        place.ann.moderation.clone().mute_members(mute).await.expect("muted");
        let unmute = pb::UnmuteMembersRequest { room_id, user_ids: users, ..Default::default() };
        place.ann.moderation.clone().unmute_members(unmute).await.expect("lifted")
    },
    "ListMutes": |_, place| {
        let mut request = pb::ListMutesRequest {
            room_id: "den".to_owned(),
            page_size: 20,
            ..Default::default()
        };
        for _ in 0..2 {
            let page = place.ann.moderation.clone().list_mutes(request.clone()).await;
            request.page_token = page.expect("a page").into_inner().next_page_token;
        }
    },
    "ListBans": |_, place| {
        let mut request = pb::ListBansRequest {
            room_id: "den".to_owned(),
            page_size: 20,
            ..Default::default()
        };
        for _ in 0..2 {
            let page = place.ann.moderation.clone().list_bans(request.clone()).await;
            request.page_token = page.expect("a page").into_inner().next_page_token;
        }
    },
    "ChangeRole": |_, place| {
        place.change_role("zoe", Owner).await;
        place.change_role("zoe", Member).await;
    },
    "GetMembership": |_, place| {
        let request =
            pb::GetMembershipRequest { room_id: "den".to_owned(), user_id: "bob".to_owned() };
        place.rita.members.clone().get_membership(request).await.expect("a membership")
    },
    "ListRoomMembers": |_, place| place.members(20, &[], &[]).await,
    "ListRoomMembers with some roles": |_, place| place.members(3, &[Admin, Member], &[]).await,
    "ListRoomMembers with one role": |_, place| place.members(3, &[Admin], &[]).await,
    "ListRoomMembers with some users": |_, place| {
        place.members(2, &[], &crowd()).await;
    },
    "ListUserMemberships": |_, place| place.memberships("rita").await,
    "ListUserMemberships of one who is in few": |_, place| place.memberships("zoe").await,
    "UpsertUser": |_, place| {
        let request = pb::UpsertUserRequest { user: Some(named("ann")) };
        place.ann.users.clone().upsert_user(request).await.expect("written")
    },
    "BatchUpsertUsers": |_, place| {
        let users = crowd().into_iter().take(10).map(named).collect();
        let request = pb::BatchUpsertUsersRequest { users };
        place.backend.users.clone().batch_upsert_users(request).await.expect("written")
    },
    "GetUser": |_, place| {
        let request = pb::GetUserRequest { user_id: "zoe".to_owned() };
        place.ann.users.clone().get_user(request).await.expect("a user")
    },
    "BatchGetUsers": |_, place| {
        let request = pb::BatchGetUsersRequest { user_ids: strings(&crowd()) };
        place.ann.users.clone().batch_get_users(request).await.expect("users")
    },
    "SearchUsers": |_, place| {
        use pb::search_users_request::Prefix;
        for prefix in [Prefix::UserIdPrefix("yan".to_owned()), Prefix::NamePrefix("ya".to_owned())] {
            let mut request = pb::SearchUsersRequest {
                prefix: Some(prefix),
                page_size: 20,
                ..Default::default()
            };
            for _ in 0..2 {
                let page = place.ann.users.clone().search_users(request.clone()).await;
                request.page_token = page.expect("a page").into_inner().next_page_token;
            }
        }
    },
    "OpenRoster and CloseRoster": |_, place| {
        let log_id = LogId(Uuid::now_v7());
        let members = [("ann", Owner), ("rita", Member), ("zoe", Member)];
        let request = opening(log_id, "new", &members);
        place.room.rosters.clone().open_roster(request).await.expect("opened");
        let request = pb::CloseRosterRequest { log_id: log_id.0.to_string() };
        place.room.rosters.clone().close_roster(request).await.expect("closed")
    },
    "CheckRoster": |_, place| {
        let members: Vec<_> = crowd().into_iter().map(|user| (user, Member)).collect();
        let opening = opening(place.den, "new", &members);
        let request = pb::CheckRosterRequest {
            rules: opening.rules,
            members: opening.members,
            ensure_user_ids: opening.ensure_user_ids,
        };
        place.room.rosters.clone().check_roster(request).await.expect("good")
    },
    "EnsureMembers": |_, place| {
        let request = pb::EnsureMembersRequest {
            log_id: place.news.0.to_string(),
            user_ids: strings(&["ann", "mia"]),
            readmit_removed: true,
        };
        place.room.rosters.clone().ensure_members(request).await.expect("in");
        let leave = pb::LeaveRoomRequest { room_id: "news".to_owned(), ..Default::default() };
        place.mia.members.clone().leave_room(leave).await.expect("left")
    },
    "SetRosterRules": |_, place| {
        let request = pb::SetRosterRulesRequest {
            log_id: place.den(),
            rules: Some(pb::RosterRules { capacity: 100_000, ..rules() }),
            rules_version: 1 + place.next(),
        };
        place.room.rosters.clone().set_roster_rules(request).await.expect("set")
    },
    "BatchGetRoles": |_, place| {
        let nowhere = (0..98).map(|_| Uuid::now_v7().to_string());
        let log_ids = nowhere.chain([place.den(), place.news.0.to_string()]).collect();
        let request = pb::BatchGetRolesRequest { log_ids, user_id: "rita".to_owned() };
        place.room.rosters.clone().batch_get_roles(request).await.expect("roles")
    },
    "GetRoomMembers": |_, place| {
        let request = pb::GetRoomMembersRequest { room_id: "den".to_owned(), max_members: 3 };
        place.room.rosters.clone().get_room_members(request).await.expect("members")
    },
    "EnsureUser": |world, place| {
        let mut rosters = world.room_service(place.tenant, Some("zoe")).rosters;
        rosters.ensure_user(pb::EnsureUserRequest {}).await.expect("there")
    },
    "EnterSeat, SwitchSeat and LeaveSeat": |world, place| {
        seats::enter(world, place, place.lounge).await;
        seats::enter(world, place, place.lounge).await;
        seats::switch_and_leave(world, place).await;
    },
    "EnterSeat and LeaveSeats": |world, place| {
        seats::enter(world, place, place.lounge).await;
        seats::enter(world, place, place.porch).await;
        seats::leave_all(world, place).await;
    },
    "EnterSeat and EndSeats": |world, place| {
        seats::enter(world, place, place.lounge).await;
        seats::end(world, place).await;
    },
    "CheckSeatLimit": |world, place| {
        let request = pb::CheckSeatLimitRequest { max_rooms: 5 };
        let mut seats = world.room_service(place.tenant, Some("mia")).seats;
        seats.check_seat_limit(request).await.expect("one more")
    },
    "ListSeats": |world, place| {
        let mut seats = world.room_service(place.tenant, None).seats;
        let request = pb::ListSeatsRequest { page_size: 20, ..Default::default() };
        seats.list_seats(request).await.expect("a page")
    },
    "ListEndedRosters and AcknowledgeEndedRosters": |world, place| {
        let mut seats = world.room_service(place.tenant, None).seats;
        let log_ids = seats::ended(world, place).await;
        let request = pb::AcknowledgeEndedRostersRequest { log_ids };
        seats.acknowledge_ended_rosters(request).await.expect("noted")
    },
    "GetCounters": |world, _| {
        world.operators().get_counters(pb::GetCountersRequest {}).await.expect("counters")
    },
};

/// Does everything in a tenant with a hundred of what `grow` makes, and in one with ten
/// thousand; fails where that costs more.
async fn compare(db: Db, grow: impl AsyncFn(&Growing<'_>, i64)) {
    let world = World::new(db.clone());
    let mut places = Vec::new();
    for (tenant, size) in ["small", "large"].into_iter().zip(SIZES) {
        let place = Box::pin(Place::new(&world, tenant)).await;
        grow(&Growing { world: &world, db: &db, place: &place }, size).await;
        places.push(place);
    }
    costs_the_same(&db, &world, &places, &[WORK, people::WORK, asking::WORK].concat()).await;
}

async fn beside_members(db: Db) {
    compare(db, async |growing: &Growing<'_>, size| growing.members(size, Member, 1).await).await;
}

async fn beside_owners(db: Db) {
    compare(db, async |growing: &Growing<'_>, size| growing.members(size, Owner, 1).await).await;
}

async fn beside_members_who_left(db: Db) {
    compare(db, async |growing: &Growing<'_>, size| growing.members(size, Member, 2).await).await;
}

async fn beside_rooms_of_a_user(db: Db) {
    compare(db, async |growing: &Growing<'_>, size| {
        growing.rooms(size, false, 1, |log_id| format!("room {log_id}")).await;
    })
    .await;
}

async fn beside_rooms_that_were_left_or_closed(db: Db) {
    compare(db, async |growing: &Growing<'_>, size| {
        growing.rooms(size / 2, false, 2, |log_id| format!("room {log_id}")).await;
        growing.rooms(size / 2, true, 4, |log_id| format!("room {log_id}")).await;
    })
    .await;
}

async fn beside_earlier_lives_of_a_room(db: Db) {
    compare(db, async |growing: &Growing<'_>, size| {
        growing.rooms(size / 2, true, 4, |_| "den".to_owned()).await;
        growing.rooms(size / 2, true, 4, |_| "new".to_owned()).await;
    })
    .await;
}

async fn beside_users(db: Db) {
    compare(db, async |growing: &Growing<'_>, size| {
        let insert = "
            WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $2)
            INSERT INTO users (tenant_id, user_id, name, picture, metadata, create_time,
                               update_time)
            SELECT $1, 'm' || CAST(n.i AS TEXT), '', '', '{}', 1, 1 FROM n";
        growing.write(insert).bind(size).execute().await.expect("filled");
    })
    .await;
}

async fn beside_sanctions(db: Db) {
    compare(db, async |growing: &Growing<'_>, size| {
        let insert = "
            WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $2)
            INSERT INTO sanctions (log_id, user_id, kind, until, reason, actor_id, create_time)
            SELECT $1, 'm' || CAST(n.i AS TEXT), 1 + n.i / 2 % 2, (n.i % 2) * $3, '', '', 1 FROM n";
        let insert = growing.db.write(insert).bind(growing.place.den.0).bind(size);
        insert.bind(i64::MAX).execute().await.expect("filled");
    })
    .await;
}

async fn beside_request_ids(db: Db) {
    compare(db, async |growing: &Growing<'_>, size| {
        let insert = "
            WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $3)
            INSERT INTO requests (tenant_id, caller, room_id, request_id, hash, log_id, reply,
                                  create_time)
            SELECT $1, 'ann', 'den', 'of old ' || CAST(n.i AS TEXT), $4, $2, $4, 1 FROM n";
        let insert = growing.write(insert).bind(growing.place.den.0).bind(size);
        insert.bind([0_u8; 32].as_slice()).execute().await.expect("filled");
    })
    .await;
}

use asking::beside_pending;
use growing::Growing;
use people::beside_blocks_and_suspended_users;
use seats::{beside_live_rooms, beside_seats, due_rooms_cost_each_the_same};

async fn beside_facts(db: Db) {
    compare(db, async |growing: &Growing<'_>, size| {
        let insert = "
            WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $2)
            INSERT INTO outbox (log_id, version, fact)
            SELECT $1, n.i + 1, $3 FROM n";
        let den = growing.place.den;
        let insert = growing.db.write(insert).bind(den.0).bind(size).bind([0_u8; 64].as_slice());
        insert.execute().await.expect("filled");
        let update = "UPDATE outbox_logs SET version = $2, applied = $2 WHERE log_id = $1";
        let update = growing.db.write(update).bind(den.0).bind(1 + size);
        update.execute().await.expect("moved");
        let mut log = growing.world.logs.log(den);
        log.applied.insert(FactSource::Membership, 1 + size);
        growing.world.logs.restore(den, log);
    })
    .await;
}
