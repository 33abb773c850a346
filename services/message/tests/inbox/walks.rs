//! Random walks: unread counts against a model that counts by the definition.

use std::collections::{BTreeMap, BTreeSet};

use parlance_db::{Db, test_on_each_db};
use parlance_log::{Fact, Projection, testing};
use parlance_message::hide::Hider;
use parlance_message::history::History;
use parlance_message::mark::Mark;
use parlance_message::message::Range;
use parlance_message::{Error, ON_PRUNE};
use parlance_proto::message::v1::RoomKind;
use parlance_types::{LogId, MessageId, RoomId, Seq};
use rand::rngs::StdRng;
use rand::seq::{IndexedMutRandom, IndexedRandom};
use rand::{Rng, SeedableRng};

use crate::rooms::{Own, facts, gained, lost, plan};
use crate::world::{World, actor, draft, tenant, user};

test_on_each_db!(parlance_message::MIGRATIONS =>
    unread_is_the_naive_count_whatever_happens,
    unread_of_a_pair_is_the_naive_count_whoever_blocks_the_other_silently,
    unread_is_exact_on_every_level_of_the_buckets_of_what_was_deleted,
);

const USERS: [&str; 4] = ["ann", "bob", "cas", "dee"];

struct Sent {
    seq: Seq,
    sender: &'static str,
    counted: bool,
    deleted: bool,
}

/// A room as its definition has it.
struct Model {
    log_id: LogId,
    room_id: RoomId,
    head: Seq,
    /// The first event that is left.
    first: Seq,
    version: i64,
    /// Whose room it is: of two, one blocks the other silently.
    users: &'static [&'static str],
    messages: Vec<Sent>,
    /// Messages that members hid from themselves.
    hid: BTreeSet<(&'static str, Seq)>,
    members: BTreeMap<&'static str, Member>,
}

/// A member as the definition has it.
#[derive(Clone, Copy, Default)]
struct Member {
    mark: Seq,
    /// Up to where they cleared the history for themselves.
    cleared: Seq,
    /// The countable messages that there were when they hid the room.
    hidden: Option<usize>,
}

/// Whom the users have blocked.
struct People {
    own: BTreeMap<&'static str, Own>,
    blocked: BTreeSet<(&'static str, &'static str)>,
}

impl People {
    fn new(world: &World) -> Self {
        let own = USERS.map(|user_id| (user_id, Own::of(world, user_id))).into();
        Self { own, blocked: BTreeSet::new() }
    }

    fn hides(&self, user_id: &str, sender: &str) -> bool {
        self.blocked.iter().any(|(by, blocked)| (*by, *blocked) == (user_id, sender))
    }

    /// A user blocks another, who is told nothing of it, or unblocks them; which of both.
    async fn hide(&mut self, user_id: &'static str, other: &'static str, hides: bool) {
        if hides {
            self.blocked.insert((user_id, other));
            self.own[user_id].hide(other).await;
        } else {
            self.blocked.remove(&(user_id, other));
            self.own[user_id].block(other, false).await;
        }
    }

    /// A user blocks another, or unblocks them; what is so already is said again.
    async fn step(&mut self, user_id: &'static str, random: &mut StdRng) {
        let other = *USERS.choose(random).expect("a user");
        let blocks = random.random_bool(0.5);
        if blocks {
            self.blocked.insert((user_id, other));
        } else {
            self.blocked.remove(&(user_id, other));
        }
        self.own[user_id].block(other, blocks).await;
    }
}

impl Model {
    fn unread(&self, user_id: &str, people: &People) -> Option<i64> {
        let Member { mark, cleared, .. } = *self.members.get(user_id)?;
        let counts = |sent: &&Sent| {
            sent.seq > mark.max(cleared)
                && sent.seq >= self.first
                && sent.sender != user_id
                && sent.counted
                && !sent.deleted
                && !people.hides(user_id, sent.sender)
                && !self.has_hidden(user_id, sent.seq)
        };
        i64::try_from(self.messages.iter().filter(counts).count()).ok()
    }

    fn has_hidden(&self, user_id: &str, seq: Seq) -> bool {
        self.hid.iter().any(|(by, hidden)| (*by, *hidden) == (user_id, seq))
    }

    fn countable(&self) -> usize {
        self.messages.iter().filter(|sent| sent.counted).count()
    }

