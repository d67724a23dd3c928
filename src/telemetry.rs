//! The log: what is written, how, and what of a panic.

#[cfg(feature = "otlp")]
mod otlp;
mod pipe;

use std::any::Any;
use std::io::{self, IsTerminal};
use std::panic::{self, PanicHookInfo};
use std::time::Duration;

use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt, registry};

use self::pipe::Pipe;
pub use self::pipe::lines_dropped;

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Format {
    /// For people
    Pretty,
    /// One object a line
    Json,
}

/// What is on its way out. Dropped at the end of the process it gives that one second to arrive.
#[must_use]
pub struct Telemetry {
    log: Pipe,
    #[cfg(feature = "otlp")]
    traces: Option<otlp::Traces>,
}

#[derive(Debug, thiserror::Error)]
pub enum InitError {
    #[error(transparent)]
    Filter(#[from] ParseError),
    #[error("the log needs a thread: {0}")]
    Thread(#[from] io::Error),
    #[cfg(feature = "otlp")]
    #[error("OTEL_EXPORTER_OTLP_ENDPOINT: no traces can be sent there: {0}")]
    Traces(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// Target of the log that says who did what: no codes, no tokens, and of the session's id, which is itself a capability, only a
/// digest.
pub const AUDIT: &str = "audit";
/// Target of the exchanges with providers.
pub const EXCHANGE: &str = "exchange";
/// Target of what happens to supervised tasks.
pub const SUPERVISION: &str = "supervision";

const LAST_LINES: Duration = Duration::from_millis(250);
#[cfg(feature = "otlp")]
const LAST_SPANS: Duration = Duration::from_millis(750);

/// Starts the log on stderr and sends panics there. Once in the life of a process; a second call changes nothing. Before the
/// tokio runtime: the exporter of traces has an HTTP client that blocks.
///
/// # Errors
/// See [`InitError`].
pub fn init(format: Format, filter_text: &str) -> Result<Telemetry, InitError> {
    let log = Pipe::to(io::stderr())?;
    let lines = fmt::layer()
        .with_writer(log.clone())
        .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        // Its own complaint goes to stderr by a macro that panics when stderr is closed.
        .log_internal_errors(false);
    let lines = match format {
        Format::Pretty => lines.compact().boxed(),
        Format::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
    };
    let subscriber = registry().with(lines.with_filter(filter(filter_text)?));

    #[cfg(feature = "otlp")]
    let traces = otlp::Traces::from_environment()?;
    #[cfg(feature = "otlp")]
    let subscriber = subscriber.with(traces.clone().map(|traces| traces.with_filter(otlp::Traces::targets())));

    if subscriber.try_init().is_ok() {
        panic::set_hook(Box::new(log_panic));
    }
    Ok(Telemetry {
        log,
        #[cfg(feature = "otlp")]
        traces,
    })
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        #[cfg(feature = "otlp")]
        if let Some(traces) = &self.traces {
            traces.flush(LAST_SPANS);
        }
        self.log.flush(LAST_LINES);
    }
}

/// The resolver of names repeats what it thinks of `resolv.conf` with each reading, and what came over the network: it is heard
/// where it is asked for by name.
///
/// # Errors
/// The text is no filter.
pub fn filter(text: &str) -> Result<EnvFilter, ParseError> {
    let filter = EnvFilter::try_new(text)?;
    if text.contains("hickory") {
        return Ok(filter);
    }
    ["hickory_resolver=off", "hickory_net=off"].into_iter().try_fold(filter, |filter, quiet| Ok(filter.add_directive(quiet.parse()?)))
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
