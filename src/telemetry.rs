//! The log: what is written, how, and what of a panic.

use std::any::Any;
use std::io::{self, IsTerminal};
use std::panic::{self, PanicHookInfo};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Format {
    /// For people
    Pretty,
    /// One object a line
    Json,
}

/// Starts the log on stderr and sends panics there. Once in the life of a process; a second call changes nothing.
///
/// # Errors
/// The filter cannot be read.
pub fn init(format: Format, filter_text: &str) -> Result<(), ParseError> {
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter(filter_text)?)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        // Its own complaint goes to stderr by a macro that panics when stderr is closed.
        .log_internal_errors(false);
    let result = match format {
        Format::Pretty => subscriber.compact().try_init(),
        Format::Json => subscriber.json().flatten_event(true).try_init(),
    };
    if result.is_ok() {
        panic::set_hook(Box::new(log_panic));
    }
    Ok(())
}

/// # Errors
/// The text is no filter.
pub fn filter(text: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::try_new(text)
}

/// A panic hook: one error line that says where. The message is only repeated if it is part of the program; one that was
/// formatted may carry a secret.
pub fn log_panic(info: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    tracing::error!(
        location = info.location().map(tracing::field::display),
        thread = thread.name(),
        task = tokio::task::try_id().map(tracing::field::display),
        "panicked: {}",
        message(info.payload()),
    );
}

fn message(payload: &(dyn Any + Send)) -> &'static str {
    payload.downcast_ref::<&'static str>().copied().unwrap_or("(the message may be secret)")
}
