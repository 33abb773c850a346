//! Requests from the wire.

use parlance_proto::message::v1 as log;
use parlance_proto::room::v1 as pb;
use parlance_rpc::fields::{self, length, micros};
use parlance_types::Query;

use crate::Error;
use crate::list::Narrow;
use crate::room::{Actor, FieldsDraft};

/// How many kinds, roles and fields a list may be narrowed by.
const MAX_FILTERS: usize = 10;

/// A list of rooms that somebody wants.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub user_id: String,
    pub page_size: i32,
    pub page_token: String,
    pub skip_empty: bool,
    pub filter: log::UserLogFilter,
    pub narrow: Narrow,
    pub order: pb::MyRoomsOrder,
    pub include_members: bool,
    pub include_left: bool,
    /// What the page token belongs to.
    pub query: Query,
}

/// A list of channels that somebody wants.
#[derive(Clone, Debug)]
pub(super) struct ChannelsWish {
    pub page_size: i32,
    pub page_token: String,
    pub order: pb::ChannelsOrder,
    pub narrow: Narrow,
    /// What the page token belongs to.
    pub query: Query,
}

pub(super) fn channels(
    actor: &Actor,
    request: pb::ListChannelsRequest,
) -> Result<ChannelsWish, Error> {
    fields::page_size(request.page_size)?;
    length("fields", request.fields.len(), 0..=MAX_FILTERS)?;
    let order = pb::ChannelsOrder::try_from(request.order);
    let order = order.map_err(|_| Error::invalid("order", "must be a known order"))?;
    let asked =
        pb::ListChannelsRequest { page_size: 0, page_token: String::new(), ..request.clone() };
    let query = Query::new(&["ListChannels", actor.tenant_id.as_str(), &format!("{asked:?}")]);
    let fields = FieldsDraft::parse("fields", request.fields)?;
    let narrow = Narrow::parse(&request.name_contains, fields)?;
    let (page_size, page_token) = (request.page_size, request.page_token);
    Ok(ChannelsWish { page_size, page_token, order, narrow, query })
}

pub(super) fn wish(actor: &Actor, request: pb::ListMyRoomsRequest) -> Result<Wish, Error> {
    let user = actor.user.as_ref().ok_or(Error::UserRequired)?;
    fields::page_size(request.page_size)?;
    length("kinds", request.kinds.len(), 0..=MAX_FILTERS)?;
    length("roles", request.roles.len(), 0..=MAX_FILTERS)?;
    length("fields", request.fields.len(), 0..=MAX_FILTERS)?;
    let kind = |kind: &i32| log::RoomKind::try_from(*kind).is_ok_and(|_| *kind != 0);
    if !request.kinds.iter().all(kind) {
        return Err(Error::invalid("kinds", "must be kinds of rooms"));
    }
    let role = |role: &i32| log::MemberRole::try_from(*role).is_ok_and(|_| *role != 0);
    if !request.roles.iter().all(role) {
        return Err(Error::invalid("roles", "must be roles"));
    }
    let order = pb::MyRoomsOrder::try_from(request.order);
    let order = order.map_err(|_| Error::invalid("order", "must be a known order"))?;
    if request.active_since.as_ref().is_some_and(|time| micros(time).is_none()) {
        return Err(Error::invalid("active_since", "must be a time"));
    }
    let asked =
        pb::ListMyRoomsRequest { page_size: 0, page_token: String::new(), ..request.clone() };
    let asked = format!("{asked:?}");
    let query = Query::new(&["ListMyRooms", actor.tenant_id.as_str(), user.as_str(), &asked]);
    Ok(Wish {
        user_id: user.to_string(),
        page_size: request.page_size,
        page_token: request.page_token,
        skip_empty: !request.include_empty,
        filter: log::UserLogFilter {
            kinds: request.kinds,
            roles: request.roles,
            unread_only: request.unread_only,
            active_since: request.active_since,
        },
        narrow: Narrow::parse(
            &request.name_contains,
            FieldsDraft::parse("fields", request.fields)?,
        )?,
        order,
        include_members: request.include_members,
        include_left: request.include_left,
        query,
    })
}
