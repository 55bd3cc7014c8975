//! PEM files → Identity: the certificates that the master presents, and their renewal while it runs.
//!
//! The operator's own certificate is presented to every client that can verify its key. Browsers offer no P-521, so a
//! key they cannot verify gets a companion: a self-made P-256 certificate, kept on disk so that its fingerprint stays
//! the same. With no certificate configured, the self-made one is all there is. Files that are replaced are noticed by
//! [`Identity::refresh`]; a broken replacement leaves the old certificates in use.

mod key;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::ServerConfig;
use rustls::client::verify_server_name;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use sai_agent::{pin, x509};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

/// Largest PEM file that is read, in bytes: a chain of ten certificates is about 20 KiB.
const PEM_LIMIT: u64 = 1 << 20;

/// How long a self-made certificate is valid: agents pin it, so its end would only strand them.
const OWN_VALIDITY: Duration = Duration::from_secs(3652 * 86_400);

/// The earliest present that is believed, in seconds since 1970 (1 January 2026): a board without a clock must not
/// make a certificate that ends in 1980.
const EARLIEST_NOW: u64 = 1_767_225_600;

/// Where certificates come from.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The operator's PEM chain, server certificate first, and the PEM key of that certificate; `None` to make one.
    pub operator: Option<(PathBuf, PathBuf)>,
    /// Directory of the self-made certificates; made with mode 0700 when absent.
    pub directory: PathBuf,
    /// DNS names and IP addresses to put into self-made certificates, beside `localhost` and the host's own name.
    pub names: Vec<String>,
}

/// What is wrong with which file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityError {
    /// The file to mend.
    pub file: PathBuf,
    /// What is wrong and what was expected.
    pub what: String,
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.what)
    }
}

impl std::error::Error for IdentityError {}

impl IdentityError {
    fn new(file: &Path, what: impl Into<String>) -> Self {
        Self { file: file.to_owned(), what: what.into() }
    }
}

/// What [`Identity::refresh`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// The files are those already looked at.
    Unchanged,
    /// New certificates are in use from the next connection on; this is the new [`Identity::fingerprint`].
    Replaced([u8; 32]),
    /// The files changed but cannot be used, and the old certificates stay. Told once for each change.
    Refused(IdentityError),
}

/// The certificates in use, and the TLS configuration that presents them.
pub struct Identity {
    sources: Sources,
    presented: Arc<Presented>,
    /// What the files looked like when they were last read.
    seen: Mutex<Vec<Stamp>>,
    config: Arc<ServerConfig>,
}

impl Identity {
    /// Reads the certificates, making the self-made ones that are needed and absent.
    ///
    /// # Errors
    /// [`IdentityError`] names the file and what was expected in it.
    pub fn load(sources: Sources) -> Result<Self, IdentityError> {
        let seen = stamps(&sources);
        let certificates = read(&sources)?;
        let presented = Arc::new(Presented(RwLock::new(Arc::new(certificates))));
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|error| IdentityError::new(&sources.directory, format!("TLS cannot be set up: {error}")))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&presented) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"http/1.1".to_vec(), b"http/1.0".to_vec()];
        // Connections are long and few; remembered sessions would be memory that strangers can fill.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self {
            // Files made by `read` are looked at once more by the first refresh, which does no harm.
            seen: Mutex::new(seen),
            sources,
            presented,
            config: Arc::new(config),
        })
    }

    /// The configuration to accept connections with; it presents whatever certificates are in use at that time.
    #[must_use]
    pub fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// SHA-256 of the certificate that agents see, for join lines. (Agents can verify every kind of key, so they never
    /// see the companion.)
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        self.presented.now().fingerprint()
    }

    /// The chain that agents see, as PEM.
    #[must_use]
    pub fn chain_pem(&self) -> String {
        pem_of(&self.presented.now().main.cert)
    }

    /// Whether the certificate is for this host name or address: who checks names refuses it elsewhere.
    #[must_use]
    pub fn names(&self, host: &str) -> bool {
        let now = self.presented.now();
        let leaf = now.main.cert.first().map(ParsedCertificate::try_from);
        match (leaf, ServerName::try_from(host)) {
            (Some(Ok(leaf)), Ok(name)) => verify_server_name(&leaf, &name).is_ok(),
            _ => false,
        }
    }

    /// SHA-256 of the companion's certificate, if there is one: what browsers show.
    #[must_use]
    pub fn companion_fingerprint(&self) -> Option<[u8; 32]> {
        let now = self.presented.now();
        let leaf = now.companion.as_ref()?.cert.first()?;
        Some(pin::fingerprint(leaf))
    }

    /// Reads the files again if they were replaced. Blocks for a few system calls, and some milliseconds on a change.
    pub fn refresh(&self) -> Refresh {
        let mut seen = lock(&self.seen);
        let found = stamps(&self.sources);
        if *seen == found {
            return Refresh::Unchanged;
        }
        *seen = found;
        match read(&self.sources) {
            Ok(certificates) => {
                let before = self.presented.now();
                if *before == certificates {
                    return Refresh::Unchanged;
                }
                let fingerprint = certificates.fingerprint();
                self.presented.replace(certificates);
                Refresh::Replaced(fingerprint)
            }
            Err(error) => Refresh::Refused(error),
        }
    }
}

