//! Private key DER → SigningKey: every kind of key that openssl writes, among them what ring refuses, P-521 keys and
//! keys whose curve is spelled out as parameters (`openssl ecparam -param_enc explicit`).

use p521::ecdsa::signature::Signer as _;
use p521::ecdsa::{DerSignature, SigningKey as P521Key};
use rustls::crypto::ring::sign;
use rustls::pki_types::{PrivateKeyDer, PrivateSec1KeyDer, SubjectPublicKeyInfoDer};
use rustls::sign::{Signer, SigningKey};
use rustls::{Error, SignatureAlgorithm, SignatureScheme};
use sai_agent::x509::{self, Curve, Elements};
use std::sync::Arc;

/// Contents of the object identifier id-ecPublicKey, 1.2.840.10045.2.1 (RFC 5480 §2.1.1).
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];

/// Schemes of which every TLS 1.2 or 1.3 client, browsers included, offers at least one for each kind of key.
const UNIVERSAL: [SignatureScheme; 4] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PKCS1_SHA256,
];

/// Makes a signing key of PKCS #8, SEC 1 or PKCS #1 DER.
///
/// # Errors
/// What is wrong with the key, to be read after its file's name.
pub fn signing_key(der: &PrivateKeyDer<'_>) -> Result<Arc<dyn SigningKey>, &'static str> {
    const UNUSABLE: &str = "holds a private key that cannot be used; expected RSA of 2048 to 4096 bits, ECDSA on P-256, P-384 or P-521, or Ed25519";
    match der {
        PrivateKeyDer::Sec1(key) => elliptic_curve_key(key.secret_sec1_der()),
        PrivateKeyDer::Pkcs8(key) => match sec1_within(key.secret_pkcs8_der()) {
            Some(sec1) => elliptic_curve_key(sec1),
            None => sign::any_supported_type(der).map_err(|_| UNUSABLE),
        },
        _ => sign::any_supported_type(der).map_err(|_| UNUSABLE),
    }
}

/// Whether some clients of today cannot verify this key's signatures, so that they need another certificate.
pub fn needs_companion(key: &dyn SigningKey) -> bool {
    key.choose_scheme(&UNIVERSAL).is_none()
}

/// The SEC 1 structure inside the PKCS #8 of an elliptic curve key (RFC 5958 §2, RFC 5915 §1).
fn sec1_within(pkcs8: &[u8]) -> Option<&[u8]> {
    let outer = Elements::of(pkcs8).with_tag(x509::SEQUENCE)?;
    let mut fields = Elements::of(outer.contents);
    fields.with_tag(x509::INTEGER)?;
    let algorithm = fields.with_tag(x509::SEQUENCE)?;
    let identifier = Elements::of(algorithm.contents).with_tag(x509::OBJECT_IDENTIFIER)?;
    let key = fields.with_tag(x509::OCTET_STRING)?;
    (identifier.contents == EC_PUBLIC_KEY).then_some(key.contents)
}

/// Reads ECPrivateKey of RFC 5915 §3 by the size of its scalar, never by its parameters.
fn elliptic_curve_key(sec1: &[u8]) -> Result<Arc<dyn SigningKey>, &'static str> {
    const NOT_ONE: &str = "holds an elliptic curve key that cannot be read";
    const OFF_CURVE: &str = "holds a key on a curve that TLS does not sign with; expected P-256, P-384 or P-521";
    const MISMATCH: &str = "holds an elliptic curve key whose private and public halves differ";
    let outer = Elements::of(sec1).with_tag(x509::SEQUENCE).ok_or(NOT_ONE)?;
    let mut fields = Elements::of(outer.contents);
    let version = fields.with_tag(x509::INTEGER).ok_or(NOT_ONE)?;
    let scalar = fields.with_tag(x509::OCTET_STRING).ok_or(NOT_ONE)?;
    let curve = Curve::with_field_bytes(scalar.contents.len()).ok_or(OFF_CURVE)?;
    let _parameters = fields.with_tag(x509::CONTEXT_0);
    let public = fields.with_tag(x509::CONTEXT_1);
    match curve {
        Curve::P521 => {
            let key = P521Key::from_slice(scalar.contents).map_err(|_| OFF_CURVE)?;
            let point = key.verifying_key().to_sec1_point(false);
            let stored = public.and_then(|public| Elements::of(public.contents).with_tag(x509::BIT_STRING));
            if stored.is_some_and(|stored| stored.contents.get(1..) != Some(point.as_bytes())) {
                return Err(MISMATCH);
            }
            let info = x509::ec_public_key_info(Curve::P521, point.as_bytes());
            Ok(Arc::new(P521 { key, info: info.into() }))
        }
        Curve::P256 | Curve::P384 => {
            let public = public
                .ok_or("holds an elliptic curve key without its public half; `openssl ec -in OLD -out NEW` adds it")?;
            let named = x509::element(x509::SEQUENCE, &[version.whole, scalar.whole, public.whole]);
            sign::any_ecdsa_type(&PrivateKeyDer::from(PrivateSec1KeyDer::from(named))).map_err(|_| OFF_CURVE)
        }
    }
}

/// A P-521 key as rustls wants it: ecdsa_secp521r1_sha512 of RFC 8446 §4.2.3.
#[derive(Clone)]
struct P521 {
    key: P521Key,
    info: SubjectPublicKeyInfoDer<'static>,
}

/// Without the secret.
impl std::fmt::Debug for P521 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("P521")
    }
}

impl SigningKey for P521 {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&SignatureScheme::ECDSA_NISTP521_SHA512).then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(self.info.clone())
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for P521 {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        // The nonce is derived from key and message (RFC 6979), so signing needs no randomness.
        let signature: DerSignature = self.key.sign(message);
        Ok(signature.as_bytes().to_vec())
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP521_SHA512
    }
}
