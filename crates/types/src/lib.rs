//! Values every service speaks of: ids, time, page tokens, roles and rules. No I/O.

mod clock;
mod ids;
mod page;
mod pairs;
mod stored;
mod whose;
mod word;

pub use clock::{Clock, ManualClock, Micros, SystemClock};
pub use ids::{
    AttachmentId, InvalidId, LogId, MessageId, RequestId, Resource, RoomId, Seq, SessionId,
    TenantId, UserId,
};
pub use page::{InvalidPageToken, MAX_ANSWER, PageSize, Query, cut, fitting};
pub use pairs::{InvalidPairs, Pairs};
pub use stored::{History, JoinRule, MemberRule, Role, RoomKind};
pub use whose::Whose;
pub use word::{FilterWord, InvalidFilterWord, MAX_FILTER_WORDS};
