//! `anteroom login`: a sign-in from a terminal, as an ordinary client of the public API.
//!
//! The conversation is here and in [`service`]; what the person sees of it is in [`screen`].

mod browser;
mod ending;
mod interrupt;
mod key;
mod patience;
mod screen;
mod service;
mod session;
mod text;
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio::time::timeout;

use crate::cli::Login;
use crate::clock::Clock;
use crate::kernel::time::Timestamp;

use ending::Ending;
use interrupt::Interrupt;
use patience::Patience;
use screen::{Event, Screen};
use service::{Begun, News, Owner, Request, Service, Trouble};
use session::{Prompt, Session, Status};
use tokens::Destination;

/// How long a service that does not answer is asked to begin a sign-in.
const PATIENCE_TO_BEGIN: Duration = Duration::from_secs(10);
/// How long a silent service is waited for once the code has expired.
const SILENCE_AFTER_EXPIRY: Duration = Duration::from_secs(5);
/// How long the service may still call an expired code pending: the provider is asked a last time after the expiry.
const PENDING_AFTER_EXPIRY: Duration = Duration::from_secs(60);
/// How long the tokens wait for their claim, should the service not say.
const CLAIM_TTL: Duration = Duration::from_secs(300);
/// How long after a claim the same key reads the same tokens again.
const CLAIM_REPLAY: Duration = Duration::from_secs(60);
/// How long a cancellation or an acknowledgement may take.
const GOODBYE: Duration = Duration::from_secs(5);

/// Signs in and writes the tokens. True if that came about; the person has been told either way.
///
/// # Errors
/// The options make no sense: one line for people.
pub async fn run(options: &Login, clock: Arc<dyn Clock>) -> Result<bool, String> {
    let service = Service::new(options.url.clone(), options.insecure_http, Arc::clone(&clock))?;
    let key = key::find(options)?;
    let destination = Destination::reserve(options.output.as_deref())?;
    let mut interrupt = Interrupt::listen().map_err(|error| format!("signals cannot be caught: {error}"))?;
    let request = Request { provider: options.provider.as_deref(), scope: options.scope.as_deref(), label: options.label.as_deref(), key };
    let screen = Screen::choose(options.json, !options.no_qr, Arc::clone(&clock));
    let mut sign_in = SignIn { service, clock, screen, opens_browser: options.open };
    let ending = sign_in.run(request, destination, &mut interrupt).await;
    sign_in.screen.show(Event::Ended(&ending));
    Ok(ending == Ending::SignedIn)
}

struct SignIn {
    service: Service,
    clock: Arc<dyn Clock>,
    screen: Screen,
    opens_browser: bool,
}

impl SignIn {
    async fn run(&mut self, request: Request<'_>, destination: Destination, interrupt: &mut Interrupt) -> Ending {
        let Begun { session, owner } = match self.begin_unless_interrupted(&request, interrupt).await {
            Ok(begun) => begun,
            Err(ending) => return ending,
        };
        let ending = tokio::select! {
            ending = self.follow(session, &owner, destination) => ending,
            () = interrupt.next() => Ending::Interrupted { is_cancelled: false },
        };
        self.say_goodbye(ending, &owner, interrupt).await
    }

    async fn begin_unless_interrupted(&mut self, request: &Request<'_>, interrupt: &mut Interrupt) -> Result<Begun, Ending> {
        let mut begin = Box::pin(self.begin(request));
        tokio::select! {
            begun = &mut begin => return begun,
            () = interrupt.next() => {}
        }
        // The service may have begun the sign-in already; only its answer says what to cancel.
        let begun = tokio::select! {
            begun = timeout(GOODBYE, &mut begin) => begun,
            () = interrupt.next() => return Err(Ending::Interrupted { is_cancelled: false }),
        };
        drop(begin);
        match begun {
            Ok(Ok(Begun { owner, .. })) => Err(self.say_goodbye(Ending::Interrupted { is_cancelled: false }, &owner, interrupt).await),
            begun => Err(Ending::Interrupted { is_cancelled: begun.is_ok() }),
        }
    }

    /// Every try carries the same idempotency key, so that one whose answer was lost does not begin a second sign-in.
    async fn begin(&mut self, request: &Request<'_>) -> Result<Begun, Ending> {
        let idempotency_key = service::new_key();
        let mut patience = Patience::until(self.clock.now() + PATIENCE_TO_BEGIN, &self.clock);
        loop {
            match self.service.begin(request, &idempotency_key).await {
                Ok(begun) => {
                    self.screen.show(Event::Back);
                    return Ok(begun);
                }
                Err(Trouble::Away { why, retry_after }) if retry_after.is_none_or(|wait| wait <= patience.left()) => {
                    self.screen.show(Event::Away(&why));
                    if !patience.wait(retry_after).await {
                        return Err(Ending::Service(why));
                    }
                }
                Err(trouble) => return Err(Ending::Service(trouble.to_string())),
            }
        }
    }

