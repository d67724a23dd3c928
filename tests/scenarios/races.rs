//! Many hands at one session's tokens.

use std::collections::BTreeMap;

use futures_util::future::join_all;

use crate::served::{Owned, Served};

const HANDS: usize = 64;
const ROUNDS: usize = 8;

async fn claim(served: &Served, owned: &Owned, key: &str) -> (u16, Vec<u8>) {
    let path = format!("/sessions/{}/claim", owned.id);
    let request = served.http.post(served.url(&path)).bearer_auth(&owned.secret).header("idempotency-key", key);
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.bytes().await.unwrap().to_vec())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_64_hands_with_64_keys_one_gets_the_tokens() {
    let served = Served::start().await;
    for round in 0..ROUNDS {
        let owned = served.authorized().await;
        let keys: Vec<String> = (0..HANDS).map(|hand| format!("{round}-{hand}")).collect();
        let answers = join_all(keys.iter().map(|key| claim(&served, &owned, key))).await;
        let mut statuses = BTreeMap::<u16, usize>::new();
        for (status, _) in &answers {
            *statuses.entry(*status).or_default() += 1;
        }
        assert_eq!(statuses, BTreeMap::from([(200, 1), (410, HANDS - 1)]));
        let winner = answers.iter().position(|(status, _)| *status == 200).unwrap();
        assert_eq!(claim(&served, &owned, &keys[winner]).await, answers[winner], "the winner may read again");
        assert_eq!(claim(&served, &owned, &keys[(winner + 1) % HANDS]).await.0, 410);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn to_64_hands_with_one_key_the_same_bytes_are_handed_over() {
    let served = Served::start().await;
    for round in 0..ROUNDS {
        let owned = served.authorized().await;
        let key = format!("key-{round}");
        let answers = join_all((0..HANDS).map(|_| claim(&served, &owned, &key))).await;
        assert_eq!(answers[0].0, 200);
        assert!(answers.iter().all(|answer| *answer == answers[0]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_64_hands_without_a_key_one_gets_the_tokens() {
    let served = Served::start().await;
    let owned = served.authorized().await;
    let path = format!("/sessions/{}/claim", owned.id);
    let hands = (0..HANDS).map(|_| served.http.post(served.url(&path)).bearer_auth(&owned.secret).send());
    let statuses: Vec<u16> = join_all(hands).await.into_iter().map(|answer| answer.unwrap().status().as_u16()).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1);
    assert_eq!(statuses.iter().filter(|status| **status == 410).count(), HANDS - 1);
}
