//! Trust → ClientConfig: whom an agent believes to be its master, and how that is verified.
//!
//! With a fingerprint, the certificate must hash to it *and* the handshake must be signed by the certificate's key:
//! whoever copies the public certificate but lacks its private key is refused. Names and dates are not looked at,
//! because boards without a real-time clock live in 1970 until they have a network, and a pin outlives no rotation
//! anyway. Without one, the system's certification authorities decide as for any https client.
//!
//! ring does the rest of TLS; of its curves P-521 is missing, and P-256 too large (see `curves`).

mod curves;

use crate::digest::sha256;
use crate::x509;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::ring::cipher_suite::{TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384};
use rustls::crypto::{CryptoProvider, GetRandomFailed, KeyProvider, SecureRandom, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, ServerName, SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::ParsedCertificate;
use rustls::sign::SigningKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme, SupportedCipherSuite,
};
use std::fmt;
use std::io;
use std::sync::Arc;
use webpki::ring::{
    ECDSA_P384_SHA256, ECDSA_P384_SHA384, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA256_ABSENT_PARAMS, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA384_ABSENT_PARAMS,
    RSA_PKCS1_2048_8192_SHA512, RSA_PKCS1_2048_8192_SHA512_ABSENT_PARAMS, RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    RSA_PSS_2048_8192_SHA384_LEGACY_KEY, RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
};

/// Whom to believe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Any certificate for the master's name that chains to the system's certification authorities and is in date.
    System,
    /// Exactly the certificate whose DER has this SHA-256, whatever its names and dates.
    Fingerprint([u8; 32]),
}

/// Why no client configuration could be made.
#[derive(Debug)]
pub enum TrustError {
    /// The system has no certification authorities; the text says what was tried.
    NoSystemRoots(String),
    /// A fingerprint is not 64 hexadecimal digits.
    NotAFingerprint,
    /// The master's host is neither a DNS name nor an IP address.
    NotAHost(String),
    /// The TLS library refused the configuration.
    Tls(Error),
}

impl fmt::Display for TrustError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSystemRoots(tried) => write!(
                f,
                "this system has no certification authorities ({tried}); install ca-certificates or pin the master's fingerprint"
            ),
            Self::NotAFingerprint => {
                f.write_str("a fingerprint is the SHA-256 of a certificate: 64 hexadecimal digits, colons allowed")
            }
            Self::NotAHost(host) => write!(f, "{host:?} is neither a DNS name nor an IP address"),
            Self::Tls(error) => write!(f, "TLS cannot be set up: {error}"),
        }
    }
}

impl std::error::Error for TrustError {}

/// SHA-256 of a certificate's DER: what is pinned.
#[must_use]
pub fn fingerprint(certificate: &[u8]) -> [u8; 32] {
    sha256(certificate)
}

/// 64 lower-case hexadecimal digits.
#[must_use]
pub fn fingerprint_text(fingerprint: &[u8; 32]) -> String {
    use fmt::Write as _;
    let mut text = String::with_capacity(64);
    for byte in fingerprint {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Reads what [`fingerprint_text`] or `openssl x509 -fingerprint -sha256` prints: hexadecimal digits of either case,
/// with or without colons.
///
/// # Errors
/// [`TrustError::NotAFingerprint`].
pub fn parse_fingerprint(text: &str) -> Result<[u8; 32], TrustError> {
    let mut digits = text.trim().bytes().filter(|&byte| byte != b':');
    let mut digit = || {
        let byte = digits.next().ok_or(TrustError::NotAFingerprint)?;
        let value = char::from(byte).to_digit(16).ok_or(TrustError::NotAFingerprint)?;
        u8::try_from(value).map_err(|_| TrustError::NotAFingerprint)
    };
    let mut out = [0; 32];
    for byte in &mut out {
        *byte = digit()? << 4 | digit()?;
    }
    if digits.next().is_some() {
        return Err(TrustError::NotAFingerprint);
    }
    Ok(out)
}

/// The name to hand to the TLS connector for a master's host: a DNS name, or an IP address with or without brackets.
///
/// # Errors
/// [`TrustError::NotAHost`].
pub fn server_name(host: &str) -> Result<ServerName<'static>, TrustError> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    ServerName::try_from(bare.to_owned()).map_err(|_| TrustError::NotAHost(host.to_owned()))
}

/// A client configuration for TLS 1.3 alone: both ends are ours, and nothing older is worth its code.
///
/// # Errors
/// [`TrustError::NoSystemRoots`] or [`TrustError::Tls`].
pub fn client_config(trust: Trust) -> Result<Arc<ClientConfig>, TrustError> {
    trusting(match trust {
        Trust::Fingerprint(expected) => Trusted::Certificate(expected),
        Trust::System => Trusted::Authorities(system_roots()?),
    })
}

/// The same for a look at who answers, to whom nothing is said: any certificate will do, from the holder of its key.
///
/// # Errors
/// [`TrustError::Tls`].
pub fn looking_config() -> Result<Arc<ClientConfig>, TrustError> {
    trusting(Trusted::Anybody)
}

fn trusting(trusted: Trusted) -> Result<Arc<ClientConfig>, TrustError> {
    let provider = Arc::new(provider());
    let verifier = Arc::new(Verifier { trusted, algorithms: provider.signature_verification_algorithms });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TrustError::Tls)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // An agent connects once and stays, so a session to resume would only cost memory.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

/// Whom an ordinary https client trusts.
fn system_roots() -> Result<RootCertStore, TrustError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable, unusable) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        let mut tried = format!("{unusable} unusable");
        for error in found.errors.iter().take(3) {
            tried.push_str(&format!("; {error}"));
        }
        return Err(TrustError::NoSystemRoots(tried));
    }
    Ok(roots)
}