/// The chain that a master with these sources presents, as PEM. Its key is not looked at, so that whoever may not read
/// that can have the chain all the same.
///
/// # Errors
/// [`IdentityError`] names the file and what was expected in it.
pub fn chain_pem(sources: &Sources) -> Result<String, IdentityError> {
    let own = sources.directory.join(OWN);
    let file = sources.operator.as_ref().map_or(&own, |(chain, _)| chain);
    if sources.operator.is_none() && !own.exists() {
        return Err(IdentityError::new(file, "is not there yet: a master makes it when it is started first"));
    }
    Ok(pem_of(&chain(file)?))
}

/// SHA-256 of the first certificate of a PEM file.
///
/// # Errors
/// [`IdentityError`] says what was expected in it.
pub fn fingerprint_of(file: &Path) -> Result<[u8; 32], IdentityError> {
    Ok(chain(file)?.first().map_or([0; 32], |leaf| pin::fingerprint(leaf)))
}

/// Certificates as PEM (RFC 7468).
fn pem_of(chain: &[CertificateDer<'_>]) -> String {
    let mut text = String::new();
    for certificate in chain {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let digits = STANDARD.encode(certificate);
        for (at, digit) in digits.char_indices() {
            if at > 0 && at % 64 == 0 {
                text.push('\n');
            }
            text.push(digit);
        }
        text.push_str("\n-----END CERTIFICATE-----\n");
    }
    text
}

/// Locks; nothing here can panic between lock and unlock, so poison means nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The certificates of one moment.
#[derive(Debug)]
struct Certificates {
    main: Arc<CertifiedKey>,
    companion: Option<Arc<CertifiedKey>>,
}

impl Certificates {
    fn fingerprint(&self) -> [u8; 32] {
        // `chain` refuses a file without certificates, so there always is a first.
        self.main.cert.first().map_or([0; 32], |leaf| pin::fingerprint(leaf))
    }
}

impl PartialEq for Certificates {
    fn eq(&self, other: &Self) -> bool {
        let chain = |key: &Option<Arc<CertifiedKey>>| key.as_ref().map(|key| key.cert.clone());
        self.main.cert == other.main.cert && chain(&self.companion) == chain(&other.companion)
    }
}

/// Chooses a certificate for each client.
#[derive(Debug)]
struct Presented(RwLock<Arc<Certificates>>);

impl Presented {
    fn now(&self) -> Arc<Certificates> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn replace(&self, certificates: Certificates) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(certificates);
    }
}

impl ResolvesServerCert for Presented {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let now = self.now();
        let verifiable = now.main.key.choose_scheme(hello.signature_schemes()).is_some();
        match &now.companion {
            Some(companion) if !verifiable => Some(Arc::clone(companion)),
            _ => Some(Arc::clone(&now.main)),
        }
    }
}

/// What tells a file from its replacement: device, inode, size, and times in nanoseconds. `None` when absent.
type Stamp = Option<(u64, u64, u64, i128, i128)>;

/// How the watched files look now.
fn stamps(sources: &Sources) -> Vec<Stamp> {
    let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
    let own = sources.directory.join(OWN);
    let companion = sources.directory.join(COMPANION);
    let files: &[&Path] = match &sources.operator {
        Some((certificate, key)) => &[certificate, key, &companion],
        None => &[&own],
    };
    files
        .iter()
        .map(|file| {
            let data = fs::metadata(file).ok()?;
            Some((
                data.dev(),
                data.ino(),
                data.size(),
                nanoseconds(data.mtime(), data.mtime_nsec()),
                nanoseconds(data.ctime(), data.ctime_nsec()),
            ))
        })
        .collect()
}

/// File of the self-made certificate and key, when the operator has none.
const OWN: &str = "master.pem";

/// File of the companion's certificate and key.
const COMPANION: &str = "companion.pem";

/// Reads everything anew.
fn read(sources: &Sources) -> Result<Certificates, IdentityError> {
    let Some((certificate, key)) = &sources.operator else {
        return Ok(Certificates { main: Arc::new(self_made(sources, OWN)?), companion: None });
    };
    let main = certified(certificate, key)?;
    let companion =
        if key::needs_companion(&*main.key) { Some(Arc::new(self_made(sources, COMPANION)?)) } else { None };
    Ok(Certificates { main: Arc::new(main), companion })
}

