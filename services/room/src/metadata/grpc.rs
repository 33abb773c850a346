//! `MetadataService`.

use std::collections::BTreeMap;

use parlance_db::Stored;
use parlance_proto::room::v1 as pb;
use parlance_proto::room::v1::metadata_service_server::MetadataService;
use parlance_requests::RequestKey;
use parlance_rpc::{Violation, caller, fields};
use prost::Message as _;
use tonic::{Request, Response, Status};

use super::{Condition, KeyPatch, KeyRefusal, MAX_KEYS, Patch, Patched};
use crate::Error;
use crate::room::store::Revised;
use crate::room::{Actor, Asked, Changed, Room, Rooms, codec};
use crate::wire::Callers;

/// Serves the metadata of rooms over gRPC.
#[derive(Clone, Debug)]
pub(crate) struct MetadataGrpc {
    pub(crate) rooms: Rooms,
    pub(crate) callers: Callers,
}

#[tonic::async_trait]
impl MetadataService for MetadataGrpc {
    async fn patch_metadata(
        &self,
        request: Request<pb::PatchMetadataRequest>,
    ) -> Result<Response<pb::PatchMetadataResponse>, Status> {
        let message = request.get_ref();
        let (caller, id) = (caller(&request)?, &message.request_id);
        let key = RequestKey::of(&caller, "PatchMetadata", id, message)?;
        let (actor, deadline, request) = self.callers.open(request).await?;
        let patch = decode(&actor, request)?;
        let request = key.map(|key| key.in_room(patch.room_id.clone()));
        let asked = Asked { actor, request, deadline };
        let reply = match super::patch(&self.rooms, asked, patch).await? {
            Changed::Now(done) => reply(&done.0, &done.1),
            Changed::Before { log_id, reply } => {
                let stored = Stored { table: "requests", row: log_id };
                let reply = pb::PatchMetadataResponse::decode(reply.as_slice()).ok();
                stored.value("reply", reply).map_err(Error::Store)?
            }
        };
        Ok(Response::new(reply))
    }
}

fn decode(actor: &Actor, request: pb::PatchMetadataRequest) -> Result<Patch, Violation> {
    let room_id = fields::room_id("room_id", request.room_id)?;
    fields::length("patches", request.patches.len(), 1..=MAX_KEYS)?;
    let patches = request.patches.into_iter().enumerate();
    let keys = patches.map(|(at, patch)| key_patch(&format!("patches[{at}]"), patch));
    let keys: Vec<_> = keys.collect::<Result<_, _>>()?;
    if let Some(at) = keys.iter().position(|patch| patch.bound && actor.is_tenant()) {
        let field = format!("patches[{at}].delete_after_owner_left");
        return Err(Violation::new(field, "needs a user: who acts for nobody is no member"));
    }
    fields::once(keys.iter().map(|patch| &patch.key), |at| format!("patches[{at}].key"))?;
    Ok(Patch { room_id, keys, partial: request.partial })
}

fn key_patch(at: &str, patch: pb::KeyPatch) -> Result<KeyPatch, Violation> {
    let field = |name: &str| format!("{at}.{name}");
    let pair = |name: &str, key: &str, value: &str| {
        fields::pairs(&field(name), BTreeMap::from([(key.to_owned(), value.to_owned())]))
    };
    pair("key", &patch.key, "")?;
    let value = match patch.action {
        Some(pb::key_patch::Action::Set(value)) => {
            pair("set", &patch.key, &value)?;
            Some(value)
        }
        Some(pb::key_patch::Action::Delete(true)) => None,
        Some(pb::key_patch::Action::Delete(false)) => {
            return Err(Violation::new(field("delete"), "must be true"));
        }
        None => return Err(Violation::new(field("action"), "is required")),
    };
    if patch.if_absent && (patch.if_value.is_some() || value.is_none()) {
        let rule = "must not be given together with if_value or delete";
        return Err(Violation::new(field("if_absent"), rule));
    }
    let bound = patch.delete_after_owner_left;
    if bound && value.is_none() {
        let rule = "must not be given together with delete";
        return Err(Violation::new(field("delete_after_owner_left"), rule));
    }
    if let Some(value) = &patch.if_value {
        pair("if_value", &patch.key, value)?;
    }
    let (mine, absent) = (patch.if_mine, patch.if_absent);
    let condition = Condition { mine, absent, value: patch.if_value };
    Ok(KeyPatch { key: patch.key, value, condition, bound })
}

/// A patched room, with its event and the reply to be recorded.
pub(super) fn revised(room: &Room, actor: &Actor, patched: Patched) -> Revised<Patched> {
    let event = (!patched.is_nothing()).then(|| {
        let deleted = patched.deleted.iter().cloned().collect();
        codec::patched_event(actor.user.as_ref(), patched.set.clone(), deleted)
    });
    Revised { event, reply: reply(room, &patched).encode_to_vec(), done: patched }
}

fn reply(room: &Room, patched: &Patched) -> pb::PatchMetadataResponse {
    let refused = |(key, why): &(String, KeyRefusal)| pb::RefusedKey {
        key: key.clone(),
        refusal: refusal(*why).into(),
    };
    pb::PatchMetadataResponse {
        metadata: room.metadata.get().clone(),
        etag: room.etag(),
        refused: patched.refused.iter().map(refused).collect(),
    }
}

const fn refusal(refusal: KeyRefusal) -> pb::KeyRefusal {
    match refusal {
        KeyRefusal::NotMine => pb::KeyRefusal::NotMine,
        KeyRefusal::Present => pb::KeyRefusal::Present,
        KeyRefusal::OtherValue => pb::KeyRefusal::OtherValue,
        KeyRefusal::Full => pb::KeyRefusal::Full,
    }
}
