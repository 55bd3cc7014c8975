//! Bytes → their SHA-256, SHA-384 or SHA-512, FIPS 180-4.
//!
//! ring has all in the processor's own instructions where there are any, and TLS brings it along: a crate of its own for
//! them would make the agent larger by 30 KB.

use ring::digest::{Context, SHA256, SHA384, SHA512, digest};

/// SHA-256 of bytes that come one after the other.
pub struct Sha256(Context);

impl Default for Sha256 {
    fn default() -> Self {
        Self(Context::new(&SHA256))
    }
}

impl Sha256 {
    /// Takes the next bytes in.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all that was taken in.
    #[must_use]
    pub fn finish(self) -> [u8; 32] {
        sized(self.0.finish().as_ref())
    }
}

/// SHA-256 of bytes that are all there.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    sized(digest(&SHA256, bytes).as_ref())
}

/// SHA-384 of bytes that are all there.
#[must_use]
pub fn sha384(bytes: &[u8]) -> [u8; 48] {
    sized(digest(&SHA384, bytes).as_ref())
}

/// SHA-512 of bytes that are all there.
#[must_use]
pub fn sha512(bytes: &[u8]) -> [u8; 64] {
    sized(digest(&SHA512, bytes).as_ref())
}

/// The bytes of a digest whose length is that of its kind.
fn sized<const LENGTH: usize>(bytes: &[u8]) -> [u8; LENGTH] {
    let mut sized = [0; LENGTH];
    sized.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    sized
}

#[cfg(test)]
mod tests {
    use super::*;

    // NIST's examples for both, "abc" (https://csrc.nist.gov/projects/cryptographic-standards-and-guidelines/example-values).
    #[test]
    fn digests_are_those_of_the_standard() {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex(&sha256(b"abc")), expected);
        let mut parts = Sha256::default();
        parts.update(b"a");
        parts.update(b"");
        parts.update(b"bc");
        assert_eq!(hex(&parts.finish()), expected);
        let expected = "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                        2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";
        assert_eq!(hex(&sha512(b"abc")), expected);
    }
}
