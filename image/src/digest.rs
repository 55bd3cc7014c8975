//! Bytes → their SHA-256 in hexadecimal digits, FIPS 180-4, by what the agent has it from.

use ring::digest::{Context, SHA256};

/// SHA-256 of bytes that come one after the other.
pub struct Digest(Context);

impl Default for Digest {
    fn default() -> Self {
        Self(Context::new(&SHA256))
    }
}

impl Digest {
    /// Takes the next bytes in.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all that was taken in.
    #[must_use]
    pub fn finish(self) -> String {
        self.0.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// SHA-256 of bytes that are all there.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    let mut digest = Digest::default();
    digest.update(bytes);
    digest.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_the_digest_of_the_whole() {
        // NIST's example "abc" (https://csrc.nist.gov/projects/cryptographic-standards-and-guidelines/example-values).
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let mut parts = Digest::default();
        parts.update(b"a");
        parts.update(b"bc");
        assert_eq!((digest(b"abc").as_str(), parts.finish().as_str()), (known, known));
    }
}
