//! Pages of a user's rooms.

use std::collections::HashMap;

use parlance_proto::membership::v1::GetRoomMembersResponse;
use parlance_proto::message::v1 as log;
use parlance_proto::room::v1 as pb;
use parlance_rpc::{Deadline, fields};
use parlance_types::{LogId, RoomKind, fitting};
use prost::Message;
use uuid::Uuid;

use super::RoomListGrpc;
use super::decode::Wish;
use crate::Error;
use crate::room::{Actor, Room, codec, folded};

/// How many logs are looked at together when not all of them are shown, and how often.
const MANY: i32 = 100;
pub(super) const TURNS: usize = 5;

/// How many members come with a room.
const MEMBERS: i32 = 100;

/// A page, and where the next one begins, if there is one.
pub(super) struct Page<P> {
    pub(super) rooms: Vec<pb::MyRoom>,
    pub(super) next: Option<P>,
    pub(super) total_size: Option<i64>,
}

/// A room that is listed; `None`: not to be shown.
pub(super) type Seen = Option<pb::MyRoom>;

/// What each room adds to an answer; one that is not shown nothing.
fn size(room: &Seen) -> usize {
    room.as_ref().map_or(0, Message::encoded_len)
}

impl RoomListGrpc {
    /// One page of the acting user's rooms.
    pub(super) async fn my_rooms(
        &self,
        actor: &Actor,
        wish: Wish,
        deadline: Deadline,
    ) -> Result<pb::ListMyRoomsResponse, Error> {
        match wish.order {
            pb::MyRoomsOrder::Name => self.by_name(actor, &wish, deadline).await,
            _ if wish.include_left => self.by_log_and_left(actor, &wish, deadline).await,
            _ => {
                let token = wish.query.position::<String>(&wish.page_token);
                let token = fields::page_token(token)?.unwrap_or_default();
                let Page { rooms, next, total_size } =
                    self.by_log(actor, &wish, token, deadline).await?;
                let next_page_token = next.map(|next| wish.query.token(next)).unwrap_or_default();
                Ok(pb::ListMyRoomsResponse { rooms, next_page_token, total_size })
            }
        }
    }

    /// A page in an order that the logs have, from where the service that has them says.
    pub(super) async fn by_log(
        &self,
        actor: &Actor,
        wish: &Wish,
        page_token: String,
        deadline: Deadline,
    ) -> Result<Page<String>, Error> {
        let all = wish.narrow.is_nothing();
        let most = fields::page_size(wish.page_size)?.get();
        let page_size = if all { wish.page_size } else { MANY };
        let order = match wish.order {
            pb::MyRoomsOrder::Creation => log::UserLogOrder::Creation,
            _ => log::UserLogOrder::Activity,
        };
        let mut asked = log::ListUserLogsRequest {
            user_id: wish.user_id.clone(),
            page_size,
            page_token,
            skip_empty: wish.skip_empty,
            filter: Some(wish.filter.clone()),
            order: order.into(),
            log_ids: Vec::new(),
        };
        let (mut found, mut turns, mut total_size) = (Vec::new(), 0, None);
        loop {
            let mut page = self.logs.list(actor, asked.clone(), deadline).await?;
            let logs = std::mem::take(&mut page.logs);
            let rooms = self.shown(actor, wish, logs, deadline).await?;
            let used = used(&found, &rooms, most);
            if used == 0 && !rooms.is_empty() {
                return Ok(Page { rooms: found, next: Some(asked.page_token), total_size });
            }
            if used < rooms.len() {
                // The token after so many is known to the service that has the logs.
                asked.page_size = i32::try_from(used).unwrap_or(i32::MAX);
                continue;
            }
            turns += 1;
            total_size = total_size.or(page.total_size.filter(|_| all));
            found.extend(rooms.into_iter().flatten());
            let next = page.next_page_token;
            if all || next.is_empty() || found.len() >= most || turns == TURNS {
                let next = Some(next).filter(|next| !next.is_empty());
                return Ok(Page { rooms: found, next, total_size });
            }
            (asked.page_token, asked.page_size) = (next, page_size);
        }
    }

