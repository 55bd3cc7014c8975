//! The front as strangers meet it: real sockets on the loopback device, real curl and openssl.

mod hostile;
mod identity;
mod proxied;
mod requests;
mod support;
mod upgrades;
