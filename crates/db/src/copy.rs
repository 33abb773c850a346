//! A copy of a SQLite file that others write to meanwhile.

use std::path::Path;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use crate::OpenError;
use crate::sqlite::of_file;

/// Writes what a file holds at one moment into another one, which must not be there, and looks
/// whether the copy is whole. Whoever writes to the file goes on meanwhile.
pub async fn copy(from: &Path, to: &Path) -> Result<(), OpenError> {
    // Only read, so that closing it brings nothing into the file and removes nothing beside it.
    let options = SqliteConnectOptions::new().filename(from).read_only(true);
    let mut conn = options.connect().await.map_err(|error| of_file(from, error))?;
    let written = sqlx::query("VACUUM INTO $1").bind(to.to_string_lossy().into_owned());
    written.execute(&mut conn).await.map_err(|error| of_file(from, error))?;
    conn.close().await?;
    let options = SqliteConnectOptions::new().filename(to).read_only(true);
    let mut conn = options.connect().await?;
    let (told,): (String,) =
        sqlx::query_as("PRAGMA integrity_check(1)").fetch_one(&mut conn).await?;
    conn.close().await?;
    if told != "ok" {
        let error = sqlx::Error::Io(std::io::Error::other(told));
        return Err(OpenError::Damaged(to.to_owned(), error));
    }
    Ok(())
}