    /// A page by name, which only this service has: all of the user's rooms are put in order.
    async fn by_name(
        &self,
        actor: &Actor,
        wish: &Wish,
        deadline: Deadline,
    ) -> Result<pb::ListMyRoomsResponse, Error> {
        let after = fields::page_token(wish.query.position::<(String, u128)>(&wish.page_token))?;
        let after = after.map(|(name, log_id)| (name, LogId(Uuid::from_u128(log_id))));
        let most = fields::page_size(wish.page_size)?.get();
        let asked = log::ListUserLogIdsRequest {
            user_id: wish.user_id.clone(),
            skip_empty: wish.skip_empty,
            filter: Some(wish.filter.clone()),
        };
        let mut ids = self.logs.all_ids(actor, asked, deadline).await?;
        let mut left = self.left(actor, wish, deadline).await?;
        left.retain(|log_id, _| !ids.contains(log_id));
        ids.extend(left.keys());
        let named = self.rooms.named(actor, &ids).await?.into_iter();
        let named = named.filter_map(|room| match left.get(&room.log_id) {
            Some(_) => wish.former(room),
            None => Some(room),
        });
        let named = named.filter(|room| wish.narrow.lets_pass(&room.name, &room.fields));
        let mut places: Vec<_> =
            named.map(|room| (folded(room.name.as_str()), room.log_id)).collect();
        places.sort_unstable();
        let total_size = i64::try_from(places.len()).ok();
        let begin = after.map_or(0, |after| places.partition_point(|place| *place <= after));
        let more = places.len() > begin + most;
        let places: Vec<_> = places.into_iter().skip(begin).take(most).collect();
        let log_ids: Vec<_> = places.iter().map(|(_, log_id)| *log_id).collect();

        let (gone, there): (Vec<_>, Vec<_>) =
            log_ids.iter().partition(|log_id| left.contains_key(log_id));
        let mut seen = self.seen(actor, wish, &there, deadline).await?;
        let gone: Vec<_> = gone.into_iter().map(|log_id| (log_id, left[&log_id])).collect();
        seen.extend(self.seen_before(actor, wish, &gone).await?);
        let rooms: Vec<Seen> = log_ids.iter().map(|log_id| seen.remove(log_id)).collect();
        let used = used(&[], &rooms, most);
        let last = places.get(used.saturating_sub(1)).filter(|_| more || used < rooms.len());
        let last = last.map(|(name, log_id)| wish.query.token((name, log_id.0.as_u128())));
        let rooms = rooms.into_iter().take(used).flatten().collect();
        let next_page_token = last.unwrap_or_default();
        Ok(pb::ListMyRoomsResponse { rooms, next_page_token, total_size })
    }

    /// Rooms of the user, by log.
    async fn seen(
        &self,
        actor: &Actor,
        wish: &Wish,
        log_ids: &[LogId],
        deadline: Deadline,
    ) -> Result<HashMap<LogId, pb::MyRoom>, Error> {
        if log_ids.is_empty() {
            return Ok(HashMap::new());
        }
        let asked = log::ListUserLogsRequest {
            user_id: wish.user_id.clone(),
            log_ids: log_ids.iter().copied().map(codec::log_id).collect(),
            ..log::ListUserLogsRequest::default()
        };
        let logs = self.logs.list(actor, asked, deadline).await?.logs;
        let log_ids = self.logs.ids(&logs)?;
        let rooms = self.shown(actor, wish, logs, deadline).await?;
        let seen = log_ids.into_iter().zip(rooms);
        Ok(seen.filter_map(|(log_id, room)| Some((log_id, room?))).collect())
    }

    /// What rooms are called, log by log. A room that is being deleted is not shown, nor is
    /// one that the wish leaves out.
    async fn shown(
        &self,
        actor: &Actor,
        wish: &Wish,
        logs: Vec<log::UserLog>,
        deadline: Deadline,
    ) -> Result<Vec<Seen>, Error> {
        let log_ids = self.logs.ids(&logs)?;
        let mut rooms = self.rooms.of_logs(actor, &log_ids).await?;
        rooms.retain(|_, room| wish.narrow.lets_pass(&room.name, &room.fields));
        let mut members = HashMap::new();
        if wish.include_members {
            let peopled = |room: &&Room| matches!(room.kind, RoomKind::Direct | RoomKind::Group);
            let peopled: Vec<_> = rooms.values().filter(peopled).map(|room| room.log_id).collect();
            members = self.members(actor, peopled, deadline).await?;
        }
        let shown = logs.into_iter().zip(log_ids).map(|(seen, log_id)| {
            let members = members.remove(&log_id).unwrap_or_default();
            Some(pb::MyRoom {
                room: Some(codec::room(rooms.get(&log_id)?)),
                role: seen.role,
                unread: seen.unread,
                marked_unread: seen.marked_unread,
                mentions: seen.mentions,
                last_message: seen.last_message,
                activity_time: seen.activity_time,
                cursor: seen.cursor,
                member_user_ids: members.user_ids,
                member_count: members.total_size,
                ..pb::MyRoom::default()
            })
        });
        Ok(shown.collect())
    }

    /// The first members of rooms.
    async fn members(
        &self,
        actor: &Actor,
        log_ids: Vec<LogId>,
        deadline: Deadline,
    ) -> Result<HashMap<LogId, GetRoomMembersResponse>, Error> {
        if log_ids.is_empty() {
            return Ok(HashMap::new());
        }
        let rosters = self.rooms.rosters();
        let members = rosters.first_members(actor, &log_ids, MEMBERS, deadline).await?;
        Ok(log_ids.into_iter().zip(members).collect())
    }
}

/// How many of the rooms a page takes that has `found` already: as many as it may have, and
/// as fit.
pub(super) fn used(found: &[pb::MyRoom], rooms: &[Seen], most: usize) -> usize {
    let mut left = most.saturating_sub(found.len());
    let wanted = rooms.iter().position(|room| match room {
        Some(_) if left == 0 => true,
        Some(_) => {
            left -= 1;
            false
        }
        None => false,
    });
    let sizes = found.iter().map(Message::encoded_len).chain(rooms.iter().map(size));
    let fit = fitting(sizes).saturating_sub(found.len());
    fit.min(wanted.unwrap_or(rooms.len())).min(rooms.len())
}
