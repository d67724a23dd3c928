//! What others wrote, made fit for a terminal: nothing in it can move the cursor, colour, hide or turn around anything.

/// One line of at most `limit` characters, with U+FFFD in place of what must not reach a terminal.
pub fn printable(text: &str, limit: usize) -> String {
    let mut clean: String = text.chars().take(limit).map(|c| if is_hidden(c) { char::REPLACEMENT_CHARACTER } else { c }).collect();
    if text.chars().nth(limit).is_some() {
        clean.push('…');
    }
    clean
}

/// The same JSON, in one line, with what must not reach a terminal as `\u` escapes. `json` must be valid.
pub fn printable_json(json: &str) -> String {
    let mut clean = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            // Valid JSON has these only between its tokens.
            '\t' | '\n' | '\r' => clean.push(' '),
            c if is_hidden(c) => clean.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}"))),
            c => clean.push(c),
        }
    }
    clean
}

/// Control characters, and marks that change the direction or the joining of the text around them.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_gets_through() {
        let hostile = "\u{1b}]0;owned\u{7}\u{1b}[2J\r\n\u{9b}31m\u{7f}\u{202e}gnp.exe\u{0}ü字";
        assert_eq!(printable(hostile, 99), "�]0;owned��[2J���31m��gnp.exe�ü字");
        assert_eq!(printable("12345", 5), "12345");
        assert_eq!(printable("123456", 5), "12345…");
    }

    #[test]
    fn json_keeps_its_meaning() {
        let json = "{\n\t\"n\": 123456789012345678901234567890,\r\n \"t\": \"\\u001b[0m\u{9b}\u{7f}\u{202e}\u{e0041}ü字😀\"}";
        let clean = printable_json(json);
        assert_eq!(clean, "{  \"n\": 123456789012345678901234567890,   \"t\": \"\\u001b[0m\\u009b\\u007f\\u202e\\udb40\\udc41ü字😀\"}");
        let before: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&clean).unwrap(), before);
    }
}
