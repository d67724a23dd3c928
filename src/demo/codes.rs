//! The codes that are out: what they ask for, what the person decided, and how politely they are polled.
//!
//! Two things look at the time between polls. The *rate check* decides on `slow_down`, as the options want it. The *audit* counts,
//! whatever the options: a poll is early if less than the required interval has passed since the answer before it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::options::{AfterExpiry, Options, RateCheck, Window};
use super::tokens::{GrantId, random_bytes, random_text};
use crate::kernel::time::Timestamp;

/// RFC 8628 §3.2: an interval that is left out.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);
/// RFC 8628 §3.5: what every `slow_down` adds.
const SLOW_DOWN_STEP: Duration = Duration::from_secs(5);
/// How long an expired code is still recognised as expired.
const MEMORY: Duration = Duration::from_secs(600);

#[derive(Default)]
pub struct CodeBook {
    by_device_code: HashMap<Arc<str>, Code>,
    by_user_code: HashMap<Arc<str>, Arc<str>>,
    oldest: VecDeque<(Timestamp, Arc<str>)>,
}

pub struct Code {
    pub device_code: Arc<str>,
    pub user_code: Arc<str>,
    pub client: String,
    pub scope: String,
    /// PKCE with S256 (RFC 7636), if the client wanted it.
    pub challenge: Option<String>,
    pub decision: Decision,
    pub expires_at: Timestamp,
    /// The interval and all `slow_down`s on top of it.
    pub required: Duration,
    /// From where the rate check counts.
    window_start: Timestamp,
    last_answer: Timestamp,
    in_flight: u32,
    slow_downs_ordered: u32,
    pub polls: u64,
    pub early: u64,
    pub overlapping: u64,
    /// How often the code was presented for its tokens: more than once is a replay.
    pub redemptions: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    Undecided,
    Approved,
    Denied,
    /// The tokens are out.
    Redeemed(GrantId),
}

/// What a poll deserves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ruling {
    Tokens,
    Pending,
    SlowDown,
    Denied,
    Expired,
    /// `invalid_grant`, and why.
    Invalid(&'static str),
    Replayed(GrantId),
}

/// What the audit has against a poll.
#[derive(Clone, Copy, Default, Debug)]
pub struct Manners {
    pub early: bool,
    pub overlapping: bool,
}

impl CodeBook {
    pub fn issue(&mut self, client: &str, scope: &str, challenge: Option<&str>, options: &Options, now: Timestamp) -> &Code {
        self.forget(now);
        let device_code: Arc<str> = random_text::<32>().into();
        let user_code = self.unused_user_code();
        let expires_at = now + Duration::from_secs(options.expires_in);
        self.by_user_code.insert(user_code.clone(), device_code.clone());
        self.oldest.push_back((expires_at + MEMORY, device_code.clone()));
        self.by_device_code.entry(device_code.clone()).or_insert(Code {
            device_code,
            user_code,
            client: client.to_owned(),
            scope: scope.to_owned(),
            challenge: challenge.map(str::to_owned),
            decision: Decision::Undecided,
            expires_at,
            required: options.interval.map_or(DEFAULT_INTERVAL, Duration::from_secs),
            window_start: now,
            last_answer: now,
            in_flight: 0,
            slow_downs_ordered: 0,
            polls: 0,
            early: 0,
            overlapping: 0,
            redemptions: 0,
        })
    }

    pub fn by_device_code(&mut self, device_code: &str) -> Option<&mut Code> {
        self.by_device_code.get_mut(device_code)
    }

    /// Takes a user code as people type it: case, dashes and blanks do not matter (RFC 8628 §6.1).
    pub fn by_user_code(&mut self, typed: &str) -> Option<&mut Code> {
        let device_code = self.by_user_code.get(normalise(typed).as_str())?;
        self.by_device_code.get_mut(device_code)
    }

    pub fn all(&mut self) -> impl Iterator<Item = &mut Code> {
        self.by_device_code.values_mut()
    }

    fn unused_user_code(&self) -> Arc<str> {
        loop {
            let code: Arc<str> = user_code().into();
            if !self.by_user_code.contains_key(&code) {
                return code;
            }
        }
    }

    fn forget(&mut self, now: Timestamp) {
        while let Some((_, device_code)) = self.oldest.pop_front_if(|(forget_at, _)| *forget_at <= now) {
            if let Some(code) = self.by_device_code.remove(&device_code) {
                self.by_user_code.remove(&code.user_code);
            }
        }
    }
}

impl Code {
    /// False if there is nothing left to decide.
    pub fn approve(&mut self, now: Timestamp) -> bool {
        self.decide(Decision::Approved, now)
    }

    pub fn deny(&mut self, now: Timestamp) -> bool {
        self.decide(Decision::Denied, now)
    }

    /// Brings the expiry forward, never back.
    pub fn expire_at(&mut self, deadline: Timestamp) {
        self.expires_at = self.expires_at.min(deadline);
    }

