//! What each RPC costs when what it stands beside grows a hundredfold.

use std::sync::atomic::{AtomicI64, Ordering};

use parlance_db::testing::costs_the_same;
use parlance_db::{AssertSqlSafe, Db, Query, rows, test_on_each_db, work};
use parlance_proto::message::v1::{ListUserLogsResponse, RoomKind, UserLog};
use parlance_proto::room::v1 as pb;
use parlance_rpc::Principal;
use parlance_types::UserId;
use prost_types::FieldMask;
use uuid::Uuid;

use crate::harness::{Client, Harness, channel, create, delete, direct, get, group};
use crate::room::broadcasts::broadcast;
use crate::tenant::quotas::limited;

test_on_each_db!(parlance_room::MIGRATIONS, crate::growth, on_own_postgres =>
    beside_rooms,
    beside_listed_channels,
    beside_deleted_rooms,
    beside_earlier_lives_of_a_room,
    beside_request_ids,
    beside_facts,
);

/// How much of it there is, and a hundred times as much.
const SIZES: [i64; 2] = [100, 10_000];

/// A tenant with a group, a channel and a direct room of Ann's, in which something grows.
struct Place {
    tenant: &'static str,
    ann: Client,
    /// The log of the group "den".
    log_id: String,
    /// The channel "news".
    news: String,
    /// Of names, and ids of requests, so far.
    next: AtomicI64,
}

impl Place {
    async fn new(suite: &Harness, tenant: &'static str) -> Self {
        suite.roster.state().users.insert((tenant.to_owned(), "bob".to_owned()));
        let mut ann = suite.caller(tenant, Principal::User(UserId::new("ann")));
        // Rooms are counted.
        let mut operator = suite.caller(tenant, Principal::Operator).settings;
        operator.set_tenant_settings(limited(1_000_000)).await.expect("limited");
        create(&mut ann, group("den", &["bob"])).await;
        let news = ann.rooms.get_or_create_channel(channel("news")).await.expect("made");
        let news = news.into_inner().room.expect("a room").room_id;
        for n in 0..20 {
            let (kind, visibility) = (RoomKind::Channel.into(), pb::RoomVisibility::Listed.into());
            let room_id = format!("listed {n}");
            let listed = pb::CreateRoomRequest { kind, visibility, ..group(&room_id, &[]) };
            create(&mut ann, listed).await;
        }
        ann.rooms.get_or_create_direct_room(direct("bob")).await.expect("made");
        let log_id = |(log_id, roster): (String, crate::roster::Roster)| {
            (roster.tenant_id == tenant).then_some(log_id)
        };
        let log_id = suite.roster.open_rosters("den").into_iter().find_map(log_id);
        let (log_id, next) = (log_id.expect("a roster"), AtomicI64::new(1));
        Self { tenant, ann, log_id, news, next }
    }

    fn next(&self, what: &str) -> String {
        format!("{what} {}", self.next.fetch_add(1, Ordering::Relaxed))
    }

    async fn rename(&self, name: String, request_id: String) {
        let request = pb::UpdateRoomRequest {
            room: Some(pb::Room { room_id: "den".to_owned(), name, ..Default::default() }),
            update_mask: Some(FieldMask { paths: vec!["name".to_owned()] }),
            request_id,
            ..Default::default()
        };
        self.ann.rooms.clone().update_room(request).await.expect("updated");
    }

    /// Creates a room and deletes it.
    async fn pass(&self, request: pb::CreateRoomRequest, request_id: &str) {
        let room = create(&mut self.ann.clone(), request).await;
        let delete = delete(&room.room_id, request_id);
        self.ann.rooms.clone().delete_room(delete).await.expect("deleted");
    }
}

/// These ids, and so many of nothing that they are half of what a request may name.
fn fifty(ids: &[&str]) -> Vec<String> {
    let nothing = (ids.len()..50).map(|nothing| format!("nothing {nothing}"));
    ids.iter().map(|id| (*id).to_owned()).chain(nothing).collect()
}

type Work = parlance_db::testing::Work<Harness, Place>;

