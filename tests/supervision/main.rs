//! What dies, what goes on, and what never notices.
#![cfg(feature = "demo")]

#[path = "../support/clock.rs"]
mod clock;
#[path = "../support/fast_clock.rs"]
mod fast_clock;
#[path = "../support/rig.rs"]
mod rig;

mod chaos;
mod crashes;
mod crew;
mod hands;
mod hangs;
mod isolation;
mod ledger;
mod panic_at;
mod scheduler;
mod stalls;
mod stopping;
