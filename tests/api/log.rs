//! What the log says of a request, whatever happens to it.

use std::io::{self, Write};
use std::panic;
use std::sync::Arc;

use anteroom::http::name_panics;
use parking_lot::Mutex;

use crate::service::{Service, Setup};

/// A writer into memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_panic_is_logged_with_the_request_that_only_reads() {
    let tell = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        tracing::error!("panicked");
        tell(info);
    }));
    name_panics();
    let (log, service) = (Log::default(), Service::start(Setup { restarts: Some(Arc::new(|_| panic!("a bug"))), ..Setup::default() }));
    let session = service.pending().await;
    let writer = log.clone();
    let logged = tracing::subscriber::set_default(tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish());
    let answer = service.get_with(&session.path(), &[("x-request-id", "the-read")]).await;
    drop(logged);
    answer.is_problem(500, "internal_error");
    assert_eq!(answer.header("x-request-id"), Some("the-read"));

    let text = String::from_utf8(log.0.lock().clone()).unwrap();
    let line = text.lines().find(|line| line.contains("panicked")).unwrap_or_else(|| panic!("no line of it: {text}"));
    assert!(line.contains(r#"request{method=GET route="/sessions/{id}" request_id="the-read"}"#), "{line}");
    assert!(!text.contains(&session.id), "{text}");
}
