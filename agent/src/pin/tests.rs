//! Whole handshakes in memory, with certificates made by the real openssl.

use super::*;
use p521::ecdsa::signature::Signer as _;
use p521::ecdsa::{DerSignature, SigningKey as P521Key};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{CipherSuite, ClientConnection, ServerConfig, ServerConnection, SignatureAlgorithm};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A directory that goes with its test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("sai-pin-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn openssl(directory: &Path, arguments: &str) {
    let done = Command::new("openssl").args(arguments.split(' ')).current_dir(directory).output().unwrap();
    assert!(done.status.success(), "openssl {arguments}: {done:?}");
}

/// A self-signed certificate and its key, made with the given openssl arguments, valid from now for `days`.
fn certificate(make_key: &str) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let scratch = Scratch::new();
    openssl(&scratch.0, make_key);
    openssl(&scratch.0, "req -new -x509 -days 30 -key key.pem -subj /CN=elsewhere.example -out cert.pem");
    (
        CertificateDer::from_pem_file(scratch.0.join("cert.pem")).unwrap(),
        PrivateKeyDer::from_pem_file(scratch.0.join("key.pem")).unwrap(),
    )
}

const EXPLICIT_P521: &str = "ecparam -name secp521r1 -genkey -param_enc explicit -out key.pem";

/// Signs with P-521, which ring cannot.
#[derive(Debug)]
struct TestP521(P521Key);

impl SigningKey for TestP521 {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered
            .contains(&SignatureScheme::ECDSA_NISTP521_SHA512)
            .then(|| Box::new(Self(self.0.clone())) as Box<dyn Signer>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for TestP521 {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let signature: DerSignature = self.0.sign(message);
        Ok(signature.as_bytes().to_vec())
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP521_SHA512
    }
}

fn signing_key(key: &PrivateKeyDer<'_>) -> Arc<dyn SigningKey> {
    if let Ok(key) = ring::sign::any_supported_type(key) {
        return key;
    }
    // SEC 1 holds the scalar in its first OCTET STRING; PKCS #8 holds that structure in one more.
    let mut der = key.secret_der().to_vec();
    loop {
        let outer = x509::Elements::of(&der).next().unwrap();
        let octets = x509::Elements::of(outer.contents).find(|element| element.tag == x509::OCTET_STRING).unwrap();
        if octets.contents.len() == 66 {
            return Arc::new(TestP521(P521Key::from_slice(octets.contents).unwrap()));
        }
        der = octets.contents.to_vec();
    }
}

#[derive(Debug)]
struct Present(Arc<CertifiedKey>);

impl ResolvesServerCert for Present {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// What the client makes of a server that presents this certificate and signs with this key.
fn handshake(trust: Trust, certificate: &CertificateDer<'static>, key: &PrivateKeyDer<'_>) -> Result<(), Error> {
    handshake_of(client_config(trust).unwrap(), "[127.0.0.1]", certificate, key)
}

fn handshake_of(
    config: Arc<ClientConfig>,
    host: &str,
    certificate: &CertificateDer<'static>,
    key: &PrivateKeyDer<'_>,
) -> Result<(), Error> {
    handshake_with(ring::default_provider(), config, host, certificate, key)
}

fn handshake_with(
    server: CryptoProvider,
    config: Arc<ClientConfig>,
    host: &str,
    certificate: &CertificateDer<'static>,
    key: &PrivateKeyDer<'_>,
) -> Result<(), Error> {
    let server = ServerConfig::builder_with_provider(Arc::new(server))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Present(Arc::new(CertifiedKey::new(
            vec![certificate.clone()],
            signing_key(key),
        )))));
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    let mut client = ClientConnection::new(config, server_name(host).unwrap()).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        let mut unread = wire.as_slice();
        while !unread.is_empty() {
            server.read_tls(&mut unread).unwrap();
            server.process_new_packets()?;
        }
        let mut wire = Vec::new();
        server.write_tls(&mut wire).unwrap();
        let mut unread = wire.as_slice();
        while !unread.is_empty() {
            client.read_tls(&mut unread).unwrap();
            client.process_new_packets()?;
        }
    }
    Ok(())
}

fn pinned(certificate: &CertificateDer<'_>) -> Trust {
    Trust::Fingerprint(fingerprint(certificate))
}

#[test]
fn the_right_certificate_is_accepted_whatever_its_key() {
    for make_key in [
        EXPLICIT_P521,
        "ecparam -name secp521r1 -genkey -noout -out key.pem",
        "ecparam -name prime256v1 -genkey -noout -out key.pem",
        "ecparam -name secp384r1 -genkey -noout -out key.pem",
        "genpkey -algorithm ed25519 -out key.pem",
        "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out key.pem",
    ] {
        let (certificate, key) = certificate(make_key);
        handshake(pinned(&certificate), &certificate, &key).unwrap_or_else(|error| panic!("{make_key}: {error}"));
    }
}

