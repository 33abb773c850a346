//! `PrivacyListService`.

use parlance_proto::membership::v1 as pb;
use parlance_proto::membership::v1::privacy_list_service_server::PrivacyListService;
use parlance_rpc::{Caller, Deadline, Violation, detached, fields};
use parlance_types::UserId;
use tonic::{Request, Response, Status};

use super::{Item, ListName, MAX_ITEMS};
use crate::Error;
use crate::handler::Handler;
use crate::roster::Refused;
use crate::wire::open;

/// How many logs are told at once.
const LOGS: usize = 8;

/// The privacy lists of users.
#[derive(Clone, Debug)]
pub struct PrivacyListGrpc(pub(crate) Handler);

#[tonic::async_trait]
impl PrivacyListService for PrivacyListGrpc {
    async fn put_privacy_list(
        &self,
        request: Request<pb::PutPrivacyListRequest>,
    ) -> Result<Response<pb::PutPrivacyListResponse>, Status> {
        let (caller, deadline, request) = open(request)?;
        let user_id = caller.require_user()?.clone();
        let list = request.list.ok_or_else(|| Violation::new("list", "must be set"))?;
        let name = name("list.name", list.name)?;
        let items = items(&user_id, list.items)?;
        self.0.actor(deadline, &caller).await?;
        let store = self.0.store.clone();
        let put = async move {
            store.put_privacy_list((&caller.tenant_id, &user_id), &name, &items).await
        };
        deadline.bound(detached(put)).await?;
        Ok(Response::new(pb::PutPrivacyListResponse {}))
    }

    async fn get_privacy_list(
        &self,
        request: Request<pb::GetPrivacyListRequest>,
    ) -> Result<Response<pb::GetPrivacyListResponse>, Status> {
        let (caller, deadline, request) = open(request)?;
        let user_id = caller.require_user()?;
        let name = name("name", request.name)?;
        self.0.actor(deadline, &caller).await?;
        let found = self.0.store.privacy_list((&caller.tenant_id, user_id), &name);
        let found = deadline.bound(found).await?;
        let found = found.ok_or(Error::Refused(Refused::PrivacyListNotFound))?;
        let items = found.items.into_iter().map(encode).collect();
        Ok(Response::new(pb::GetPrivacyListResponse {
            list: Some(pb::PrivacyList { name: name.as_str().to_owned(), items }),
            is_default: found.is_default,
        }))
    }

    async fn list_privacy_lists(
        &self,
        request: Request<pb::ListPrivacyListsRequest>,
    ) -> Result<Response<pb::ListPrivacyListsResponse>, Status> {
        let (caller, deadline, _) = open(request)?;
        let user_id = caller.require_user()?;
        self.0.actor(deadline, &caller).await?;
        let lists = self.0.store.privacy_lists((&caller.tenant_id, user_id));
        let lists = deadline.bound(lists).await?.into_iter();
        let lists = lists.map(|(name, is_default)| pb::PrivacyListName { name, is_default });
        Ok(Response::new(pb::ListPrivacyListsResponse { lists: lists.collect() }))
    }

    async fn set_default_privacy_list(
        &self,
        request: Request<pb::SetDefaultPrivacyListRequest>,
    ) -> Result<Response<pb::SetDefaultPrivacyListResponse>, Status> {
        let (caller, deadline, request) = open(request)?;
        let user_id = caller.require_user()?.clone();
        let name = name("name", request.name)?;
        self.set_default(deadline, caller, user_id, Some(name)).await?;
        Ok(Response::new(pb::SetDefaultPrivacyListResponse {}))
    }

    async fn decline_default_privacy_list(
        &self,
        request: Request<pb::DeclineDefaultPrivacyListRequest>,
    ) -> Result<Response<pb::DeclineDefaultPrivacyListResponse>, Status> {
        let (caller, deadline, _) = open(request)?;
        let user_id = caller.require_user()?.clone();
        self.set_default(deadline, caller, user_id, None).await?;
        Ok(Response::new(pb::DeclineDefaultPrivacyListResponse {}))
    }
}

impl PrivacyListGrpc {
    /// Makes a list, or none, the default: the logs are told before this returns.
    async fn set_default(
        &self,
        deadline: Deadline,
        caller: Caller,
        user_id: UserId,
        name: Option<ListName>,
    ) -> Result<(), Error> {
        self.0.actor(deadline, &caller).await?;
        let store = self.0.store.clone();
        let set = async move {
            let owner = (&caller.tenant_id, &user_id);
            Ok((store.set_default_list(owner, name.as_ref()).await?, ()))
        };
        self.0.settle_all(deadline, LOGS, set).await
    }
}

fn name(field: &str, name: String) -> Result<ListName, Violation> {
    let rule = "must have 1 to 64 bytes and no control characters";
    ListName::parse(name).ok_or_else(|| Violation::new(field, rule))
}

/// What a list of a user says, of each other user once.
fn items(owner: &UserId, items: Vec<pb::PrivacyItem>) -> Result<Vec<Item>, Violation> {
    fields::length("list.items", items.len(), 0..=MAX_ITEMS)?;
    let items = items.into_iter().enumerate().map(|(at, item)| {
        let field = format!("list.items[{at}]");
        let denied = match item.action() {
            pb::PrivacyAction::Deny => true,
            pb::PrivacyAction::Allow if item.mutual => {
                let rule = "is for users who are denied";
                return Err(Violation::new(format!("{field}.mutual"), rule));
            }
            pb::PrivacyAction::Allow => false,
            pb::PrivacyAction::Unspecified => {
                return Err(Violation::new(format!("{field}.action"), "must be an action"));
            }
        };
        let user_id = fields::user_id(format!("{field}.user_id"), item.user_id)?;
        if user_id == *owner {
            return Err(Violation::new(format!("{field}.user_id"), "must not be the caller"));
        }
        Ok(Item { user_id, denied, mutual: item.mutual })
    });
    let items: Vec<_> = items.collect::<Result<_, _>>()?;
    let users = items.iter().map(|item| &item.user_id);
    fields::once(users, |at| format!("list.items[{at}].user_id"))?;
    Ok(items)
}

fn encode(item: Item) -> pb::PrivacyItem {
    let action =
        if item.denied { pb::PrivacyAction::Deny } else { pb::PrivacyAction::Allow }.into();
    pb::PrivacyItem { user_id: item.user_id.into_string(), action, mutual: item.mutual }
}
