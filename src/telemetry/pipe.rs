//! The way of the log to stderr. Whoever reads there may be slow, stuck or gone: nobody waits, and what finds no room is counted.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tracing_subscriber::fmt::MakeWriter;

/// Where log lines are put; a thread takes them from there to stderr.
#[derive(Clone)]
pub struct Pipe(Arc<Shared>);

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
    emptied: Condvar,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    /// Some lines have been taken out and are not yet written.
    is_writing: bool,
}

/// What waits at most: some megabytes.
const LINES: usize = 8192;

/// How long lines gather after a write, so that a busy service does not wake this thread for each.
const PAUSE: Duration = Duration::from_millis(5);

static DROPPED: AtomicU64 = AtomicU64::new(0);

/// How many lines found no room or no reader, since the process began.
pub fn lines_dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

impl Pipe {
    /// # Errors
    /// The operating system gives no thread.
    pub fn to(output: impl Write + Send + 'static) -> io::Result<Self> {
        let pipe = Self(Arc::default());
        let shared = Arc::clone(&pipe.0);
        thread::Builder::new().name("log".to_owned()).spawn(move || shared.empty_into(output))?;
        Ok(pipe)
    }

    /// Waits until everything is written, for `patience` at most.
    pub fn flush(&self, patience: Duration) {
        let mut queue = self.0.queue.lock();
        self.0.emptied.wait_while_for(&mut queue, |queue| queue.is_writing || !queue.lines.is_empty(), patience);
    }
}

impl Shared {
    fn empty_into(&self, mut output: impl Write) {
        loop {
            let mut queue = self.queue.lock();
            self.filled.wait_while(&mut queue, |queue| queue.lines.is_empty());
            let lines = std::mem::take(&mut queue.lines);
            queue.is_writing = true;
            drop(queue);
            let number = lines.len() as u64;
            if output.write_all(&Vec::from(lines).concat()).is_err() {
                DROPPED.fetch_add(number, Ordering::Relaxed);
            }
            self.queue.lock().is_writing = false;
            self.emptied.notify_all();
            thread::sleep(PAUSE);
        }
    }
}

/// One line for each call of `write_all`, which is how tracing-subscriber writes.
impl Write for Pipe {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut queue = self.0.queue.lock();
        if queue.lines.len() < LINES {
            queue.lines.push_back(line.to_vec());
            self.0.filled.notify_one();
        } else {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Pipe {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
