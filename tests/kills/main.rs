//! Nothing that was acknowledged is lost, whenever the process is killed, and whatever the disk does.
#![cfg(target_os = "linux")]

mod faults;
mod kills;
#[path = "../support/scratch.rs"]
mod scratch;
mod service;
mod visitors;
mod world;
