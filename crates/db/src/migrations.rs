//! How the schema of a service changes: files that are built into the program.

use include_dir::{Dir, File};
use sqlx::migrate::{Migration, MigrationType, Migrator};

/// The migrations of one service, a folder of files per database. A file is called
/// `NNNN_name.sql` and runs once, in the order of the numbers; one that begins with
/// `-- no-transaction` runs outside of a transaction.
#[derive(Clone, Copy, Debug)]
pub struct Migrations {
    pub sqlite: &'static Dir<'static>,
    pub postgres: &'static Dir<'static>,
    /// Those of what the service keeps in its schema and others too, such as an outbox. Their
    /// numbers differ: a service counts from 1, each of these from a thousand of its own.
    pub with: &'static [Migrations],
}

/// What stands in `migrations/sqlite` and `migrations/postgres` of the calling crate, with
/// the migrations of others.
#[macro_export]
macro_rules! migrations {
    ($(with $($other:expr),+ $(,)?)?) => {{
        use $crate::include_dir;
        $crate::Migrations {
            sqlite: &const { include_dir::include_dir!("$CARGO_MANIFEST_DIR/migrations/sqlite") },
            postgres: &const {
                include_dir::include_dir!("$CARGO_MANIFEST_DIR/migrations/postgres")
            },
            with: &[$($($other),+)?],
        }
    }};
}

impl Migrations {
    pub(crate) fn on_sqlite(&self) -> Migrator {
        migrator(&self.folders(|migrations| migrations.sqlite))
    }

    pub(crate) fn on_postgres(&self) -> Migrator {
        migrator(&self.folders(|migrations| migrations.postgres))
    }

    fn folders(&self, of: impl Fn(&Self) -> &'static Dir<'static>) -> Vec<&'static Dir<'static>> {
        std::iter::once(self).chain(self.with).map(of).collect()
    }
}

/// The files of folders as sqlx's own reader of folders has them: databases remember
/// versions, names and checksums.
fn migrator(folders: &[&'static Dir<'static>]) -> Migrator {
    let files = folders.iter().flat_map(|folder| folder.files());
    let mut migrator = Migrator::with_migrations(files.map(migration).collect());
    // Whether one that is not known may be there, `Schema` says.
    migrator.set_ignore_missing(true);
    migrator
}

fn migration(file: &'static File<'static>) -> Migration {
    parse(file).unwrap_or_else(|| panic!("{} is not called NNNN_name.sql", file.path().display()))
}

fn parse(file: &'static File<'static>) -> Option<Migration> {
    let (version, name) = file.path().to_str()?.strip_suffix(".sql")?.split_once('_')?;
    let sql = std::str::from_utf8(file.contents()).ok()?;
    Some(Migration::new(
        version.parse().ok()?,
        name.replace('_', " ").into(),
        MigrationType::Simple,
        sqlx::SqlStr::from_static(sql),
        sql.starts_with("-- no-transaction"),
    ))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use include_dir::include_dir;

    use super::*;

    /// Where sqlx's macro built the migrations in, it read folders in this way.
    #[tokio::test]
    async fn a_database_of_an_earlier_build_goes_on() {
        const BUILT_IN: Dir<'static> =
            include_dir!("$CARGO_MANIFEST_DIR/../../services/message/migrations/postgres");
        let path = Path::new("../../services/message/migrations/postgres");
        let read = Migrator::new(path).await.expect("a folder of migrations");
        let told = |migrator: &Migrator| {
            let told = migrator.iter().map(|m| {
                let kind = m.migration_type;
                (m.version, m.description.clone(), m.checksum.clone(), m.no_tx, kind)
            });
            told.collect::<Vec<_>>()
        };
        assert!(read.iter().count() >= 2);
        assert_eq!(told(&migrator(&[&BUILT_IN])), told(&read));
    }
}