#[test]
fn a_key_is_agreed_on_by_every_curve_that_a_server_may_insist_on() {
    let (certificate, key) = certificate("ecparam -name prime256v1 -genkey -noout -out key.pem");
    for group in ring::ALL_KX_GROUPS {
        let server = CryptoProvider { kx_groups: vec![*group], ..ring::default_provider() };
        let config = client_config(pinned(&certificate)).unwrap();
        let done = handshake_with(server, config, "ci.example", &certificate, &key);
        done.unwrap_or_else(|error| panic!("{group:?}: {error}"));
    }
}

/// An offer of a key that is no point of the curve would tell of the secret, and one in another form is not TLS 1.3.
#[test]
fn what_is_no_point_of_p256_is_no_key() {
    let offer = |share: &[u8]| curves::SECP256R1.start().unwrap().complete(share).map(|_| ());
    let honest = ring::kx_group::SECP256R1.start().unwrap().pub_key().to_vec();
    assert_eq!(offer(&honest), Ok(()));
    let mut beside = honest.clone();
    beside[64] ^= 1;
    let mut compressed = honest[..33].to_vec();
    compressed[0] = 2 + (honest[64] & 1);
    let beyond = [&[4][..], &[0xff; 64]].concat();
    for share in [&[][..], &[0], &[4], &honest[..64], &beside, &compressed, &beyond, &[&honest[..], &[0]].concat()] {
        let refused = offer(share).unwrap_err();
        assert_eq!(refused, Error::PeerMisbehaved(rustls::PeerMisbehaved::InvalidKeyShare), "{share:?}");
    }
}

/// RFC 7748 §6.1 gives both secrets and what comes of them; ours are drawn, so both sides are played against ring's.
#[test]
fn what_fixes_a_key_of_x25519_beforehand_is_no_key() {
    let offer = |share: &[u8]| curves::X25519.start().unwrap().complete(share).map(|_| ());
    let (ours, theirs) = (curves::X25519.start().unwrap(), ring::kx_group::X25519.start().unwrap());
    let (our_share, their_share) = (ours.pub_key().to_vec(), theirs.pub_key().to_vec());
    let (here, there) = (ours.complete(&their_share).unwrap(), theirs.complete(&our_share).unwrap());
    assert_eq!(here.secret_bytes(), there.secret_bytes());
    // Points of small order, from the errata of RFC 7748 and "May the Fourth Be With You": 0, 1, both of order 8, p - 1, p, p + 1.
    let mut small = vec![[0; 32], [0; 32]];
    small[1][0] = 1;
    for (first, middle) in [(0xec, 0xff), (0xed, 0xff), (0xee, 0xff)] {
        let mut point = [middle; 32];
        (point[0], point[31]) = (first, 0x7f);
        small.push(point);
    }
    for order8 in [
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    ] {
        small.push(data_encoding::HEXLOWER.decode(order8.as_bytes()).unwrap().try_into().unwrap());
    }
    for share in small.iter().map(|point| &point[..]).chain([
        &[][..],
        &[9],
        &their_share[..31],
        &[&their_share[..], &[0]].concat(),
    ]) {
        let refused = offer(share).unwrap_err();
        assert_eq!(refused, Error::PeerMisbehaved(rustls::PeerMisbehaved::InvalidKeyShare), "{share:?}");
    }
}

/// What the library would have by itself is not lost by naming what an agent has.
#[test]
fn nothing_that_the_library_verifies_is_missing() {
    let (ours, theirs) = (provider(), ring::default_provider());
    let named = |provider: &CryptoProvider| -> Vec<String> {
        let algorithms = provider.signature_verification_algorithms.all.iter();
        algorithms.map(|one| format!("{:?} {:?}", one.public_key_alg_id(), one.signature_alg_id())).collect()
    };
    let mut missing = named(&theirs);
    missing.retain(|one| !named(&ours).contains(one));
    assert_eq!(missing, Vec::<String>::new());
    let schemes = |provider: &CryptoProvider| provider.signature_verification_algorithms.supported_schemes();
    assert_eq!(schemes(&ours), [&[SignatureScheme::ECDSA_NISTP521_SHA512][..], &schemes(&theirs)].concat());
    let groups = |provider: &CryptoProvider| provider.kx_groups.iter().map(|group| group.name()).collect::<Vec<_>>();
    assert_eq!(groups(&ours), groups(&theirs));
    // But for what only processors without AES need, and TLS 1.2, which the library has as soon as
    // anything that is built with the agent asks for it, as a master does.
    let needed = |suite: &SupportedCipherSuite| {
        suite.tls13().is_some()
            && (cfg!(not(target_arch = "x86_64")) || suite.suite() != CipherSuite::TLS13_CHACHA20_POLY1305_SHA256)
    };
    let theirs: Vec<_> = theirs.cipher_suites.into_iter().filter(needed).collect();
    assert_eq!(ours.cipher_suites, theirs);
}