    fn hidden(&self, user_id: &str) -> Option<bool> {
        let member = self.members.get(user_id)?;
        Some(member.hidden.is_some_and(|hidden| hidden == self.countable()))
    }

    /// The last message that a member may see.
    fn last(&self, user_id: &str, people: &People) -> Option<Seq> {
        let cleared = self.members.get(user_id)?.cleared;
        let seen = |sent: &&Sent| {
            let hidden = people.hides(user_id, sent.sender) || self.has_hidden(user_id, sent.seq);
            !sent.deleted && sent.seq > cleared && sent.seq >= self.first && !hidden
        };
        self.messages.iter().rev().find(seen).map(|sent| sent.seq)
    }

    /// The room stands in a member's list unless they hid it, with the last message that
    /// they may see.
    async fn is_listed(&self, world: &World, user_id: &str, people: &People) {
        let user = user(user_id);
        let logs = world.user_logs(&tenant(), &user, None, false, 10).await.expect("a list").0;
        let listed = logs.iter().find(|log| log.unread.log_id == self.log_id);
        assert_eq!(listed.is_none(), self.hidden(user_id).unwrap_or(true));
        if let Some(last) = listed.map(|log| &log.last_message) {
            let last = last.as_ref().map(|last| last.message_id.seq);
            assert_eq!(last, self.last(user_id, people));
        }
        let unread = world.unreads(&tenant(), &user).await;
        let unread = unread.iter().find(|unread| unread.log_id == self.log_id);
        assert_eq!(unread.map(|unread| unread.hidden), self.hidden(user_id));
        let last = world.page(self.log_id, Some(user_id), Range::Before(Seq::MAX), 100).await;
        let last = last.iter().rev().find(|message| message.deleted.is_none());
        assert_eq!(last.map(|message| message.message_id.seq), self.last(user_id, people));
    }

