//! The folder of the embedded mode: one process at a time, its signing key and its databases.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use parlance_rpc::Secret;

use crate::Failure;

/// The databases, in the order in which a first start makes them.
pub(crate) const DATABASES: [&str; 4] = ["message", "membership", "room", "presence"];

/// What others may do with what is ours alone.
const OTHERS: u32 = 0o077;
const OTHERS_WRITE: u32 = 0o022;

/// A folder that belongs to this process until it is dropped.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    /// Whether somebody wrote in it before.
    used: bool,
    /// Locked as long as it is open.
    _lock: File,
}

impl DataDir {
    /// Takes the folder, making it if it is not there.
    pub(crate) fn take(path: &Path) -> Result<Self, Failure> {
        let failed = |error: &io::Error| {
            Failure::fatal(format_args!("cannot use the folder {}", path.display()), error)
        };
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|error| failed(&error))?;
        let lock = path.join("lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(lock);
        let lock = lock.map_err(|error| failed(&error))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), used: is_used(path), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(Failure::Fatal(format!(
                "the folder {} is in use by another process",
                path.display()
            ))),
            Err(TryLockError::Error(error)) => Err(failed(&error)),
        }
    }

    /// The database file of a service.
    pub(crate) fn database(&self, service: &str) -> PathBuf {
        database(&self.path, service)
    }

    /// Sees to it that nobody else may read what is in the folder, and that no database is
    /// missing.
    pub(crate) fn look(&self) -> Result<(), Failure> {
        let folder = self.path.display();
        if let Some((missing, later)) = missing(&self.path) {
            return Err(Failure::Fatal(format!(
                "{missing}.db is missing in the folder {folder}, where {later}.db is: put back \
                 the files of one time, or begin with an empty folder"
            )));
        }
        let failed = |error: &io::Error| {
            Failure::fatal(format_args!("cannot keep the folder {folder} to itself"), error)
        };
        let mode = fs::metadata(&self.path).map_err(|error| failed(&error))?.permissions().mode();
        if mode & OTHERS_WRITE != 0 {
            tracing::warn!(%folder, "others may write to the folder: they can replace what is in it");
        }
        tighten(&signing_key(&self.path));
        for service in DATABASES {
            let path = self.database(service);
            // What SQLite makes beside a file has the file's mode.
            let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
            file.map_err(|error| failed(&error))?;
            for suffix in ["", "-wal", "-shm"] {
                tighten(&path.with_extension(format!("db{suffix}")));
            }
        }
        Ok(())
    }

    /// The file of the signing key; made with a new key if it is not there.
    pub(crate) fn signing_key(&self) -> Result<PathBuf, Failure> {
        let path = signing_key(&self.path);
        if path.exists() {
            return Ok(path);
        }
        write_key(&path).map_err(|error| {
            Failure::fatal(format_args!("cannot make the key {}", path.display()), &error)
        })?;
        if self.used {
            let file = path.display();
            tracing::warn!(
                %file,
                "the signing key was missing beside the databases: a new one is made, and all \
                 tokens of before are refused"
            );
        }
        Ok(path)
    }
}

pub(crate) fn database(folder: &Path, service: &str) -> PathBuf {
    folder.join(format!("{service}.db"))
}

/// Whether a database was begun: an empty one is of a start that was cut short.
fn is_used(folder: &Path) -> bool {
    let begun = |service| fs::metadata(database(folder, service)).is_ok_and(|file| file.len() > 0);
    DATABASES.into_iter().any(begun)
}

/// A database that is missing though a later one is there. When somebody was last seen is
/// all that the last one knows: it is made anew.
pub(crate) fn missing(folder: &Path) -> Option<(&'static str, &'static str)> {
    let mut there = DATABASES.iter().enumerate().rev();
    let (last, later) = there.find(|(_, service)| database(folder, service).exists())?;
    let missing = DATABASES[..last].iter().find(|service| !database(folder, service).exists());
    missing.map(|missing| (*missing, *later))
}

/// Takes from a file what others may do with it.
fn tighten(path: &Path) {
    let Ok(file) = fs::metadata(path) else { return };
    let mode = file.permissions().mode();
    if mode & OTHERS == 0 {
        return;
    }
    let file = path.display();
    match fs::set_permissions(path, Permissions::from_mode(mode & !OTHERS)) {
        Ok(()) => tracing::warn!(%file, "others could read a file: now they cannot"),
        Err(error) => tracing::warn!(%file, %error, "others can read a file"),
    }
}

/// Where the signing key of a folder is.
pub(crate) fn signing_key(folder: &Path) -> PathBuf {
    folder.join("signing.key")
}

/// Written beside and renamed, so that a key is whole or not there.
fn write_key(path: &Path) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file =
        OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
    file.write_all(Secret::random().as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    std::fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_folder_belongs_to_one_process_at_a_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a/b");
        let taken = DataDir::take(&path).expect("free");
        let refused = DataDir::take(&path).expect_err("taken").to_string();
        assert!(refused.ends_with("is in use by another process"), "{refused}");
        drop(taken);
        assert!(DataDir::take(&path).is_ok());
    }

    #[test]
    fn what_is_in_the_folder_is_for_its_owner_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let open = Permissions::from_mode(0o755);
        fs::set_permissions(folder.path(), open).expect("an open folder");
        for name in ["message.db", "message.db-wal", "signing.key"] {
            let file = folder.path().join(name);
            fs::write(&file, "").expect("a file");
            fs::set_permissions(&file, Permissions::from_mode(0o644)).expect("an open file");
        }
        let data = DataDir::take(folder.path()).expect("free");
        data.look().expect("nothing is missing");
        for name in ["message.db", "message.db-wal", "signing.key", "membership.db", "presence.db"]
        {
            let file = fs::metadata(folder.path().join(name)).expect("a file");
            assert_eq!(file.permissions().mode() & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn a_database_that_is_missing_among_others_is_named() {
        for (there, refused) in [
            (&[][..], None),
            (&["message"], None),
            // The first start was cut short.
            (&["message", "membership"], None),
            (&["message", "membership", "room"], None),
            (&["membership", "room", "presence"], Some("message.db is missing")),
            (&["message", "room"], Some("membership.db is missing")),
            (&["message", "membership", "presence"], Some("room.db is missing")),
        ] {
            let folder = tempfile::tempdir().expect("a folder");
            for service in there {
                fs::write(database(folder.path(), service), "").expect("a file");
            }
            let data = DataDir::take(folder.path()).expect("free");
            match (data.look(), refused) {
                (Ok(()), None) => {}
                (Err(failure), Some(what)) => {
                    assert!(failure.to_string().starts_with(what), "{failure}");
                }
                (looked, _) => panic!("{there:?}: {looked:?}"),
            }
        }
    }

    #[test]
    fn a_key_is_made_once_and_only_its_owner_may_read_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = DataDir::take(folder.path()).expect("free");
        let path = data.signing_key().expect("a key");
        let first = std::fs::read(&path).expect("a key");
        assert_eq!(first.trim_ascii().len(), 64);
        assert_eq!(path.metadata().expect("a file").permissions().mode() & 0o777, 0o600);
        assert_eq!(data.signing_key().expect("a key"), path);
        assert_eq!(std::fs::read(&path).expect("a key"), first);
    }
}
