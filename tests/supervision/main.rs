//! What dies, what goes on, and what never notices.
#![cfg(feature = "demo")]

#[path = "../support/clock.rs"]
mod clock;
#[path = "../support/rig.rs"]
mod rig;

mod crashes;
mod isolation;
mod scheduler;
mod stopping;