    /// Watches the session until it is settled, and takes the tokens.
    async fn follow(&mut self, mut session: Session, owner: &Owner, destination: Destination) -> Ending {
        let mut shown = None;
        let mut expires_at = self.clock.now() + CLAIM_TTL;
        loop {
            if let Some(prompt) = session.prompt.take().filter(|prompt| shown.as_ref() != Some(prompt)) {
                expires_at = prompt.expires_at;
                self.prompt(&prompt, shown.is_none());
                shown = Some(prompt);
            }
            match session.status {
                Status::Starting | Status::Pending | Status::Unknown => {}
                Status::Authorized => {
                    self.screen.show(Event::Authorized);
                    return self.claim(owner, session.claim_by, destination).await;
                }
                Status::Denied => return Ending::Denied,
                Status::Expired => return Ending::Expired,
                Status::Cancelled => return Ending::Cancelled,
                Status::Claimed => return Ending::TooLate,
                Status::Failed => return Ending::Failed(session.failure),
            }
            self.screen.show(Event::Waiting { provider_reachable: session.provider_reachable });
            session = match self.next(owner, session, expires_at).await {
                Ok(session) => session,
                Err(ending) => return ending,
            };
        }
    }

    fn prompt(&mut self, prompt: &Prompt, is_first: bool) {
        self.screen.show(Event::Prompt(prompt));
        if self.opens_browser && is_first && browser::open(&prompt.link).is_err() {
            self.screen.show(Event::NoBrowser);
        }
    }

    /// The session as soon as it is another than the known one.
    async fn next(&mut self, owner: &Owner, known: Session, expires_at: Timestamp) -> Result<Session, Ending> {
        let mut ask_again_at = known.ask_again_at;
        let mut patience = Patience::until(expires_at + SILENCE_AFTER_EXPIRY, &self.clock);
        while self.clock.now() < expires_at + PENDING_AFTER_EXPIRY {
            self.clock.sleep_until(ask_again_at).await;
            match self.service.read(owner.id, &known.tag).await {
                Ok(news) => {
                    self.screen.show(Event::Back);
                    patience = Patience::until(expires_at + SILENCE_AFTER_EXPIRY, &self.clock);
                    match news {
                        News::Session(session) if session.tag != known.tag => return Ok(*session),
                        News::Session(session) => ask_again_at = session.ask_again_at,
                        News::None { ask_again_at: at } => ask_again_at = at,
                    }
                }
                Err(Trouble::Forgotten) => return Err(Ending::Forgotten),
                Err(trouble) => {
                    self.screen.show(Event::Away(&trouble.to_string()));
                    if !patience.wait(trouble.retry_after()).await {
                        return Err(Ending::ExpiredUnheard(trouble.to_string()));
                    }
                }
            }
        }
        Err(Ending::ExpiredUnheard("it still calls the code pending".to_owned()))
    }

    /// Every try carries the same claim key, so that tokens whose way back failed can be read again.
    async fn claim(&mut self, owner: &Owner, claim_by: Option<Timestamp>, destination: Destination) -> Ending {
        let claim_key = service::new_key();
        let claim_by = claim_by.unwrap_or_else(|| self.clock.now() + CLAIM_TTL);
        let mut patience = Patience::until(claim_by + CLAIM_REPLAY, &self.clock);
        loop {
            match self.service.claim(owner, &claim_key).await {
                Ok(tokens) => return self.deliver(&tokens, destination),
                Err(Trouble::Forgotten) => return Ending::Forgotten,
                Err(Trouble::TooLate) => return Ending::TooLate,
                Err(trouble) => {
                    self.screen.show(Event::Away(&trouble.to_string()));
                    if !patience.wait(trouble.retry_after()).await {
                        return Ending::Service(trouble.to_string());
                    }
                }
            }
        }
    }

    fn deliver(&self, tokens: &SecretString, destination: Destination) -> Ending {
        match destination.write(tokens) {
            Ok(()) => Ending::SignedIn,
            Err(why) => Ending::Undelivered(why),
        }
    }

    /// Leaves nothing behind at the service: acknowledges the tokens, or cancels what is still open. A second Ctrl-C cuts it short.
    async fn say_goodbye(&mut self, ending: Ending, owner: &Owner, interrupt: &mut Interrupt) -> Ending {
        if ending.is_settled() {
            return ending;
        }
        let service = &self.service;
        let discard = async {
            let mut patience = Patience::until(self.clock.now() + GOODBYE, &self.clock);
            loop {
                match service.discard(owner).await {
                    Ok(()) | Err(Trouble::Forgotten) => return true,
                    Err(trouble) if patience.wait(trouble.retry_after()).await => {}
                    Err(_) => return false,
                }
            }
        };
        let is_discarded = tokio::select! {
            is_discarded = timeout(GOODBYE, discard) => is_discarded.unwrap_or(false),
            () = interrupt.next() => false,
        };
        match ending {
            Ending::Interrupted { .. } => Ending::Interrupted { is_cancelled: is_discarded },
            ending => ending,
        }
    }
}
