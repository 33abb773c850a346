//! Reactions: how users answer a message without one of their own.

pub mod grpc;
mod store;

use parlance_log::{Actor, Error, Store, Target, View};
use parlance_rpc::Reason;
use parlance_types::{LogId, MessageId, Micros, PageSize, Query, Seq, UserId, cut};

pub(crate) use self::store::{forget_deleted, forget_pruned};

use crate::message::ReactionCount;

/// The most reactions of a user to a message.
const MAX_OWN: usize = 8;

/// The most kinds of reactions to a message, so that what a page carries is bounded.
const MAX_KINDS: usize = 100;

const MAX_KIND_BYTES: usize = 64;

/// A kind of reaction: 1 to 64 bytes, no control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReactionKind(String);

impl ReactionKind {
    pub fn parse(kind: String) -> Option<Self> {
        let fits = (1..=MAX_KIND_BYTES).contains(&kind.len());
        (fits && !kind.chars().any(char::is_control)).then_some(Self(kind))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A reaction of a user to a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reaction {
    pub user: UserId,
    pub kind: String,
    /// The event that added it.
    pub seq: Seq,
    pub time: Micros,
}

/// A reaction that somebody wants to add.
#[derive(Clone, Debug)]
pub struct Add {
    pub actor: Actor,
    /// The actor's user.
    pub user: UserId,
    pub message_id: MessageId,
    pub kind: ReactionKind,
    /// Whether it takes the place of all others of the user.
    pub replace: bool,
}

/// A reaction that somebody takes back.
#[derive(Clone, Debug)]
pub struct Remove {
    pub actor: Actor,
    /// The actor's user.
    pub user: UserId,
    pub message_id: MessageId,
    pub kind: ReactionKind,
}

/// A page of reactions that somebody asks for.
#[derive(Clone, Debug)]
pub struct Listing {
    pub message_id: MessageId,
    /// `None`: of every kind.
    pub kind: Option<ReactionKind>,
    pub size: PageSize,
    /// Empty: the first page.
    pub page_token: String,
}

/// What a message has of reactions, and which of them are the actor's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Before {
    counts: Vec<ReactionCount>,
    /// Kinds, and the events that added them; the oldest first.
    own: Vec<(String, Seq)>,
}

/// What an addition comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Added {
    /// It was added here.
    Already(Seq),
    /// It is new, in the place of these of the actor's.
    Replacing(Vec<String>),
}

/// The reactions to all messages.
#[derive(Clone, Debug)]
pub struct Reactions {
    store: Store,
}

impl Reactions {
    pub const fn new(store: Store) -> Self {
        Self { store }
    }

    /// Adds a reaction, and says where; adding it again gives the same place.
    ///
    /// Refused with MESSAGE_NOT_FOUND, NOT_A_MEMBER, MESSAGE_DELETED, TOO_MANY_REACTIONS.
    pub async fn add(&self, add: Add) -> Result<Seq, Error> {
        let (actor, message_id) = (add.actor.clone(), add.message_id);
        self.store.change_message(&actor, message_id, add).await
    }

    /// Takes a reaction back, if it is there.
    ///
    /// Refused with MESSAGE_NOT_FOUND, NOT_A_MEMBER.
    pub async fn remove(&self, remove: Remove) -> Result<(), Error> {
        let (actor, message_id) = (remove.actor.clone(), remove.message_id);
        self.store.change_message(&actor, message_id, remove).await
    }

