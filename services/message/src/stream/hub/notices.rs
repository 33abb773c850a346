//! Who is typing, told to the streams of this node and of the others.

use parlance_types::LogId;
use tokio::time::Instant;

use super::hints::{self, TypingHint};
use super::{Inner, RECENT};
use crate::domain::RoomKind;
use crate::stream::lock;
use crate::stream::mailbox::Typing;

impl Inner {
    pub(super) fn typing(&self, log_id: LogId, typing: &Typing) {
        self.deliver_typing(log_id, typing);
        let mut recent = lock(&self.recent_typing);
        if recent.len() >= RECENT {
            let now = Instant::now();
            recent.retain(|_, typing| typing.until.is_some_and(|until| until > now));
        }
        if recent.len() < RECENT {
            recent.insert((log_id, typing.user_id.clone()), typing.clone());
        }
        drop(recent);
        self.tell(hints::of_typing(self.node, log_id, typing));
    }

    /// After a disturbance: the others may have missed what was told lately.
    pub(super) fn tell_typing_again(&self) {
        for ((log_id, _), typing) in lock(&self.recent_typing).iter() {
            self.tell(hints::of_typing(self.node, *log_id, typing));
        }
    }

    pub(super) fn take_typing(&self, heard: &[TypingHint]) {
        for (log_id, typing) in heard.iter().filter_map(TypingHint::typing) {
            self.deliver_typing(log_id, &typing);
        }
    }

    /// Gives a notice to the streams of its room; not in channels.
    fn deliver_typing(&self, log_id: LogId, typing: &Typing) {
        let Some(log) = self.log(log_id) else { return };
        let state = lock(&log.state);
        if matches!(state.kind(), Some(RoomKind::Direct | RoomKind::Group)) {
            state.wakers().for_each(|mailbox| mailbox.typing(log_id, typing));
        }
    }
}
