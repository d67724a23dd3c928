//! The schema and its history, the same numbers and names for every database.

use std::borrow::Cow;

use sqlx::SqlSafeStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};

use super::OpenError;

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