    /// One page of the reactions to a message, the oldest first, and the token of the next.
    pub async fn list(
        &self,
        actor: &Actor,
        listing: &Listing,
    ) -> Result<(Vec<Reaction>, String), Error> {
        let (viewer, size) = (actor.user.as_ref(), listing.size.get());
        let query = listing.query(actor);
        let after = query.position::<Seq>(&listing.page_token);
        let read = async |_: LogId| {
            // Of a token that is not of this query is told to those who may see the message. One
            // more than asked for tells whether there is a next page.
            let at = after.ok().flatten().unwrap_or_default();
            store::list(&self.store, viewer, listing, at, size + 1).await
        };
        let found = self.store.read_met(actor, listing.message_id.log_id, read).await?;
        let (view, found) = found.ok_or(Error::message_not_found())?;
        view.shows_to(actor, listing.message_id)?;
        let (sender, mut reactions) = found.ok_or(Error::message_not_found())?;
        if view.leaves_out(listing.message_id.seq, sender.as_ref()) {
            return Err(Error::message_not_found());
        }
        after.map_err(|invalid| Error::invalid("page_token", invalid.to_string()))?;
        let next = cut(&mut reactions, size).map(|last| query.token(last.seq));
        // Only now: the token goes on behind what was read.
        reactions.retain(|reaction| !view.hides(Some(&reaction.user)));
        Ok((reactions, next.unwrap_or_default()))
    }

    /// Lets go of what is left of reactions to messages that are gone. To be called every few
    /// seconds.
    pub async fn sweep(&self) -> Result<(), Error> {
        store::sweep(self.store.db()).await
    }
}

impl Listing {
    /// The query that page tokens are bound to.
    fn query(&self, actor: &Actor) -> Query {
        Query::new(&[
            "ListReactions",
            actor.tenant_id.as_str(),
            actor.user.as_ref().map_or("", UserId::as_str),
            &self.message_id.to_string(),
            self.kind.as_ref().map_or("", ReactionKind::as_str),
        ])
    }
}

/// The message that was found, if `view`, made for the actor, lets them react to it. What the
/// room's rules say of sending does not matter.
fn target<'t>(
    view: &View,
    user: &UserId,
    message: Seq,
    found: Option<&'t Target>,
) -> Result<&'t Target, Error> {
    view.shows(Some(user), message)?;
    found.ok_or(Error::message_not_found())
}

/// Whether a message can have reactions now.
fn keeps(target: &Target, now: Micros) -> Result<(), Error> {
    if target.is_gone(now) {
        return Err(Error::Refused(Reason::MessageDeleted, "the message was deleted"));
    }
    Ok(())
}

/// What comes of adding a reaction to a message that can have it.
fn add(before: &Before, kind: &ReactionKind, replace: bool) -> Result<Added, Error> {
    let (Before { counts, own }, kind) = (before, kind.as_str());
    let there = own.iter().find(|(of, _)| of == kind).map(|(_, seq)| *seq);
    let replaced = if replace { own.as_slice() } else { &[] };
    match there {
        Some(seq) if replaced.len() <= 1 => return Ok(Added::Already(seq)),
        None if replaced.is_empty() && own.len() >= MAX_OWN => {
            return Err(too_many("a user has at most 8 reactions to a message"));
        }
        _ => {}
    }
    // A kind that is the actor's alone goes with what is replaced.
    let goes = |counted: &ReactionCount| {
        counted.count == 1 && replaced.iter().any(|(of, _)| *of == counted.kind)
    };
    let kinds = counts.iter().filter(|counted| !goes(counted)).count();
    if kinds >= MAX_KINDS && !counts.iter().any(|counted| counted.kind == kind) {
        return Err(too_many("a message has at most 100 kinds of reactions"));
    }
    Ok(Added::Replacing(replaced.iter().map(|(of, _)| of.clone()).collect()))
}

const fn too_many(rule: &'static str) -> Error {
    Error::Refused(Reason::TooManyReactions, rule)
}

/// Counts one more of a kind, which comes last if it is new.
fn one_more(counts: &mut Vec<ReactionCount>, kind: &str) {
    match counts.iter_mut().find(|counted| counted.kind == kind) {
        Some(counted) => counted.count += 1,
        None => counts.push(ReactionCount { kind: kind.to_owned(), count: 1, own: false }),
    }
}

