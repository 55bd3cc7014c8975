//! The front as strangers meet it: real sockets on the loopback device, real curl and openssl.

mod hostile;
mod identity;
mod proxied;
mod requests;
#[path = "../../../tests/src/steady.rs"]
mod steady;
mod support;
mod upgrades;
