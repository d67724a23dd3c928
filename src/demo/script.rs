//! Answers made to order: what a test puts in place of, or around, the real one.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Map, Value};

/// What can be asked of the provider.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Endpoint {
    Discovery,
    DeviceAuthorization,
    Token,
    Revocation,
    Userinfo,
    /// `/jwks`.
    Keys,
}

/// Which codes are meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Codes<'a> {
    /// All that are out now; later ones are not meant.
    All,
    /// The one with this user code.
    One(&'a str),
}

/// One answer, of one of three kinds. The first three are real. `LateReply` to `SlowBody` *carry the request out and spoil the
/// reply*: tokens are issued and the code is spent. The rest *replace* the answer: the provider does nothing, as if the request
/// had been lost. Earliness is judged, and expiry counted, by the arrival of a request, however long its answer takes.
#[derive(Clone)]
pub enum Answer {
    /// The real answer. Fills a place in the queue.
    Normal,
    /// The real answer, if it is JSON, with its members changed. Made by [`Answer::edit`].
    Edited(Edit),
    /// Waits on the provider's clock, then carries the request out.
    Delay(Duration),

    /// Carries the request out at once and waits on the provider's clock before the reply.
    LateReply(Duration),
    /// Carries the request out and closes the connection without a word.
    DropReply,
    /// The same with a TCP reset.
    ResetReply,
    /// Promises the whole reply, sends the first half, closes.
    HalfBody,
    /// The whole reply, one byte per this much real time. Recorded as answered when it begins.
    SlowBody(Duration),

    /// A status and a JSON body.
    Json(u16, Value),
    Raw {
        status: u16,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
    },
    /// Closes the connection (FIN).
    CloseWithoutAnswer,
    /// Resets the connection (RST).
    Reset,
    /// Never answers. Ends when the client hangs up.
    Stall,
    /// A 200 with this many bytes of JSON that does not end; `u64::MAX` is for ever.
    EndlessBody(u64),
}

type Edit = Arc<dyn Fn(&mut Map<String, Value>) + Send + Sync>;

/// The queues. One that belongs to a code comes before that of the endpoint, and that before the standing answer.
#[derive(Default)]
pub struct Script(Mutex<Queues>);

#[derive(Default)]
struct Queues {
    by_code: HashMap<Arc<str>, VecDeque<Answer>>,
    by_endpoint: HashMap<Endpoint, VecDeque<Answer>>,
    standing: HashMap<Endpoint, Answer>,
}

impl Answer {
    /// The real answer with its JSON members changed: another `interval`, one URI less.
    pub fn edit(change: impl Fn(&mut Map<String, Value>) + Send + Sync + 'static) -> Self {
        Self::Edited(Arc::new(change))
    }

    /// An OAuth error (RFC 6749 §5.2).
    pub fn error(status: u16, code: &str) -> Self {
        Self::Json(status, serde_json::json!({ "error": code }))
    }

    /// A status and a text that is no OAuth: a proxy's page.
    pub fn text(status: u16, text: &str) -> Self {
        let headers = vec![("content-type".to_owned(), "text/html; charset=utf-8".to_owned())];
        Self::Raw { status, headers, body: text.as_bytes().to_vec() }
    }
}

impl Script {
    pub fn push(&self, endpoint: Endpoint, answers: impl IntoIterator<Item = Answer>) {
        self.0.lock().by_endpoint.entry(endpoint).or_default().extend(answers);
    }

    pub fn push_for_code(&self, user_code: Arc<str>, answers: impl IntoIterator<Item = Answer>) {
        self.0.lock().by_code.entry(user_code).or_default().extend(answers);
    }

    pub fn set_standing(&self, endpoint: Endpoint, answer: Option<Answer>) {
        let standing = &mut self.0.lock().standing;
        match answer {
            Some(answer) => standing.insert(endpoint, answer),
            None => standing.remove(&endpoint),
        };
    }

    pub fn next(&self, endpoint: Endpoint, user_code: Option<&str>) -> Answer {
        let mut queues = self.0.lock();
        let for_code = user_code.and_then(|code| take(&mut queues.by_code, code));
        for_code
            .or_else(|| take(&mut queues.by_endpoint, &endpoint))
            .or_else(|| queues.standing.get(&endpoint).cloned())
            .unwrap_or(Answer::Normal)
    }
}

fn take<K, Q>(queues: &mut HashMap<K, VecDeque<Answer>>, key: &Q) -> Option<Answer>
where
    K: std::borrow::Borrow<Q> + std::hash::Hash + Eq,
    Q: std::hash::Hash + Eq + ?Sized,
{
    let queue = queues.get_mut(key)?;
    let next = queue.pop_front();
    if queue.is_empty() {
        queues.remove(key);
    }
    next
}

impl<'a> From<&'a str> for Codes<'a> {
    fn from(user_code: &'a str) -> Self {
        Self::One(user_code)
    }
}

impl<'a> From<&'a String> for Codes<'a> {
    fn from(user_code: &'a String) -> Self {
        Self::One(user_code)
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Normal => f.write_str("Normal"),
            Self::Edited(_) => f.write_str("Edited"),
            Self::Delay(wait) => write!(f, "Delay({wait:?})"),
            Self::LateReply(wait) => write!(f, "LateReply({wait:?})"),
            Self::DropReply => f.write_str("DropReply"),
            Self::ResetReply => f.write_str("ResetReply"),
            Self::HalfBody => f.write_str("HalfBody"),
            Self::SlowBody(pause) => write!(f, "SlowBody({pause:?})"),
            Self::Json(status, _) => write!(f, "Json({status})"),
            Self::Raw { status, .. } => write!(f, "Raw({status})"),
            Self::CloseWithoutAnswer => f.write_str("CloseWithoutAnswer"),
            Self::Reset => f.write_str("Reset"),
            Self::Stall => f.write_str("Stall"),
            Self::EndlessBody(bytes) => write!(f, "EndlessBody({bytes})"),
        }
    }
}
