//! Values every service speaks of: ids, time, page tokens. No I/O.

mod clock;
mod ids;
mod page;

pub use clock::{Clock, ManualClock, Micros, SystemClock};
pub use ids::{InvalidId, LogId, MessageId, RequestId, RoomId, Seq, TenantId, UserId};
pub use page::{InvalidPageToken, PageSize, Query};
