//! Whose access was taken lately, so that what they said before is not told afterwards.

use std::collections::HashMap;

use parlance_types::{Seq, UserId};

/// So many users are remembered; then none of them is, and who was a member before is
/// taken for lost.
const MOST: usize = 1024;

#[derive(Debug)]
pub(super) struct Lost {
    /// What was before is not known.
    since: Seq,
    /// The latest event that took a user's access.
    users: HashMap<UserId, Seq>,
}

impl Lost {
    pub(super) fn since(since: Seq) -> Self {
        Self { since, users: HashMap::new() }
    }

    pub(super) fn add(&mut self, users: &[UserId], at: Seq) {
        if self.users.len() + users.len() > MOST {
            self.users.clear();
            self.since = at;
        } else {
            self.users.extend(users.iter().map(|user| (user.clone(), at)));
        }
    }

    /// Whether a user who was a member at `as_of` may have lost access since.
    pub(super) fn has(&self, user: &UserId, as_of: Seq) -> bool {
        as_of < self.since || self.users.get(user).is_some_and(|at| *at > as_of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_membership_is_over_where_it_ended_and_where_that_is_not_known() {
        let (ann, bob) = (UserId::new("ann"), UserId::new("bob"));
        let mut lost = Lost::since(5);
        assert!(lost.has(&ann, 4) && !lost.has(&ann, 5));
        lost.add(std::slice::from_ref(&ann), 7);
        assert!(lost.has(&ann, 6) && !lost.has(&ann, 8) && !lost.has(&bob, 6));
        let many: Vec<_> = (0..MOST).map(|n| UserId::new(n.to_string())).collect();
        lost.add(&many, 9);
        assert!(lost.has(&bob, 8) && !lost.has(&bob, 9));
    }
}
