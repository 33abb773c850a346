//! Metadata of rooms, patched key by key. A key is owned by who set it last.

mod grpc;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parlance_types::{Micros, Pairs, Role, RoomId, RoomKind};

pub(crate) use grpc::MetadataGrpc;

use crate::Error;
use crate::room::{Actor, Asked, BoundKeys, Changed, KeyOwners, Member, Room, Rooms};

/// The most that patched metadata holds.
const MAX_KEYS: usize = 32;
const MAX_BYTES: usize = 8192;

/// A patch that somebody wants.
#[derive(Clone, Debug)]
pub(crate) struct Patch {
    room_id: RoomId,
    keys: Vec<KeyPatch>,
    /// Whether keys that are not refused are changed though others are.
    partial: bool,
}

/// What becomes of one key.
#[derive(Clone, Debug)]
struct KeyPatch {
    key: String,
    /// `None`: it goes.
    value: Option<String>,
    condition: Condition,
    /// Whether it ends with the membership of who sets it.
    bound: bool,
}

/// What must hold of a key; all of it.
#[derive(Clone, Debug, Default)]
struct Condition {
    mine: bool,
    absent: bool,
    value: Option<String>,
}

/// Why a key is not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeyRefusal {
    NotMine,
    Present,
    OtherValue,
    Full,
}

impl KeyRefusal {
    /// As it stands in refusals.
    const fn name(self) -> &'static str {
        match self {
            Self::NotMine => "NOT_MINE",
            Self::Present => "PRESENT",
            Self::OtherValue => "OTHER_VALUE",
            Self::Full => "FULL",
        }
    }
}

/// Who patches, and whether others' keys, too.
#[derive(Clone, Copy, Debug)]
struct Patcher<'a> {
    actor: &'a Actor,
    /// Since when the user has been a member.
    joined: Micros,
    any_key: bool,
}

/// What a patch came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Patched {
    /// With their values.
    set: BTreeMap<String, String>,
    deleted: BTreeSet<String>,
    refused: Vec<(String, KeyRefusal)>,
}

/// The keys and owners that a patch works on.
#[derive(Clone, Debug)]
struct Draft {
    pairs: BTreeMap<String, String>,
    owners: KeyOwners,
    bound: BoundKeys,
}

/// The bytes of keys and values.
fn size(pairs: &BTreeMap<String, String>) -> usize {
    pairs.iter().map(|(key, value)| key.len() + value.len()).sum()
}