/// What an agent's TLS is done by: ring, but for the curves X25519, P-256 and P-521.
fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: SUITES.to_vec(),
        kx_groups: vec![curves::X25519, curves::SECP256R1, ring::kx_group::SECP384R1],
        signature_verification_algorithms: WebPkiSupportedAlgorithms { all: ALL, mapping: MAPPING },
        secure_random: &System,
        key_provider: &NoKeys,
    }
}

/// What a connection is enciphered by. ChaCha20 is for processors without instructions for AES, and of those that are x86-64 few are
/// younger than 2010: there it would be 50 KB for nobody, since AES-128-GCM is what every peer has (RFC 8446 §9.1).
static SUITES: &[SupportedCipherSuite] = &[
    TLS13_AES_256_GCM_SHA384,
    TLS13_AES_128_GCM_SHA256,
    #[cfg(not(target_arch = "x86_64"))]
    ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
];

/// What certificates may be signed by: all that the library would have by itself, and P-521.
static ALL: &[&dyn SignatureVerificationAlgorithm] = &[
    curves::P521_SHA512,
    curves::P256_SHA256,
    curves::P256_SHA384,
    ECDSA_P384_SHA256,
    ECDSA_P384_SHA384,
    ED25519,
    RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
    RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512,
    RSA_PKCS1_2048_8192_SHA256_ABSENT_PARAMS,
    RSA_PKCS1_2048_8192_SHA384_ABSENT_PARAMS,
    RSA_PKCS1_2048_8192_SHA512_ABSENT_PARAMS,
];
/// What a master may sign its handshake by, and how that is verified. The first is the one preferred: a master with a P-521 key
/// of its own has a companion as well, and is to present its own.
static MAPPING: &[(SignatureScheme, &[&dyn SignatureVerificationAlgorithm])] = &[
    (SignatureScheme::ECDSA_NISTP521_SHA512, &[curves::P521_SHA512]),
    (SignatureScheme::ECDSA_NISTP384_SHA384, &[ECDSA_P384_SHA384]),
    (SignatureScheme::ECDSA_NISTP256_SHA256, &[curves::P256_SHA256]),
    (SignatureScheme::ED25519, &[ED25519]),
    (SignatureScheme::RSA_PSS_SHA512, &[RSA_PSS_2048_8192_SHA512_LEGACY_KEY]),
    (SignatureScheme::RSA_PSS_SHA384, &[RSA_PSS_2048_8192_SHA384_LEGACY_KEY]),
    (SignatureScheme::RSA_PSS_SHA256, &[RSA_PSS_2048_8192_SHA256_LEGACY_KEY]),
    (SignatureScheme::RSA_PKCS1_SHA512, &[RSA_PKCS1_2048_8192_SHA512]),
    (SignatureScheme::RSA_PKCS1_SHA384, &[RSA_PKCS1_2048_8192_SHA384]),
    (SignatureScheme::RSA_PKCS1_SHA256, &[RSA_PKCS1_2048_8192_SHA256]),
];

/// Random bytes of the system.
#[derive(Debug)]
struct System;

impl SecureRandom for System {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        getrandom::fill(bytes).map_err(|_| GetRandomFailed)
    }
}

