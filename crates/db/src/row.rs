//! Rows as structs.

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

        impl<'r, R: ::sqlx::Row> ::sqlx::FromRow<'r, R> for $Row
        where
            &'static str: ::sqlx::ColumnIndex<R>,
            $($Type: ::sqlx::Decode<'r, R::Database> + ::sqlx::Type<R::Database>,)*
        {
            fn from_row(row: &'r R) -> Result<Self, ::sqlx::Error> {
                Ok(Self { $($field: ::sqlx::Row::try_get(row, stringify!($field))?,)* })
            }
        }
    };
}
