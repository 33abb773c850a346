//! A SQLite file, which people may copy, move and damage.

use std::fs::{self, File, Metadata};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, SqlSafeStr, Sqlite};

use crate::conn::Conn;
use crate::pool::{Condition, Pool};
use crate::query::{On, Query};
use crate::schema::{APPLIED, Schema};
use crate::{Migrations, OpenError, StoreError, WAIT_TIMEOUT};

/// What every SQLite file begins with.
const MAGIC: &[u8] = b"SQLite format 3\0";

/// What to do about a file that is of no use any more.
pub(crate) const MEND: &str =
    "stop the server, put a backup of the whole folder back, and start again";

/// How long a checkpoint waits for readers: whoever writes waits with it.
const CHECKPOINT: Duration = Duration::from_millis(100);

/// A SQLite file: many readers, one writer.
#[derive(Clone, Debug)]
pub struct SqliteDb {
    pub read: Pool<Sqlite>,
    /// One connection: writers queue here instead of failing on a locked file.
    pub write: Pool<Sqlite>,
    pub options: SqliteConnectOptions,
    /// As it was when it was opened.
    pub(crate) schema: Schema,
    files: Arc<Files>,
    condition: Condition,
}

/// Why a file cannot be used: what is damaged has its name.
pub(crate) fn of_file(path: &Path, error: sqlx::Error) -> OpenError {
    if is_damage(&error) {
        OpenError::Damaged(path.to_owned(), error)
    } else {
        OpenError::Connect(error)
    }
}

impl SqliteDb {
    pub(crate) async fn open(
        path: &Path,
        migrations: Migrations,
        migrate: bool,
    ) -> Result<Self, OpenError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            // An acknowledged write survives a power cut.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(5))
            // The largest page of a list, so that its rows are not handed over one by one.
            .row_buffer_size(128);
        let condition = Condition::default();
        let pool = |most| Pool::new(options.clone(), most, WAIT_TIMEOUT, &condition);
        let (read, write) = (pool(8), pool(1));
        let mut first = write.take().await.map_err(|error| of_file(path, error))?;
        let brought = bring_up_to_date(&mut first, &migrations.on_sqlite(), migrate).await;
        let schema = brought.map_err(|error| match error {
            OpenError::Connect(error)
            | OpenError::Migrate(
                MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _),
            ) if is_damage(&error) => of_file(path, error),
            error => error,
        })?;
        drop(first);
        let files = Arc::new(Files::opened(path).map_err(sqlx::Error::Io)?);
        Ok(Self { read, write, options, schema, files, condition })
    }

    pub(crate) fn read(&self, sql: impl SqlSafeStr) -> Query<'_> {
        Query::on_sqlite(On::Pool(&self.read), sql)
    }

    pub(crate) fn write(&self, sql: impl SqlSafeStr) -> Query<'_> {
        Query::on_sqlite(On::Pool(&self.write), sql)
    }

    pub(crate) async fn reader(&self) -> Result<Conn, StoreError> {
        Ok(Conn::Sqlite(self.read.lend().await?))
    }

    pub(crate) async fn writer(&self) -> Result<Conn, StoreError> {
        Ok(Conn::Sqlite(self.write.lend().await?))
    }

    /// Why the file is of no use any more, if it was found damaged, replaced or gone.
    pub(crate) fn broken(&self) -> Option<&str> {
        self.condition.broken()
    }

    pub(crate) fn when_broken(&self, tell: impl Fn(&str) + Send + Sync + 'static) {
        self.condition.when_broken(tell);
    }

    pub(crate) fn breaks(&self, why: &str) {
        self.condition.breaks(why);
    }

    /// Looks at the files from outside. What was opened under this name and is not there any
    /// more takes writes as before, and loses them with the process: so nothing is read or
    /// written any more once it was noticed.
    pub(crate) fn look(&self) -> Result<(), StoreError> {
        if let Err(what) = self.files.look() {
            let path = self.files.path.display();
            self.condition.breaks(&format!("{path} {what}: {MEND}"));
        }
        self.condition.check()
    }

    /// Brings everything that was written into the file itself, if nothing was written since
    /// the last call. Then a copy of it is whole, though what lies beside it is not copied.
    pub(crate) async fn settle(&self, conn: &mut SqliteConnection, last: &mut Written) {
        let now = self.files.written();
        let idle = now.is_some() && now == *last;
        *last = now;
        if idle {
            // Somebody may read or write just now: then the next call does it.
            let _busy = checkpoint(conn).await;
        }
    }

    /// Closes every connection; everything that was written is in the file itself then.
    pub(crate) async fn close(&self) {
        if self.look().is_err() {
            // SQLite removes what lies beside the file when it closes it, by name: that may be
            // of another file by now.
            std::mem::forget(self.clone());
            return;
        }
        self.read.close().await;
        if let Ok(mut conn) = self.write.lend().await {
            let _whole = checkpoint(&mut conn).await;
        }
        self.write.close().await;
    }

    /// For who looks after the file, beside the pools.
    pub(crate) async fn connect(&self) -> Result<SqliteConnection, sqlx::Error> {
        self.options.clone().busy_timeout(CHECKPOINT).connect().await
    }
}

