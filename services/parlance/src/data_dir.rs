//! The folder of the embedded mode: one process at a time, and its signing key.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use parlance_rpc::Secret;

use crate::Failure;

/// A folder that belongs to this process until it is dropped.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
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
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(Failure::Fatal(format!(
                "the folder {} is in use by another process",
                path.display()
            ))),
            Err(TryLockError::Error(error)) => Err(failed(&error)),
        }
    }

    /// The database file of a service.
    pub(crate) fn database(&self, service: &str) -> PathBuf {
        self.path.join(format!("{service}.db"))
    }

    /// The file of the signing key; made with a new key if it is not there.
    pub(crate) fn signing_key(&self) -> Result<PathBuf, Failure> {
        let path = signing_key(&self.path);
        if path.exists() {
            return Ok(path);
        }
        write_key(&path).map(|()| path.clone()).map_err(|error| {
            Failure::fatal(format_args!("cannot make the key {}", path.display()), &error)
        })
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
