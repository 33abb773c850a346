//! What judges contents before they are accepted: with no lock held, and never for a repeat.

use std::fmt::Debug;
use std::sync::Arc;

use futures::future::BoxFuture;
use parlance_log::{Actor, Error, RequestKey, Store, View};
use parlance_types::{LogId, MessageId, RoomId, TenantId, UserId};

use super::{Content, Draft, Edit};

/// What becomes of a content: another one that is stored instead, or `None`, it is stored itself.
pub type Judged<'a> = BoxFuture<'a, Result<Option<Content>, Error>>;

/// Judges contents by themselves, whoever may write them.
pub trait Filter: Debug + Send + Sync {
    fn judge<'a>(&'a self, tenant_id: &'a TenantId, content: &'a Content) -> Judged<'a>;
}

/// A content that a user may write into a room at this moment, and how.
#[derive(Clone, Copy, Debug)]
pub struct Written<'a> {
    pub tenant_id: &'a TenantId,
    pub user_id: &'a UserId,
    pub room_id: &'a RoomId,
    /// The message that is edited.
    pub message_id: Option<MessageId>,
    /// Of a new message with what it answers.
    pub content: &'a Content,
    /// As the caller gave it.
    pub request_id: Option<&'a str>,
}

/// Judges contents by all that is known of them.
pub trait Hook: Debug + Send + Sync {
    /// Whether it is asked for what users of a tenant write.
    fn concerns(&self, tenant_id: &TenantId) -> bool;

    fn judge<'a>(&'a self, written: Written<'a>) -> Judged<'a>;
}

/// What judges the contents that users write: the filter, then the hook, which is asked for what
/// the filter lets pass, as it leaves it. Those who act for nobody write what they like.
#[derive(Clone, Debug)]
pub struct Screens {
    pub filter: Arc<dyn Filter>,
    pub hook: Option<Arc<dyn Hook>>,
}

impl Screens {
    /// The content that is stored of a new message instead of its own.
    pub(super) async fn of_new(
        &self,
        store: &Store,
        log_id: LogId,
        actor: &Actor,
        room_id: &RoomId,
        draft: &Draft,
    ) -> Result<Option<Content>, Error> {
        let Some(user_id) = &actor.user else { return Ok(None) };
        let filtered = self.filter.judge(&actor.tenant_id, &draft.content).await;
        if self.is_judged(&actor.tenant_id, &filtered) {
            return filtered;
        }
        let request = RequestKey::from(draft.request_id.clone());
        if is_repeat(store, log_id, actor, &request).await? {
            return Ok(None);
        }
        let view = store.view_of_room(actor, room_id).await?;
        view.visible_to(Some(user_id))?;
        may_write(store, &view)?;
        let written = Written {
            tenant_id: &actor.tenant_id,
            user_id,
            room_id,
            message_id: None,
            content: &draft.content,
            request_id: request.given(),
        };
        self.ask(written, filtered?).await
    }

    /// The same of an edit.
    pub(super) async fn of_edit(
        &self,
        store: &Store,
        edit: &Edit,
    ) -> Result<Option<Content>, Error> {
        let Edit { actor, message_id, request, content, .. } = edit;
        let Some(user_id) = &actor.user else { return Ok(None) };
        let filtered = self.filter.judge(&actor.tenant_id, content).await;
        if self.is_judged(&actor.tenant_id, &filtered) {
            return filtered;
        }
        if is_repeat(store, message_id.log_id, actor, request).await? {
            return Ok(None);
        }
        let (view, _) = store.view_of_message(actor, *message_id).await?;
        may_write(store, &view)?;
        let written = Written {
            tenant_id: &actor.tenant_id,
            user_id,
            room_id: &view.room_id,
            message_id: Some(*message_id),
            content,
            request_id: request.given(),
        };
        self.ask(written, filtered?).await
    }

    /// Whether nothing more is to be found out. What the filter refuses is refused only where it
    /// would be accepted otherwise: strangers are not told of what is not theirs to know.
    fn is_judged(&self, tenant_id: &TenantId, filtered: &Result<Option<Content>, Error>) -> bool {
        filtered.is_ok() && self.hook_of(tenant_id).is_none()
    }

    fn hook_of(&self, tenant_id: &TenantId) -> Option<&Arc<dyn Hook>> {
        self.hook.as_ref().filter(|hook| hook.concerns(tenant_id))
    }

    /// What the hook says of what the filter let pass.
    async fn ask(
        &self,
        written: Written<'_>,
        filtered: Option<Content>,
    ) -> Result<Option<Content>, Error> {
        let Some(hook) = self.hook_of(written.tenant_id) else { return Ok(filtered) };
        let content = filtered.as_ref().unwrap_or(written.content);
        let instead = hook.judge(Written { content, ..written }).await?;
        // What a message answers is its sender's to say.
        let instead = instead.map(|instead| instead.replying_to(written.content.reply_to()));
        Ok(instead.or(filtered))
    }
}

/// Whether the request is stored, as far as can be told without the lock of its log. Another one
/// with its id is the append's to refuse.
async fn is_repeat(
    store: &Store,
    log_id: LogId,
    actor: &Actor,
    request: &RequestKey,
) -> Result<bool, Error> {
    match request.given() {
        Some(_) => store.has_request(log_id, actor.user.as_ref(), request).await,
        None => Ok(false),
    }
}

fn may_write(store: &Store, view: &View) -> Result<(), Error> {
    view.may_post()?;
    view.may_write(store.now())
}