/// What is asked of the service.
const WORK: &[(&str, Work)] = work! {
    "CreateRoom and DeleteRoom": |_, place| place.pass(group("", &["bob"]), "").await,
    "CreateRoom and DeleteRoom with ids": |_, place| {
        let unique_id = "a channel".to_owned();
        let kind = RoomKind::Channel.into();
        let request = pb::CreateRoomRequest { unique_id, kind, ..group("tea", &[]) };
        place.pass(request, "").await;
    },
    "CreateRoom and DeleteRoom of a broadcast": |suite, place| {
        let mut backend = suite.caller(place.tenant, Principal::Service);
        let room = create(&mut backend, broadcast("")).await;
        backend.rooms.delete_room(delete(&room.room_id, "")).await.expect("deleted");
    },
    "CreateRoom and DeleteRoom with request ids": |_, place| {
        let request_id = place.next("create");
        let request = pb::CreateRoomRequest { request_id, ..group("", &[]) };
        place.pass(request, &place.next("delete")).await;
    },
    "CreateRoom again": |_, place| {
        let request_id = "again".to_owned();
        let request = pb::CreateRoomRequest { request_id, ..group("", &[]) };
        create(&mut place.ann.clone(), request).await
    },
    "GetOrCreateDirectRoom": |_, place| {
        place.ann.rooms.clone().get_or_create_direct_room(direct("bob")).await.expect("there")
    },
    "GetOrCreateChannel": |_, place| {
        let request =
            pb::GetOrCreateChannelRequest { name: place.next("news"), ..channel("news") };
        place.ann.rooms.clone().get_or_create_channel(request).await.expect("there")
    },
    "GetRoom": |_, place| place.ann.rooms.clone().get_room(get("den")).await.expect("there"),
    "BatchGetRooms": |_, place| {
        let request = pb::BatchGetRoomsRequest {
            room_ids: fifty(&["den", "tea"]),
            unique_ids: fifty(&["news", "a channel"]),
            include_members: true,
        };
        place.ann.rooms.clone().batch_get_rooms(request).await.expect("rooms")
    },
    "UpdateRoom": |_, place| place.rename(place.next("name"), String::new()).await,
    "UpdateRoom with a request id": |_, place| {
        place.rename(place.next("name"), place.next("update")).await;
    },
    "UpdateRoom again": |_, place| {
        place.rename("again".to_owned(), "update again".to_owned()).await;
    },
    "UpdateRoom with people": |_, place| {
        let people = |add: &[&str], remove: &[&str]| pb::UpdateRoomRequest {
            room: Some(pb::Room { room_id: "den".to_owned(), ..Default::default() }),
            add_user_ids: add.iter().map(ToString::to_string).collect(),
            remove_user_ids: remove.iter().map(ToString::to_string).collect(),
            ..Default::default()
        };
        for request in [people(&["cid"], &["bob"]), people(&["bob"], &["cid"])] {
            place.ann.rooms.clone().update_room(request).await.expect("updated");
        }
    },
    "BatchDeleteRooms": |_, place| {
        let mut ids: Vec<_> = (0..8).map(|nothing| format!("no room {nothing}")).collect();
        for room_id in ["one", "two"] {
            create(&mut place.ann.clone(), group(room_id, &[])).await;
            ids.push(room_id.to_owned());
        }
        let request_id = place.next("delete all");
        let request = pb::BatchDeleteRoomsRequest { room_ids: ids, request_id };
        place.ann.rooms.clone().batch_delete_rooms(request).await.expect("outcomes")
    },
    "PatchMetadata": |_, place| {
        let action = Some(pb::key_patch::Action::Set(place.next("value")));
        let patch = pb::KeyPatch { key: "key".to_owned(), action, ..Default::default() };
        let (room_id, patches) = ("den".to_owned(), vec![patch]);
        let request = pb::PatchMetadataRequest { room_id, patches, ..Default::default() };
        place.ann.metadata.clone().patch_metadata(request).await.expect("patched")
    },
    "PatchMetadata of a bound key": |_, place| {
        let action = Some(pb::key_patch::Action::Set(place.next("value")));
        let delete_after_owner_left = true;
        let key = "bound".to_owned();
        let patch = pb::KeyPatch { key, action, delete_after_owner_left, ..Default::default() };
        let (room_id, patches) = ("den".to_owned(), vec![patch]);
        let request = pb::PatchMetadataRequest { room_id, patches, ..Default::default() };
        place.ann.metadata.clone().patch_metadata(request).await.expect("patched")
    },
    "ListMyRooms": |suite, place| {
        let seen = UserLog { log_id: place.log_id.clone(), ..UserLog::default() };
        suite.logs.state().page = ListUserLogsResponse { logs: vec![seen], ..Default::default() };
        let list = pb::ListMyRoomsRequest::default();
        let page = place.ann.lists.clone().list_my_rooms(list).await.expect("a page");
        assert_eq!(page.get_ref().rooms.len(), 1);
    },
    "ListMyRooms with rooms that were left": |suite, place| {
        let seen = UserLog { log_id: place.log_id.clone(), ..UserLog::default() };
        suite.logs.state().page = ListUserLogsResponse { logs: vec![seen], ..Default::default() };
        for order in [pb::MyRoomsOrder::Name, pb::MyRoomsOrder::Activity] {
            let list = pb::ListMyRoomsRequest {
                order: order.into(),
                include_left: true,
                ..Default::default()
            };
            let page = place.ann.lists.clone().list_my_rooms(list).await.expect("a page");
            assert_eq!(page.get_ref().rooms.len(), 1);
        }
    },
    "ListMyRooms by name": |suite, place| {
        let seen = UserLog { log_id: place.log_id.clone(), ..UserLog::default() };
        suite.logs.state().page = ListUserLogsResponse { logs: vec![seen], ..Default::default() };
        let list = pb::ListMyRoomsRequest {
            order: pb::MyRoomsOrder::Name.into(),
            ..Default::default()
        };
        let page = place.ann.lists.clone().list_my_rooms(list).await.expect("a page");
        assert_eq!(page.get_ref().rooms.len(), 1);
    },
    "ListChannels": |_, place| {
        for order in [pb::ChannelsOrder::Name, pb::ChannelsOrder::Size] {
            let list = pb::ListChannelsRequest { order: order.into(), ..Default::default() };
            let page = place.ann.lists.clone().list_channels(list).await.expect("a page");
            assert_eq!(page.get_ref().channels.len(), 10);
        }
    },
    "UpdateRoom lists a channel": |_, place| {
        for visibility in [pb::RoomVisibility::Listed, pb::RoomVisibility::Unlisted] {
            let (room_id, visibility) = (place.news.clone(), visibility.into());
            let request = pb::UpdateRoomRequest {
                room: Some(pb::Room { room_id, visibility, ..Default::default() }),
                update_mask: Some(FieldMask { paths: vec!["visibility".to_owned()] }),
                ..Default::default()
            };
            place.ann.rooms.clone().update_room(request).await.expect("updated");
        }
    },
    "SetTenantSettings and GetTenantSettings": |suite, place| {
        let mut operator = suite.caller(place.tenant, Principal::Operator).settings;
        let set = pb::SetTenantSettingsRequest {
            settings: Some(pb::TenantSettings {
                allowed_fields: vec![place.next("field")],
                ..Default::default()
            }),
            update_mask: Some(FieldMask { paths: vec!["allowed_fields".to_owned()] }),
        };
        operator.set_tenant_settings(set).await.expect("set");
        operator.get_tenant_settings(pb::GetTenantSettingsRequest {}).await.expect("settings")
    },
    "SetTenantSettings of what rooms follow": |suite, place| {
        let mut operator = suite.caller(place.tenant, Principal::Operator).settings;
        let seconds = 60 + place.next.fetch_add(1, Ordering::Relaxed);
        let set = pb::SetTenantSettingsRequest {
            settings: Some(pb::TenantSettings {
                retention: Some(prost_types::Duration { seconds, nanos: 0 }),
                ..Default::default()
            }),
            update_mask: Some(FieldMask { paths: vec!["retention".to_owned()] }),
        };
        operator.set_tenant_settings(set).await.expect("set");
    },
    "GetCounters": |suite, _| {
        suite.operators().get_counters(pb::GetCountersRequest {}).await.expect("counters")
    },
};