#[test]
fn another_certificate_is_refused_and_both_fingerprints_are_named() {
    let (mine, _) = certificate(EXPLICIT_P521);
    let (other, other_key) = certificate(EXPLICIT_P521);
    let error = handshake(pinned(&mine), &other, &other_key).unwrap_err().to_string();
    assert!(error.contains(&fingerprint_text(&fingerprint(&mine))), "{error}");
    assert!(error.contains(&fingerprint_text(&fingerprint(&other))), "{error}");
}

#[test]
fn the_right_certificate_without_its_key_is_refused() {
    for make_key in [EXPLICIT_P521, "ecparam -name prime256v1 -genkey -noout -out key.pem"] {
        let (mine, _) = certificate(make_key);
        let (_, stranger) = certificate(make_key);
        let error = handshake(pinned(&mine), &mine, &stranger).unwrap_err();
        assert_eq!(error, Error::InvalidCertificate(rustls::CertificateError::BadSignature), "{make_key}");
    }
}

#[test]
fn a_signature_of_another_kind_of_key_is_refused_in_few_words() {
    let (mine, _) = certificate(EXPLICIT_P521);
    let (_, stranger) = certificate("ecparam -name prime256v1 -genkey -noout -out key.pem");
    let error = handshake(pinned(&mine), &mine, &stranger).unwrap_err();
    assert!(error.to_string().len() < 200, "{error}");
}

#[test]
fn made_up_curve_parameters_change_nothing() {
    let (certificate, _) = certificate(EXPLICIT_P521);
    let honest = x509::public_key_info(&certificate).unwrap();
    // The generator of secp521r1 begins with these bytes (FIPS 186-4 D.1.2.5); the attack of CVE-2020-0601 replaces it.
    let generator = [0x04, 0x00, 0xc6, 0x85, 0x8e, 0x06, 0xb7, 0x04];
    let at = certificate
        .windows(generator.len())
        .position(|window| window == generator)
        .expect("the recipe writes the generator into the certificate");
    let mut forged = certificate.to_vec();
    for byte in &mut forged[at + 1..at + 133] {
        *byte ^= 0x55;
    }
    assert_eq!(x509::public_key_info(&forged).unwrap(), honest);
}

/// A certificate for ci.example and 192.0.2.7 that the authority in a directory signs, valid from now for ten days.
fn signed(authority: &Scratch) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    signed_with(authority, "sha256")
}

fn signed_with(authority: &Scratch, digest: &str) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let names = "-addext subjectAltName=DNS:ci.example,IP:192.0.2.7 -addext basicConstraints=critical,CA:FALSE";
    openssl(&authority.0, "ecparam -name prime256v1 -genkey -noout -out key.pem");
    openssl(&authority.0, &format!("req -new -key key.pem -subj /CN=ci.example {names} -out request.pem"));
    let signer = "-CA authority.pem -CAkey authority-key.pem -CAcreateserial -copy_extensions copy";
    openssl(&authority.0, &format!("x509 -req -in request.pem -{digest} {signer} -days 10 -out cert.pem"));
    (
        CertificateDer::from_pem_file(authority.0.join("cert.pem")).unwrap(),
        PrivateKeyDer::from_pem_file(authority.0.join("key.pem")).unwrap(),
    )
}

fn authority() -> Scratch {
    authority_of("ecparam -name secp384r1 -genkey -noout")
}

fn authority_of(make_key: &str) -> Scratch {
    let scratch = Scratch::new();
    openssl(&scratch.0, &format!("{make_key} -out authority-key.pem"));
    openssl(&scratch.0, "req -new -x509 -days 30 -key authority-key.pem -subj /CN=authority -out authority.pem");
    scratch
}

fn roots_of(authority: &Scratch) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority.0.join("authority.pem")).unwrap()).unwrap();
    roots
}

fn trusting_in(authority: &Scratch) -> Arc<ClientConfig> {
    trusting(Trusted::Authorities(roots_of(authority))).unwrap()
}