    fn peer(&self, user_id: &str) -> &'static str {
        let peer = self.users.iter().find(|user| **user != user_id);
        peer.expect("a pair")
    }

    /// Tells the log that a member's messages are hidden from the other one, or not any more.
    async fn hide(&mut self, world: &World, user_id: &str, hidden: bool) {
        self.version += 1;
        let hidden_peers = vec![(user(user_id), hidden)];
        let silent = Some(Projection { hidden_peers, ..Projection::default() });
        let fact = Fact { version: self.version, silent, ..Fact::default() };
        world.store.apply(facts(tenant(), self.log_id, vec![fact])).await.expect("a fact");
    }

    /// A member blocks another, or unblocks them: of two, silently.
    async fn block(
        &mut self,
        world: &World,
        people: &mut People,
        user_id: &'static str,
        random: &mut StdRng,
    ) {
        if self.users.len() > 2 {
            return people.step(user_id, random).await;
        }
        let (other, hides) = (self.peer(user_id), random.random_bool(0.5));
        people.hide(user_id, other, hides).await;
        self.hide(world, other, hides).await;
    }

    /// Hides a message from a member.
    async fn hide_one(&mut self, world: &World, user_id: &'static str, random: &mut StdRng) {
        let Some(sent) = self.messages.choose(random) else { return };
        let (seq, cleared) = (sent.seq, self.members[user_id].cleared);
        let (actor, user) = (actor(user_id), user(user_id));
        let hider = Hider::new(world.store.clone());
        let hide = hider.hide_messages(&actor, &user, self.log_id, vec![seq]);
        let hidden = hide.await.is_ok();
        assert_eq!(hidden, seq >= self.first && seq > cleared);
        if hidden {
            self.hid.insert((user_id, seq));
        }
    }

    async fn step(&mut self, world: &World, people: &mut People, random: &mut StdRng) {
        let user_id = *self.users.choose(random).expect("a user");
        let member = self.members.contains_key(user_id);
        match random.random_range(0..22) {
            0..6 => {
                let sender = if random.random_ratio(1, 10) { "" } else { user_id };
                let mut draft = draft(self.log_id, sender, None, "x");
                draft.uncounted = random.random_ratio(1, 4);
                let counted = !draft.uncounted;
                let sent = world.append(draft).await;
                assert_eq!(sent.is_ok(), member || sender.is_empty());
                let Ok(sent) = sent else { return };
                self.head += 1;
                assert_eq!(sent.message_id.seq, self.head);
                self.messages.push(Sent { seq: self.head, sender, counted, deleted: false });
                if let Some(member) = self.members.get_mut(sender) {
                    member.mark = self.head;
                }
            }
            6 | 7 => {
                let Some(sent) = self.messages.choose_mut(random) else { return };
                let message_id = MessageId { log_id: self.log_id, seq: sent.seq };
                let deleted = world.delete(message_id, "").await;
                // Of one that is deleted already it is a repeat, as long as its row is there.
                assert!(sent.deleted || deleted.is_ok() == (sent.seq >= self.first));
                self.head += i64::from(deleted.is_ok() && !sent.deleted);
                sent.deleted |= deleted.is_ok();
            }
            8 => {
                let Some(sent) = self.messages.choose(random) else { return };
                let message_id = MessageId { log_id: self.log_id, seq: sent.seq };
                // What the sender cleared is not theirs to edit.
                let edited = world.edit(message_id, sent.sender, &self.head.to_string(), "y").await;
                self.head += i64::from(edited.is_ok());
            }
            9 | 10 if member => {
                let seq = random.random_range(0..=self.head);
                let marks = world.mark(self.log_id, user_id, Mark::Read(seq)).await;
                let member = self.members.get_mut(user_id).expect("a member");
                if seq > member.mark && seq < self.first.min(self.head) {
                    assert!(matches!(marks, Err(Error::Pruned { first }) if first <= self.first));
                    return;
                }
                member.mark = seq.max(member.mark);
                assert_eq!(marks.expect("marks").read, member.mark);
            }
            11 if member => {
                let hider = Hider::new(world.store.clone());
                let (actor, user) = (actor(user_id), user(user_id));
                hider.hide_room(&actor, &user, &self.room_id).await.expect("hidden");
                let hidden = Some(self.countable());
                self.members.get_mut(user_id).expect("a member").hidden = hidden;
            }
            12 if member => {
                let through = random.random_ratio(2, 3).then(|| random.random_range(1..=self.head));
                let history = History::new(world.store.clone());
                let (actor, user) = (actor(user_id), user(user_id));
                let message_id = through.map(|seq| MessageId { log_id: self.log_id, seq });
                let cleared = history.clear(&actor, &user, &self.room_id, message_id).await;
                let member = self.members.get_mut(user_id).expect("a member");
                let through = through.unwrap_or(self.head);
                if through >= self.first {
                    member.cleared = through.max(member.cleared);
                }
                assert_eq!(cleared.expect("cleared"), member.cleared.max(self.first - 1));
            }
            13 => {
                let through = random.random_range(1..=self.head);
                let history = History::new(world.store.clone());
                let message_id = Some(MessageId { log_id: self.log_id, seq: through });
                let (actor, request) = (actor(""), None.into());
                let clear = history.clear_for_all(&actor, &self.room_id, message_id, &request);
                let cleared = clear.await;
                assert_eq!(cleared.is_ok(), through >= self.first);
                if cleared.is_ok() {
                    self.head += 1;
                    self.first = through + 1;
                }
            }
            14 => world.store.prune(ON_PRUNE).await.expect("pruned"),
            15 | 16 => self.block(world, people, user_id, random).await,
            17 | 18 if member => self.hide_one(world, user_id, random).await,
            19 if member => Hider::new(world.store.clone()).sweep().await.expect("swept"),
            _ => {
                self.version += 1;
                let effects = if member { lost(user_id) } else { gained(user_id) };
                world.fact(self.log_id, self.version, effects).await.expect("a fact");
                self.head += 1;
                if member {
                    self.members.remove(user_id);
                    self.hid.retain(|(by, _)| *by != user_id);
                } else {
                    let member = Member { mark: self.head, ..Member::default() };
                    self.members.insert(user_id, member);
                    if self.users.len() == 2 && people.hides(user_id, self.peer(user_id)) {
                        self.hide(world, self.peer(user_id), true).await;
                    }
                }
            }
        }
    }
}

