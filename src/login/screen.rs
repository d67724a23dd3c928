//! What the person, or the script, sees on stderr while the sign-in goes on.

mod json;
mod lines;
mod margin;
mod qr;
mod terminal;

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::Duration;

use super::ending::Ending;
use super::session::Prompt;
use crate::clock::Clock;

/// Says what is new, in the manner that suits the audience.
pub struct Screen {
    drawing: Box<dyn Drawing>,
    is_away: bool,
    provider_reachable: Option<bool>,
}

/// Every text in it may be printed.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    Prompt(&'a Prompt),
    /// For the person.
    Waiting {
        provider_reachable: bool,
    },
    /// The service does not answer, for this reason.
    Away(&'a str),
    /// The service answers.
    Back,
    NoBrowser,
    Authorized,
    Ended(&'a Ending),
}

/// It never decides anything, and never fails: a sign-in outlives its audience.
trait Drawing: Send {
    fn draw(&mut self, event: Event<'_>);
}

impl Screen {
    /// A picture for people at a terminal, lines for a log, JSON for a script.
    pub fn choose(json: bool, with_qr: bool, clock: Arc<dyn Clock>) -> Self {
        let is_terminal = io::stderr().is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        let drawing: Box<dyn Drawing> = match (json, is_terminal) {
            (true, _) => Box::new(json::Json),
            (false, true) => Box::new(terminal::Terminal::new(with_qr, clock)),
            (false, false) => Box::new(lines::Lines::new(clock)),
        };
        Self { drawing, is_away: false, provider_reachable: None }
    }

    /// Of what lasts, only the beginning and the end are shown.
    pub fn show(&mut self, event: Event<'_>) {
        let is_news = match event {
            Event::Waiting { provider_reachable } => self.provider_reachable.replace(provider_reachable) != Some(provider_reachable),
            Event::Away(_) => !std::mem::replace(&mut self.is_away, true),
            Event::Back => std::mem::take(&mut self.is_away),
            _ => true,
        };
        if is_news {
            self.drawing.draw(event);
        }
    }
}

/// `9:05`, or `1:00:00`.
fn minutes_and_seconds(left: Duration) -> String {
    let (hours, minutes, seconds) = (left.as_secs() / 3600, left.as_secs() / 60 % 60, left.as_secs() % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_reads_like_a_clock() {
        let text = |seconds| minutes_and_seconds(Duration::from_secs(seconds));
        assert_eq!([text(0), text(65), text(599), text(3600), text(u64::MAX)].map(|text| text.len()), [4, 4, 4, 7, 22]);
        assert_eq!(text(545), "9:05");
        assert_eq!(text(3725), "1:02:05");
    }
}
