//! What an answer's body says, whatever its content type claims: the members of a JSON object or of a form.

use core::time::Duration;

use serde_json::{Map, Value};
use url::form_urlencoded;

/// The members of a body. Of a name that occurs twice, the last counts.
pub struct Body(Map<String, Value>);

/// What a member says about a time.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Number {
    /// Not there, or null.
    Absent,
    /// There, and no number.
    Unreadable,
    Seconds(f64),
}

impl Body {
    /// A JSON object if the first byte says so, otherwise a form; absent if it is neither. A byte order mark, the charset and
    /// bytes that are no UTF-8 do not matter.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(bytes);
        let text = text.trim_start_matches('\u{feff}').trim();
        if text.starts_with('{') {
            return serde_json::from_str(text).or_else(|_| serde_json::from_str(&mended(text))).ok().map(Self);
        }
        // A web page may well contain `&error=…`; a form has none of the characters that every page has.
        let is_form = text.contains('=') && text.bytes().all(|byte| byte.is_ascii_graphic() && !br#"<>"\{}|^`"#.contains(&byte));
        is_form.then(|| {
            let pairs = form_urlencoded::parse(text.as_bytes());
            Self(pairs.map(|(name, value)| (name.into_owned(), Value::String(value.into_owned()))).collect())
        })
    }

    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// The member if it is a string that says something.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str().filter(|text| !text.is_empty())
    }

    /// As [`Body::text`], without a copy.
    pub fn take_text(&mut self, name: &str) -> Option<String> {
        match self.0.get_mut(name).map(Value::take) {
            Some(Value::String(text)) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    /// The strings of an array; absent if there is no array.
    pub fn list(&self, name: &str) -> Option<Vec<&str>> {
        Some(self.get(name)?.as_array()?.iter().filter_map(Value::as_str).collect())
    }

    /// A number of seconds: integer, fraction, or a string that holds one.
    pub fn number(&self, name: &str) -> Number {
        let seconds = match self.get(name) {
            None | Some(Value::Null) => return Number::Absent,
            Some(Value::Number(number)) => number.as_f64(),
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(_) => None,
        };
        seconds.filter(|seconds| seconds.is_finite()).map_or(Number::Unreadable, Number::Seconds)
    }

    /// RFC 8628 §3.2, §3.5 `interval`, rounded up. Absent when it names no time that one could wait.
    pub fn interval(&self) -> Option<Duration> {
        match self.number("interval") {
            Number::Seconds(seconds) if seconds > 0.0 => Some(whole_seconds(seconds.ceil())),
            _ => None,
        }
    }
}

/// Without what JSON does not allow in a string but some write into it: halves of surrogate pairs, and control characters as they are.
fn mended(text: &str) -> String {
    let unit = |text: &str| u16::from_str_radix(text.strip_prefix('u')?.get(..4)?, 16).ok();
    let mut mended = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        mended.push_str(before);
        let low = || unit(after.get(5..)?.strip_prefix('\\')?);
        let length = match unit(after) {
            Some(0xd800..=0xdbff) if matches!(low(), Some(0xdc00..=0xdfff)) => 11,
            Some(0xd800..=0xdfff) => {
                mended.push(char::REPLACEMENT_CHARACTER);
                rest = after.get(5..).unwrap_or_default();
                continue;
            }
            _ => after.chars().next().map_or(0, char::len_utf8),
        };
        let (escape, behind) = after.split_at_checked(length).unwrap_or((after, ""));
        mended.push('\\');
        mended.push_str(escape);
        rest = behind;
    }
    mended.push_str(rest);
    mended.replace(|character: char| character.is_ascii_control(), " ")
}

