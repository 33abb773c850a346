//! `UserService`.

use std::collections::BTreeMap;

use parlance_proto::membership::v1 as pb;
use parlance_proto::membership::v1::user_service_server::UserService;
use parlance_rpc::{Caller, Deadline, Violation, detached, fields};
use parlance_types::{InvalidPageToken, Query, UserId, cut, fitting};
use prost::Message;
use tonic::{Request, Response, Status};

use super::{Prefix, Profile, User};
use crate::Error;
use crate::codec::timestamp;
use crate::handler::{Handler, MAX_LIST};
use crate::roster::Refused;
use crate::wire::{name, open};

/// The directory of a tenant's users.
#[derive(Clone, Debug)]
pub struct UserGrpc(pub(crate) Handler);

#[tonic::async_trait]
impl UserService for UserGrpc {
    async fn upsert_user(
        &self,
        request: Request<pb::UpsertUserRequest>,
    ) -> Result<Response<pb::UpsertUserResponse>, Status> {
        let (caller, deadline, request) = open(request)?;
        let user = request.user;
        let user = profile("user", user.ok_or_else(|| Violation::new("user", "must be set"))?)?;
        if caller.user().is_some_and(|caller| *caller != user.0) {
            return Err(Error::from(Refused::NotAllowed("users write their own entry only")).into());
        }
        if caller.user().is_some() {
            self.0.actor(deadline, &caller).await?;
        }
        let mut stored = self.upsert(deadline, caller, vec![user]).await?;
        Ok(Response::new(pb::UpsertUserResponse { user: stored.pop() }))
    }

    async fn batch_upsert_users(
        &self,
        request: Request<pb::BatchUpsertUsersRequest>,
    ) -> Result<Response<pb::BatchUpsertUsersResponse>, Status> {
        let (caller, deadline, request) = open(request)?;
        let profiles = profiles(request.users)?;
        if caller.user().is_some() {
            return Err(Error::from(Refused::NotAllowed("only services write many users")).into());
        }
        let users = self.upsert(deadline, caller, profiles).await?;
        Ok(Response::new(pb::BatchUpsertUsersResponse { users }))
    }

    async fn get_user(
        &self,
        request: Request<pb::GetUserRequest>,
    ) -> Result<Response<pb::GetUserResponse>, Status> {
        let (caller, deadline, request) = open(request)?;
        let user_id = fields::user_id("user_id", request.user_id)?;
        let found = self.find(deadline, &caller, std::slice::from_ref(&user_id)).await?;
        let user = found.get(&user_id).ok_or_else(|| Error::from(Refused::no_user(&user_id)))?;
        Ok(Response::new(pb::GetUserResponse { user: Some(encode(user)) }))
    }

    async fn batch_get_users(
        &self,
        request: Request<pb::BatchGetUsersRequest>,
    ) -> Result<Response<pb::BatchGetUsersResponse>, Status> {
        let (caller, deadline, request) = open(request)?;
        let user_ids = request.user_ids;
        let user_ids = fields::ids("user_ids", user_ids, 1..=MAX_LIST, UserId::parse)?;
        let found = self.find(deadline, &caller, &user_ids).await?;
        let users = user_ids.iter().filter_map(|user_id| found.get(user_id)).map(encode);
        let mut users: Vec<pb::User> = users.collect();
        let fit = fitting(users.iter().map(Message::encoded_len)).min(users.len());
        let left_out = users.drain(fit..).map(|user| user.user_id).collect();
        let missing = user_ids.into_iter().filter(|user_id| !found.contains_key(user_id));
        Ok(Response::new(pb::BatchGetUsersResponse {
            users,
            missing_user_ids: missing.map(UserId::into_string).collect(),
            left_out_user_ids: left_out,
        }))
    }

