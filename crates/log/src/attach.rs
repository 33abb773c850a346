//! What messages hold of what was uploaded into their room: each upload is held by one message
//! at most. The append and the edit attach, under the lock of the log.

use parlance_db::{AssertSqlSafe, Query, rows};
use parlance_rpc::Reason;
use parlance_types::{LogId, Micros, Seq, UserId};
use uuid::Uuid;

use crate::{Error, Locked, RequestKey, Store};

/// How long after it is known that nobody may read an attachment its bytes are removed: by then
/// nothing writes them any more.
const REMOVED_AFTER: Micros = 60 * 1_000_000;

parlance_db::row! {
    /// An upload, as far as messages that are to hold it need to know.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Upload {
        pub attachment_id: Uuid,
        /// Whose it is; empty: the system's.
        pub user_id: String,
        pub name: String,
        pub content_type: String,
        pub size: i64,
        pub complete: bool,
        /// The message that holds it.
        pub message_seq: Option<Seq>,
        pub ended: bool,
    }
}

const UPLOADS: &str = "
    SELECT attachment_id, user_id, name, content_type, size, sha256 IS NOT NULL AS complete,
           message_seq, ended
      FROM attachments WHERE (log_id, attachment_id) IN (VALUES ($1, $2..))";

/// Those that a message may hold, of its sender's (`None`: the system's): in the order in which
/// they are named. `message`: the one that is edited, which may hold them already.
pub fn attachable(
    found: &[Upload],
    ids: &[Uuid],
    sender: Option<&UserId>,
    message: Option<Seq>,
) -> Result<Vec<Upload>, Error> {
    let sender = sender.map_or("", UserId::as_str);
    let attachable = |id: &Uuid| {
        let own = |upload: &&Upload| {
            upload.attachment_id == *id && upload.user_id == sender && !upload.ended
        };
        let upload = found.iter().find(own).ok_or(Error::attachment_not_found())?;
        if upload.message_seq.is_some() && upload.message_seq != message {
            return Err(Error::attachment_in_use());
        }
        if !upload.complete {
            let rest = "not all bytes of the attachment are there";
            return Err(Error::Refused(Reason::AttachmentIncomplete, rest));
        }
        Ok(upload.clone())
    };
    ids.iter().map(attachable).collect()
}

impl Store {
    /// Those of the uploads of a log that there are.
    pub async fn uploads(&self, log_id: LogId, ids: &[Uuid]) -> Result<Vec<Upload>, Error> {
        Ok(named(self.db().read(UPLOADS), log_id, ids).fetch_all().await?)
    }

    /// Whether something is stored under a request key.
    pub async fn is_stored(
        &self,
        log_id: LogId,
        sender: Option<&UserId>,
        request: &RequestKey,
    ) -> Result<bool, Error> {
        let select = "SELECT seq FROM events
                      WHERE log_id = $1 AND sender_id = $2 AND request_id = $3";
        let select = self.db().read(select).bind(log_id.0);
        let select = select.bind(sender.map_or("", UserId::as_str)).bind(request.as_str());
        Ok(select.fetch_optional::<(Seq,)>().await?.is_some())
    }
}

