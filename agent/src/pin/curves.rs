//! Points of the curves X25519, P-256 and P-521 → a key agreed on, and whether a signature is right, as TLS asks for both.
//!
//! ring has no P-521. It has the others by tables, P-256 by one of 150 KB on processors of 64 bits and X25519 by one of 24 KB,
//! which serve those who shake thousands of hands in a second. An agent connects once and stays: the crates that do the same
//! without a table take 10 and 2 KB.

use crate::digest::{sha256, sha384, sha512};
use p256::PublicKey;
use p256::ecdh::EphemeralSecret;
use p256::elliptic_curve::Generate as _;
use p256::elliptic_curve::sec1::ToSec1Point as _;
use p521::ecdsa::signature::hazmat::PrehashVerifier as _;
use rustls::crypto::{ActiveKeyExchange, GetRandomFailed, SharedSecret, SupportedKxGroup};
use rustls::pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, alg_id};
use rustls::{Error, NamedGroup, PeerMisbehaved};
use std::fmt;
use x25519_dalek::{X25519_BASEPOINT_BYTES, x25519};
use zeroize::Zeroizing;

/// ECDSA on P-256 with SHA-256: ecdsa_secp256r1_sha256 of RFC 8446 §4.2.3.
pub static P256_SHA256: &dyn SignatureVerificationAlgorithm =
    &Ecdsa { verify: p256_sha256, key: alg_id::ECDSA_P256, signature: alg_id::ECDSA_SHA256 };
/// ECDSA on P-256 with SHA-384, which a certificate may be signed by.
pub static P256_SHA384: &dyn SignatureVerificationAlgorithm =
    &Ecdsa { verify: p256_sha384, key: alg_id::ECDSA_P256, signature: alg_id::ECDSA_SHA384 };
/// ECDSA on P-521 with SHA-512: ecdsa_secp521r1_sha512 of RFC 8446 §4.2.3.
pub static P521_SHA512: &dyn SignatureVerificationAlgorithm =
    &Ecdsa { verify: p521_sha512, key: alg_id::ECDSA_P521, signature: alg_id::ECDSA_SHA512 };

/// A key agreed on by numbers of RFC 7748: x25519 of RFC 8446 §4.2.7.
pub static X25519: &dyn SupportedKxGroup = &Curve25519;
/// A key agreed on by points of P-256: secp256r1 of RFC 8446 §4.2.7.
pub static SECP256R1: &dyn SupportedKxGroup = &Secp256r1;

/// Whether by a key, of a message, a signature is right.
type Verify = fn(&[u8], &[u8], &[u8]) -> bool;

/// A way to verify signatures that are two numbers in DER.
struct Ecdsa {
    verify: Verify,
    key: AlgorithmIdentifier,
    signature: AlgorithmIdentifier,
}

impl fmt::Debug for Ecdsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ecdsa")
    }
}

impl SignatureVerificationAlgorithm for Ecdsa {
    fn verify_signature(&self, public_key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        if (self.verify)(public_key, message, signature) { Ok(()) } else { Err(InvalidSignature) }
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.key
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.signature
    }
}

fn p256_sha256(key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    p256(key, &sha256(message), signature)
}

fn p256_sha384(key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    p256(key, &sha384(message), signature)
}

fn p256(key: &[u8], digest: &[u8], signature: &[u8]) -> bool {
    let (key, signature) =
        (p256::ecdsa::VerifyingKey::from_sec1_bytes(key), p256::ecdsa::Signature::from_der(signature));
    key.is_ok_and(|key| signature.is_ok_and(|signature| key.verify_prehash(digest, &signature).is_ok()))
}

fn p521_sha512(key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let (key, signature) =
        (p521::ecdsa::VerifyingKey::from_sec1_bytes(key), p521::ecdsa::DerSignature::from_bytes(signature));
    key.is_ok_and(|key| signature.is_ok_and(|signature| key.verify_prehash(&sha512(message), &signature).is_ok()))
}

#[derive(Debug)]
struct Curve25519;

impl SupportedKxGroup for Curve25519 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let mut secret = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *secret).map_err(|_| GetRandomFailed)?;
        let public = x25519(*secret, X25519_BASEPOINT_BYTES);
        Ok(Box::new(Agreeing25519 { secret, public }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

/// One of two who agree on a key by X25519.
struct Agreeing25519 {
    secret: Zeroizing<[u8; 32]>,
    public: [u8; 32],
}

impl ActiveKeyExchange for Agreeing25519 {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let peer = peer.try_into().map_err(|_| Error::PeerMisbehaved(PeerMisbehaved::InvalidKeyShare))?;
        let shared = Zeroizing::new(x25519(*self.secret, peer));
        // What a peer has chosen such that every secret gives the same is refused, as RFC 8446 §7.4.2 asks.
        if shared.iter().fold(0, |all, byte| all | byte) == 0 {
            return Err(Error::PeerMisbehaved(PeerMisbehaved::InvalidKeyShare));
        }
        Ok(shared.as_slice().into())
    }

    fn pub_key(&self) -> &[u8] {
        &self.public
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

#[derive(Debug)]
struct Secp256r1;

impl SupportedKxGroup for Secp256r1 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let secret = EphemeralSecret::try_generate().map_err(|_| GetRandomFailed)?;
        let public = secret.public_key().to_sec1_point(false);
        Ok(Box::new(Agreeing { secret, public: public.as_bytes().into() }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::secp256r1
    }
}

/// One of two who agree on a key.
struct Agreeing {
    secret: EphemeralSecret,
    public: Box<[u8]>,
}

impl ActiveKeyExchange for Agreeing {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        // TLS 1.3 knows no other form of a point than both its numbers (RFC 8446 §4.2.8.2). Whether it is on the curve is
        // looked at as it is read.
        let point = (peer.first() == Some(&4)).then(|| PublicKey::from_sec1_bytes(peer).ok()).flatten();
        let point = point.ok_or(Error::PeerMisbehaved(PeerMisbehaved::InvalidKeyShare))?;
        Ok(self.secret.diffie_hellman(&point).raw_secret_bytes().as_slice().into())
    }

    fn pub_key(&self) -> &[u8] {
        &self.public
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::secp256r1
    }
}
