//! Whether a program can serve on the schema that it finds: one that is brought up to date
//! step by step, by programs of several versions.

use std::collections::BTreeMap;

use sqlx::migrate::{MigrateError, Migrator};

use crate::OpenError;

/// What a database remembers of the migrations that were run in it: number, name, checksum.
pub(crate) const APPLIED: &str =
    "SELECT version, description, checksum FROM _sqlx_migrations WHERE success ORDER BY version";

pub(crate) type Applied = (i64, String, Vec<u8>);

/// How the schema of a database stands to what a program knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schema {
    /// The migrations that are still to be run.
    pub lacks: Vec<i64>,
    /// Those that this program does not know: of a later version.
    pub newer: Vec<i64>,
}

/// The names of migrations that take something away end with the number of the migration that
/// a program must know to serve without it: `0031_drop_rank_needs_0028.sql`. What is
/// remembered of a migration is its name, so older programs can read it.
fn needs(name: &str) -> Option<i64> {
    let (_, number) = name.rsplit_once("needs ")?;
    number.parse().ok()
}

impl Schema {
    /// Holds what was run against what is known; refused is a schema on which this program
    /// cannot serve, whatever else is run in it.
    pub(crate) fn compare(known: &Migrator, applied: &[Applied]) -> Result<Self, OpenError> {
        let mut lacks: BTreeMap<_, _> = known.iter().map(|of| (of.version, &of.checksum)).collect();
        let mut newer = Vec::new();
        for (number, name, checksum) in applied {
            match lacks.remove(number) {
                Some(known) if **known == **checksum => {}
                Some(_) => return Err(MigrateError::VersionMismatch(*number).into()),
                None => {
                    let needed = needs(name).filter(|needed| !known.version_exists(*needed));
                    if let Some(needed) = needed {
                        let (number, name) = (*number, name.clone());
                        return Err(OpenError::Contracted { number, name, needed });
                    }
                    newer.push(*number);
                }
            }
        }
        Ok(Self { lacks: lacks.into_keys().collect(), newer })
    }

    /// The same where nothing is to be run: then nothing may be lacking.
    pub(crate) fn complete(self) -> Result<Self, OpenError> {
        if self.lacks.is_empty() { Ok(self) } else { Err(OpenError::Older(self.lacks)) }
    }
}

#[cfg(test)]
mod tests {
    use sqlx::SqlStr;
    use sqlx::migrate::{Migration, MigrationType};

    use super::*;

    fn migration(number: i64, name: &'static str) -> Migration {
        let sql = SqlStr::from_static("SELECT 1");
        Migration::new(number, name.into(), MigrationType::Simple, sql, false)
    }

    fn compare(known: &[i64], applied: &[(i64, &'static str)]) -> Result<Schema, OpenError> {
        let known = known.iter().map(|number| migration(*number, "it")).collect();
        let applied = applied.iter().map(|(number, name)| {
            let checksum = migration(*number, name).checksum.to_vec();
            (*number, (*name).to_owned(), checksum)
        });
        let applied: Vec<_> = applied.collect();
        Schema::compare(&Migrator::with_migrations(known), &applied)
    }

    #[test]
    fn a_schema_is_held_against_what_a_program_knows() {
        let schema =
            |lacks: &[i64], newer: &[i64]| Schema { lacks: lacks.to_vec(), newer: newer.to_vec() };
        let one_and_two = [(1, "one"), (2, "two")];
        for (known, applied, expected) in [
            (&[1, 2][..], &one_and_two[..], schema(&[], &[])),
            (&[1, 2, 3], &one_and_two, schema(&[3], &[])),
            (&[1], &one_and_two, schema(&[], &[2])),
            (&[1, 3], &one_and_two, schema(&[3], &[2])),
            // What was taken away this program does not use any more.
            (&[1, 2], &[(1, "one"), (2, "two"), (3, "drop rank needs 0002")], schema(&[], &[3])),
        ] {
            assert_eq!(compare(known, applied).expect("it may serve"), expected);
        }
        assert!(
            matches!(schema(&[3], &[]).complete(), Err(OpenError::Older(lacks)) if lacks == [3])
        );
    }

    #[test]
    fn a_schema_without_what_a_program_uses_is_refused_with_what_to_do() {
        let applied = [(1, "one"), (2, "two"), (3, "drop rank needs 0002"), (4, "more")];
        let error = compare(&[1], &applied).expect_err("it uses the rank").to_string();
        assert!(error.contains("migration 3 (drop rank needs 0002)"), "{error}");
        assert!(error.contains("know migration 2:"), "{error}");
    }
}
