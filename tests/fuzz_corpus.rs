//! The fuzz targets on stable: over everything that the corpus has providers say, and over thousands of mutations of it.

#[path = "../fuzz/targets.rs"]
mod targets;

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::Index;

const TARGETS: [fn(&[u8]); 6] =
    [targets::device_answer, targets::token_answer, targets::error_body, targets::discovery, targets::jwks, targets::id_token];
/// What the corpus, which is of plain answers, does not have.
const MORE_SEEDS: [&str; 3] = [
    r#"{"keys":[{"kty":"OKP","crv":"Ed25519","use":"sig","kid":"a","alg":"EdDSA","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#,
    r#"{"iss":"https://id.example.com","sub":"a","aud":"tv-app","exp":1700000600,"iat":1700000000,"nonce":"n"}"#,
    r#"{"iss":"https://id.example.com","sub":"a","aud":["tv-app","x"],"azp":"tv-app","exp":1700000600.5,"iat":1700000000}"#,
];
/// Mutations of one seed that are tried.
const CASES: u32 = 4000;

/// The bodies of the corpus, each behind a byte that chooses a status, and on its own.
static SEEDS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let mut seeds: Vec<Vec<u8>> = MORE_SEEDS.iter().map(|seed| seed.as_bytes().to_vec()).collect();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")).unwrap() {
        let Ok(text) = fs::read_to_string(entry.unwrap().path().join("cases.toml")) else { continue };
        let mut bodies = Vec::new();
        gather(&toml::from_str::<toml::Value>(&text).unwrap(), &mut bodies);
        for (at, body) in bodies.into_iter().enumerate() {
            let chosen = [&[u8::try_from(at * 37 % 256).unwrap()], body.as_bytes()].concat();
            seeds.extend([chosen, body.into_bytes()]);
        }
    }
    seeds
});

/// Every text called `body` or `discovery`.
fn gather(value: &toml::Value, bodies: &mut Vec<String>) {
    match value {
        toml::Value::Table(members) => {
            for (name, member) in members {
                match member.as_str() {
                    Some(text) if name == "body" || name == "discovery" => {
                        bodies.push(text.replace("{issuer}", "https://id.example.com").replace("{exact_issuer}", "https://id.example.com"));
                    }
                    _ => gather(member, bodies),
                }
            }
        }
        toml::Value::Array(items) => items.iter().for_each(|item| gather(item, bodies)),
        _ => {}
    }
}

#[derive(Clone, Debug)]
enum Mutation {
    Replace(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    /// The rest comes from another seed.
    Splice(Index, Index),
    Repeat(Index, usize),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let tokens = prop::sample::select(vec![
        "null",
        "true",
        "[]",
        "{}",
        "0",
        "-1",
        "1e309",
        "99999999999999999999",
        "\"\"",
        "\\u0000",
        "\\ud800",
        "\u{202e}",
        "\u{feff}",
        "https://",
        "javascript:",
        "\"error\":",
        "\"access_token\":",
        "&error=",
        "%00",
        "%ff",
        "\r\n",
        "\u{1b}[31m",
    ]);
    let inserted = prop_oneof![tokens.prop_map(|token| token.as_bytes().to_vec()), prop::collection::vec(any::<u8>(), 1..8)];
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Replace(at, byte)),
        (any::<Index>(), inserted).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        (any::<Index>(), 1..40usize).prop_map(|(at, count)| Mutation::Remove(at, count)),
        (any::<Index>(), any::<Index>()).prop_map(|(at, other)| Mutation::Splice(at, other)),
        (any::<Index>(), 2..200usize).prop_map(|(at, times)| Mutation::Repeat(at, times)),
    ]
}

fn mutated(seed: &[u8], mutations: &[Mutation]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for mutation in mutations {
        let at = |index: &Index| index.index(bytes.len() + 1);
        match mutation {
            Mutation::Replace(index, byte) => {
                let at = at(index);
                bytes.splice(at..(at + 1).min(bytes.len()).max(at), [*byte]);
            }
            Mutation::Insert(index, inserted) => {
                let at = at(index);
                bytes.splice(at..at, inserted.iter().copied());
            }
            Mutation::Remove(index, count) => {
                let at = at(index);
                bytes.drain(at..(at + count).min(bytes.len()));
            }
            Mutation::Splice(index, other) => {
                let at = at(index);
                let other = &SEEDS[other.index(SEEDS.len())];
                bytes.truncate(at);
                bytes.extend_from_slice(&other[at.min(other.len())..]);
            }
            Mutation::Repeat(index, times) => {
                let at = at(index);
                let part = bytes[at..(at + 8).min(bytes.len())].repeat(*times);
                bytes.splice(at..at, part);
            }
        }
    }
    bytes
}

#[test]
fn everything_that_providers_say_is_borne() {
    assert!(SEEDS.len() >= 400, "{}", SEEDS.len());
    for seed in SEEDS.iter() {
        for target in TARGETS {
            target(seed);
        }
    }
}

#[test]
fn the_seeds_reach_behind_the_parsers() {
    use anteroom::provider::{device, discovery, jwks};
    let devices = SEEDS.iter().filter(|seed| device::parse(seed, false, std::time::Duration::from_secs(60)).is_ok()).count();
    let answer = |body: &[u8]| anteroom::provider::exchange::Answer {
        status: 200,
        received_at: anteroom::kernel::time::WallTime::default(),
        date: None,
        retry_after: None,
        body: body.to_vec(),
    };
    let documents = SEEDS.iter().filter(|seed| discovery::parse(&answer(seed), "https://id.example.com", false).is_ok()).count();
    let keys = SEEDS.iter().filter(|seed| jwks::parse(seed).is_some_and(|keys| !keys.is_empty())).count();
    assert!(devices >= 20 && documents >= 5 && keys >= 1, "{devices} {documents} {keys}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_a_provider_could_say_breaks_what_must_hold(
        seed in any::<Index>(),
        mutations in prop::collection::vec(mutation(), 1..6),
    ) {
        let bytes = mutated(&SEEDS[seed.index(SEEDS.len())], &mutations);
        for target in TARGETS {
            target(&bytes);
        }
    }
}
