//! Plain lines, for a log or a terminal that can do no more.

use std::io::{self, Write};
use std::sync::Arc;

use super::{Drawing, Event, minutes_and_seconds};
use crate::clock::Clock;

pub struct Lines {
    clock: Arc<dyn Clock>,
    provider_was_away: bool,
}

impl Lines {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, provider_was_away: false }
    }
}

impl Drawing for Lines {
    fn draw(&mut self, event: Event<'_>) {
        match event {
            Event::Prompt(prompt) => {
                say(&format!("To sign in with {}, open {}", prompt.provider, prompt.verification_uri));
                say(&format!("and enter the code {}", prompt.user_code));
                if let Some(complete) = &prompt.verification_uri_complete {
                    say(&format!("or open {complete}"));
                }
                let left = minutes_and_seconds(prompt.expires_at.since(self.clock.now()));
                say(&format!("Only if you began this sign-in yourself. The code expires in {left}. Waiting ..."));
            }
            Event::Waiting { provider_reachable: false } => {
                self.provider_was_away = true;
                say("The provider cannot be reached at the moment; still trying ...");
            }
            Event::Waiting { provider_reachable: true } if self.provider_was_away => say("The provider can be reached again."),
            Event::Waiting { .. } | Event::Authorized => {}
            Event::Away(why) => say(&format!("No luck at the moment: {why}. Still trying ...")),
            Event::Back => say("The service answers again."),
            Event::NoBrowser => say("No browser could be opened here: open the address yourself."),
            Event::Ended(ending) => say(&ending.to_string()),
        }
    }
}

fn say(line: &str) {
    _ = writeln!(io::stderr().lock(), "{line}");
}
