//! Sign-ins at a provider that behaves as real ones were seen to, with the waits measured there.
//!
//! Steps of the wall clock need no scenario: nothing but the clock's start reads it (`src/clock.rs`), so there is nothing that a
//! step could reach.
#![cfg(feature = "demo")]

#[path = "../support/clock.rs"]
mod clock;
#[path = "../support/rig.rs"]
mod rig;

mod begin;
mod endings;
mod faults;
mod hang_ups;
mod kept;
mod pace;
mod races;
mod served;
