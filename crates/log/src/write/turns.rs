//! What waits, in turns: tenants take turns, and within each tenant its users.
//!
//! Whoever has much waiting is served as often as whoever has little, so that nobody waits
//! for more of another's than one for each of their own:
//!
//! ```text
//! acme   ann  a1 a2 a3 a4
//!        bob  b1
//! zeta   cas  c1 c2                      taken: a1 c1 b1 c2 a2 a3 a4
//! ```

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use parlance_types::{TenantId, UserId};

use crate::{Actor, Priority};

/// Whose turn something takes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Who {
    pub(crate) tenant_id: TenantId,
    pub(crate) party: Party,
}

/// Who takes turns within a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Party {
    User(UserId),
    /// Those who act for nobody: for the tenant.
    Tenant,
    /// The suite itself: facts of the services above, and what is done beside requests.
    Suite,
}

impl From<&Actor> for Who {
    fn from(actor: &Actor) -> Self {
        let party = actor.user.clone().map_or(Party::Tenant, Party::User);
        Self { tenant_id: actor.tenant_id.clone(), party }
    }
}

/// A bounded queue of which everybody has a fair share.
///
/// There is no bound per tenant or user that would leave places empty. When there is no place
/// left, the latest of whoever has most waiting gives way: first among tenants, then among the
/// users of that tenant. So whoever fills the queue alone is refused, and nobody else. Of what
/// they have waiting it is the latest of the lowest rank: a rank takes no place from others.
#[derive(Debug)]
pub(super) struct Turns<T> {
    tenants: Ring<TenantId, Tenant<T>>,
    waiting: usize,
    most: usize,
    rank: fn(&T) -> Priority,
}

#[derive(Debug)]
struct Tenant<T> {
    parties: Ring<Party, VecDeque<T>>,
    waiting: usize,
}

/// Values by key, of which one after the other is at its front.
#[derive(Debug)]
struct Ring<K, V> {
    values: HashMap<K, V>,
    /// Each key once.
    turn: VecDeque<K>,
}

impl<T> Turns<T> {
    /// Turns in which nothing matters more than anything else.
    pub(super) fn new(most: usize) -> Self {
        Self::ranked(most, |_| Priority::Normal)
    }

    pub(super) fn ranked(most: usize, rank: fn(&T) -> Priority) -> Self {
        Self { tenants: Ring::default(), waiting: 0, most, rank }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    pub(super) const fn len(&self) -> usize {
        self.waiting
    }

    /// Puts something behind what its owner has waiting. Returns what has to go for it, which
    /// may be the same.
    #[must_use]
    pub(super) fn push(&mut self, who: &Who, what: T) -> Option<T> {
        let tenant = self.tenants.entry(&who.tenant_id);
        tenant.parties.entry(&who.party).push_back(what);
        tenant.waiting += 1;
        self.waiting += 1;
        if self.waiting > self.most { self.give_way(who) } else { None }
    }

    /// Takes what is next, if it fits.
    pub(super) fn next_if(&mut self, fits: impl FnOnce(&T) -> bool) -> Option<T> {
        let tenant = self.tenants.front()?;
        let party = tenant.parties.front()?;
        if !fits(party.front()?) {
            return None;
        }
        let what = party.pop_front()?;
        let is_empty = party.is_empty();
        tenant.parties.pass(is_empty);
        tenant.waiting -= 1;
        let is_empty = tenant.waiting == 0;
        self.tenants.pass(is_empty);
        self.waiting -= 1;
        Some(what)
    }

    /// Takes all that fits, whosever turn it is; of one party in order.
    pub(super) fn take_all(&mut self, fits: impl Fn(&T) -> bool) -> Vec<T> {
        let mut all = Vec::new();
        for tenant in self.tenants.values.values_mut() {
            for party in tenant.parties.values.values_mut() {
                let before = all.len();
                for what in std::mem::take(party) {
                    if fits(&what) { all.push(what) } else { party.push_back(what) }
                }
                tenant.waiting -= all.len() - before;
            }
            tenant.parties.retain(|party| !party.is_empty());
        }
        self.tenants.retain(|tenant| tenant.waiting > 0);
        self.waiting -= all.len();
        all
    }

    /// Whether anything that waits is so.
    pub(super) fn any(&self, is: impl Fn(&T) -> bool) -> bool {
        let parties =
            self.tenants.values.values().flat_map(|tenant| tenant.parties.values.values());
        parties.flatten().any(is)
    }

    /// Takes the latest of the lowest rank of whoever has most waiting; of several, of
    /// `newcomer`.
    fn give_way(&mut self, newcomer: &Who) -> Option<T> {
        let tenant_id = self.tenants.longest(&newcomer.tenant_id, |tenant| tenant.waiting)?;
        let tenant = self.tenants.values.get_mut(&tenant_id)?;
        let party = tenant.parties.longest(&newcomer.party, VecDeque::len)?;
        let line = tenant.parties.values.get_mut(&party)?;
        let ranks = line.iter().map(self.rank).enumerate().rev();
        let (at, _) = ranks.min_by_key(|(_, rank)| *rank)?;
        let what = line.remove(at);
        if line.is_empty() {
            tenant.parties.remove(&party);
        }
        tenant.waiting -= 1;
        if tenant.waiting == 0 {
            self.tenants.remove(&tenant_id);
        }
        self.waiting -= 1;
        what
    }
}

impl<T> Default for Tenant<T> {
    fn default() -> Self {
        Self { parties: Ring::default(), waiting: 0 }
    }
}

impl<K, V> Default for Ring<K, V> {
    fn default() -> Self {
        Self { values: HashMap::new(), turn: VecDeque::new() }
    }
}

impl<K: Clone + Eq + Hash, V: Default> Ring<K, V> {
    /// The value of a key, which is the last in turn if it is new.
    fn entry(&mut self, key: &K) -> &mut V {
        if !self.values.contains_key(key) {
            self.turn.push_back(key.clone());
            self.values.insert(key.clone(), V::default());
        }
        self.values.get_mut(key).expect("put there")
    }