    async fn search_users(
        &self,
        request: Request<pb::SearchUsersRequest>,
    ) -> Result<Response<pb::SearchUsersResponse>, Status> {
        let (caller, deadline, request) = open(request)?;
        let prefix = prefix(request.prefix)?;
        let size = fields::page_size(request.page_size)?.get();
        let (kind, begins) = match &prefix {
            Prefix::Name(name) => ("name", name),
            Prefix::Id(id) => ("id", id),
        };
        let tenant = caller.tenant_id.as_str();
        let query = Query::new(&["SearchUsers", tenant, name(&caller), kind, begins]);
        let after: Option<(String, String)> =
            fields::page_token(query.position(&request.page_token))?;
        // What is in a token may be forged.
        let after = after.map(|(name, id)| match UserId::parse(id) {
            Ok(id) if !name.contains('\0') => Ok((name, id)),
            _ => Err(InvalidPageToken),
        });
        let after = fields::page_token(after.transpose())?;
        let actor = self.0.actor(deadline, &caller).await?;
        let found = self.0.store.search(&actor.tenant_id, &prefix, after.as_ref(), size + 1);
        let mut found = deadline.bound(found).await?;
        let fit = fitting(found.iter().map(|(user, _)| encode(user).encoded_len())).min(size);
        let last = cut(&mut found, fit);
        let token = |(user, name): &(User, String)| query.token((name, user.id.as_str()));
        Ok(Response::new(pb::SearchUsersResponse {
            next_page_token: last.map(token).unwrap_or_default(),
            users: found.iter().map(|(user, _)| encode(user)).collect(),
        }))
    }
}

impl UserGrpc {
    async fn upsert(
        &self,
        deadline: Deadline,
        caller: Caller,
        users: Vec<(UserId, Profile)>,
    ) -> Result<Vec<pb::User>, Error> {
        let store = self.0.store.clone();
        let written = async move { store.upsert_users(&caller.tenant_id, &users).await };
        Ok(deadline.bound(detached(written)).await?.iter().map(encode).collect())
    }

    async fn find(
        &self,
        deadline: Deadline,
        caller: &Caller,
        user_ids: &[UserId],
    ) -> Result<BTreeMap<UserId, User>, Error> {
        let actor = self.0.actor(deadline, caller).await?;
        deadline.bound(self.0.store.users(&actor.tenant_id, user_ids)).await
    }
}

/// A user to be written; `field` is where it stands in the request.
fn profile(field: &str, user: pb::User) -> Result<(UserId, Profile), Violation> {
    let user_id = fields::user_id(format!("{field}.user_id"), user.user_id)?;
    let profile = Profile::parse(user.name, user.picture, user.metadata);
    let invalid =
        |wrong: super::InvalidUser| Violation::new(format!("{field}.{}", wrong.field), wrong.rule);
    Ok((user_id, profile.map_err(invalid)?))
}

/// What to look for. What an id begins with is one.
fn prefix(prefix: Option<pb::search_users_request::Prefix>) -> Result<Prefix, Violation> {
    use pb::search_users_request::Prefix as Asked;
    match prefix {
        Some(Asked::NamePrefix(name)) => {
            Profile::name_prefix(&name).map_err(|wrong| Violation::new(wrong.field, wrong.rule))
        }
        Some(Asked::UserIdPrefix(id)) => {
            Ok(Prefix::Id(fields::user_id("user_id_prefix", id)?.into_string()))
        }
        None => Err(Violation::new("prefix", "must be set")),
    }
}

/// 1 to 100 users to be written, each once.
fn profiles(users: Vec<pb::User>) -> Result<Vec<(UserId, Profile)>, Violation> {
    fields::length("users", users.len(), 1..=MAX_LIST)?;
    let users = users.into_iter().enumerate();
    let parsed = users.map(|(at, user)| profile(&format!("users[{at}]"), user));
    let parsed: Vec<_> = parsed.collect::<Result<_, _>>()?;
    fields::once(parsed.iter().map(|(user_id, _)| user_id), |at| format!("users[{at}].user_id"))?;
    Ok(parsed)
}

fn encode(user: &User) -> pb::User {
    pb::User {
        user_id: user.id.as_str().to_owned(),
        name: user.profile.name().to_owned(),
        picture: user.profile.picture().to_owned(),
        metadata: user.profile.metadata().clone(),
        create_time: Some(timestamp(user.created)),
        update_time: Some(timestamp(user.updated)),
    }
}
