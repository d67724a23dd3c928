pub mod clock;
pub mod kernel;
pub mod provider;
pub mod store;
