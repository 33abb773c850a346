//! Pages of the listed channels of a tenant.

use parlance_proto::room::v1 as pb;
use parlance_rpc::fields;
use parlance_types::{LogId, cut, fitting};
use prost::Message as _;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::RoomListGrpc;
use super::decode::ChannelsWish;
use crate::Error;
use crate::room::{Actor, Listed, codec, folded};

/// How many channels one call looks at that shows not all of them.
const MANY: usize = 500;

/// Where a channel stands in the order of a list, and its log.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Place {
    Name(String, u128),
    Size(i64, u128),
}

impl Place {
    /// Before all others.
    const fn first(order: pb::ChannelsOrder) -> Self {
        match order {
            pb::ChannelsOrder::Size => Self::Size(i64::MAX, u128::MAX),
            pb::ChannelsOrder::Name | pb::ChannelsOrder::Unspecified => {
                Self::Name(String::new(), 0)
            }
        }
    }

    fn of(&self, channel: &Listed) -> Self {
        let log_id = channel.named.log_id.0.as_u128();
        match self {
            Self::Name(..) => Self::Name(folded(channel.named.name.as_str()), log_id),
            Self::Size(..) => Self::Size(channel.members, log_id),
        }
    }
}

impl RoomListGrpc {
    /// One page of the tenant's listed channels.
    pub(super) async fn channels(
        &self,
        actor: &Actor,
        wish: &ChannelsWish,
    ) -> Result<pb::ListChannelsResponse, Error> {
        let most = fields::page_size(wish.page_size)?.get();
        let after = fields::page_token(wish.query.position::<Place>(&wish.page_token))?;
        let after = after.unwrap_or(Place::first(wish.order));
        let looked = if wish.narrow.is_nothing() { most } else { MANY };
        // One beyond tells whether there are more.
        let mut listed = self.listed(actor, &after, looked + 1).await?;
        let last = cut(&mut listed, looked).map(|channel| after.of(channel));
        let mut passing = listed;
        passing.retain(|Listed { named, .. }| wish.narrow.lets_pass(&named.name, &named.fields));

        let more = passing.len() > most;
        passing.truncate(most);
        let log_ids: Vec<_> = passing.iter().map(|channel| channel.named.log_id).collect();
        let mut rooms = self.rooms.of_logs(actor, &log_ids).await?;
        let shown = passing.iter().map(|channel| {
            // One that is gone meanwhile is left out.
            let room = rooms.remove(&channel.named.log_id)?;
            let room = Some(codec::room(&room));
            Some(pb::ListedChannel { room, member_count: channel.members })
        });
        let mut shown: Vec<_> = shown.collect();
        let sizes =
            shown.iter().map(|channel| channel.as_ref().map_or(0, pb::ListedChannel::encoded_len));
        let fit = fitting(sizes).min(shown.len());
        let next = if more || fit < shown.len() {
            passing.get(fit.saturating_sub(1)).map(|channel| after.of(channel))
        } else {
            last
        };
        shown.truncate(fit);
        Ok(pb::ListChannelsResponse {
            channels: shown.into_iter().flatten().collect(),
            next_page_token: next.map(|place| wish.query.token(place)).unwrap_or_default(),
        })
    }

    async fn listed(
        &self,
        actor: &Actor,
        after: &Place,
        limit: usize,
    ) -> Result<Vec<Listed>, Error> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let (store, tenant_id) = (self.rooms.store(), &actor.tenant_id);
        let log = |log_id: &u128| LogId(Uuid::from_u128(*log_id));
        match after {
            Place::Name(name, log_id) => {
                let after = (name.clone(), log(log_id));
                store.listed_by_name(tenant_id, &after, limit).await
            }
            Place::Size(members, log_id) => {
                store.listed_by_size(tenant_id, (*members, log(log_id)), limit).await
            }
        }
    }
}