impl Locked<'_> {
    /// Those of the uploads of the log that there are.
    pub async fn uploads(&mut self, ids: &[Uuid]) -> Result<Vec<Upload>, Error> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let log_id = self.id();
        Ok(named(self.conn().query(UPLOADS), log_id, ids).fetch_all().await?)
    }

    /// Lets a message hold uploads that nothing holds and that were found [`attachable`]. What
    /// removes uploads takes no lock of a log: one may be gone since.
    pub async fn attach(&mut self, message: Seq, ids: &[Uuid]) -> Result<(), Error> {
        // As one condition, and one by one: else Postgres walks through all that waits in the log.
        let update = "UPDATE attachments SET message_seq = $3
                       WHERE log_id = $1 AND attachment_id = $2
                         AND (message_seq IS NULL AND NOT ended) IS TRUE";
        let log_id = self.id();
        for id in ids {
            let update = self.conn().query(update).bind(log_id.0).bind(*id).bind(message);
            if update.execute().await? == 0 {
                return Err(Error::attachment_not_found());
            }
        }
        Ok(())
    }

    /// Lets a message hold nothing but `kept` of what it holds: nobody reads the rest from now
    /// on, and its bytes are removed.
    pub async fn detach(&mut self, message: Seq, kept: &[Uuid]) -> Result<(), Error> {
        let select = "SELECT attachment_id FROM attachments
                       WHERE log_id = $1 AND message_seq = $2";
        let log_id = self.id();
        let select = self.conn().query(select).bind(log_id.0).bind(message);
        let held: Vec<(Uuid,)> = select.fetch_all().await?;
        let held = held.into_iter().map(|(id,)| id);
        let dropped: Vec<Uuid> = held.filter(|id| !kept.contains(id)).collect();
        self.let_go_of(&dropped).await
    }

    /// Has uploads removed.
    async fn let_go_of(&mut self, ids: &[Uuid]) -> Result<(), Error> {
        if ids.is_empty() {
            return Ok(());
        }
        let update = "UPDATE attachments SET message_seq = NULL, ended = TRUE
                       WHERE (log_id, attachment_id) IN (VALUES ($1, $2..))";
        let (log_id, due) = (self.id(), self.now() + REMOVED_AFTER);
        named(self.conn().query(update), log_id, ids).execute().await?;
        let ends = rows(3, ids.len(), "($1, $+, $2)");
        let insert = format!(
            "INSERT INTO attachment_ends (log_id, attachment_id, due) VALUES {ends}
             ON CONFLICT (log_id, attachment_id) DO UPDATE SET due = excluded.due"
        );
        let mut insert = self.conn().query(AssertSqlSafe(insert)).once().bind(log_id.0).bind(due);
        for id in ids {
            insert = insert.bind(*id);
        }
        insert.execute().await?;
        Ok(())
    }
}

/// Binds the uploads of a log that a statement names last.
fn named<'q>(query: Query<'q>, log_id: LogId, ids: &[Uuid]) -> Query<'q> {
    query.bind(log_id.0).bind_list(ids.iter().copied())
}

#[cfg(test)]
mod tests {
    use parlance_rpc::Failure as _;

    use super::*;

    fn upload(id: u128) -> Upload {
        Upload {
            attachment_id: Uuid::from_u128(id),
            user_id: "ann".to_owned(),
            name: "tea.png".to_owned(),
            content_type: "image/png".to_owned(),
            size: 3,
            complete: true,
            message_seq: None,
            ended: false,
        }
    }

    #[test]
    fn a_message_holds_complete_uploads_of_its_sender_that_no_other_holds() {
        let (ann, bob) = (UserId::new("ann"), UserId::new("bob"));
        let judge = |upload: Upload, sender, message| {
            let id = upload.attachment_id;
            attachable(&[upload], &[id], sender, message).err().map(|error| error.reason())
        };
        let held = Upload { message_seq: Some(7), ..upload(1) };
        for (upload, sender, message, reason) in [
            (upload(1), Some(&ann), None, None),
            (upload(1), Some(&bob), None, Some(Reason::AttachmentNotFound)),
            (upload(1), None, None, Some(Reason::AttachmentNotFound)),
            (Upload { user_id: String::new(), ..upload(1) }, None, None, None),
            (held.clone(), Some(&ann), None, Some(Reason::AttachmentInUse)),
            (held.clone(), Some(&ann), Some(8), Some(Reason::AttachmentInUse)),
            (held.clone(), Some(&ann), Some(7), None),
            // Whose it is comes before what may be done with it.
            (held, Some(&bob), None, Some(Reason::AttachmentNotFound)),
            (
                Upload { complete: false, ..upload(1) },
                Some(&ann),
                None,
                Some(Reason::AttachmentIncomplete),
            ),
            (
                Upload { ended: true, ..upload(1) },
                Some(&ann),
                None,
                Some(Reason::AttachmentNotFound),
            ),
        ] {
            assert_eq!(judge(upload.clone(), sender, message), reason, "{upload:?}");
        }
    }

    #[test]
    fn uploads_come_in_the_order_in_which_they_are_named() {
        let (ann, found) = (UserId::new("ann"), [upload(1), upload(2)]);
        let ids = [2, 1].map(Uuid::from_u128);
        let named = attachable(&found, &ids, Some(&ann), None).expect("attachable");
        assert_eq!(named.iter().map(|it| it.attachment_id).collect::<Vec<_>>(), ids);
        let unknown = attachable(&found, &[Uuid::from_u128(3)], Some(&ann), None);
        assert!(unknown.is_err());
    }
}
