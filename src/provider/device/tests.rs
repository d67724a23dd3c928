use proptest::prelude::*;
use secrecy::ExposeSecret;
use serde_json::json;

use super::*;

const ASSUMED: Duration = Duration::from_secs(1800);

fn answer() -> Value {
    json!({"device_code": "dc", "user_code": "WDJB-MJHT", "verification_uri": "https://example.com/device", "expires_in": 900, "interval": 5})
}

/// The answer with one member replaced, or removed.
fn with(name: &str, value: Option<Value>) -> Result<DeviceAuthorization, Invalid> {
    let mut answer = answer();
    let members = answer.as_object_mut().unwrap();
    match value {
        Some(value) => members.insert(name.into(), value),
        None => members.remove(name),
    };
    parse(answer.to_string().as_bytes(), false, ASSUMED)
}

#[test]
fn a_plain_answer_is_read() {
    let device = parse(answer().to_string().as_bytes(), false, ASSUMED).unwrap();
    assert_eq!(device.device_code.expose_secret(), "dc");
    assert_eq!(device.user_code, "WDJB-MJHT");
    assert_eq!(device.verification_uri, "https://example.com/device");
    assert_eq!(device.verification_uri_complete, None);
    assert_eq!(device.expires_in, Duration::from_secs(900));
    assert_eq!(device.interval, Some(Duration::from_secs(5)));
}

#[test]
fn a_form_is_read_like_json() {
    let form = "device_code=3584d83530557fdd1f46af8289938c8ef79f9dc5&expires_in=900&interval=5&user_code=WDJB-MJHT&verification_uri=https%3A%2F%2Fexample.com%2Fdevice";
    let device = parse(form.as_bytes(), false, ASSUMED).unwrap();
    assert_eq!(device.verification_uri, "https://example.com/device");
    assert_eq!(device.expires_in, Duration::from_secs(900));
}

#[test]
fn both_spellings_of_the_uri_are_known_and_the_standard_one_wins() {
    let mut old = answer();
    old["verification_url"] = "https://example.com/old".into();
    assert_eq!(parse(old.to_string().as_bytes(), false, ASSUMED).unwrap().verification_uri, "https://example.com/device");
    old.as_object_mut().unwrap().remove("verification_uri");
    assert_eq!(parse(old.to_string().as_bytes(), false, ASSUMED).unwrap().verification_uri, "https://example.com/old");
}

#[test]
fn a_lifetime_is_read_leniently_and_clamped() {
    let rows = [
        (Some(json!(900)), Some(900)),
        (Some(json!(899.9)), Some(899)),
        (Some(json!("900")), Some(900)),
        (Some(json!(" 900 ")), Some(900)),
        (None, Some(1800)),
        (Some(Value::Null), Some(1800)),
        (Some(json!(0)), Some(1)),
        (Some(json!(-1)), Some(1)),
        (Some(json!(3)), Some(3)),
        (Some(json!(14.9)), Some(14)),
        (Some(json!(u64::MAX)), Some(24 * 3600)),
        (Some(json!(1e300)), Some(24 * 3600)),
        (Some(json!("soon")), None),
        (Some(json!("")), None),
        (Some(json!([900])), None),
        (Some(json!(true)), None),
    ];
    for (value, seconds) in rows {
        let expires_in = with("expires_in", value.clone()).ok().map(|device| device.expires_in.as_secs());
        assert_eq!(expires_in, seconds, "{value:?}");
    }
}

#[test]
fn an_answer_without_a_code_or_a_uri_is_invalid() {
    for name in ["device_code", "user_code", "verification_uri"] {
        for value in [None, Some(Value::Null), Some(json!("")), Some(json!(5)), Some(json!({}))] {
            assert!(with(name, value.clone()).is_err(), "{name} {value:?}");
        }
    }
    for bytes in ["", "{}", "[]", "<html>", "a=b"] {
        assert!(parse(bytes.as_bytes(), false, ASSUMED).is_err(), "{bytes}");
    }
    assert!(with("device_code", Some("a".repeat(MAX_DEVICE_CODE + 1).into())).is_err());
}

