//! Sign-ins at a provider that behaves as real ones were seen to, with the waits measured there.
//!
//! Steps of the wall clock need no scenario: no pace or deadline reads it. What is shown or compared by it is tested with the shipped
//! binary (`tests/binary/clocks.rs`).
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
mod revoked;
mod served;
