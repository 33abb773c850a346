//! `parlance token`: tokens for trying things out.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args};
use parlance_rpc::{Minter, Role, Secret};
use parlance_types::{Clock, InvalidId, SystemClock, TenantId, UserId};

use crate::failure::print;
use crate::settings::Settings;
use crate::values::{Span, Store};
use crate::{Failure, data_dir};

/// The longest life of a token.
const MAX_LIFE: Duration = Duration::from_hours(366 * 24);

/// Prints a token that is signed with a secret, for trying things out.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("holder").required(true))]
pub(crate) struct Token {
    /// The tenant of the token
    #[arg(long, value_parser = tenant)]
    tenant: TenantId,
    /// For this user
    #[arg(long, group = "holder", value_name = "ID", value_parser = user)]
    user: Option<UserId>,
    /// For a backend service of this name
    #[arg(long, group = "holder", value_name = "NAME", value_parser = user)]
    service: Option<UserId>,
    /// For an operator of this name
    #[arg(long, group = "holder", value_name = "NAME", value_parser = user)]
    operator: Option<UserId>,
    /// How long the token holds, up to 8784h
    #[arg(long, value_name = "TIME", default_value = "1h")]
    ttl: Span,
    /// The file with the secret [default: the one in the folder of the store]
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// The store, sqlite://FOLDER [default: sqlite://./data]
    #[arg(long, env = "PARLANCE_STORE", value_name = "URL", hide_env_values = true)]
    store: Option<Store>,
    /// The issuer that the server expects [default: parlance]
    #[arg(long, env = "PARLANCE_ISSUER", value_name = "TEXT")]
    issuer: Option<String>,
    /// The audience that the server expects [default: parlance]
    #[arg(long, env = "PARLANCE_AUDIENCE", value_name = "TEXT")]
    audience: Option<String>,
    /// A TOML file with settings
    #[arg(long, env = "PARLANCE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Token {
    /// Prints the token, and nothing else.
    pub(crate) fn print(self) -> Result<(), Failure> {
        print(&self.mint(&SystemClock)?)
    }

    fn mint(self, clock: &dyn Clock) -> Result<String, Failure> {
        let life = self.ttl.0;
        if life.is_zero() || life > MAX_LIFE {
            return Err(Failure::Usage(format!("ttl must be 1s to 8784h, not {}", self.ttl)));
        }
        let holder = [
            (Role::User, self.user),
            (Role::Service, self.service),
            (Role::Operator, self.operator),
        ];
        let holder = holder.into_iter().find_map(|(role, subject)| Some((role, subject?)));
        let Some((role, subject)) = holder else {
            return Err(Failure::Usage("one of user, service and operator is needed".to_owned()));
        };
        let Self { store, issuer, audience, config, .. } = self;
        let settings = Settings { config, store, issuer, audience, ..Settings::default() };
        let (store, issuer, audience) = settings.naming()?;
        let path = match (self.key_file, store) {
            (Some(path), _) => path,
            (None, Store::Sqlite(folder)) => data_dir::signing_key(&folder),
            (None, Store::Postgres(_)) => {
                let text = "key-file is required with a Postgres store";
                return Err(Failure::Usage(text.to_owned()));
            }
        };
        let secret = Secret::read(&path).map_err(|error| {
            Failure::fatal(format_args!("cannot read the secret in {}", path.display()), &error)
        })?;
        let minter = Minter { secret, issuer, audience };
        Ok(minter.token(&self.tenant, role, &subject, clock.now(), life))
    }
}

fn tenant(text: &str) -> Result<TenantId, InvalidId> {
    TenantId::parse(text)
}

fn user(text: &str) -> Result<UserId, InvalidId> {
    UserId::parse(text)
}
