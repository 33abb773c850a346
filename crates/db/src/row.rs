//! Rows as structs.

use sqlx::{Column, ColumnIndex, FromRow, ValueRef};

/// What is read from columns that stand one after the other in a row.
pub trait Columns<'r, R: sqlx::Row>: Sized {
    /// How many they are.
    const COUNT: usize;

    /// Reads them from the column `first` on.
    fn read(row: &'r R, first: usize) -> Result<Self, sqlx::Error>;
}

/// A struct that is read from a row: its fields stand in the order in which a statement
/// selects them. A name would be looked up in every row, a place is not; where debug
/// assertions are on, as in tests, each place is held to the name of its field.
#[macro_export]
macro_rules! row {
    ($(#[$attribute:meta])* $visible:vis struct $Row:ident {
        $($(#[$of_field:meta])* $field_visible:vis $field:ident: $Type:ty,)*
    }) => {
        $(#[$attribute])*
        $visible struct $Row {
            $($(#[$of_field])* $field_visible $field: $Type,)*
        }

        impl<'r, R: $crate::sqlx::Row> $crate::Columns<'r, R> for $Row
        where
            usize: $crate::sqlx::ColumnIndex<R>,
            $($Type: $crate::sqlx::Decode<'r, R::Database> + $crate::sqlx::Type<R::Database>,)*
        {
            const COUNT: usize = [$(stringify!($field)),*].len();

            fn read(row: &'r R, first: usize) -> Result<Self, $crate::sqlx::Error> {
                $crate::check_names(row, first, &[$(stringify!($field)),*]);
                let mut place = first;
                Ok(Self {
                    $($field: {
                        place += 1;
                        $crate::sqlx::Row::try_get(row, place - 1)?
                    },)*
                })
            }
        }

        impl<'r, R: $crate::sqlx::Row> $crate::sqlx::FromRow<'r, R> for $Row
        where
            Self: $crate::Columns<'r, R>,
        {
            fn from_row(row: &'r R) -> Result<Self, $crate::sqlx::Error> {
                $crate::Columns::read(row, 0)
            }
        }
    };
}

/// Panics where a statement selects other columns than those that are read there: with debug
/// assertions only.
#[doc(hidden)]
pub fn check_names<R: sqlx::Row>(row: &R, first: usize, names: &[&str]) {
    if cfg!(debug_assertions) {
        let columns = row.columns().iter().skip(first).take(names.len());
        let selected: Vec<&str> = columns.map(Column::name).collect();
        assert_eq!(selected, names, "what a statement selects, and what is read of it");
    }
}

/// What an outer join may have found nothing of: its first column is never NULL otherwise.
impl<'r, R, A> Columns<'r, R> for Option<A>
where
    R: sqlx::Row,
    A: Columns<'r, R>,
    usize: ColumnIndex<R>,
{
    const COUNT: usize = A::COUNT;

    fn read(row: &'r R, first: usize) -> Result<Self, sqlx::Error> {
        if row.try_get_raw(first)?.is_null() { Ok(None) } else { A::read(row, first).map(Some) }
    }
}

/// Two that are read from one row, the columns of the second after those of the first.
#[derive(Clone, Copy, Debug)]
pub struct Joined<A, B>(pub A, pub B);

impl<'r, R, A, B> Columns<'r, R> for Joined<A, B>
where
    R: sqlx::Row,
    A: Columns<'r, R>,
    B: Columns<'r, R>,
{
    const COUNT: usize = A::COUNT + B::COUNT;

    fn read(row: &'r R, first: usize) -> Result<Self, sqlx::Error> {
        Ok(Self(A::read(row, first)?, B::read(row, first + A::COUNT)?))
    }
}

impl<'r, R: sqlx::Row, A, B> FromRow<'r, R> for Joined<A, B>
where
    Self: Columns<'r, R>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        Self::read(row, 0)
    }
}
