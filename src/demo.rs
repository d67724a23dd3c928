//! The development provider: a small, real OAuth 2.0 authorization server with the device authorization grant (RFC 8628), for
//! loopback alone. `anteroom demo` shows it to people; tests and benches script it.
//!
//! Read in this order:
//! - [`options`]: how strict it is, and who its clients are;
//! - [`codes`], [`tokens`], [`keys`]: what it knows, pure values that are given the time;
//! - [`clients`], [`form`]: who asks, and what;
//! - [`exchange`]: the one path from a request to its answer: note it, ask the script, answer, note the answer;
//! - [`endpoints`]: discovery, device authorization, token, revocation, userinfo, keys;
//! - [`script`], [`wire`]: answers made to order, and faults of the connection itself;
//! - [`record`]: what was received, and whether it was polite;
//! - [`page`]: approve, deny and break things by hand;
//! - [`switches`], [`saboteur`]: how a press on the page makes a real poller panic;
//! - [`server`]: sockets, and the handle [`DevProvider`].
//!
//! It knows nothing of sessions, pollers or the public API: to the product it is one more provider across the network.

mod clients;
mod codes;
mod endpoints;
mod exchange;
mod form;
mod keys;
mod options;
mod page;
mod record;
mod saboteur;
mod script;
mod server;
mod switches;
mod tokens;
mod wire;

pub use keys::SigningKey;
pub use options::{AfterExpiry, Client, ClientAuth, IdTokens, Options, RateCheck, Recording, Replay, Window};
pub use record::{Counts, Exchange, Outcome};
pub use saboteur::Saboteur;
pub use script::{Answer, Codes, Endpoint};
pub use server::DevProvider;
pub use switches::{Crash, Reach, Switches};
