//! UserService.

use std::collections::BTreeMap;

use parlance_proto::membership::v1 as pb;
use parlance_proto::membership::v1::user_service_server::UserService;
use parlance_rpc::{Reason, Refusal, caller};
use parlance_types::UserId;
use tonic::{Request, Response, Status};

use super::{Due, Handler, parse};
use crate::Error;
use crate::codec::timestamp;
use crate::domain::{Refused, User};

/// The directory of a tenant's users.
#[derive(Clone, Debug)]
pub struct Users(pub(crate) Handler);

fn encode(user: &User) -> pb::User {
    pb::User {
        user_id: user.user_id.as_str().to_owned(),
        name: user.profile.name().to_owned(),
        picture: user.profile.picture().to_owned(),
        metadata: user.profile.metadata().clone(),
        create_time: Some(timestamp(user.created)),
        update_time: Some(timestamp(user.updated)),
    }
}

fn refuse(message: &str) -> Status {
    Refusal::new(Reason::NotAllowed, message).into()
}

#[tonic::async_trait]
impl UserService for Users {
    async fn upsert_user(
        &self,
        request: Request<pb::UpsertUserRequest>,
    ) -> Result<Response<pb::UpsertUserResponse>, Status> {
        let (caller, due) = (caller(&request)?, Due::of(&request));
        let user = request.into_inner().user;
        let user = user.ok_or_else(|| Error::invalid("user", "must be set"))?;
        let user = parse::user("user", user)?;
        if caller.user().is_some_and(|caller| *caller != user.0) {
            return Err(refuse("users write their own entry only"));
        }
        let store = self.0.store.clone();
        let written =
            async move { store.upsert_users(&caller.tenant_id, std::slice::from_ref(&user)).await };
        let stored = self.0.write(due, written).await?;
        Ok(Response::new(pb::UpsertUserResponse { user: stored.first().map(encode) }))
    }

    async fn batch_upsert_users(
        &self,
        request: Request<pb::BatchUpsertUsersRequest>,
    ) -> Result<Response<pb::BatchUpsertUsersResponse>, Status> {
        let (caller, due) = (caller(&request)?, Due::of(&request));
        let users = parse::users(request.into_inner().users)?;
        if caller.user().is_some() {
            return Err(refuse("only services write many users"));
        }
        let store = self.0.store.clone();
        let written = async move { store.upsert_users(&caller.tenant_id, &users).await };
        let stored = self.0.write(due, written).await?;
        let users = stored.iter().map(encode).collect();
        Ok(Response::new(pb::BatchUpsertUsersResponse { users }))
    }

    async fn get_user(
        &self,
        request: Request<pb::GetUserRequest>,
    ) -> Result<Response<pb::GetUserResponse>, Status> {
        let (caller, due) = (caller(&request)?, Due::of(&request));
        let user_id = parse::user_id("user_id", request.into_inner().user_id)?;
        let mut found = self.find(due, &caller, std::slice::from_ref(&user_id)).await?;
        let user = found.remove(&user_id);
        let user = user.ok_or_else(|| Error::from(Refused::no_user(&user_id)))?;
        Ok(Response::new(pb::GetUserResponse { user: Some(encode(&user)) }))
    }

    async fn batch_get_users(
        &self,
        request: Request<pb::BatchGetUsersRequest>,
    ) -> Result<Response<pb::BatchGetUsersResponse>, Status> {
        let (caller, due) = (caller(&request)?, Due::of(&request));
        let user_ids = parse::user_ids("user_ids", request.into_inner().user_ids)?;
        let found = self.find(due, &caller, &user_ids).await?;
        let (mut users, mut missing_user_ids) = (Vec::new(), Vec::new());
        for user_id in user_ids {
            match found.get(&user_id) {
                Some(user) => users.push(encode(user)),
                None => missing_user_ids.push(user_id.into_string()),
            }
        }
        Ok(Response::new(pb::BatchGetUsersResponse { users, missing_user_ids }))
    }
}

impl Users {
    async fn find(
        &self,
        due: Due,
        caller: &parlance_rpc::Caller,
        user_ids: &[UserId],
    ) -> Result<BTreeMap<UserId, User>, Status> {
        let actor = self.0.actor(due, caller).await?;
        Ok(self.0.read(due, self.0.store.users(&actor.tenant_id, user_ids)).await?)
    }
}
