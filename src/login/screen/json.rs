//! One JSON object a line, for scripts: the member `event` says which.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::{Drawing, Event};
use crate::login::ending::Ending;
use crate::login::text::printable_json;

pub struct Json;

impl Drawing for Json {
    fn draw(&mut self, event: Event<'_>) {
        write(&match event {
            Event::Prompt(prompt) => json!({
                "event": "code",
                "id": prompt.id,
                "provider": prompt.provider,
                "user_code": prompt.user_code,
                "verification_uri": prompt.verification_uri,
                "verification_uri_complete": prompt.verification_uri_complete,
                "expires_at": prompt.expiry,
            }),
            Event::Waiting { provider_reachable } => {
                json!({"event": "status", "status": "pending", "provider_reachable": provider_reachable})
            }
            Event::Away(why) => json!({"event": "service", "reachable": false, "detail": why}),
            Event::Back => json!({"event": "service", "reachable": true}),
            Event::NoBrowser => json!({"event": "browser", "opened": false}),
            Event::Authorized => json!({"event": "status", "status": "authorized"}),
            Event::Ended(ending) => {
                let is_signed_in = *ending == Ending::SignedIn;
                json!({"event": "end", "signed_in": is_signed_in, "reason": ending.code(), "detail": ending.to_string()})
            }
        });
    }
}

fn write(line: &Value) {
    _ = writeln!(io::stderr().lock(), "{}", printable_json(&line.to_string()));
}
