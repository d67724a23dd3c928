//! The part that must not fail: what a sign-in session is and how it may change.
//!
//! Pure values and functions. Nothing here does I/O, reads a clock, draws a random number, waits, locks or panics; time and
//! randomness come in as arguments. Everything that can fail lives outside and may only *ask* for a change, which these
//! functions grant or refuse. `tests/architecture.rs` holds the import list.
//!
//! Reading order: [`time`], [`verdict`] (what a provider can say), [`pace`] (when it may be asked again), [`session`] (the state
//! machine), [`table`] (many sessions, and which is due when), [`restarts`] (how often a crash is forgiven).

pub mod pace;
pub mod restarts;
pub mod session;
pub mod table;
pub mod time;
pub mod verdict;
