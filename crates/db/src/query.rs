//! Statements that are written once for both databases.

use std::fmt::{self, Write as _};
use std::time::Duration;

use sqlx::error::BoxDynError;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{Arguments, AssertSqlSafe, Encode, FromRow, Postgres, SqlSafeStr, SqlStr, Sqlite, Type};
use tokio::time::timeout;

use crate::StoreError;
use crate::conn::{Driver, Lent};
use crate::pool::Pool;

/// A value that both databases take.
pub trait Value<'t>:
    Encode<'t, Sqlite> + Type<Sqlite> + Encode<'t, Postgres> + Type<Postgres>
{
}

impl<'t, T> Value<'t> for T where
    T: Encode<'t, Sqlite> + Type<Sqlite> + Encode<'t, Postgres> + Type<Postgres>
{
}

/// A row that both databases give: a tuple, or a struct of [`row!`](crate::row).
pub trait Row: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> {}

impl<T> Row for T where T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> {}

/// A statement on its way to a database. Its SQL keeps to what SQLite and Postgres share:
/// `$1` places, `ON CONFLICT`, `RETURNING`. Running it is bounded in time.
#[must_use = "a statement does nothing until it is fetched or executed"]
#[derive(Debug)]
pub struct Query<'c>(Either<'c>);

#[derive(Debug)]
enum Either<'c> {
    Sqlite(Statement<'c, Sqlite>),
    Postgres(Statement<'c, Postgres>),
}

struct Statement<'c, DB: Driver> {
    on: On<'c, DB>,
    sql: SqlStr,
    arguments: Result<DB::Arguments, BoxDynError>,
    keeps_plan: bool,
    /// How long it may take, if not as long as others.
    limit: Option<Duration>,
}

/// Where a statement runs.
pub(crate) enum On<'c, DB: Driver> {
    /// On a connection that is taken for it alone.
    Pool(&'c Pool<DB>),
    Conn(&'c mut Lent<DB>),
}

/// The connection of a statement while that runs.
enum Held<'c, DB: Driver> {
    Lent(Lent<DB>),
    Conn(&'c mut Lent<DB>),
}

/// Runs one body on whichever statement it is; compiled once per driver.
macro_rules! on_either {
    ($query:expr, |$statement:ident| $body:expr) => {
        match $query.0 {
            Either::Sqlite($statement) => $body,
            Either::Postgres($statement) => $body,
        }
    };
}

/// Runs a query in time. A macro, since what sqlx asks of a driver to run a statement on its
/// connection is longer than this.
macro_rules! run {
    ($query:expr, |$statement:ident, $conn:ident| $body:expr) => {
        on_either!($query, |statement| {
            let mut held = statement.on.hold().await?;
            let lent = held.lent();
            let $statement =
                sqlx::query_with(statement.sql, statement.arguments.map_err(encoding)?)
                    .persistent(statement.keeps_plan);
            let limit = statement.limit.unwrap_or(lent.limit());
            let answer = timeout(limit, async {
                let $conn = lent.ask();
                $body
            });
            let answer = answer.await;
            lent.judge(limit, answer)
        })
    };
}

fn encoding(error: BoxDynError) -> StoreError {
    StoreError::Bug(sqlx::Error::Encode(error))
}

impl<'c> Query<'c> {
    pub(crate) fn on_sqlite(on: On<'c, Sqlite>, sql: impl SqlSafeStr) -> Self {
        Self(Either::Sqlite(Statement::new(on, sql.into_sql_str())))
    }

    pub(crate) fn on_postgres(on: On<'c, Postgres>, sql: impl SqlSafeStr) -> Self {
        Self(Either::Postgres(Statement::new(on, sql.into_sql_str())))
    }

    /// Gives the next `$` its value.
    pub fn bind<'t>(mut self, value: impl Value<'t>) -> Self {
        match &mut self.0 {
            Either::Sqlite(statement) => statement.add(value),
            Either::Postgres(statement) => statement.add(value),
        }
        self
    }

    /// Gives a list its values, after all others were bound. The list stands in the SQL as
    /// its first place and two dots, after what its values have in common: after one
    /// [`bind`](Self::bind) it is `IN ($2..)`, or rows `VALUES ($1, $2..)` to be joined. An
    /// empty list holds nothing.
    ///
    /// A list that is a part of a key is joined as rows that name the other parts, too: of
    /// `log_id = $1 AND user_id IN ($2..)` Postgres may walk through the whole log, since it
    /// takes all logs for as small as most of them are.
    pub fn bind_list<'t, V>(mut self, values: impl IntoIterator<Item = V>) -> Self
    where
        V: Value<'t>,
        Option<V>: Value<'t>,
    {
        match &mut self.0 {
            Either::Sqlite(statement) => statement.add_list(values),
            Either::Postgres(statement) => statement.add_list(values),
        }
        self
    }

    /// Gives the next `$` a list of values as an array, which only Postgres has.
    pub fn bind_array<'t, V>(mut self, values: Vec<V>) -> Self
    where
        Vec<V>: Encode<'t, Postgres> + Type<Postgres>,
    {
        match &mut self.0 {
            Either::Sqlite(statement) => {
                statement.arguments = Err("SQLite has no arrays".into());
            }
            Either::Postgres(statement) => statement.add(values),
        }
        self
    }

    /// Lets the database forget how it runs the statement: of a text that is hardly ever the
    /// same, the plan is not worth keeping.
    pub fn once(mut self) -> Self {
        match &mut self.0 {
            Either::Sqlite(statement) => statement.keeps_plan = false,
            Either::Postgres(statement) => statement.keeps_plan = false,
        }
        self
    }

    /// Bounds the time that the statement may take by another limit than the usual one.
    pub fn within(mut self, limit: Duration) -> Self {
        match &mut self.0 {
            Either::Sqlite(statement) => statement.limit = Some(limit),
            Either::Postgres(statement) => statement.limit = Some(limit),
        }
        self
    }

    /// How many rows were written.
    pub async fn execute(self) -> Result<u64, StoreError> {
        run!(self, |query, conn| query.execute(conn).await.map(|done| done.rows_affected()))
    }

    /// The only row.
    pub async fn fetch_one<R: Row>(self) -> Result<R, StoreError> {
        run!(self, |query, conn| query.fetch_one(conn).await.and_then(|row| R::from_row(&row)))
    }

    /// The row, if there is one.
    pub async fn fetch_optional<R: Row>(self) -> Result<Option<R>, StoreError> {
        run!(self, |query, conn| {
            let row = query.fetch_optional(conn).await?;
            row.as_ref().map(R::from_row).transpose()
        })
    }

    /// All rows.
    pub async fn fetch_all<R: Row>(self) -> Result<Vec<R>, StoreError> {
        run!(self, |query, conn| query.fetch_all(conn).await?.iter().map(R::from_row).collect())
    }
}