    fn front(&mut self) -> Option<&mut V> {
        self.values.get_mut(self.turn.front()?)
    }

    /// Ends the turn of the front, which stays unless it is empty.
    fn pass(&mut self, is_empty: bool) {
        let Some(key) = self.turn.pop_front() else { return };
        if is_empty {
            self.values.remove(&key);
        } else {
            self.turn.push_back(key);
        }
    }

    fn remove(&mut self, key: &K) {
        self.values.remove(key);
        self.turn.retain(|other| other != key);
    }

    fn retain(&mut self, keep: impl Fn(&V) -> bool) {
        self.values.retain(|_, value| keep(value));
        self.turn.retain(|key| self.values.contains_key(key));
    }

    /// The key whose value is longest; of several, `preferred` if it is one of them.
    fn longest(&self, preferred: &K, length: impl Fn(&V) -> usize) -> Option<K> {
        let most = self.values.values().map(&length).max()?;
        let is_longest = |key: &&K| self.values.get(*key).map(&length) == Some(most);
        let mut keys = std::iter::once(preferred).chain(&self.turn);
        keys.find(is_longest).cloned()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn user(tenant: &str, user: &str) -> Who {
        let (tenant_id, party) = (TenantId::new(tenant), Party::User(UserId::new(user)));
        Who { tenant_id, party }
    }

    fn rest<T>(turns: &mut Turns<T>) -> Vec<T> {
        std::iter::from_fn(|| turns.next_if(|_| true)).collect()
    }

    #[test]
    fn tenants_take_turns_and_then_their_users() {
        let mut turns = Turns::new(100);
        let (ann, bob, cas) = (user("acme", "ann"), user("acme", "bob"), user("zeta", "cas"));
        for (who, all) in [(&ann, "a1 a2 a3 a4"), (&bob, "b1"), (&cas, "c1 c2")] {
            for what in all.split(' ') {
                assert_eq!(turns.push(who, what), None);
            }
        }
        assert_eq!(rest(&mut turns), ["a1", "c1", "b1", "c2", "a2", "a3", "a4"]);
        assert!(turns.is_empty());
    }

    #[test]
    fn whoever_comes_late_waits_for_one_of_each_of_the_others() {
        let mut turns = Turns::new(1000);
        for n in 0..300 {
            assert_eq!(turns.push(&user("loud", "ann"), n), None);
            assert_eq!(turns.push(&user("loud", "bob"), n), None);
        }
        assert_eq!(turns.push(&user("loud", "cas"), 1000), None);
        assert_eq!(turns.push(&user("quiet", "ann"), 2000), None);
        let order = rest(&mut turns);
        assert!(order[..2].contains(&2000), "{:?}", &order[..4]);
        assert!(order[..4].contains(&1000), "{:?}", &order[..4]);
    }

    #[test]
    fn what_does_not_fit_keeps_its_turn() {
        let mut turns = Turns::new(10);
        assert_eq!(turns.push(&user("acme", "ann"), 1), None);
        assert_eq!(turns.push(&user("zeta", "bob"), 2), None);
        assert_eq!(turns.next_if(|what| *what == 2), None);
        assert_eq!(rest(&mut turns), [1, 2]);
    }

    #[test]
    fn what_is_taken_out_of_turn_stays_in_order_and_the_others_keep_their_turns() {
        let mut turns = Turns::new(10);
        let (ann, bob, cas) = (user("acme", "ann"), user("acme", "bob"), user("zeta", "cas"));
        for (who, what) in [(&ann, 1), (&ann, 20), (&bob, 21), (&ann, 22), (&cas, 2), (&ann, 3)] {
            assert_eq!(turns.push(who, what), None);
        }
        assert!(turns.any(|what| *what == 21));
        let mut taken = turns.take_all(|what| *what >= 20);
        taken.retain(|what| *what != 21);
        assert_eq!(taken, [20, 22]);
        assert!(!turns.any(|what| *what >= 20));
        assert_eq!(rest(&mut turns), [1, 2, 3]);
        assert!(turns.is_empty() && turns.tenants.values.is_empty());
    }

    #[test]
    fn whoever_fills_the_queue_is_refused_and_nobody_else() {
        let mut turns = Turns::new(8);
        let (ann, bob, cas) = (user("acme", "ann"), user("acme", "bob"), user("zeta", "cas"));
        for n in 0..8 {
            assert_eq!(turns.push(&ann, n), None);
        }
        assert_eq!(turns.push(&ann, 8), Some(8), "the latest");
        assert_eq!(turns.push(&bob, 100), Some(7), "of the same tenant, who has more");
        for n in 200..204 {
            assert_eq!(turns.push(&cas, n), Some(6 - (n - 200)), "of another tenant");
        }
        // Tenants have as many now: the newcomer is the one to go, or who has most beside.
        assert_eq!(turns.push(&cas, 204), Some(204));
        assert_eq!(turns.push(&bob, 101), Some(2));
        assert_eq!(rest(&mut turns), [0, 200, 100, 201, 1, 202, 101, 203]);
    }

    #[test]
    fn of_whoever_gives_way_the_latest_of_the_lowest_rank_goes() {
        let rank = |what: &i32| match what / 100 {
            0 => Priority::Low,
            1 => Priority::Normal,
            _ => Priority::High,
        };
        let mut turns = Turns::ranked(6, rank);
        let (ann, bob) = (user("acme", "ann"), user("acme", "bob"));
        for what in [1, 100, 200, 2, 101, 201] {
            assert_eq!(turns.push(&ann, what), None);
        }
        for (next, gone) in [(202, 2), (203, 1), (204, 101), (3, 3), (102, 102), (205, 100)] {
            assert_eq!(turns.push(&ann, next), Some(gone));
        }
        assert_eq!(turns.push(&ann, 206), Some(206), "the latest");
        // A rank takes nothing from others, who have fewer waiting.
        for (n, gone) in [205, 204, 203].into_iter().enumerate() {
            assert_eq!(turns.push(&bob, i32::try_from(n).expect("few")), Some(gone));
        }
        assert_eq!(rest(&mut turns), [200, 0, 201, 1, 202, 2]);
    }

    /// What somebody does: queues something, or takes what is next.
    fn step() -> impl Strategy<Value = Option<(u8, u8)>> {
        prop_oneof![3 => (0..3_u8, 0..3_u8).prop_map(Some), 1 => Just(None)]
    }

    type Model = BTreeMap<(u8, u8), VecDeque<usize>>;

    fn owner(model: &Model, what: usize) -> (u8, u8) {
        let owner = model.iter().find(|(_, line)| line.contains(&what));
        *owner.expect("it was there").0
    }

    fn waiting(model: &Model, tenant: u8) -> usize {
        let of = model.iter().filter(|((other, _), _)| *other == tenant);
        of.map(|(_, line)| line.len()).sum()
    }

    proptest! {
        /// Everything is taken or gave way, once; of one party in order; never more than the
        /// bound waits; and nobody gives way who has fewer waiting than another.
        #[test]
        fn nothing_is_lost_and_only_the_longest_gives_way(
            most in 1..20_usize,
            steps in proptest::collection::vec(step(), 1..200),
        ) {
            let mut turns = Turns::new(most);
            let mut model = Model::new();
            for (n, step) in steps.into_iter().enumerate() {
                if let Some((tenant, name)) = step {
                    model.entry((tenant, name)).or_default().push_back(n);
                    let who = user(&tenant.to_string(), &name.to_string());
                    if let Some(gone) = turns.push(&who, n) {
                        let whose = owner(&model, gone);
                        let of_tenant = waiting(&model, whose.0);
                        prop_assert!((0..3).all(|other| waiting(&model, other) <= of_tenant));
                        let mut of = model.iter().filter(|((tenant, _), _)| *tenant == whose.0);
                        prop_assert!(of.all(|(_, line)| line.len() <= model[&whose].len()));
                        let latest = model.get_mut(&whose).and_then(VecDeque::pop_back);
                        prop_assert_eq!(latest, Some(gone));
                    }
                } else if let Some(taken) = turns.next_if(|_| true) {
                    let whose = owner(&model, taken);
                    let first = model.get_mut(&whose).and_then(VecDeque::pop_front);
                    prop_assert_eq!(first, Some(taken));
                }
                prop_assert!(model.values().map(VecDeque::len).sum::<usize>() <= most);
            }
            let left: usize = model.values().map(VecDeque::len).sum();
            prop_assert_eq!(rest(&mut turns).len(), left);
            prop_assert!(turns.is_empty() && turns.tenants.turn.is_empty());
            prop_assert!(turns.tenants.values.is_empty());
        }
    }
}
