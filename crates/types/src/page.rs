//! Pages: how many entries, how many bytes, and an opaque token for where the next one
//! begins.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How many entries a page has: default 10, at most 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSize(u16);

impl PageSize {
    const DEFAULT: u16 = 10;
    const MAX: u16 = 100;

    /// Takes a size from the wire: 0 is the default, larger than 100 is lowered,
    /// negative is refused.
    pub fn parse(size: i32) -> Option<Self> {
        match size {
            0 => Some(Self(Self::DEFAULT)),
            size => u16::try_from(size)
                .ok()
                .or((size > 0).then_some(Self::MAX))
                .map(|size| Self(size.min(Self::MAX))),
        }
    }

    pub fn get(self) -> usize {
        self.0.into()
    }
}

/// How much the entries of one answer take at most, in bytes. Clients accept answers of
/// 4 MiB unless they are told otherwise.
pub const MAX_ANSWER: usize = 3 * 1024 * 1024;

/// What an entry takes in an answer beside itself: its tag and its length.
const ENTRY: usize = 8;

/// How many entries of these sizes one answer holds, from the first on: never none, or a
/// caller would not come further.
pub fn fitting(sizes: impl IntoIterator<Item = usize>) -> usize {
    let mut left = MAX_ANSWER;
    let fits = |size: &usize| {
        let rest = left.checked_sub(size + ENTRY);
        left = rest.unwrap_or(0);
        rest.is_some()
    };
    sizes.into_iter().take_while(fits).count().max(1)
}

/// Cuts what was read beyond a page of this size; the last entry of the page, if there is more.
/// One entry beyond is enough to tell.
pub fn cut<T>(found: &mut Vec<T>, size: usize) -> Option<&T> {
    let more = found.len() > size;
    found.truncate(size);
    found.last().filter(|_| more)
}

/// A page token that was not made for this query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("was not made for this query")]
pub struct InvalidPageToken;

/// The query that page tokens are bound to: a token of one is refused by another.
#[derive(Clone, Copy, Debug)]
pub struct Query([u8; 8]);

#[derive(Serialize, Deserialize)]
struct Token<P> {
    query: [u8; 8],
    at: P,
}

impl Query {
    /// Identifies a query by its name and every argument but size and token:
    /// the tenant and the caller among them.
    pub fn new(parts: &[&str]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update(part.len().to_le_bytes());
            hash.update(part.as_bytes());
        }
        let mut query = [0; 8];
        query.copy_from_slice(&hash.finalize()[..8]);
        Self(query)
    }

    /// The token of the page that begins after `at`.
    pub fn token<P: Serialize>(&self, at: P) -> String {
        let json = serde_json::to_vec(&Token { query: self.0, at });
        json.map(|json| URL_SAFE_NO_PAD.encode(json)).unwrap_or_default()
    }

    /// Where the page of `token` begins; `None` for the first page.
    pub fn position<P: DeserializeOwned>(
        &self,
        token: &str,
    ) -> Result<Option<P>, InvalidPageToken> {
        if token.is_empty() {
            return Ok(None);
        }
        let json = URL_SAFE_NO_PAD.decode(token).map_err(|_| InvalidPageToken)?;
        let token: Token<P> = serde_json::from_slice(&json).map_err(|_| InvalidPageToken)?;
        if token.query == self.0 { Ok(Some(token.at)) } else { Err(InvalidPageToken) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_10_entries_by_default_and_100_at_most() {
        let sizes = [
            (0, Some(10)),
            (1, Some(1)),
            (100, Some(100)),
            (101, Some(100)),
            (i32::MAX, Some(100)),
            (-1, None),
        ];
        for (asked, got) in sizes {
            assert_eq!(PageSize::parse(asked).map(PageSize::get), got, "{asked}");
        }
    }

    #[test]
    fn an_answer_holds_what_fits_and_one_entry_at_least() {
        let mib = 1024 * 1024;
        assert_eq!(fitting([mib, mib, mib - 100, 68, 1]), 4);
        assert_eq!(fitting([mib, 3 * mib, 1]), 1);
        assert_eq!(fitting([5 * mib, 1]), 1);
        assert_eq!(fitting([]), 1);
    }

    #[test]
    fn a_token_holds_for_its_own_query_only() {
        let query = Query::new(&["members", "a", "bc"]);
        let token = query.token(("x", 7));
        assert_eq!(query.position::<(String, i64)>(&token), Ok(Some(("x".to_owned(), 7))));
        assert_eq!(query.position::<(String, i64)>(""), Ok(None));
        for other in [Query::new(&["members", "ab", "c"]), Query::new(&["members"])] {
            assert_eq!(other.position::<(String, i64)>(&token), Err(InvalidPageToken));
        }
        assert_eq!(query.position::<(String, i64)>("%%%"), Err(InvalidPageToken));
    }
}
