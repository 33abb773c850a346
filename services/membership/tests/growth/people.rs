//! What changes and shows members, several at once.

use parlance_db::work;
use parlance_proto::membership::v1 as pb;
use uuid::Uuid;

use super::{Work, crowd};
use crate::harness::strings;

pub(super) const WORK: &[(&str, Work)] = work! {
    "EditMembers": |_, place| {
        let (some, others) = (&crowd()[2..12], &crowd()[12..22]);
        for (add, remove) in [(some, &[] as &[&str]), (others, some), (&[], others)] {
            let request = pb::EditMembersRequest {
                room_id: "den".to_owned(),
                log_id: place.den(),
                add_user_ids: strings(add),
                remove_user_ids: strings(remove),
            };
            place.room.edits.clone().edit_members(request).await.expect("edited");
        }
    },
    "UpdateMemberMetadata": |_, place| {
        let request = pb::UpdateMemberMetadataRequest {
            room_id: "den".to_owned(),
            set: [("key".to_owned(), place.next().to_string())].into(),
            ..Default::default()
        };
        place.ann.member.clone().update_member_metadata(request).await.expect("updated")
    },
    "BatchGetMemberMetadata": |_, place| {
        let (room_id, user_ids) = ("den".to_owned(), strings(&crowd()));
        let request = pb::BatchGetMemberMetadataRequest { room_id, user_ids };
        place.ann.member.clone().batch_get_member_metadata(request).await.expect("metadata")
    },
    "ListUserMemberships in common": |_, place| {
        let request = pb::ListUserMembershipsRequest {
            user_id: "zoe".to_owned(),
            with_user_ids: strings(&["ann", "bob"]),
            ..Default::default()
        };
        place.backend.members.clone().list_user_memberships(request).await.expect("a page")
    },
    "BatchGetMembers": |_, place| {
        let nowhere = (0..98).map(|_| Uuid::now_v7().to_string());
        let log_ids = nowhere.chain([place.den(), place.news.0.to_string()]).collect();
        let request = pb::BatchGetMembersRequest { log_ids, max_members: 3 };
        place.room.rosters.clone().batch_get_members(request).await.expect("members")
    },
};
