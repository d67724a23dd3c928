//! The picture for a person at a terminal, and the one line in it that lives.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::margin::{self, Margin};
use super::{Drawing, Event, minutes_and_seconds, qr};
use crate::clock::Clock;
use crate::kernel::time::Timestamp;
use crate::login::ending::Ending;
use crate::login::session::Prompt;

pub struct Terminal {
    with_qr: bool,
    clock: Arc<dyn Clock>,
    waiting: Option<ProgressBar>,
    provider_reachable: bool,
}

/// Black on white from the fixed part of the palette: no theme changes these, so that the code is the same on dark and on light.
const PAPER: &str = "\x1b[38;5;16;48;5;231m";
const BOLD: &str = "\x1b[1m";
const PLAIN: &str = "\x1b[0m";
/// What stands around the QR code.
const OTHER_ROWS: usize = 10;
const INDENT: usize = 2;
const TICK: Duration = Duration::from_millis(100);

impl Terminal {
    pub fn new(with_qr: bool, clock: Arc<dyn Clock>) -> Self {
        Self { with_qr, clock, waiting: None, provider_reachable: true }
    }

    fn qr(&self, prompt: &Prompt) -> Option<Vec<String>> {
        if !self.with_qr {
            return None;
        }
        let (columns, rows) = margin::size();
        let (columns, rows) = (usize::from(columns).saturating_sub(INDENT), usize::from(rows).saturating_sub(OTHER_ROWS));
        qr::draw(prompt.link.as_str(), columns, rows)
    }

    fn picture(&self, prompt: &Prompt) -> String {
        let Prompt { provider, user_code, verification_uri, .. } = prompt;
        let mut text =
            format!("\n  Sign in with {BOLD}{provider}{PLAIN}\n\n  Open   {verification_uri}\n  Enter  {BOLD}{user_code}{PLAIN}\n\n");
        if let Some(lines) = self.qr(prompt) {
            for line in lines {
                _ = writeln!(text, "  {PAPER}{line}{PLAIN}");
            }
            text.push('\n');
        }
        text.push_str("  Only if you began this sign-in yourself. Ctrl-C cancels it.\n\n");
        text
    }

    /// One thread of indicatif redraws the line, so that the countdown goes on whatever the conversation does.
    fn wait_until(&mut self, expires_at: Timestamp) {
        let clock = Arc::clone(&self.clock);
        let left = move |_: &ProgressState, line: &mut dyn std::fmt::Write| {
            _ = line.write_str(&minutes_and_seconds(expires_at.since(clock.now())));
        };
        let style = ProgressStyle::with_template("{spinner:.cyan} {left}  {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner())
            .with_key("left", left);
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::term_like(Box::new(Margin::default()))).with_style(style);
        bar.set_message(self.waiting_for());
        bar.enable_steady_tick(TICK);
        self.clear();
        self.waiting = Some(bar);
    }

    fn waiting_for(&self) -> &'static str {
        if self.provider_reachable { "Waiting for you ..." } else { "The provider cannot be reached at the moment; still trying ..." }
    }

    fn status(&self, text: impl Into<Cow<'static, str>>) {
        if let Some(bar) = &self.waiting {
            bar.set_message(text);
        }
    }

    fn clear(&mut self) {
        if let Some(bar) = self.waiting.take() {
            bar.finish_and_clear();
        }
    }

    fn line(&self, text: &str) {
        match &self.waiting {
            Some(bar) => bar.suspend(|| write(&format!("{text}\n"))),
            None => write(&format!("{text}\n")),
        }
    }
}

impl Drawing for Terminal {
    fn draw(&mut self, event: Event<'_>) {
        match event {
            Event::Prompt(prompt) => {
                self.clear();
                write(&self.picture(prompt));
                self.wait_until(prompt.expires_at);
            }
            Event::Waiting { provider_reachable } => {
                self.provider_reachable = provider_reachable;
                self.status(self.waiting_for());
            }
            Event::Away(why) if self.waiting.is_some() => self.status(format!("{}; still trying ...", capitalised(why))),
            Event::Away(why) => self.line(&format!("{}; still trying ...", capitalised(why))),
            Event::Back => self.status(self.waiting_for()),
            Event::NoBrowser => self.line("  No browser could be opened here: open the address yourself."),
            Event::Authorized => self.status("Fetching the tokens ..."),
            Event::Ended(ending) => {
                self.clear();
                let mark = if *ending == Ending::SignedIn { '✓' } else { '✗' };
                write(&format!("{mark} {ending}\n"));
            }
        }
    }
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

fn write(text: &str) {
    _ = io::stderr().lock().write_all(text.as_bytes());
}
