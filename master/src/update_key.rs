//! A state directory → the key by which images for cards are signed, which is made once.
//!
//! Its public half is in every join line, so that no card takes an image that this master, or whoever has the private half elsewhere,
//! has not signed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use sai_agent::durable;
use sai_agent::pin::fingerprint_text;
use sai_core::join::UPDATE_KEY_BYTES;
use sai_core::update::{Head, Purpose, SIGNATURE_BYTES, Signature, from_digits};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The private half, as PKCS #8 in PEM, in the state directory.
pub(crate) const PRIVATE: &str = "update.key";
/// The public half beside it, as hexadecimal digits.
const PUBLIC: &str = "update.pub";
/// What comes before the 32 bytes of an Ed25519 key in PKCS #8: RFC 8410 §7.
const PKCS8: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
/// The first and last line of a key's text: RFC 7468 §10.
const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
/// See `BEGIN`.
const END: &str = "-----END PRIVATE KEY-----";

/// The key by which images are signed.
pub struct UpdateKey {
    public: [u8; UPDATE_KEY_BYTES],
    /// None where the private half is kept elsewhere.
    private: Option<Ed25519KeyPair>,
    state: PathBuf,
}

impl UpdateKey {
    /// Reads it, or makes it where none of it is there.
    ///
    /// # Errors
    /// What is wrong with which file.
    pub fn load(state: &Path) -> Result<Self, String> {
        let (private, public) = (state.join(PRIVATE), state.join(PUBLIC));
        let failed = |file: &Path, why: &dyn std::fmt::Display| format!("{}: {why}", file.display());
        let text = match fs::read(&private) {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            read => Some(read.map_err(|error| failed(&private, &error))?),
        };
        let known = match fs::read_to_string(&public) {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            read => {
                let text = read.map_err(|error| failed(&public, &error))?;
                let expected = format!("expected {} hexadecimal digits", 2 * UPDATE_KEY_BYTES);
                Some(from_digits(text.trim()).ok_or_else(|| failed(&public, &expected))?)
            }
        };
        let text = match (text, known) {
            (None, Some(public)) => return Ok(Self { public, private: None, state: state.to_path_buf() }),
            (Some(text), _) => text,
            (None, None) => {
                let text = draw()?;
                durable::write(&private, text.as_bytes()).map_err(|error| failed(&private, &error))?;
                text.into_bytes()
            }
        };
        let expected = "expected an Ed25519 key as PKCS #8 in PEM, as `openssl genpkey -algorithm ED25519` writes it";
        let der = der(&text).ok_or_else(|| failed(&private, &expected))?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map_err(|_| failed(&private, &expected))?;
        let own: [u8; UPDATE_KEY_BYTES] =
            pair.public_key().as_ref().try_into().map_err(|_| failed(&private, &expected))?;
        match known {
            Some(public_half) if public_half != own => {
                let why =
                    format!("it is not the public half of {}; cards believe the one they joined by", private.display());
                return Err(failed(&public, &why));
            }
            Some(_) => {}
            None => {
                let digits = format!("{}\n", fingerprint_text(&own));
                durable::write(&public, digits.as_bytes()).map_err(|error| failed(&public, &error))?;
            }
        }
        Ok(Self { public: own, private: Some(pair), state: state.to_path_buf() })
    }

    /// The public half.
    pub fn public(&self) -> [u8; UPDATE_KEY_BYTES] {
        self.public
    }

    /// The state directory that it is in.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The public half as hexadecimal digits.
    pub fn digits(&self) -> String {
        fingerprint_text(&self.public)
    }

    /// The signature that an image has by this key: its own, if that is for this purpose, or a new one.
    ///
    /// # Errors
    /// There is none, and none can be made here.
    pub fn signature(&self, head: &Head, purpose: Purpose) -> Result<Signature, String> {
        let good = |signature: &Signature| {
            let key = UnparsedPublicKey::new(&ED25519, self.public);
            signature.purpose == purpose && key.verify(&head.signed(purpose), &signature.bytes).is_ok()
        };
        match (&self.private, head.signature) {
            (Some(pair), _) => {
                let made = pair.sign(&head.signed(purpose));
                let bytes: [u8; SIGNATURE_BYTES] =
                    made.as_ref().try_into().map_err(|_| "the image cannot be signed".to_string())?;
                Ok(Signature { purpose, bytes })
            }
            (None, Some(signature)) if good(&signature) => Ok(signature),
            (None, Some(_)) => {
                Err(format!("its signature is not by this master's update key, or for no {}", purpose.word()))
            }
            (None, None) => Err(format!(
                "nobody has signed it, and the private half of the update key is not in {}: sign it where that is",
                self.state.join(PRIVATE).display()
            )),
        }
    }
}

/// What is between the lines of PEM.
fn der(pem: &[u8]) -> Option<Vec<u8>> {
    let text = str::from_utf8(pem).ok()?.trim().strip_prefix(BEGIN)?.strip_suffix(END)?;
    let letters: String = text.split_whitespace().collect();
    STANDARD.decode(letters).ok()
}

/// A new key's text.
pub(crate) fn draw() -> Result<String, String> {
    let mut seed = [0; UPDATE_KEY_BYTES];
    getrandom::fill(&mut seed).map_err(|error| format!("no randomness: {error}"))?;
    let der = [&PKCS8[..], &seed].concat();
    Ok(format!("{BEGIN}\n{}\n{END}\n", STANDARD.encode(der)))
}
