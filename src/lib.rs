pub mod clock;
pub mod config;
pub mod kernel;
pub mod provider;
pub mod store;