/// Saturates at both ends.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast from a float saturates, which is what is wanted")]
pub fn whole_seconds(seconds: f64) -> Duration {
    Duration::from_secs(seconds as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &str) -> Body {
        Body::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_first_byte_decides_what_a_body_is() {
        assert_eq!(body(r#"{"error":"a"}"#).text("error"), Some("a"));
        assert_eq!(body("\u{feff} \r\n{\"error\":\"a\"}\n").text("error"), Some("a"));
        assert_eq!(body("error=a%20b+c&interval=5\n").text("error"), Some("a b c"));
    }

    #[test]
    fn what_is_neither_object_nor_form_says_nothing() {
        for text in ["", " ", "[]", "\"error\"", "{", "{]", "Too many requests", "<a href=\"?a=1&error=access_denied\">", "error", "null"] {
            assert!(Body::parse(text.as_bytes()).is_none(), "{text}");
        }
        assert!(Body::parse(&[b'{'; 100_000]).is_none());
        assert!(Body::parse(&b"{\"a\":".repeat(10_000)).is_none());
    }

    #[test]
    fn a_foreign_charset_does_not_hide_the_members() {
        let latin_1 = b"{\"error\":\"access_denied\",\"error_description\":\"refus\xe9\"}";
        assert_eq!(Body::parse(latin_1).unwrap().text("error"), Some("access_denied"));
    }

    #[test]
    fn text_that_is_no_json_does_not_hide_the_members() {
        for text in
            [r"\ud83d", r"\ud83d x", r"\ude00\ud83d", r"\ud83d\n", r"\ud83d\ud83d\ude00", "a\nb", "a\r\n\tb\u{0}", r"\\\ud83d", r"\ud83d\\"]
        {
            let object = format!(r#"{{"error_description":"{text}","error":"slow_down","name":"\ud83d\ude00"}}"#);
            let read = Body::parse(object.as_bytes()).unwrap_or_else(|| panic!("{object}"));
            assert_eq!((read.text("error"), read.text("name")), (Some("slow_down"), Some("😀")), "{object}");
        }
        assert!(Body::parse(br#"{"error":"a\"#).is_none());
    }

    #[test]
    fn the_last_of_two_members_counts() {
        assert_eq!(body(r#"{"error":"a","error":"b"}"#).text("error"), Some("b"));
        assert_eq!(body("error=a&error=b").text("error"), Some("b"));
    }

    #[test]
    fn an_interval_is_read_from_whatever_it_is_written_as() {
        let cases = [
            (r#"{"interval":5}"#, Some(5)),
            (r#"{"interval":5.0}"#, Some(5)),
            (r#"{"interval":0.5}"#, Some(1)),
            (r#"{"interval":5.2}"#, Some(6)),
            (r#"{"interval":"5"}"#, Some(5)),
            (r#"{"interval":" 7.5 "}"#, Some(8)),
            (r#"{"interval":1000000000}"#, Some(1_000_000_000)),
            (r#"{"interval":18446744073709551615}"#, Some(u64::MAX)),
            (r#"{"interval":1e300}"#, Some(u64::MAX)),
            (r#"{"interval":0}"#, None),
            (r#"{"interval":-5}"#, None),
            (r#"{"interval":"-1"}"#, None),
            (r#"{"interval":null}"#, None),
            (r#"{"interval":""}"#, None),
            (r#"{"interval":"soon"}"#, None),
            (r#"{"interval":"NaN"}"#, None),
            (r#"{"interval":"inf"}"#, None),
            (r#"{"interval":[5]}"#, None),
            (r#"{"interval":true}"#, None),
            (r#"{}"#, None),
            ("interval=5", Some(5)),
            ("interval=&a=b", None),
        ];
        for (text, seconds) in cases {
            assert_eq!(body(text).interval(), seconds.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn a_number_that_is_absent_differs_from_one_that_is_unreadable() {
        assert_eq!(body(r#"{"expires_in":null}"#).number("expires_in"), Number::Absent);
        assert_eq!(body(r#"{"a":1}"#).number("expires_in"), Number::Absent);
        assert_eq!(body(r#"{"expires_in":{}}"#).number("expires_in"), Number::Unreadable);
        assert_eq!(body(r#"{"expires_in":"899"}"#).number("expires_in"), Number::Seconds(899.0));
    }
}
