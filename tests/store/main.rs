//! What the stores promise: one suite for all of them, and what each is to survive.

#[path = "../support/clock.rs"]
mod clock;
mod conformance;
mod database;
mod histories;
mod loading;
mod postgres;
mod residue;
mod restart;
mod sample;
#[path = "../support/scratch.rs"]
mod scratch;
mod sealing;
mod sqlite;
mod upgrade;
mod writer;
