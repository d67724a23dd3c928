pub mod clock;
#[cfg(feature = "demo")]
pub mod demo;
pub mod kernel;
pub mod provider;
pub mod store;
