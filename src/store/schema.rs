//! The schema and its history, the same numbers and names for every database.

use std::borrow::Cow;

use sqlx::SqlSafeStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};

use super::OpenError;
use super::row::columns;

/// Number, name and SQL of each migration, in order.
pub type Scripts = [(i64, &'static str, &'static str)];

pub fn migrator(scripts: &Scripts) -> Migrator {
    let migration = |&(number, name, sql): &_| {
        Migration::new(number, Cow::Borrowed(name), MigrationType::Simple, <&'static str>::into_sql_str(sql), false)
    };
    Migrator::with_migrations(scripts.iter().map(migration).collect())
}

/// # Errors
/// A newer Anteroom has migrated the database; this one does not know what its columns mean.
pub fn refuse_newer(scripts: &Scripts, applied: Option<i64>, database: &str) -> Result<(), OpenError> {
    let known = scripts.last().map_or(0, |(number, ..)| *number);
    match applied {
        Some(applied) if applied > known => Err(OpenError::new(format!(
            "store.url: {database} was written by a newer Anteroom (schema {applied}, this one knows up to {known}); run that version or a later one"
        ))),
        _ => Ok(()),
    }
}

/// Counts a start and tells its number; before anything is read or written.
pub const COUNT_START: &str = "UPDATE starts SET number = number + 1 RETURNING number";
/// The first schema in which starts are counted.
const STARTS: i64 = 3;

/// Reads all rows of a database that is at the migration `applied`; `none` is what stands for the epoch of those that have none.
pub fn every_row(applied: Option<i64>, none: &str) -> String {
    const COLUMNS: &str = columns!();
    match applied {
        Some(applied) if applied >= STARTS => format!("SELECT {COLUMNS} FROM sessions"),
        _ => format!("SELECT {} FROM sessions", COLUMNS.replace("epoch", &format!("{none} AS epoch"))),
    }
}