/// An agent shows a token and no certificate, so it has no use for what reads private keys and signs with them.
#[derive(Debug)]
struct NoKeys;

impl KeyProvider for NoKeys {
    fn load_private_key(&self, _key: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, Error> {
        Err(Error::General("an agent has no certificate of its own".to_owned()))
    }
}

/// Why a certificate is not accepted, as what is to be done about it.
fn explained(error: Error, alone: bool, now: UnixTime) -> Error {
    let Error::InvalidCertificate(wrong) = &error else { return error };
    // In days, since that needs no calendar; who is off by less sees the hour by `date`.
    let days = |from: UnixTime, to: UnixTime| to.as_secs().saturating_sub(from.as_secs()) / 86_400;
    let since_1970 = now.as_secs() / 86_400;
    Error::General(match wrong {
        CertificateError::UnknownIssuer if alone => {
            "no authority that this system knows has signed the certificate, and it came alone: most likely whoever serves \
             it leaves out the intermediate certificate (serve the whole chain, as in fullchain.pem); one of your own \
             making is to be pinned"
                .to_owned()
        }
        CertificateError::UnknownIssuer => {
            "no authority that this system knows has signed the certificate; one of your own making is to be pinned"
                .to_owned()
        }
        CertificateError::NotValidYetContext { not_before, .. } => format!(
            "the certificate is valid only in {} days from now, by this machine's clock, which says that {since_1970} days \
             have gone by since 1970: set the clock",
            days(now, *not_before)
        ),
        CertificateError::ExpiredContext { not_after, .. } => format!(
            "the certificate has expired {} days ago, by this machine's clock, which says that {since_1970} days have gone \
             by since 1970: if the clock is right, the master's certificate is to be renewed",
            days(*not_after, now)
        ),
        _ => return error,
    })
}

/// What to say of a peer that has nothing newer than TLS 1.2; none when it is something else that failed.
#[must_use]
pub fn older_tls(error: &io::Error) -> Option<&'static str> {
    use rustls::{AlertDescription, PeerIncompatible};
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    let older = matches!(
        error,
        Error::AlertReceived(AlertDescription::ProtocolVersion)
            | Error::PeerIncompatible(
                PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                    | PeerIncompatible::ServerDoesNotSupportTls12Or13
            )
    );
    older.then_some(
        "offers TLS 1.2 or older alone, and agents speak TLS 1.3: let what stands before the master speak it, too (nginx: \
         ssl_protocols TLSv1.2 TLSv1.3)",
    )
}

/// Whose certificates are accepted.
#[derive(Debug)]
enum Trusted {
    /// This one, of which it is the fingerprint.
    Certificate([u8; 32]),
    /// Those which one of these has signed for the host.
    Authorities(RootCertStore),
    /// Any, for a look at it.
    Anybody,
}

/// Accepts certificates that are trusted, and only from the holders of their keys.
///
/// The library's own verifier does the same for authorities, and can look at lists of revoked certificates as well. Nobody
/// gives an agent such a list, and what reads them takes 14 KB.
#[derive(Debug)]
struct Verifier {
    trusted: Trusted,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let expected = match &self.trusted {
            Trusted::Certificate(expected) => expected,
            Trusted::Anybody => return Ok(ServerCertVerified::assertion()),
            Trusted::Authorities(roots) => {
                let certificate = ParsedCertificate::try_from(end_entity)?;
                let algorithms = self.algorithms.all;
                verify_server_cert_signed_by_trust_anchor(&certificate, roots, intermediates, now, algorithms)
                    .map_err(|error| explained(error, intermediates.is_empty(), now))?;
                verify_server_name(&certificate, server_name)?;
                return Ok(ServerCertVerified::assertion());
            }
        };
        let found = fingerprint(end_entity);
        if found == *expected {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Error::General(format!(
            "the master's certificate has fingerprint {}, but {} is pinned: either its certificate was replaced (join \
             again) or somebody is in between",
            fingerprint_text(&found),
            fingerprint_text(expected)
        )))
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 was never offered".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = x509::public_key_info(certificate)
            .map_err(|error| Error::General(format!("the master's certificate cannot be used: {error}")))?;
        rustls::crypto::verify_tls13_signature_with_raw_key(
            message,
            &SubjectPublicKeyInfoDer::from(key),
            signature,
            &self.algorithms,
        )
        // The library's own words list object identifiers byte by byte; the meaning is always this one.
        .map_err(|_| Error::InvalidCertificate(CertificateError::BadSignature))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