/// The rows of a `VALUES` whose own places, each written `$+`, are numbered from `first` on:
/// two rows of `($1, $+)` from 2 on are `($1, $2), ($1, $3)`.
pub fn rows(first: usize, count: usize, row: &str) -> String {
    let mut place = first;
    let mut text = String::new();
    for index in 0..count {
        if index > 0 {
            text.push_str(", ");
        }
        for (part, piece) in row.split("$+").enumerate() {
            if part > 0 {
                write!(text, "${place}").expect("a string takes what is written");
                place += 1;
            }
            text.push_str(piece);
        }
    }
    text
}

impl<'c, DB: Driver> Statement<'c, DB> {
    fn new(on: On<'c, DB>, sql: SqlStr) -> Self {
        Self { on, sql, arguments: Ok(DB::Arguments::default()), keeps_plan: true, limit: None }
    }

    fn add<'t>(&mut self, value: impl Encode<'t, DB> + Type<DB>) {
        if let Ok(arguments) = &mut self.arguments
            && let Err(error) = arguments.add(value)
        {
            self.arguments = Err(error);
        }
    }

    /// Writes out the places of a list. There are a power of two of them, so that few texts
    /// are prepared: those that are left hold nothing.
    fn add_list<'t, V>(&mut self, values: impl IntoIterator<Item = V>)
    where
        Option<V>: Encode<'t, DB> + Type<DB>,
    {
        let first = self.arguments.as_ref().map_or(0, Arguments::len) + 1;
        let mut values: Vec<Option<V>> = values.into_iter().map(Some).collect();
        values.resize_with(values.len().next_power_of_two(), || None);
        let sql = self.sql.as_str();
        let sql = write_list(sql, first, values.len()).unwrap_or_else(|| sql.to_owned());
        self.sql = AssertSqlSafe(sql).into_sql_str();
        for value in values {
            self.add(value);
        }
    }
}

/// Puts places for the list that begins with the place `first`: `IN ($2..)` becomes
/// `IN ($2, $3)`, and `VALUES ($1, $2..)` becomes `VALUES ($1, $2), ($1, $3)`.
fn write_list(sql: &str, first: usize, count: usize) -> Option<String> {
    let (before, after) = sql.split_once(&format!("${first}..)"))?;
    let (head, common) = before.rsplit_once('(')?;
    let list = if head.trim_end().ends_with("VALUES") {
        rows(first, count, &format!("({common}$+)"))
    } else {
        format!("({common}{})", rows(first, count, "$+"))
    };
    Some(format!("{head}{list}{after}"))
}

impl<'c, DB: Driver> On<'c, DB> {
    async fn hold(self) -> Result<Held<'c, DB>, StoreError> {
        Ok(match self {
            Self::Pool(pool) => Held::Lent(pool.lend().await?),
            Self::Conn(conn) => Held::Conn(conn),
        })
    }
}

impl<DB: Driver> Held<'_, DB> {
    fn lent(&mut self) -> &mut Lent<DB> {
        match self {
            Self::Lent(lent) => lent,
            Self::Conn(lent) => lent,
        }
    }
}

impl<DB: Driver> fmt::Debug for Statement<'_, DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Statement").field(&self.sql.as_str()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_number_their_own_places_and_share_the_others() {
        assert_eq!(rows(2, 2, "($1, $+)"), "($1, $2), ($1, $3)");
        assert_eq!(rows(5, 2, "($+, $1, $+)"), "($5, $1, $6), ($7, $1, $8)");
        assert_eq!(rows(1, 0, "($+)"), "");
    }

    #[test]
    fn a_list_is_written_out_in_its_place() {
        let written = |sql, first| write_list(sql, first, 2).expect("a list");
        assert_eq!(
            written("a = $1 AND b IN ($2..) LIMIT 1", 2),
            "a = $1 AND b IN ($2, $3) LIMIT 1"
        );
        assert_eq!(written("(VALUES ($1, $2..)) w", 2), "(VALUES ($1, $2), ($1, $3)) w");
        assert_eq!(write_list("a IN ($2..)", 3, 2), None);
    }
}
