//! What the image's first process decides: a card's settings and its partitions, the files that programs read and what is started when.
//!
//! Nothing here touches a machine; `main.rs` and the modules beside it do.

#![forbid(unsafe_code)]

pub mod arguments;
pub mod card;
pub mod digest;
pub mod fat;
pub mod files;
pub mod kept;
pub mod keys;
pub mod mdns;
pub mod secrets;
pub mod services;
pub mod settings;
pub mod signature;
pub mod sntp;