#[test]
fn an_authority_vouches_for_hosts_and_times_and_for_who_has_the_key() {
    let ours = authority();
    let (good, key) = signed(&ours);
    for host in ["ci.example", "192.0.2.7"] {
        handshake_of(trusting_in(&ours), host, &good, &key).unwrap_or_else(|error| panic!("{host}: {error}"));
    }
    for host in ["elsewhere.example", "192.0.2.8", "ci.example.org"] {
        let error = handshake_of(trusting_in(&ours), host, &good, &key).unwrap_err();
        assert!(error.to_string().contains("not valid for name"), "{host}: {error}");
    }
    let error = handshake_of(trusting_in(&authority()), "ci.example", &good, &key).unwrap_err();
    assert!(matches!(error, Error::InvalidCertificate(_)), "{error}");
    let (_, stranger) = signed(&ours);
    let error = handshake_of(trusting_in(&ours), "ci.example", &good, &stranger).unwrap_err();
    assert_eq!(error, Error::InvalidCertificate(CertificateError::BadSignature));
    let algorithms = provider().signature_verification_algorithms;
    let verifier = Verifier { trusted: Trusted::Authorities(roots_of(&ours)), algorithms };
    let in_days = |days: u64| {
        let now = UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs() + days * 86_400));
        verifier.verify_server_cert(&good, &[], &server_name("ci.example").unwrap(), &[], now)
    };
    assert!(in_days(0).is_ok() && in_days(9).is_ok());
    assert!(in_days(11).unwrap_err().to_string().contains("expired"));
}

#[test]
fn an_authority_may_sign_in_any_way_that_is_known() {
    for (make_key, digest) in [
        ("ecparam -name prime256v1 -genkey -noout", "sha256"),
        ("ecparam -name prime256v1 -genkey -noout", "sha384"),
        ("ecparam -name secp384r1 -genkey -noout", "sha256"),
        ("ecparam -name secp384r1 -genkey -noout", "sha384"),
        ("ecparam -name secp521r1 -genkey -noout", "sha512"),
        ("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048", "sha256"),
    ] {
        let authority = authority_of(make_key);
        let (good, key) = signed_with(&authority, digest);
        let done = handshake_of(trusting_in(&authority), "ci.example", &good, &key);
        done.unwrap_or_else(|error| panic!("{make_key} with {digest}: {error}"));
        let error = handshake_of(trusting_in(&authority_of(make_key)), "ci.example", &good, &key).unwrap_err();
        assert!(matches!(error, Error::InvalidCertificate(_)), "{make_key} with {digest}: {error}");
    }
}

#[test]
fn a_self_signed_certificate_is_not_trusted_by_the_system() {
    let (mine, key) = certificate("ecparam -name prime256v1 -genkey -noout -out key.pem");
    // A system without any certification authorities refuses earlier, which is as good.
    if client_config(Trust::System).is_ok() {
        assert!(handshake(Trust::System, &mine, &key).is_err());
    }
}

#[test]
fn fingerprints_are_read_as_they_are_printed() {
    let text = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789ABCDEF";
    let bytes = parse_fingerprint(text).unwrap();
    assert_eq!(fingerprint_text(&bytes), text.to_ascii_lowercase());
    let colons: Vec<&str> = (0..64).step_by(2).map(|at| &text[at..at + 2]).collect();
    assert_eq!(parse_fingerprint(&colons.join(":")).unwrap(), bytes);
    for wrong in ["", "00", &text[1..], &format!("{text}0"), &text.replace('0', "g"), "é"] {
        assert!(parse_fingerprint(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn hosts_are_names_or_addresses() {
    for host in ["ci.example.org", "10.0.0.7", "::1", "[fe80::1]", "localhost"] {
        server_name(host).unwrap();
    }
    for host in ["", "a b", "[::1", "ci.example.org:443"] {
        assert!(server_name(host).is_err(), "{host}");
    }
}

#[test]
fn a_clock_that_is_wrong_is_named() {
    let at = |seconds: u64| UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    let day = 86_400;
    let told = |wrong: CertificateError, now| explained(Error::InvalidCertificate(wrong), true, at(now)).to_string();
    let early = told(CertificateError::NotValidYetContext { time: at(5 * day), not_before: at(20_000 * day) }, 5 * day);
    assert!(
        early.contains("in 19995 days")
            && early.contains("that 5 days have gone by")
            && early.contains("set the clock")
    );
    let late = told(CertificateError::ExpiredContext { time: at(30 * day), not_after: at(20 * day) }, 30 * day);
    assert!(late.contains("expired 10 days ago") && late.contains("30 days"), "{late}");
    let same = explained(Error::InvalidCertificate(CertificateError::BadSignature), true, at(0));
    assert_eq!(same, Error::InvalidCertificate(CertificateError::BadSignature));
}
