//! Asks a database whether it is there, and looks after its file.

use sqlx::sqlite::SqliteConnection;
use sqlx::{ConnectOptions as _, Connection, PgConnection, Postgres};
use tokio::time::timeout;

use crate::conn::Driver as _;
use crate::sqlite::Written;
use crate::{Db, StoreError, WAIT_TIMEOUT};

/// Asks a database whether it is there, on a connection of its own: that all those of
/// the pools are in use says nothing about the database.
///
/// Of SQLite it also looks whether the file is still the one that was opened, and brings what
/// was written into the file itself when nobody writes.
#[derive(Debug)]
pub struct Ping {
    db: Db,
    line: Option<Line>,
    written: Written,
}

#[derive(Debug)]
enum Line {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Ping {
    /// Connects at the first question, and again whenever it must.
    pub fn of(db: &Db) -> Self {
        Self { db: db.clone(), line: None, written: None }
    }

    /// Whether the database answers. May be given up at any time.
    pub async fn ask(&mut self) -> Result<(), StoreError> {
        // Put back once it has answered: one that did not is of no use.
        let line = self.line.take();
        let asked = timeout(WAIT_TIMEOUT, ask(&self.db, line, &mut self.written)).await;
        self.line = Some(asked.unwrap_or_else(|_| Err(StoreError::late(WAIT_TIMEOUT)))?);
        Ok(())
    }

    /// Reads and writes nothing any more: what belongs to it is of no use.
    pub fn breaks(&self, why: &str) {
        if let Db::Sqlite(db) = &self.db {
            db.breaks(why);
        }
    }

    /// Why the database is of no use until somebody mends it.
    pub fn broken(&self) -> Option<&str> {
        match &self.db {
            Db::Sqlite(db) => db.broken(),
            Db::Postgres(_) => None,
        }
    }
}

async fn ask(db: &Db, line: Option<Line>, written: &mut Written) -> Result<Line, StoreError> {
    match (db, line) {
        (Db::Sqlite(db), line) => {
            db.look()?;
            let mut conn = match line {
                Some(Line::Sqlite(conn)) => conn,
                _ => db.connect().await?,
            };
            conn.ping().await?;
            db.settle(&mut conn, written).await;
            Ok(Line::Sqlite(conn))
        }
        (Db::Postgres(db), line) => {
            let mut conn = match line {
                Some(Line::Postgres(conn)) => conn,
                _ => db.options.connect().await?,
            };
            Postgres::look(&mut conn).await?;
            Ok(Line::Postgres(conn))
        }
    }
}
