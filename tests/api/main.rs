//! The public API as its users see it. Every answer of every test here is held against `openapi.yaml`.

mod agreement;
mod capabilities;
mod check;
mod claim;
#[path = "../support/clock.rs"]
mod clock;
mod connections;
#[path = "../support/contract.rs"]
mod contract;
mod create;
mod edges;
mod events;
mod faults;
mod limits;
mod loading;
mod log;
mod page;
mod qr;
mod read;
mod renew;
mod service;
mod site;
