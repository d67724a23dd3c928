//! The terminal on stderr, a little narrower than it is.
//!
//! The line that lives is padded to the full width. The echo of Ctrl-C would then wrap, and the line could not be taken away.

use std::io::{self, Write};

use indicatif::TermLike;
use parking_lot::Mutex;
use rustix::termios::{Winsize, tcgetwinsize};

/// What is drawn appears at once, when it is complete: the line is never seen half redrawn.
#[derive(Default, Debug)]
pub struct Margin(Mutex<String>);

/// Room for `^C`, and for one more of an impatient person.
const WIDTH: u16 = 5;
/// `COLUMNS` × `ROWS` of a terminal that does not tell.
const COLUMNS: u16 = 80;
const ROWS: u16 = 24;

/// Columns and rows.
pub fn size() -> (u16, u16) {
    match tcgetwinsize(io::stderr()) {
        Ok(Winsize { ws_col, ws_row, .. }) if ws_col > 0 && ws_row > 0 => (ws_col, ws_row),
        _ => (COLUMNS, ROWS),
    }
}

impl TermLike for Margin {
    fn width(&self) -> u16 {
        size().0.saturating_sub(WIDTH).max(1)
    }

    fn height(&self) -> u16 {
        size().1
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.move_cursor(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.move_cursor(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.move_cursor(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.move_cursor(n, 'D')
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.write_str(&format!("{text}\n"))
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.0.lock().push_str(text);
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        self.write_str("\r\x1b[2K")
    }

    fn flush(&self) -> io::Result<()> {
        io::stderr().lock().write_all(std::mem::take(&mut *self.0.lock()).as_bytes())
    }
}

impl Margin {
    /// ECMA-48 §8.3.22 and its siblings, where 0 would mean 1.
    fn move_cursor(&self, n: usize, direction: char) -> io::Result<()> {
        if n == 0 { Ok(()) } else { self.write_str(&format!("\x1b[{n}{direction}")) }
    }
}
