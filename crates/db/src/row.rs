//! Rows as structs.

use sqlx::FromRow;

/// A struct that is read from a row, each field from the column of its name.
#[macro_export]
macro_rules! row {
    ($(#[$attribute:meta])* $visible:vis struct $Row:ident {
        $($(#[$of_field:meta])* $field_visible:vis $field:ident: $Type:ty,)*
    }) => {
        $(#[$attribute])*
        $visible struct $Row {
            $($(#[$of_field])* $field_visible $field: $Type,)*
        }

        impl<'r, R: $crate::sqlx::Row> $crate::sqlx::FromRow<'r, R> for $Row
        where
            &'static str: $crate::sqlx::ColumnIndex<R>,
            $($Type: $crate::sqlx::Decode<'r, R::Database> + $crate::sqlx::Type<R::Database>,)*
        {
            fn from_row(row: &'r R) -> Result<Self, $crate::sqlx::Error> {
                Ok(Self { $($field: $crate::sqlx::Row::try_get(row, stringify!($field))?,)* })
            }
        }
    };
}

/// Two structs that are read from one row.
#[derive(Clone, Copy, Debug)]
pub struct Joined<A, B>(pub A, pub B);

impl<'r, R, A, B> FromRow<'r, R> for Joined<A, B>
where
    R: sqlx::Row,
    A: FromRow<'r, R>,
    B: FromRow<'r, R>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        Ok(Self(A::from_row(row)?, B::from_row(row)?))
    }
}
