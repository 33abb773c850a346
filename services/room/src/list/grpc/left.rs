//! The rooms that a user is no longer in.

use std::collections::{BTreeMap, HashMap};

use parlance_proto::room::v1 as pb;
use parlance_rpc::Deadline;
use parlance_rpc::fields::{self, micros};
use parlance_types::{LogId, Micros};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::RoomListGrpc;
use super::decode::Wish;
use super::pages::{Page, Seen, TURNS, used};
use crate::Error;
use crate::room::{Actor, Fields, Name, Named, codec, is_of_members};

/// How many rooms are looked at together.
const MANY: usize = 100;

/// Where a walk stands that comes to the rooms that were left after all others.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Walk {
    /// As the service says that has the logs.
    Logs(String),
    /// After a room that was left then.
    Left(Micros, u128),
}

impl Wish {
    /// What a room that was left is called, if one of its kind may be listed: a group is called
    /// nothing.
    pub(super) fn former(&self, room: Named) -> Option<Named> {
        let (kinds, kind) = (&self.filter.kinds, codec::kind(room.kind).into());
        if !kinds.is_empty() && !kinds.contains(&kind) {
            return None;
        }
        if !is_of_members(room.kind) {
            return Some(room);
        }
        Some(Named { name: Name::default(), fields: Fields::default(), ..room })
    }
}

impl RoomListGrpc {
    /// When the acting user left which rooms, if the wish is for such.
    pub(super) async fn left(
        &self,
        actor: &Actor,
        wish: &Wish,
        deadline: Deadline,
    ) -> Result<BTreeMap<LogId, Micros>, Error> {
        if !wish.include_left || wish.filter.unread_only || !wish.filter.roles.is_empty() {
            return Ok(BTreeMap::new());
        }
        let since = wish.filter.active_since.as_ref().and_then(micros).unwrap_or(Micros::MIN);
        let left = self.rooms.rosters().left(actor, deadline).await?;
        Ok(left.into_iter().filter(|(_, time)| *time >= since).collect())
    }

    /// A page in an order that the logs have, the rooms that were left behind all others.
    pub(super) async fn by_log_and_left(
        &self,
        actor: &Actor,
        wish: &Wish,
        deadline: Deadline,
    ) -> Result<pb::ListMyRoomsResponse, Error> {
        let walk = fields::page_token(wish.query.position::<Walk>(&wish.page_token))?;
        let page = match walk.unwrap_or(Walk::Logs(String::new())) {
            Walk::Logs(token) => {
                let page = self.by_log(actor, wish, token, deadline).await?;
                let next = page.next.map_or(Walk::Left(Micros::MAX, u128::MAX), Walk::Logs);
                Page { rooms: page.rooms, next: Some(next), total_size: page.total_size }
            }
            Walk::Left(time, log_id) => {
                let after = (time, LogId(Uuid::from_u128(log_id)));
                let page = self.left_after(actor, wish, after, deadline).await?;
                let next = page.next.map(|(time, log_id)| Walk::Left(time, log_id.0.as_u128()));
                Page { rooms: page.rooms, next, total_size: None }
            }
        };
        Ok(pb::ListMyRoomsResponse {
            rooms: page.rooms,
            next_page_token: page.next.map(|walk| wish.query.token(walk)).unwrap_or_default(),
            total_size: page.total_size,
        })
    }

    /// Rooms that were left before one, those left last first.
    async fn left_after(
        &self,
        actor: &Actor,
        wish: &Wish,
        after: (Micros, LogId),
        deadline: Deadline,
    ) -> Result<Page<(Micros, LogId)>, Error> {
        let most = fields::page_size(wish.page_size)?.get();
        let left = self.left(actor, wish, deadline).await?;
        let mut left: Vec<_> = left.into_iter().map(|(log_id, time)| (time, log_id)).collect();
        left.retain(|place| *place < after);
        left.sort_unstable_by(|one, other| other.cmp(one));
        let (mut rooms, mut next) = (Vec::new(), None);
        for some in left.chunks(MANY).take(TURNS) {
            let gone: Vec<_> = some.iter().map(|(time, log_id)| (*log_id, *time)).collect();
            let mut seen = self.seen_before(actor, wish, &gone).await?;
            let shown: Vec<Seen> = some.iter().map(|(_, log_id)| seen.remove(log_id)).collect();
            let used = used(&rooms, &shown, most);
            next = some[..used].last().copied().or(next);
            let cut = used < shown.len();
            rooms.extend(shown.into_iter().take(used).flatten());
            if cut || rooms.len() >= most {
                break;
            }
        }
        let next = next.filter(|next| left.last().is_some_and(|last| last < next));
        Ok(Page { rooms, next, total_size: None })
    }

    /// Rooms that were left and are still there, as their former member sees them.
    pub(super) async fn seen_before(
        &self,
        actor: &Actor,
        wish: &Wish,
        left: &[(LogId, Micros)],
    ) -> Result<HashMap<LogId, pb::MyRoom>, Error> {
        let log_ids: Vec<_> = left.iter().map(|(log_id, _)| *log_id).collect();
        let rooms = self.rooms.of_logs(actor, &log_ids).await?;
        let seen = left.iter().filter_map(|(log_id, time)| {
            let room = rooms.get(log_id).filter(|room| room.conceal_from(actor).is_ok())?;
            let named = wish.former(room.named())?;
            if !wish.narrow.lets_pass(&named.name, &named.fields) {
                return None;
            }
            let seen = pb::MyRoom {
                room: Some(codec::left_room(room)),
                left: true,
                leave_time: Some(codec::timestamp(*time)),
                ..pb::MyRoom::default()
            };
            Some((*log_id, seen))
        });
        Ok(seen.collect())
    }
}
