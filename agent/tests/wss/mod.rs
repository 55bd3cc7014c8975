//! A WebSocket server over TLS on loopback, for links to be made to.
#![allow(dead_code)]

use async_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use async_tungstenite::{WebSocketStream, accept_hdr_async};
use futures_rustls::TlsAcceptor;
use futures_rustls::server::TlsStream;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sai_agent::link::{Dialer, Timing};
use sai_agent::pin::{self, Trust};
use sai_core::join::Address;
use smol::future::FutureExt as _;
use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};
use smol::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Longest a test of links may take, which takes seconds on a machine with nothing else to do.
const PATIENCE: Duration = Duration::from_secs(180);

/// Runs a test that fails rather than wait for ever.
pub fn within<T>(work: impl Future<Output = T>) -> T {
    smol::block_on(work.or(async {
        smol::Timer::after(PATIENCE).await;
        panic!("the test takes longer than {PATIENCE:?}");
    }))
}

pub const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A certificate made by the real openssl, and its fingerprint.
pub fn identity() -> &'static (Arc<ServerConfig>, [u8; 32]) {
    static IDENTITY: OnceLock<(Arc<ServerConfig>, [u8; 32])> = OnceLock::new();
    IDENTITY.get_or_init(|| {
        let directory: PathBuf = std::env::temp_dir().join(format!("sai-link-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        let (key, certificate) = (directory.join("key.pem"), directory.join("certificate.pem"));
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=somebody-else", "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .output()
            .expect("openssl");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let certificate = CertificateDer::from_pem_file(certificate).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(key).expect("a key");
        std::fs::remove_dir_all(directory).expect("the directory's end");
        let fingerprint = pin::fingerprint(&certificate);
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![certificate], key))
            .expect("a server configuration");
        (Arc::new(config), fingerprint)
    })
}

pub struct Server {
    pub listener: TcpListener,
}

impl Server {
    pub async fn new() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.expect("a port") }
    }

    pub fn address(&self) -> Address {
        Address::new("127.0.0.1".to_owned(), self.listener.local_addr().expect("an address").port())
    }

    pub fn dialer(&self, timing: Timing) -> Dialer {
        let trust = Trust::Fingerprint(identity().1);
        Dialer::new(self.address(), trust, TOKEN.to_owned(), timing).expect("a dialer")
    }

    /// The next connection that is still wanted: one of a process that was killed since is in the queue, too.
    pub async fn accept_tls(&self) -> TlsStream<TcpStream> {
        loop {
            let (stream, _) = self.listener.accept().await.expect("a connection");
            let _ = stream.set_nodelay(true);
            if let Ok(stream) = TlsAcceptor::from(Arc::clone(&identity().0)).accept(stream).await {
                return stream;
            }
        }
    }

    #[allow(clippy::result_large_err)]
    pub async fn accept(&self) -> WebSocketStream<TlsStream<TcpStream>> {
        let check = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
            assert_eq!(request.uri().path(), "/agent");
            let bearer = request.headers().get("authorization").expect("a token");
            assert_eq!(bearer.as_bytes(), format!("Bearer {TOKEN}").as_bytes());
            Ok(response)
        };
        loop {
            if let Ok(websocket) = accept_hdr_async(self.accept_tls().await, check).await {
                return websocket;
            }
        }
    }

    /// Answers the upgrade with this, and closes.
    pub async fn answer(&self, response: &str) {
        let mut stream = self.accept_tls().await;
        let mut head = vec![0; 4096];
        let _ = stream.read(&mut head).await.expect("a request");
        stream.write_all(response.as_bytes()).await.expect("an answer");
        let _ = stream.close().await;
    }
}