/// Does everything in a tenant with a hundred of what `grow` makes, and in one with ten
/// thousand; fails where that costs more.
async fn compare(db: Db, grow: impl AsyncFn(&Growing<'_>, i64)) {
    let suite = Harness::new(db.clone()).await;
    let mut places = Vec::new();
    for (tenant, size) in ["small", "large"].into_iter().zip(SIZES) {
        let place = Place::new(&suite, tenant).await;
        grow(&Growing { suite: &suite, db: &db, place: &place }, size).await;
        places.push(place);
    }
    costs_the_same(&db, &suite, &places, WORK).await;
}

/// A tenant that is being filled, faster than by requests.
struct Growing<'a> {
    suite: &'a Harness,
    db: &'a Db,
    place: &'a Place,
}

/// The ids that rooms hold or held.
struct Ids<'a> {
    room: Option<&'a str>,
    unique: Option<&'a str>,
    pair: Option<(&'a str, &'a str)>,
}

impl Growing<'_> {
    fn write(&self, sql: &'static str) -> Query<'_> {
        self.db.write(sql).bind(self.place.tenant)
    }

    fn log_id(&self) -> Uuid {
        self.place.log_id.parse().expect("a log")
    }

    async fn rooms(&self, count: i64, state: i16, ids: Ids<'_>) {
        let logs: Vec<Uuid> = (0..count).map(|_| Uuid::now_v7()).collect();
        for logs in logs.chunks(500) {
            let rooms = rows(
                6,
                logs.len(),
                "($1, $+, $+, $2, 2, '', '', '', '{}', 1, 1, 2, 2, FALSE, 1, 100, 'ann', $3, $4,
                  '{\"owner\":\"ann\",\"members\":[],\"ensure\":[]}', $5, 1, 1, 1, NULL, 1, 1, NULL)",
            );
            let rooms = format!(
                "INSERT INTO rooms (tenant_id, log_id, room_id, unique_id, kind, name, picture,
                                    description, metadata, post_rule, add_rule, remove_rule,
                                    join_rule, allow_preview, history, capacity, creator,
                                    pair_low, pair_high, founding, state, version,
                                    rules_version, pushed_rules_version, deleter, create_time,
                                    update_time, due_time)
                 VALUES {rooms}"
            );
            let rooms = self.db.write(AssertSqlSafe(rooms)).once();
            let rooms = rooms.bind(self.place.tenant).bind(ids.unique);
            let (low, high) = ids.pair.unzip();
            let mut rooms = rooms.bind(low).bind(high).bind(state);
            for log_id in logs {
                let room_id = ids.room.map_or_else(|| log_id.to_string(), ToOwned::to_owned);
                rooms = rooms.bind(*log_id).bind(room_id);
            }
            rooms.execute().await.expect("rooms");
        }
    }
}