/// Reads a chain and its key, and checks that they belong together.
fn certified(certificate_file: &Path, key_file: &Path) -> Result<CertifiedKey, IdentityError> {
    let chain = chain(certificate_file)?;
    let der = private_key(key_file)?;
    let key = key::signing_key(&der).map_err(|what| IdentityError::new(key_file, what))?;
    let leaf = chain.first().map_or(&[][..], |leaf| leaf.as_ref());
    let info = x509::public_key_info(leaf).map_err(|error| {
        IdentityError::new(certificate_file, format!("the first certificate cannot be used: {error}"))
    })?;
    let of_key = key.public_key();
    let of_key = of_key.as_ref().and_then(|info| x509::public_key_bits(info));
    // The bits are compared, not the whole structure, because there are several ways to write the algorithm.
    if of_key.is_none() || of_key != x509::public_key_bits(&info) {
        return Err(IdentityError::new(
            key_file,
            format!(
                "is not the key of the first certificate in {}; expected the server's own certificate first, then its issuers",
                certificate_file.display()
            ),
        ));
    }
    Ok(CertifiedKey::new(chain, key))
}

/// Reads a small file whole.
fn pem(file: &Path, expected: &str) -> Result<Vec<u8>, IdentityError> {
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|open| open.take(PEM_LIMIT + 1).read_to_end(&mut bytes))
        .map_err(|error| IdentityError::new(file, format!("cannot be read: {error}; expected {expected}")))?;
    if bytes.len() as u64 > PEM_LIMIT {
        return Err(IdentityError::new(file, format!("is larger than 1 MiB; expected {expected}")));
    }
    Ok(bytes)
}

/// Reads the certificates of a PEM file, in order.
fn chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    const EXPECTED: &str = "PEM certificates (-----BEGIN CERTIFICATE-----), the server's own first";
    let bytes = pem(file, EXPECTED)?;
    let chain = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| IdentityError::new(file, format!("is not PEM: {error}; expected {EXPECTED}")))?;
    if chain.is_empty() {
        return Err(IdentityError::new(file, format!("holds no certificate; expected {EXPECTED}")));
    }
    Ok(chain)
}

/// Reads the first private key of a PEM file.
fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, IdentityError> {
    const EXPECTED: &str = "a PEM private key (PKCS #8, SEC 1 or RSA PKCS #1)";
    let bytes = pem(file, EXPECTED)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
        let encrypted = [&b"ENCRYPTED PRIVATE KEY"[..], b"Proc-Type: 4,ENCRYPTED"]
            .iter()
            .any(|mark| bytes.windows(mark.len()).any(|window| window == *mark));
        let what = if encrypted {
            "is protected by a passphrase, which nobody could type at start; `openssl pkey -in OLD -out NEW` removes it"
                .to_owned()
        } else {
            match error {
                rustls::pki_types::pem::Error::NoItemsFound => format!("holds no private key; expected {EXPECTED}"),
                error => format!("is not PEM: {error}; expected {EXPECTED}"),
            }
        };
        IdentityError::new(file, what)
    })
}

/// Reads a self-made certificate and key from their file, making the file first if it is absent.
fn self_made(sources: &Sources, name: &str) -> Result<CertifiedKey, IdentityError> {
    let file = sources.directory.join(name);
    if !file.exists() {
        make(sources, &file).map_err(|error| IdentityError::new(&file, format!("cannot be made: {error}")))?;
    }
    certified(&file, &file)
}

/// Makes a P-256 certificate and writes it with its key, readable by nobody else, whole or not at all.
fn make(sources: &Sources, file: &Path) -> io::Result<()> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    for name in sources.names.iter().chain([&host]) {
        if !name.is_empty() && name.is_ascii() && !names.contains(name) {
            names.push(name.clone());
        }
    }
    let mut parameters = rcgen::CertificateParams::new(names).map_err(io::Error::other)?;
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, "Sai master");
    parameters.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let now = SystemTime::now().max(SystemTime::UNIX_EPOCH + Duration::from_secs(EARLIEST_NOW));
    // A day back, for clients whose clock is behind ours.
    parameters.not_before = (now - Duration::from_secs(86_400)).into();
    parameters.not_after = (now + OWN_VALIDITY).into();
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(io::Error::other)?;
    let certificate = parameters.self_signed(&key).map_err(io::Error::other)?;

    fs::DirBuilder::new().recursive(true).mode(0o700).create(&sources.directory)?;
    let mut unfinished = file.as_os_str().to_owned();
    // Several processes, or threads of one, may make it at once.
    static COUNT: AtomicU32 = AtomicU32::new(0);
    unfinished.push(format!(".{}-{}.new", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
    let unfinished = PathBuf::from(unfinished);
    // Left behind by a crash of a process that had our number.
    let _ = fs::remove_file(&unfinished);
    let mut writer = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    let written = writer
        .write_all(certificate.pem().as_bytes())
        .and_then(|()| writer.write_all(key.serialize_pem().as_bytes()))
        .and_then(|()| writer.sync_all())
        // A link, unlike a rename, never replaces what another process made meanwhile; not every file system has links.
        .and_then(|()| match fs::hard_link(&unfinished, file) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(_) => fs::rename(&unfinished, file),
        });
    // Gone already where it was renamed.
    let _ = fs::remove_file(&unfinished);
    written?;
    File::open(&sources.directory)?.sync_all()
}
