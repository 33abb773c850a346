//! Invite links: whoever holds the token of one may come into its room.

mod codec;
pub(crate) mod grpc;
mod store;

use parlance_types::{LogId, Micros, Role, UserId};
use sha2::{Digest as _, Sha256};

use crate::roster::{
    Grant, LockedRoster, Membership, Refused, Roster, State, Viewer, fit, in_groups_and_channels,
};

/// The most links of a room.
const MAX_LINKS: usize = 50;

/// The most uses that a link may have a limit of.
const MAX_USES: i32 = 100_000;

/// The characters of the log's id at the beginning of a token, of the secret behind it, and of
/// the id of a link.
const DIGITS: usize = 32;

/// The id of a link: it stands in lists and in the database, and nobody gets from it to the
/// token.
#[derive(Clone, Debug, PartialEq, Eq)]
struct LinkId(String);

/// What opens a room: the id of its log, so that one knows where to look, and a secret.
#[derive(Clone, PartialEq, Eq)]
struct Token(String);

/// A link.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Link {
    id: String,
    /// Empty: a service or an operator that acted for nobody.
    creator_id: String,
    created: Micros,
    expires: Micros,
    /// 0: without a limit.
    max_uses: i32,
    uses: i32,
}

/// What somebody wants to change. Not to be printed: it holds a secret.
#[derive(Clone, PartialEq, Eq)]
enum Change {
    /// The token is made of the secret once the log is known.
    Create {
        secret: u128,
        expires: Micros,
        max_uses: i32,
    },
    Revoke {
        link_id: LinkId,
    },
}

impl LinkId {
    /// Takes an id from the wire; `None` if it is none.
    fn parse(text: &str) -> Option<Self> {
        let fits = text.len() == DIGITS && text.bytes().all(is_digit);
        fits.then(|| Self(text.to_owned()))
    }
}

impl Token {
    fn new(log_id: LogId, secret: u128) -> Self {
        Self(format!("{log_id}{secret:032x}"))
    }

    /// Takes a token from the wire; `None` if it is none.
    fn parse(text: String) -> Option<Self> {
        let fits = text.len() == 2 * DIGITS && text.bytes().all(is_digit);
        fits.then_some(Self(text))
    }

    /// The log whose room it opens.
    fn log_id(&self) -> LogId {
        self.0[..DIGITS].parse().expect("32 hexadecimal digits are a UUID")
    }

    /// The link that it is of. Half of the hash is as hard to find as the secret.
    fn link_id(&self) -> LinkId {
        let hash: [u8; 32] = Sha256::digest(self.0.as_bytes()).into();
        let (half, _) = hash.split_first_chunk().expect("32 bytes");
        LinkId(format!("{:032x}", u128::from_be_bytes(*half)))
    }
}

/// A digit as ids and secrets are written: each has one spelling.
const fn is_digit(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// Whether a caller may make, list and revoke links.
fn may_link(roster: &Roster, viewer: Viewer<'_>) -> Result<(), Refused> {
    in_groups_and_channels(roster, viewer)?;
    match viewer {
        Viewer::Tenant => Ok(()),
        Viewer::User(Some(row)) if row.state == State::Present => match row.role {
            Role::Member => Err(Refused::NotAllowed("only owners and admins make links")),
            Role::Admin | Role::Owner => Ok(()),
        },
        Viewer::User(_) => Err(Refused::NotAMember),
    }
}

/// Decides what a user becomes by a link that holds, and who is no member. It stands for the
/// join rule, and for nothing else.
fn come_in(
    locked: &LockedRoster,
    user_id: &UserId,
    now: Micros,
) -> Result<(Grant, Membership), Refused> {
    if locked.rows.get(user_id).is_some_and(|row| row.state == State::Removed) {
        return Err(Refused::RemovedFromRoom);
    }
    fit(&locked.roster, 1)?;
    Ok(locked.roster.newcomer(user_id, 0, now))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_token_says_which_log_it_is_of_and_its_link_does_not_say_the_token() {
        let log_id = LogId(Uuid::from_u128(7));
        let token = Token::new(log_id, 42);
        assert_eq!(token.0.len(), 2 * DIGITS);
        let read = Token::parse(token.0.clone()).expect("a token");
        assert_eq!((read.log_id(), read.link_id()), (log_id, token.link_id()));
        assert_ne!(Token::new(log_id, 43).link_id(), token.link_id());
        assert!(LinkId::parse(&token.link_id().0).is_some());
    }

    #[test]
    fn tokens_and_ids_of_links_have_one_spelling() {
        let digits = "0123456789abcdef".repeat(4);
        assert!(Token::parse(digits.clone()).is_some());
        assert!(LinkId::parse(&digits[..32]).is_some());
        let upper = digits.to_uppercase();
        for bad in ["", &digits[1..], &upper, &format!("{}é", &digits[2..])] {
            assert!(Token::parse(bad.to_owned()).is_none(), "{bad:?}");
            assert!(LinkId::parse(bad).is_none(), "{bad:?}");
        }
    }
}