/// Guarantee 10.
async fn unread_is_the_naive_count_whatever_happens(db: Db) {
    let world = World::open(db).await;
    let mut people = People::new(&world);
    for seed in 0..6 {
        let mut random = StdRng::seed_from_u64(seed);
        let log_id = world.group(&seed.to_string(), &USERS[..2]).await;
        let member = Member { mark: 2, ..Member::default() };
        let members = USERS[..2].iter().map(|user_id| (*user_id, member)).collect();
        let (room_id, messages) = (RoomId::new(seed.to_string()), Vec::new());
        let (head, first, version) = (2, 1, 1);
        let users = &USERS;
        let hid = BTreeSet::new();
        let model = Model { log_id, room_id, head, first, version, users, messages, hid, members };
        walk(model, &world, &mut people, &mut random, &format!("seed {seed}")).await;
    }
}

async fn walk(
    mut model: Model,
    world: &World,
    people: &mut People,
    random: &mut StdRng,
    seed: &str,
) {
    for step in 0..60 {
        model.step(world, people, random).await;
        if step % 5 == 0 {
            for user_id in model.users {
                let unread = world.unread(user_id, model.log_id).await;
                assert_eq!(unread, model.unread(user_id, people), "{seed}, step {step}");
                model.is_listed(world, user_id, people).await;
            }
        }
    }
    assert_eq!(world.head(model.log_id).await, model.head);
}

/// Guarantee 10, in direct rooms.
async fn unread_of_a_pair_is_the_naive_count_whoever_blocks_the_other_silently(db: Db) {
    let world = World::open(db).await;
    for seed in 0..6 {
        let (mut people, mut random) = (People::new(&world), StdRng::seed_from_u64(seed));
        let room = plan(&seed.to_string()).kind(RoomKind::Direct).members(&USERS[..2]);
        let log_id = room.make(&world).await.log_id;
        let member = Member { mark: 2, ..Member::default() };
        let members = USERS[..2].iter().map(|user_id| (*user_id, member)).collect();
        let (room_id, messages) = (RoomId::new(seed.to_string()), Vec::new());
        let (head, first, version, users) = (2, 1, 1, &USERS[..2]);
        let hid = BTreeSet::new();
        let model = Model { log_id, room_id, head, first, version, users, messages, hid, members };
        walk(model, &world, &mut people, &mut random, &format!("seed {seed}")).await;
        for (user_id, other) in people.blocked.clone() {
            people.hide(user_id, other, false).await;
        }
    }
}

/// Guarantee 10, where deletions and marks lie at the ends of buckets.
async fn unread_is_exact_on_every_level_of_the_buckets_of_what_was_deleted(db: Db) {
    const COUNT: i64 = 40_000;
    let world = World::open(db).await;
    let log_id = world.group("large", &["ann", "bob"]).await;
    let fill = "
        WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $2)
        INSERT INTO events (log_id, seq, time, ord, kind, sender_id, counted, payload)
        SELECT $1, 2 + n.i, 1, n.i, 1, 'ann', TRUE, $3 FROM n";
    let payload = testing::sent(Some(&user("ann")), "hello");
    let fill = world.db.write(fill).bind(log_id.0).bind(COUNT).bind(payload.as_ref());
    fill.execute().await.expect("filled");
    let update = "UPDATE heads SET head = 2 + $2, ord = $2 WHERE log_id = $1";
    world.db.write(update).bind(log_id.0).bind(COUNT).execute().await.expect("moved");

    // The messages, by their places in the count, around the ends of buckets of each level.
    let ends = [1, 32, 64, 1024, 2048, 32_768, COUNT];
    let around = ends.iter().flat_map(|end| end - 1..=end + 1);
    let around: Vec<i64> = around.filter(|ord| (1..=COUNT).contains(ord)).collect();
    for ord in &around {
        let message_id = MessageId { log_id, seq: 2 + ord };
        world.delete(message_id, "").await.expect("deleted");
    }
    let deleted: BTreeSet<i64> = around.iter().copied().collect();
    for read in std::iter::once(0).chain(around) {
        let mark = "UPDATE members SET read_seq = 2 + $2, read_ord = $2
                    WHERE log_id = $1 AND user_id = 'bob'";
        world.db.write(mark).bind(log_id.0).bind(read).execute().await.expect("marked");
        let left = COUNT - read - i64::try_from(deleted.range(read + 1..).count()).expect("few");
        assert_eq!(world.unread("bob", log_id).await, Some(left), "read up to {read}");
    }
}
