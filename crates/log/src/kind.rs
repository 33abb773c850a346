//! The kinds of events that the log tells apart.

use crate::Body;

macro_rules! kinds {
    ($($kind:ident = $number:literal: $body:ident),+ $(,)?) => {
        /// What a log must know of an event's kind.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind {
            /// Any kind that is not of this list, known or not: a fact of the services above.
            Fact = 0,
            $($kind = $number),+
        }

        impl Kind {
            /// The kind of an event with this body.
            pub const fn of(body: Option<&Body>) -> Self {
                match body {
                    $(Some(Body::$body(_)) => Self::$kind,)+
                    _ => Self::Fact,
                }
            }
        }
    };
}

// A line for each: its number in the database, and its body in the contract. Nobody puts
// an event of these kinds into a log from outside.
kinds! {
    Message = 1: MessageSent,
    Edit = 2: MessageEdited,
    Delete = 3: MessageDeleted,
    Pin = 4: MessagePinned,
    Unpin = 5: MessageUnpinned,
    Clear = 6: HistoryCleared,
    Reaction = 7: ReactionAdded,
    Unreaction = 8: ReactionRemoved,
}

/// What is left of an event that was pruned while its request may still be repeated: a row
/// without a content, which nothing but the repeat finds.
pub(crate) const PRUNED: i16 = -1;

impl Kind {
    /// As it stands in the database.
    pub const fn number(self) -> i16 {
        self as i16
    }
}