/// Whether metadata may become so large; it may shrink from whatever it was.
fn fits(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> bool {
    after.len() <= MAX_KEYS && (size(after) <= MAX_BYTES || size(after) <= size(before))
}

impl KeyPatch {
    /// Why the key must stay as it is, if it must.
    fn refusal(&self, by: Patcher<'_>, draft: &Draft) -> Option<KeyRefusal> {
        let (user, present) = (by.actor.user.as_ref(), draft.pairs.get(&self.key));
        let mine = present.is_none() || draft.owners.are(&self.key, user);
        let open = mine || draft.owners.lack(&self.key) || by.any_key;
        if !open || (self.condition.mine && !mine) {
            return Some(KeyRefusal::NotMine);
        }
        if self.condition.absent && present.is_some() {
            return Some(KeyRefusal::Present);
        }
        let value = self.condition.value.as_ref();
        value.filter(|value| present != Some(*value)).map(|_| KeyRefusal::OtherValue)
    }

    /// Does it; says whether anything is other than before.
    fn apply(&self, by: Patcher<'_>, draft: &mut Draft) -> bool {
        let user = by.actor.user.as_ref();
        let Some(value) = &self.value else {
            draft.owners.remove(&self.key);
            draft.bound.set(&self.key, None);
            return draft.pairs.remove(&self.key).is_some();
        };
        let member = user.filter(|_| self.bound).map(|user| Member::new(user, by.joined));
        let same =
            draft.owners.are(&self.key, user) && draft.bound.get(&self.key) == member.as_ref();
        draft.owners.set(&self.key, user);
        draft.bound.set(&self.key, member);
        draft.pairs.insert(self.key.clone(), value.clone()).as_ref() != Some(value) || !same
    }
}

impl Patch {
    /// Deletions first, then what is set, each in the order given.
    fn in_order(&self) -> impl Iterator<Item = &KeyPatch> {
        let (set, deleted): (Vec<_>, Vec<_>) =
            self.keys.iter().partition(|patch| patch.value.is_some());
        deleted.into_iter().chain(set)
    }

    /// Patches a room at `now`.
    fn apply(&self, by: Patcher<'_>, room: &mut Room, now: Micros) -> Result<Patched, Error> {
        let pairs = room.metadata.get().clone();
        let (owners, bound) = (room.key_owners.clone(), room.bound_keys.clone());
        let mut draft = Draft { pairs, owners, bound };
        let mut patched = Patched::default();
        for patch in self.in_order() {
            let mut refusal = patch.refusal(by, &draft);
            let mut next = draft.clone();
            let changed = refusal.is_none() && patch.apply(by, &mut next);
            if self.partial && !fits(&draft.pairs, &next.pairs) {
                refusal = Some(KeyRefusal::Full);
            }
            match (refusal, &patch.value) {
                (Some(refusal), _) if self.partial => {
                    patched.refused.push((patch.key.clone(), refusal));
                    continue;
                }
                (Some(refusal), _) => {
                    let (key, refusal) = (patch.key.clone(), refusal.name());
                    return Err(Error::KeyRefused { key, refusal });
                }
                (None, Some(value)) if changed => {
                    patched.set.insert(patch.key.clone(), value.clone());
                }
                (None, None) if changed => {
                    patched.deleted.insert(patch.key.clone());
                }
                (None, _) => {}
            }
            draft = next;
        }
        if !fits(room.metadata.get(), &draft.pairs) {
            return Err(Error::MetadataFull);
        }
        let place = |key: &str| self.keys.iter().position(|patch| patch.key == key);
        patched.refused.sort_by_key(|(key, _)| place(key));
        if !patched.is_nothing() {
            let (rules, bound) = (room.roster_rules(), room.bound_keys.clone());
            (room.metadata, room.key_owners) = (Pairs::stored(draft.pairs), draft.owners);
            room.bound_keys = draft.bound;
            room.revised(now);
            // Whoever left while their key was on its way is found once the roster tells again.
            let news = room.bound_keys != bound && !room.bound_keys.is_empty();
            room.rules_version += i64::from(news || rules != room.roster_rules());
        }
        Ok(patched)
    }
}

impl Patched {
    /// Whether nothing changed.
    fn is_nothing(&self) -> bool {
        self.set.is_empty() && self.deleted.is_empty()
    }
}

/// Patches the metadata of a room; what a repeat is told is the encoded reply.
async fn patch(
    rooms: &Rooms,
    asked: Asked,
    patch: Patch,
) -> Result<Changed<(Room, Patched)>, Error> {
    let patch = Arc::new(patch);
    rooms
        .repeatable(asked, move |rooms, asked| {
            let patch = Arc::clone(&patch);
            async move { patch_once(&rooms, &asked, &patch).await }
        })
        .await
}

async fn patch_once(rooms: &Rooms, asked: &Asked, patch: &Patch) -> Result<(Room, Patched), Error> {
    let Asked { actor, request, deadline } = asked;
    let room = rooms.active(actor, &patch.room_id).await?;
    room.conceal_from(actor)?;
    if room.kind == RoomKind::Direct {
        return Err(Error::DirectRoom);
    }
    let member =
        if actor.is_tenant() { None } else { rooms.member(actor, &room, *deadline).await? };
    let (log_id, now) = (room.log_id, rooms.now());
    let revised = rooms.store().revise(log_id, request.as_ref(), now, |room| {
        let patched = patch.apply(patcher(actor, room, member)?, room, now)?;
        Ok(grpc::revised(room, actor, patched))
    });
    let (room, patched) = revised.await?;
    rooms.settle(&room, *deadline).await?;
    Ok((room, patched))
}

/// Who may patch, by the rule of the room.
fn patcher<'a>(
    actor: &'a Actor,
    room: &Room,
    member: Option<(Role, Micros)>,
) -> Result<Patcher<'a>, Error> {
    if actor.is_tenant() {
        return Ok(Patcher { actor, joined: 0, any_key: true });
    }
    let (role, joined) = member.ok_or(Error::NotAMember)?;
    if !room.settings.metadata.allows(role) {
        return Err(Error::NotAllowed("only owners and admins may patch the metadata"));
    }
    Ok(Patcher { actor, joined, any_key: role >= Role::Admin })
}

#[cfg(test)]
mod tests;
