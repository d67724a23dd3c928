//! Which URIs may be asked, and which may be shown to people.

use reqwest::Url;
use url::Host;

const MAX_BYTES: usize = 2048;

/// True where secrets may be sent: `https`, or `http` to this machine. `allow_http` lifts that for networks that are trusted.
pub fn is_secure(url: &Url, allow_http: bool) -> bool {
    match url.scheme() {
        "https" => true,
        "http" => allow_http || is_loopback(url),
        _ => false,
    }
}

/// An endpoint as a metadata document names it (RFC 8414 §2); absent if it must not be asked.
pub fn endpoint(text: &str, allow_http: bool) -> Option<Url> {
    harmless(text, allow_http).filter(|url| url.fragment().is_none())
}

/// A URI for a person to open (RFC 8628 §3.2), serialised anew; absent if it must not be shown: another scheme, a user name,
/// control characters, more than 2048 bytes.
pub fn for_people(text: &str, allow_http: bool) -> Option<String> {
    harmless(text, allow_http).map(String::from).filter(|text| text.len() <= MAX_BYTES)
}

fn harmless(text: &str, allow_http: bool) -> Option<Url> {
    // The parser drops tabs and line breaks wherever they are, so what it returns would look clean.
    if text.len() > MAX_BYTES || text.chars().any(char::is_control) {
        return None;
    }
    let url = Url::parse(text).ok()?;
    let has_user = !url.username().is_empty() || url.password().is_some();
    (is_secure(&url, allow_http) && !has_user).then_some(url)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_for_people_is_https_and_serialised_anew() {
        let cases = [
            ("https://example.com/device", "https://example.com/device"),
            ("https://EXAMPLE.com", "https://example.com/"),
            ("https://example.com/device?user_code=WDJB-MJHT", "https://example.com/device?user_code=WDJB-MJHT"),
            ("https://example.com/\"><script>", "https://example.com/%22%3E%3Cscript%3E"),
            ("https://b\u{fc}cher.example/", "https://xn--bcher-kva.example/"),
            ("https://example.com/\u{202e}moc", "https://example.com/%E2%80%AEmoc"),
            ("http://127.0.0.1:9000/device", "http://127.0.0.1:9000/device"),
            ("http://[::1]/device", "http://[::1]/device"),
            ("http://localhost/device", "http://localhost/device"),
        ];
        for (text, shown) in cases {
            assert_eq!(for_people(text, false).as_deref(), Some(shown));
        }
    }

    #[test]
    fn what_could_harm_is_not_shown() {
        let long = format!("https://example.com/{}", "a".repeat(MAX_BYTES));
        // Short as written, long once it is percent-encoded.
        let grows = format!("https://example.com/{}", "\u{202e}".repeat(600));
        let cases = [
            "javascript:alert(1)",
            "data:text/html,x",
            "ftp://example.com/",
            "http://example.com/device",
            "http://127.0.0.1.example.com/",
            "https://user@example.com/",
            "https://user:password@example.com/",
            "https://:password@example.com/",
            "java\nscript:alert(1)",
            "https://example.com/\tdevice",
            "https://example.com/\x1b[2J",
            "https://example.com/\x7f",
            "https://example.com/\u{85}",
            "/device",
            "example.com",
            "https://",
            "",
            &long,
            &grows,
        ];
        for text in cases {
            assert_eq!(for_people(text, false), None, "{text:?}");
        }
    }

    #[test]
    fn plain_http_must_be_allowed() {
        assert!(for_people("http://idp.internal/device", true).is_some());
        assert!(for_people("javascript:alert(1)", true).is_none());
        assert!(endpoint("http://169.254.169.254/token", false).is_none());
        assert!(endpoint("https://example.com/token?tenant=1", false).is_some());
        assert!(endpoint("https://example.com/token#a", false).is_none());
    }
}
