//! A digest as the store keeps it: in hex. Up to schema 1 it was a list of 32 numbers, twice as long; that is still read.

use core::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserializer, Serializer};

use super::Digest;

pub fn serialize<S: Serializer>(digest: &Digest, serializer: S) -> Result<S::Ok, S::Error> {
    let half = |bytes: Option<&[u8; 16]>| u128::from_be_bytes(bytes.copied().unwrap_or_default());
    serializer.collect_str(&format_args!("{:032x}{:032x}", half(digest.first_chunk()), half(digest.last_chunk())))
}

pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
    deserializer.deserialize_any(Stored)
}

struct Stored;

impl<'de> Visitor<'de> for Stored {
    type Value = Digest;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a digest of 32 bytes")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Digest, E> {
        let malformed = || E::custom("a digest has 64 digits");
        // A sign would be taken for part of a number.
        let is_hex = text.len() == 64 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        let (high, low) = text.split_at_checked(32).filter(|_| is_hex).ok_or_else(malformed)?;
        let half = |digits| u128::from_str_radix(digits, 16).map(u128::to_be_bytes).map_err(|_| malformed());
        Digest::try_from([half(high)?, half(low)?].concat()).map_err(|_| malformed())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<Digest, A::Error> {
        let mut digest = Digest::default();
        for (place, byte) in digest.iter_mut().enumerate() {
            *byte = numbers.next_element()?.ok_or_else(|| Error::invalid_length(place, &self))?;
        }
        match numbers.next_element::<u8>()? {
            None => Ok(digest),
            Some(_) => Err(Error::invalid_length(digest.len() + 1, &self)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};
    use serde_json::{from_str, json, to_string};

    use super::super::Digest;

    #[derive(PartialEq, Eq, Debug, Serialize, Deserialize)]
    struct Kept(#[serde(with = "super")] Digest);

    fn some() -> Kept {
        Kept(core::array::from_fn(|place| (place * 8) as u8))
    }

    #[test]
    fn it_is_written_in_hex_and_read_back() {
        let text = to_string(&some()).unwrap();
        assert_eq!(text, "\"0008101820283038404850586068707880889098a0a8b0b8c0c8d0d8e0e8f0f8\"");
        assert_eq!(from_str::<Kept>(&text).unwrap(), some());
    }

    #[test]
    fn a_list_of_numbers_is_read_as_before() {
        assert_eq!(from_str::<Kept>(&json!(some().0).to_string()).unwrap(), some());
    }

    #[test]
    fn anything_else_is_refused() {
        let hex = "00".repeat(32);
        let numbers = [0; 33];
        for wrong in [
            json!(&hex[1..]),
            json!(format!("{hex}0")),
            json!(format!("+{}", &hex[1..])),
            json!(format!("{}é", &hex[2..])),
            json!(&numbers[..31]),
            json!(&numbers[..]),
            json!([256].repeat(32)),
            json!(null),
        ] {
            assert!(from_str::<Kept>(&wrong.to_string()).is_err(), "{wrong}");
        }
    }
}
