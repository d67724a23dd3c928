//! The last guard. A task that never comes to an await point keeps a thread of the runtime; once such tasks keep all of them, nothing
//! runs any more, not even the watchdog, and only a thread of our own can end the process.

use std::io;
use std::thread;
use std::time::Duration;

use tracing::error;

use crate::watchdog::Rounds;

/// So many slices without a round of the watchdog. They are slices of our own running time: a pause of the process ends one of them.
const SLICES: u32 = 60;
/// For the last line of the log, which somebody else writes.
const LAST_LINE: Duration = Duration::from_millis(500);

/// Ends the process with `status` when the watchdog makes no round for 60 slices.
///
/// # Errors
/// The operating system gives no thread.
pub fn guard(rounds: Rounds, slice: Duration, status: u8) -> io::Result<()> {
    thread::Builder::new().name("lockup".to_owned()).spawn(move || {
        let (mut seen, mut left) = (rounds.count(), SLICES);
        while left > 0 {
            thread::sleep(slice);
            left -= 1;
            let count = rounds.count();
            if count != seen {
                (seen, left) = (count, SLICES);
            }
        }
        error!("nothing runs any more, as tasks that never wait keep every thread; start the service again");
        thread::sleep(LAST_LINE);
        std::process::exit(status.into())
    })?;
    Ok(())
}
