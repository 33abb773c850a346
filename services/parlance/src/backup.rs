//! `parlance backup` and `parlance restore`: a copy of the folder of the embedded mode.
//!
//! Message comes first, then membership, then room. A room comes into being in the other order,
//! so whatever log is in the copy, its members and its settings are there too; and what a log lacks
//! of facts that its source counts as told, it gets again when the files are held against each
//! other. Copied in any other order, a log could be of a room that nobody knows.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parlance_message::attachment::Place;
use parlance_types::SystemClock;

use crate::data_dir::{DATABASES, DataDir, database, signing_key};
use crate::failure::print;
use crate::settings::Config;
use crate::values::{Bus, Store};
use crate::{Failure, process, services};

/// Where attachments are in a backup, as in the folder of a server.
const ATTACHMENTS: &str = "attachments";

/// Copies the folder of a server that may run into `to`, which must be new or empty.
pub(crate) async fn back_up(config: Config, to: &Path) -> Result<(), Failure> {
    let from = folder(&config)?;
    if !database(from, DATABASES[0]).exists() {
        return Err(Failure::Fatal(format!("{} holds no databases", from.display())));
    }
    let attachments = attachments(&config, from);
    let whole = Unfinished::beside(to)?;
    // Once before the rows, since what goes meanwhile is still in them; and once afterwards, for
    // what came meanwhile.
    copy_all(attachments.as_deref(), &whole.path.join(ATTACHMENTS))?;
    for service in DATABASES {
        let (file, copy) = (database(from, service), database(&whole.path, service));
        if file.exists() {
            let copied = parlance_db::copy(&file, &copy).await;
            let tried = || format!("cannot copy {} to {}", file.display(), copy.display());
            copied.map_err(|error| Failure::fatal(tried(), &error))?;
        }
    }
    copy_all(attachments.as_deref(), &whole.path.join(ATTACHMENTS))?;
    let key = signing_key(from);
    if key.exists() {
        copy_file(&key, &signing_key(&whole.path)).map_err(|error| failed(&key, &error))?;
    }
    let checked = process::hold_against_each_other(&of(&config, &whole.path)).await;
    checked.map_err(|error| {
        Failure::Fatal(format!("cannot use the copy in {}: {error}", whole.path.display()))
    })?;
    whole.finish(to)?;
    print(&format!("{} holds a backup of {}", to.display(), from.display()))
}

/// Puts a backup into the folder of a server, which must be new or empty, and begins an epoch.
pub(crate) async fn restore(config: Config, from: &Path) -> Result<(), Failure> {
    let to = folder(&config)?;
    let data = DataDir::take(from)?;
    if !database(from, DATABASES[0]).exists() {
        return Err(Failure::Fatal(format!("{} holds no backup", from.display())));
    }
    let whole = Unfinished::beside(to)?;
    for service in DATABASES {
        let (file, copy) = (data.database(service), database(&whole.path, service));
        if file.exists() {
            let copied = parlance_db::copy(&file, &copy).await;
            copied.map_err(|error| Failure::fatal("cannot copy the backup", &error))?;
        }
    }
    copy_all(Some(&from.join(ATTACHMENTS)), &whole.path.join(ATTACHMENTS))?;
    let key = signing_key(from);
    if key.exists() {
        copy_file(&key, &signing_key(&whole.path)).map_err(|error| failed(&key, &error))?;
    }
    let restored = of(&config, &whole.path);
    process::hold_against_each_other(&restored).await?;
    let epoch = {
        let data = DataDir::take(&whole.path)?;
        services::restored(&restored, Some(&data), Arc::new(SystemClock)).await?
    };
    whole.finish(to)?;
    print(&epoch)
}

/// The same settings for a folder that is looked at and not served.
fn of(config: &Config, folder: &Path) -> Config {
    let attachments = Some(Place::Folder(folder.join(ATTACHMENTS)));
    let store = Store::Sqlite(folder.to_owned());
    Config { store, attachments, bus: Bus::Memory, hook: None, ..config.clone() }
}

fn folder(config: &Config) -> Result<&Path, Failure> {
    match &config.store {
        Store::Sqlite(folder) => Ok(folder),
        Store::Postgres(_) => {
            let rule = "must be a folder: a Postgres has tools of its own, such as pg_basebackup";
            Err(Failure::setting("store", rule))
        }
    }
}

/// Where the attachments of a server are, if they are in its folder: those elsewhere are backed
/// up where they are.
fn attachments(config: &Config, folder: &Path) -> Option<PathBuf> {
    match &config.attachments {
        Some(Place::Folder(path)) if *path == folder.join(ATTACHMENTS) => Some(path.clone()),
        _ => None,
    }
}

/// A folder that becomes another one once it is whole, and is removed if it does not.
struct Unfinished {
    path: PathBuf,
}

impl Unfinished {
    fn beside(to: &Path) -> Result<Self, Failure> {
        let is_empty = |path: &Path| fs::read_dir(path).is_ok_and(|mut it| it.next().is_none());
        if to.exists() && !is_empty(to) {
            return Err(Failure::Fatal(format!("the folder {} is not empty", to.display())));
        }
        let mut name = to.file_name().unwrap_or_default().to_owned();
        name.push(".unfinished");
        let path = to.with_file_name(name);
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| failed(&path, &error))?;
        Ok(Self { path })
    }

    /// On the disk first, so that what has the name is whole whatever happens.
    fn finish(&self, to: &Path) -> Result<(), Failure> {
        let lock = self.path.join("lock");
        if lock.exists() {
            fs::remove_file(&lock).map_err(|error| failed(&lock, &error))?;
        }
        let finished = sync(&self.path).and_then(|()| fs::rename(&self.path, to));
        let parent = to.parent().filter(|path| !path.as_os_str().is_empty());
        let finished = finished.and_then(|()| {
            File::open(parent.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all())
        });
        finished.map_err(|error| failed(to, &error))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Not there any more if it was finished.
        let _gone = fs::remove_dir_all(&self.path);
    }
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::fatal(format_args!("cannot write {}", path.display()), error)
}

/// Copies what is in a folder and not yet in the other one. A part of an attachment is written
/// once, beside its name, and may be removed at any time.
fn copy_all(from: Option<&Path>, to: &Path) -> Result<(), Failure> {
    let Some(from) = from.filter(|from| from.exists()) else { return Ok(()) };
    copy_folder(from, to).map_err(|error| failed(to, &error))
}

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(to)?;
    for entry in gone_is_none(fs::read_dir(from))?.into_iter().flatten() {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &to)?;
        } else if !to.exists() {
            gone_is_none(copy_file(&entry.path(), &to))?;
        }
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to).map(drop)
}

fn gone_is_none<T>(done: io::Result<T>) -> io::Result<Option<T>> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        done => done.map(Some),
    }
}

/// Brings a folder with all that is in it to the disk.
fn sync(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            sync(&entry?.path())?;
        }
    }
    File::open(path)?.sync_all()
}