    /// The next poll gets `slow_down`, however late it comes. Orders add up.
    pub fn order_slow_down(&mut self) {
        self.slow_downs_ordered += 1;
    }

    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at <= now
    }

    /// The audit of a poll that has just arrived.
    pub fn poll_arrives(&mut self, now: Timestamp) -> Manners {
        let manners = Manners { early: now.since(self.last_answer) < self.required, overlapping: self.in_flight > 0 };
        self.polls += 1;
        self.in_flight += 1;
        self.early += u64::from(manners.early);
        self.overlapping += u64::from(manners.overlapping);
        manners
    }

    /// The poll is over: answered, or its connection is gone. `slow_down` is what the answer asked for, with its own interval.
    pub fn poll_ends(&mut self, now: Timestamp, slow_down: Option<Option<Duration>>) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.answered(now);
        if let Some(interval) = slow_down {
            self.required = self.required.saturating_add(SLOW_DOWN_STEP).max(interval.unwrap_or_default());
        }
    }

    /// The client has been told something: its wait begins.
    pub fn answered(&mut self, now: Timestamp) {
        self.last_answer = self.last_answer.max(now);
    }

    pub fn rule(&mut self, client: &str, verifier: Option<&str>, options: &Options, now: Timestamp) -> Ruling {
        if self.client != client {
            return Ruling::Invalid("the device code belongs to another client");
        }
        if !self.proves_possession(verifier) {
            return Ruling::Invalid("the code_verifier does not match");
        }
        if options.approve_at_poll.is_some_and(|n| self.polls >= n) {
            self.approve(now);
        }
        let hasty = self.is_hasty(options.rate_check, now);
        let expired = self.is_expired(now);
        match self.decision {
            Decision::Redeemed(grant) => {
                self.redemptions += 1;
                Ruling::Replayed(grant)
            }
            _ if self.slow_downs_ordered > 0 => {
                self.slow_downs_ordered -= 1;
                Ruling::SlowDown
            }
            _ if hasty && matches!(options.rate_check, Some(RateCheck::BeforeApproval(_))) => Ruling::SlowDown,
            Decision::Denied if !expired => Ruling::Denied,
            Decision::Approved if !expired || options.redeems_late => {
                self.redemptions += 1;
                Ruling::Tokens
            }
            _ if expired && options.after_expiry == AfterExpiry::ExpiredToken => Ruling::Expired,
            _ if expired && options.after_expiry == AfterExpiry::InvalidGrant => Ruling::Invalid("the device code is not known"),
            _ if hasty => Ruling::SlowDown,
            _ => Ruling::Pending,
        }
    }

    fn decide(&mut self, decision: Decision, now: Timestamp) -> bool {
        let open = self.decision == Decision::Undecided && !self.is_expired(now);
        if open {
            self.decision = decision;
        }
        open
    }

    /// The rate check; moves its window.
    fn is_hasty(&mut self, check: Option<RateCheck>, now: Timestamp) -> bool {
        let Some(RateCheck::WhilePending(window) | RateCheck::BeforeApproval(window)) = check else { return false };
        let hasty = now.since(self.window_start) < self.required;
        if !hasty || window == Window::Sliding {
            self.window_start = now;
        }
        hasty
    }

    fn proves_possession(&self, verifier: Option<&str>) -> bool {
        let Some(challenge) = &self.challenge else { return true };
        verifier.is_some_and(|verifier| {
            let hashed = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()));
            hashed.as_bytes().ct_eq(challenge.as_bytes()).into()
        })
    }
}

/// Eight of the 20 consonants that spell no word and look like no digit (RFC 8628 §6.1), as `BCDF-GHJK`.
fn user_code() -> String {
    const LETTERS: [char; 20] = ['B', 'C', 'D', 'F', 'G', 'H', 'J', 'K', 'L', 'M', 'N', 'P', 'Q', 'R', 'S', 'T', 'V', 'W', 'X', 'Z'];
    /// The largest multiple of 20 in a byte: what lies above it would favour the first letters.
    const FAIR: u8 = 240;
    let mut code = String::with_capacity(9);
    while code.len() < 9 {
        let fair = random_bytes::<16>().into_iter().filter(|byte| *byte < FAIR);
        for letter in fair.filter_map(|byte| LETTERS.get(usize::from(byte % 20))) {
            match code.len() {
                9 => break,
                4 => code.extend(['-', *letter]),
                _ => code.push(*letter),
            }
        }
    }
    code
}

/// A user code as we write it, from one as people type it.
pub fn normalise(typed: &str) -> String {
    let mut code: String = typed.chars().filter(char::is_ascii_alphanumeric).take(16).map(|c| c.to_ascii_uppercase()).collect();
    if code.len() > 4 {
        code.insert(4, '-');
    }
    code
}
