//! `MemberService`.

use std::collections::BTreeMap;

use parlance_proto::membership::v1 as pb;
use parlance_proto::membership::v1::member_service_server::MemberService;
use parlance_proto::message::v1::event::Body;
use parlance_proto::message::v1::{Event, MemberUpdated};
use parlance_requests::RequestKey;
use parlance_rpc::{Violation, fields};
use parlance_types::UserId;
use prost::Message as _;
use tonic::{Request, Response, Status};

use super::{MAX_KEYS, MAX_VALUE_BYTES, Update, Updated};
use crate::handler::{Handler, MAX_LIST};
use crate::wire::{change, open};

/// Serves what is said of members.
#[derive(Clone, Debug)]
pub struct MemberGrpc(pub(crate) Handler);

#[tonic::async_trait]
impl MemberService for MemberGrpc {
    async fn update_member_metadata(
        &self,
        request: Request<pb::UpdateMemberMetadataRequest>,
    ) -> Result<Response<pb::UpdateMemberMetadataResponse>, Status> {
        let (caller, deadline, request) = open(request)?;
        let key = RequestKey::of(&caller, "UpdateMemberMetadata", &request.request_id, &request)?;
        let room_id = fields::room_id("room_id", request.room_id)?;
        let user_id = match fields::given(request.user_id) {
            Some(user_id) => fields::user_id("user_id", user_id)?,
            None => caller.require_user()?.clone(),
        };
        let update = update(user_id, request.set, request.delete_keys)?;
        change(&self.0, deadline, &caller, room_id, update, key).await
    }

    async fn batch_get_member_metadata(
        &self,
        request: Request<pb::BatchGetMemberMetadataRequest>,
    ) -> Result<Response<pb::BatchGetMemberMetadataResponse>, Status> {
        let (caller, deadline, request) = open(request)?;
        let room_id = fields::room_id("room_id", request.room_id)?;
        let user_ids = fields::ids("user_ids", request.user_ids, 1..=MAX_LIST, UserId::parse)?;
        let actor = self.0.actor(deadline, &caller).await?;
        let roster = self.0.readable_roster(deadline, &actor, &room_id).await?;
        let found = deadline.bound(self.0.store.member_metadata(&roster, &user_ids)).await?;
        let said = user_ids.iter().filter_map(|user_id| Some((user_id, found.get(user_id)?)));
        let members = said.map(|(user_id, metadata)| member(user_id, metadata)).collect();
        Ok(Response::new(pb::BatchGetMemberMetadataResponse { members }))
    }
}

fn update(
    user_id: UserId,
    set: BTreeMap<String, String>,
    delete_keys: Vec<String>,
) -> Result<Update, Violation> {
    fields::length("set", set.len(), 0..=MAX_KEYS)?;
    let set = fields::pairs("set", set)?.into_inner();
    if set.values().any(|value| value.len() > MAX_VALUE_BYTES) {
        return Err(Violation::new("set", "must have values of at most 256 bytes"));
    }
    let delete = fields::each("delete_keys", delete_keys, 0..=MAX_KEYS, |field, key| {
        if set.contains_key(&key) {
            return Err(Violation::new(field, "must not be set, too"));
        }
        fields::pairs(&field, BTreeMap::from([(key.clone(), String::new())]))?;
        Ok(key)
    })?;
    fields::once(delete.iter(), |at| format!("delete_keys[{at}]"))?;
    if set.is_empty() && delete.is_empty() {
        return Err(Violation::new("set", "must name a key, or delete_keys must"));
    }
    Ok(Update { user_id, set, delete: delete.into_iter().collect() })
}

/// The event that tells of a change.
pub(super) fn event(actor: Option<&UserId>, user_id: &UserId, updated: &Updated) -> Event {
    Event {
        actor_id: actor.map(ToString::to_string).unwrap_or_default(),
        body: Some(Body::MemberUpdated(MemberUpdated {
            user_id: user_id.to_string(),
            set: updated.set.clone(),
            deleted_keys: updated.deleted.clone(),
        })),
        ..Event::default()
    }
}

/// The encoded reply to a change.
pub(super) fn reply(user_id: &UserId, updated: &Updated) -> Vec<u8> {
    let member = Some(member(user_id, &updated.metadata));
    pb::UpdateMemberMetadataResponse { member }.encode_to_vec()
}

fn member(user_id: &UserId, metadata: &BTreeMap<String, String>) -> pb::MemberMetadata {
    pb::MemberMetadata { user_id: user_id.to_string(), metadata: metadata.clone() }
}