/// Counts one less of a kind, which goes with the last one.
fn one_less(counts: &mut Vec<ReactionCount>, kind: &str) {
    if let Some(at) = counts.iter().position(|counted| counted.kind == kind) {
        counts[at].count -= 1;
        if counts[at].count <= 0 {
            counts.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use parlance_rpc::Failure as _;

    use super::*;

    /// So many of each kind; those of the actor, from seq 1 on.
    fn before(counts: &[(&str, i64)], own: &[&str]) -> Before {
        let count = |(kind, count): &(&str, i64)| ReactionCount {
            kind: (*kind).to_owned(),
            count: *count,
            own: false,
        };
        let own = own.iter().map(|kind| (*kind).to_owned()).zip(1..).collect();
        Before { counts: counts.iter().map(count).collect(), own }
    }

    fn adds(before: &Before, kind: &str, replace: bool) -> Result<Added, Reason> {
        let kind = ReactionKind::parse(kind.to_owned()).expect("a kind");
        add(before, &kind, replace).map_err(|refused| refused.reason())
    }

    fn replacing(kinds: &[&str]) -> Added {
        Added::Replacing(kinds.iter().map(|kind| (*kind).to_owned()).collect())
    }

    #[test]
    fn what_is_there_is_there_already_and_what_it_replaces_is_named() {
        let (none, two) = (before(&[], &[]), before(&[("tea", 2), ("ale", 1)], &["tea", "ale"]));
        for replace in [false, true] {
            assert_eq!(adds(&none, "tea", replace), Ok(replacing(&[])));
            let one = before(&[("tea", 1)], &["tea"]);
            assert_eq!(adds(&one, "tea", replace), Ok(Added::Already(1)));
        }
        assert_eq!(adds(&two, "ale", false), Ok(Added::Already(2)));
        assert_eq!(adds(&two, "ale", true), Ok(replacing(&["tea", "ale"])));
        assert_eq!(adds(&two, "gin", true), Ok(replacing(&["tea", "ale"])));
        assert_eq!(adds(&two, "gin", false), Ok(replacing(&[])));
    }

    #[test]
    fn a_user_has_8_and_a_message_100_kinds() {
        let names: Vec<_> = (0..101).map(|n| n.to_string()).collect();
        let kinds: Vec<_> = names.iter().map(String::as_str).collect();
        let counts = |count| kinds[..100].iter().map(|kind| (*kind, count)).collect::<Vec<_>>();
        let too_many = Err(Reason::TooManyReactions);

        let eight = before(&counts(2)[..8], &kinds[..8]);
        assert_eq!(adds(&eight, "8", false), too_many);
        assert_eq!(adds(&eight, "7", false), Ok(Added::Already(8)));
        assert_eq!(adds(&eight, "8", true), Ok(replacing(&kinds[..8])));

        let hundred = before(&counts(2), &kinds[..1]);
        assert_eq!(adds(&hundred, "100", false), too_many);
        assert_eq!(adds(&hundred, "100", true), too_many);
        assert_eq!(adds(&hundred, "99", false), Ok(replacing(&[])));
        // Its own kind makes room, if nobody else has it.
        let hundred = before(&counts(1), &kinds[..1]);
        assert_eq!(adds(&hundred, "100", false), too_many);
        assert_eq!(adds(&hundred, "100", true), Ok(replacing(&kinds[..1])));
    }

    #[test]
    fn kinds_are_counted_in_the_order_in_which_they_came() {
        let mut counts = Vec::new();
        for kind in ["tea", "ale", "tea"] {
            one_more(&mut counts, kind);
        }
        assert_eq!(counts, before(&[("tea", 2), ("ale", 1)], &[]).counts);
        one_less(&mut counts, "tea");
        one_less(&mut counts, "ale");
        one_less(&mut counts, "gin");
        assert_eq!(counts, before(&[("tea", 1)], &[]).counts);
        one_less(&mut counts, "tea");
        assert_eq!(counts, []);
    }

    #[test]
    fn a_kind_has_1_to_64_bytes_and_no_control_characters() {
        let parse = |kind: &str| ReactionKind::parse(kind.to_owned());
        for good in ["+", "👍", "with spaces", &"x".repeat(64)] {
            assert_eq!(parse(good).expect("a kind").as_str(), good);
        }
        for bad in ["", "a\nb", "\u{1}", &"x".repeat(65), &"👍".repeat(17)] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