/// Looks at the schema, and runs what is lacking if it may.
async fn bring_up_to_date(
    conn: &mut SqliteConnection,
    migrator: &Migrator,
    migrate: bool,
) -> Result<Schema, OpenError> {
    let schema = schema(conn, migrator).await?;
    if !migrate || schema.lacks.is_empty() {
        return schema.complete();
    }
    migrator.run(&mut *conn).await?;
    self::schema(conn, migrator).await?.complete()
}

async fn schema(conn: &mut SqliteConnection, migrator: &Migrator) -> Result<Schema, OpenError> {
    let has_any = "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = '_sqlx_migrations')";
    let (has_any,): (bool,) = sqlx::query_as(has_any).fetch_one(&mut *conn).await?;
    let applied = if has_any { sqlx::query_as(APPLIED).fetch_all(conn).await? } else { Vec::new() };
    Schema::compare(migrator, &applied)
}

async fn checkpoint(conn: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(conn).await.map(drop)
}

/// Whether SQLite says that a file is damaged, or is none of its own.
pub(crate) fn is_damage(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else { return false };
    // The codes of Postgres are longer.
    let code = error.code().filter(|code| code.len() < 5);
    let code = code.and_then(|code| code.parse::<u32>().ok());
    code.is_some_and(|code| matches!(code & 0xff, 11 | 26))
}

/// How long the log beside a file is, and when it was last written; `None` if it is empty.
pub(crate) type Written = Option<(u64, SystemTime)>;

/// The file and what SQLite keeps beside it, as they were opened.
#[derive(Debug)]
struct Files {
    path: PathBuf,
    opened: Vec<(PathBuf, (u64, u64))>,
    page_size: u32,
    /// How long the file was when it was last as long as it says.
    length: AtomicU64,
}

impl Files {
    fn opened(path: &Path) -> Result<Self, std::io::Error> {
        let mut opened = Vec::new();
        for suffix in ["", "-wal", "-shm"] {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            let name = PathBuf::from(name);
            let identity = identity(&fs::metadata(&name)?);
            opened.push((name, identity));
        }
        let header = Header::read(path)?;
        let page_size = header.page_size();
        let length = AtomicU64::new(fs::metadata(path)?.len());
        Ok(Self { path: path.to_owned(), opened, page_size, length })
    }

    fn written(&self) -> Written {
        let (log, _) = &self.opened[1];
        let log = fs::metadata(log).ok().filter(|log| log.len() > 0)?;
        Some((log.len(), log.modified().ok()?))
    }

    /// What is wrong with the files, if anything is.
    fn look(&self) -> Result<(), String> {
        for (path, opened) in &self.opened {
            let name = || path.file_name().unwrap_or_default().display().to_string();
            match fs::metadata(path) {
                Ok(found) if identity(&found) == *opened => {}
                Ok(_) => return Err(format!("was replaced ({} is another file)", name())),
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    return Err(format!("was removed ({} is gone)", name()));
                }
                Err(error) => return Err(format!("cannot be looked at ({error})")),
            }
        }
        let Ok(header) = Header::read(&self.path) else {
            return Err("is damaged (it is too short)".to_owned());
        };
        if !header.0.starts_with(MAGIC) || header.page_size() != self.page_size {
            return Err("is damaged (it does not begin as it did)".to_owned());
        }
        let length = fs::metadata(&self.path).map_or(0, |file| file.len());
        if length >= u64::from(header.pages()) * u64::from(self.page_size) {
            self.length.store(length, Ordering::Relaxed);
        } else if length < self.length.load(Ordering::Relaxed) {
            // A checkpoint says first how long the file will be; it never cuts it meanwhile.
            return Err("is damaged (its end is missing)".to_owned());
        }
        Ok(())
    }
}

/// What tells a file from another of the same name.
fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// What a file begins with.
struct Header([u8; 100]);

impl Header {
    fn read(path: &Path) -> Result<Self, std::io::Error> {
        let mut header = [0; 100];
        File::open(path)?.read_exact(&mut header)?;
        Ok(Self(header))
    }

    fn page_size(&self) -> u32 {
        match u16::from_be_bytes([self.0[16], self.0[17]]) {
            1 => 65_536,
            size => size.into(),
        }
    }

    fn pages(&self) -> u32 {
        u32::from_be_bytes([self.0[28], self.0[29], self.0[30], self.0[31]])
    }
}
