//! Anteroom signs people in on devices that cannot show a login page: OAuth 2.0 Device Authorization Grant, RFC 8628.
//!
//! # What is where
//!
//! ```text
//!                     main ──► app (wires everything; nobody imports app)
//!   ┌───────────┬───────────────┼──────────────┬──────────────┐
//! http        poller        scheduler       watchdog     provider/*, store/*   (implement the traits)
//!   │        │      │           │              │
//!   └────────┼──────┼───────────┘              │  knows no session, no table
//!            ▼      ▼                          │
//!        sessions  provider (trait)            │
//!         │   └──► store (trait), clock        │
//!         ▼                                    ▼
//!        ══════════════  kernel  ═══════════════   pure: no I/O, no clock, no tokio, no panic
//! ```
//!
//! # Reading order
//!
//! 1. [`kernel`]: what a session is and how it may change.
//! 2. [`sessions`]: the handle everyone holds; prepare, make durable, publish.
//! 3. [`poller`], [`scheduler`], [`watchdog`]: asking providers, at the right time, and again after a crash.
//! 4. [`provider`]: what is said to a provider, and what its answers mean.
//! 5. [`app`]: how it all comes together.
//!
//! [`login`] is another program in the same binary: a client of the public API that shares nothing with the service but the clock.
//!
//! # What must never be
//!
//! - Nothing in the kernel does I/O, reads a clock, draws a random number, locks or panics.
//! - No state is changed except by the kernel, and none is shown that the store does not have.
//! - The watchdog never touches a session; a poller never holds one, only its id.
//! - No lock is held across an `.await`; no task runs unwatched.
//! - No secret, and nothing that a provider wrote, is logged or echoed.
#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods, clippy::await_holding_lock)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

#[cfg(panic = "abort")]
compile_error!("the watchdog restarts what panics, so the stack must unwind: remove panic = \"abort\" from the profile");

pub mod app;
pub mod check;
pub mod cli;
pub mod clock;
pub mod config;
#[cfg(feature = "demo")]
pub mod demo;
pub mod healthcheck;
pub mod http;
pub mod kernel;
pub mod keys;
pub mod login;
pub mod metrics;
pub mod poller;
pub mod provider;
pub mod scheduler;
pub mod sessions;
pub mod shown;
pub mod shutdown;
pub mod store;
pub mod telemetry;
pub mod watchdog;
