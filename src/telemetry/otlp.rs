//! Traces of sign-ins, over OTLP to a collector. What the log says of a session is what its trace is made of, so a trace can
//! hold nothing that the log may not.
//!
//! A session has one trace whatever happens to the process: its id is the digest by which the log calls the session, and the id
//! of its root span is the first half of that. The root is sent when the sign-in ends.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{ExporterBuildError, OTEL_EXPORTER_OTLP_ENDPOINT, SpanExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, Layer};

use super::{AUDIT, EXCHANGE, SUPERVISION};
use crate::clock::{Clock, SystemClock};

#[derive(Clone)]
pub struct Traces {
    processor: Arc<BatchSpanProcessor>,
    clock: Arc<dyn Clock>,
}

/// What one event says.
#[derive(Default)]
struct Said {
    session: Option<TraceId>,
    name: String,
    /// An exchange took this long.
    took: Option<Duration>,
    /// The sign-in is over and lasted this long.
    lasted: Option<Duration>,
    attributes: Vec<KeyValue>,
}

impl Traces {
    /// None unless OTEL_EXPORTER_OTLP_ENDPOINT names a collector. The other variables of the standard count as well.
    ///
    /// # Errors
    /// A variable cannot be understood, or there can be no HTTP client.
    pub fn from_environment() -> Result<Option<Self>, ExporterBuildError> {
        if std::env::var_os(OTEL_EXPORTER_OTLP_ENDPOINT).is_none_or(|endpoint| endpoint.is_empty()) {
            return Ok(None);
        }
        let mut processor = BatchSpanProcessor::builder(SpanExporter::builder().with_http().build()?).build();
        processor.set_resource(&Resource::builder().with_service_name("anteroom").build());
        Ok(Some(Self { processor: Arc::new(processor), clock: SystemClock::start() }))
    }

    /// The events that traces are made of, whatever of them is logged.
    pub fn targets() -> Targets {
        Targets::new().with_targets([AUDIT, EXCHANGE, SUPERVISION].map(|target| (target, LevelFilter::DEBUG)))
    }

    /// Sends what is left, for `patience` at most.
    pub fn flush(&self, patience: Duration) {
        // It says in the log what goes wrong.
        let _ = self.processor.shutdown_with_timeout(patience);
    }

    fn send(&self, said: &Said, trace: TraceId, is_root: bool, lasted: Duration) {
        let root = root_of(trace);
        let (span, parent) = if is_root { (root, SpanId::INVALID) } else { (random(), root) };
        let now = UNIX_EPOCH + Duration::from_millis(self.clock.wall().as_millis());
        self.processor.on_end(SpanData {
            span_context: SpanContext::new(trace, span, TraceFlags::SAMPLED, false, TraceState::NONE),
            parent_span_id: parent,
            parent_span_is_remote: false,
            span_kind: if said.took.is_some() { SpanKind::Client } else { SpanKind::Internal },
            name: if is_root { "sign-in".into() } else { said.name.clone().into() },
            start_time: now.checked_sub(lasted).unwrap_or(SystemTime::UNIX_EPOCH),
            end_time: now,
            attributes: said.attributes.clone(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: InstrumentationScope::builder("anteroom").with_version(env!("CARGO_PKG_VERSION")).build(),
        });
    }
}

impl<S: Subscriber> Layer<S> for Traces {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut said = Said::default();
        event.record(&mut said);
        let Some(trace) = said.session else { return };
        self.send(&said, trace, false, said.took.unwrap_or_default());
        if let Some(lasted) = said.lasted {
            self.send(&said, trace, true, lasted);
        }
    }
}

impl Visit for Said {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "session" => self.session = TraceId::from_hex(value).ok().filter(|trace| *trace != TraceId::INVALID),
            name => {
                if matches!(name, "event" | "errand") {
                    value.clone_into(&mut self.name);
                }
                self.attributes.push(KeyValue::new(name, value.to_owned()));
            }
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "took_ms" => self.took = Some(Duration::from_millis(value)),
            "lasted_ms" => self.lasted = Some(Duration::from_millis(value)),
            name => self.attributes.push(KeyValue::new(name, i64::try_from(value).unwrap_or(i64::MAX))),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.name = format!("{value:?}");
        }
    }
}

fn root_of(trace: TraceId) -> SpanId {
    let [a, b, c, d, e, f, g, h, ..] = trace.to_bytes();
    SpanId::from_bytes([a, b, c, d, e, f, g, h])
}

fn random() -> SpanId {
    let mut bytes = [0; 8];
    // Without randomness the span has no valid id, and is not sent.
    let _ = getrandom::fill(&mut bytes);
    SpanId::from_bytes(bytes)
}