async fn beside_rooms(db: Db) {
    compare(db, async |growing: &Growing<'_>, size| {
        growing.rooms(size, 2, Ids { room: None, unique: None, pair: None }).await;
    })
    .await;
}

async fn beside_listed_channels(db: Db) {
    compare(db, async |growing: &Growing<'_>, size| {
        growing.rooms(size, 2, Ids { room: None, unique: None, pair: None }).await;
        let list = "UPDATE rooms SET kind = 3, visibility = 2, name = 'Z', sort_name = 'z'
                    WHERE tenant_id = $1 AND name = ''";
        growing.write(list).execute().await.expect("listed");
    })
    .await;
}

async fn beside_deleted_rooms(db: Db) {
    compare(db, async |growing: &Growing<'_>, size| {
        growing.rooms(size, 4, Ids { room: None, unique: None, pair: None }).await;
    })
    .await;
}

async fn beside_earlier_lives_of_a_room(db: Db) {
    compare(db, async |growing: &Growing<'_>, size| {
        let pair = Some(("ann", "bob"));
        for (room, unique) in [("den", "news"), ("tea", "a channel")] {
            let ids = Ids { room: Some(room), unique: Some(unique), pair };
            growing.rooms(size / 2, 4, ids).await;
        }
    })
    .await;
}

async fn beside_request_ids(db: Db) {
    compare(db, async |growing: &Growing<'_>, size| {
        for room_id in ["", "den"] {
            let insert = "
                WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $3)
                INSERT INTO requests (tenant_id, caller, room_id, request_id, hash, log_id,
                                      reply, create_time)
                SELECT $1, 'ann', $5, 'of old ' || CAST(n.i AS TEXT), $4, $2, $4, 1 FROM n";
            let insert = growing.write(insert).bind(growing.log_id()).bind(size / 2);
            let insert = insert.bind([0_u8; 32].as_slice()).bind(room_id);
            insert.execute().await.expect("filled");
        }
    })
    .await;
}

async fn beside_facts(db: Db) {
    compare(db, async |growing: &Growing<'_>, size| {
        let insert = "
            WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $2)
            INSERT INTO outbox (log_id, version, fact)
            SELECT $1, n.i, $3 FROM n";
        let insert = growing.db.write(insert).bind(growing.log_id()).bind(size);
        insert.bind([0_u8; 64].as_slice()).execute().await.expect("filled");
        let update = "UPDATE outbox_logs SET version = $2, applied = $2 WHERE log_id = $1";
        let update = growing.db.write(update).bind(growing.log_id()).bind(size);
        update.execute().await.expect("moved");
        growing.suite.logs.has(&growing.place.log_id, size);
    })
    .await;
}
