//! Asks a database whether it is there.

use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use tokio::time::timeout;

use crate::{Db, WAIT_TIMEOUT};

/// Asks a database whether it is there, on a connection of its own: that all those of
/// the pool are in use says nothing about the database.
#[derive(Debug)]
pub struct Ping(Line);

#[derive(Debug)]
enum Line {
    Sqlite(SqliteConnectOptions, Option<SqliteConnection>),
    Postgres(PgConnectOptions, Option<PgConnection>),
}

impl Ping {
    /// Connects at the first question, and again whenever it must.
    pub fn of(db: &Db) -> Self {
        Self(match db {
            Db::Sqlite(db) => Line::Sqlite(db.options.clone(), None),
            Db::Postgres(db) => Line::Postgres(db.options.clone(), None),
        })
    }

    /// Whether the database answers. May be given up at any time.
    pub async fn ask(&mut self) -> Result<(), sqlx::Error> {
        match &mut self.0 {
            Line::Sqlite(options, open) => ask(options, open).await,
            Line::Postgres(options, open) => ask(options, open).await,
        }
    }
}

async fn ask<C: Connection>(options: &C::Options, open: &mut Option<C>) -> Result<(), sqlx::Error> {
    // Put back once it has answered: one that did not is of no use.
    let connection = open.take();
    let asked = async {
        let mut connection = match connection {
            Some(connection) => connection,
            None => C::connect_with(options).await?,
        };
        connection.ping().await?;
        Ok(connection)
    };
    let answered = timeout(WAIT_TIMEOUT, asked).await;
    *open = Some(answered.unwrap_or(Err(sqlx::Error::PoolTimedOut))?);
    Ok(())
}