#[test]
fn a_user_code_is_shown_as_it_came_or_not_at_all() {
    let fit = [
        "WDJB-MJHT",
        "wdjb-mjht",
        "WDJB MJHT",
        "0A44L90H",
        "123-456-789",
        "123 456 789",
        "123 456 7890",
        "ABC 1234",
        "ABCD EFGH IJ",
        "AAAAA-BBBBB-CCCCC-DDDDD-EEEEE",
        "A-3_xYz9",
        "a b",
        "\u{e4}\u{4f60}",
        "\u{30c6}\u{30ec}\u{30d3}",
        &"W".repeat(MAX_USER_CODE),
    ];
    for code in fit {
        assert_eq!(with("user_code", Some(code.into())).unwrap().user_code, code);
    }
    let unfit = [
        "   ",
        "A\nB",
        "A\tB",
        "A\u{0}B",
        "A\x1b[2JB",
        "A\u{7f}",
        "A\u{85}",
        "A\u{202e}B",
        "A\u{2066}B",
        "A\u{200f}",
        "\u{200b}",
        "\u{5d0}\u{5d1}",
        "\u{627}",
        "\u{feff}A",
        "A\u{a0}B",
        "A\u{fffd}B",
        "A\u{34f}B",
        "A\u{ad}B",
        "A\u{200d}B",
        "A\u{fe0f}B",
        "A\u{fff9}B",
        "A\u{301}B",
        "A\u{e0041}B",
        "A\u{e0100}B",
        "A\u{e000}B",
        "A\u{378}B",
        "A\u{2800}B",
        "A\u{3164}B",
        "A\u{13441}B",
        "A\u{1d159}B",
        "A\u{1bca0}B",
        "\u{1e900}",
        "\u{661}\u{662}",
        "Enter your password",
        "Call 0800 123456",
        "Dial 0800 1234",
        "CALL US AT 0800 1234",
        "Enter password",
        "visit evil.example",
        "Your device is infected. Call us.",
        &"W".repeat(MAX_USER_CODE + 1),
    ];
    for code in unfit {
        assert!(with("user_code", Some(code.into())).is_err(), "{code:?}");
    }
}

#[test]
fn an_unsafe_complete_uri_makes_the_answer_invalid() {
    let name = "verification_uri_complete";
    assert_eq!(
        with(name, Some("https://example.com/device?user_code=A".into())).unwrap().verification_uri_complete.as_deref(),
        Some("https://example.com/device?user_code=A")
    );
    for absent in [json!(""), Value::Null] {
        assert_eq!(with(name, Some(absent)).unwrap().verification_uri_complete, None);
    }
    for value in [json!("javascript:alert(1)"), json!("http://example.com/"), json!(5), json!(["https://example.com"])] {
        assert!(with(name, Some(value)).is_err());
    }
}

#[test]
fn an_unsafe_uri_makes_the_answer_invalid() {
    for value in ["javascript:alert(1)", "http://example.com/device", "https://user@example.com/", "https://example.com/\u{1b}"] {
        assert!(with("verification_uri", Some(value.into())).is_err());
    }
    let mut plain = answer();
    plain["verification_uri"] = "http://idp.internal/device".into();
    assert!(parse(plain.to_string().as_bytes(), true, ASSUMED).is_ok());
}

#[test]
fn nothing_secret_is_in_the_debug_text() {
    let device = with("device_code", Some("canary".into())).unwrap();
    assert!(!format!("{device:?}").contains("canary"));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&bytes, true, ASSUMED);
    }

    #[test]
    fn what_is_accepted_is_fit_to_show(code in ".{1,70}", uri in "(https|http|javascript)://.{0,30}", seconds in any::<f64>()) {
        let mut answer = answer();
        answer["user_code"] = code.as_str().into();
        answer["verification_uri"] = uri.into();
        answer["expires_in"] = json!(seconds);
        if let Ok(device) = parse(answer.to_string().as_bytes(), false, ASSUMED) {
            prop_assert_eq!(&device.user_code, &code);
            prop_assert!(!code.chars().any(char::is_control));
            prop_assert!(device.verification_uri.bytes().all(|byte| byte.is_ascii_graphic()));
            prop_assert!((MIN_LIFETIME..=MAX_LIFETIME).contains(&device.expires_in) || device.expires_in == ASSUMED);
        }
    }
}
