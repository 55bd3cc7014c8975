//! Certificates of every kind, and who is shown which.

use crate::support::{Scratch, World, make_certificate, run, soon, world, world_with};
use sai_agent::pin;
use sai_master::tls::{Identity, IdentityError, Refresh, Sources};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// The fingerprint of the certificate that openssl's own client is shown, after a handshake that it accepts.
fn s_client(world: &World, arguments: &str) -> [u8; 32] {
    let done = Command::new("openssl")
        .args(["s_client", "-connect", &world.address.to_string()])
        .args(arguments.split(' '))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(text.contains("Cipher is") && !text.contains("Cipher is (NONE)"), "{done:?}");
    let shown = world.scratch.path("shown.pem");
    std::fs::write(&shown, &text).unwrap();
    let line = run(&world.scratch.0, &format!("openssl x509 -in {} -noout -fingerprint -sha256", shown.display()));
    let line = String::from_utf8(line.stdout).unwrap();
    pin::parse_fingerprint(line.split_once('=').unwrap().1).unwrap()
}

/// Key and certificate in the scratch directory, made by openssl from this recipe for `key.pem`.
fn operator(scratch: &Scratch, recipe: &str) -> (PathBuf, PathBuf) {
    run(&scratch.0, recipe);
    run(&scratch.0, "openssl req -new -x509 -days 30 -key key.pem -subj /CN=ci.example -out cert.pem");
    (scratch.path("cert.pem"), scratch.path("key.pem"))
}

/// curl, openssl and our own client get an answer.
fn everybody_connects(world: &World) {
    assert!(world.curl_text("", "/hello").starts_with("GET /hello"));
    assert!(world.curl_text("--tls-max 1.2", "/hello").starts_with("GET /hello"));
    s_client(world, "-tls1_2");
    s_client(world, "-tls1_3");
    smol::block_on(soon(world.connect())).unwrap();
}

const EXPLICIT_P521: &str = "openssl ecparam -name secp521r1 -genkey -param_enc explicit -out key.pem";

#[test]
fn the_script_makes_what_everybody_can_connect_to() {
    let scratch = Scratch::new();
    let made = make_certificate(&scratch.0);
    let mode = std::fs::metadata(&made.1).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let world = world_with(scratch, Some(made), |_| ());
    everybody_connects(&world);
    // Whoever knows P-521 sees the operator's certificate, everybody else the companion.
    let companion = world.identity.companion_fingerprint().unwrap();
    assert_eq!(s_client(&world, "-tls1_3"), world.identity.fingerprint());
    assert_eq!(s_client(&world, "-tls1_2"), world.identity.fingerprint());
    let browser = "-sigalgs ECDSA+SHA256:RSA-PSS+SHA256:RSA+SHA256:ECDSA+SHA384";
    assert_eq!(s_client(&world, &format!("-tls1_3 {browser}")), companion);
    assert_eq!(s_client(&world, &format!("-tls1_2 {browser}")), companion);
    assert_ne!(companion, world.identity.fingerprint());
}

#[test]
fn the_script_replaces_nothing_unasked() {
    let scratch = Scratch::new();
    let (certificate, _) = make_certificate(&scratch.0);
    let before = std::fs::read(&certificate).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/gen-selfsigned-certs.sh");
    let again = Command::new(&script).arg(&scratch.0).output().unwrap();
    assert!(!again.status.success());
    assert!(String::from_utf8_lossy(&again.stderr).contains("--force"));
    assert_eq!(std::fs::read(&certificate).unwrap(), before);
    for (arguments, status) in
        [(&["--help"][..], 0), (&["--wat"], 2), (&["--days", "x"], 2), (&["--name", "a/b"], 2), (&["a", "b/c"], 2)]
    {
        let done = Command::new(&script).args(arguments).current_dir(&scratch.0).output().unwrap();
        assert_eq!(done.status.code(), Some(status), "{arguments:?}: {done:?}");
    }
}

#[test]
fn the_script_makes_certificates_for_every_name_they_are_asked_for() {
    let scratch = Scratch::new();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/gen-selfsigned-certs.sh");
    let directory = scratch.0.display();
    run(&scratch.0, &format!("{} {directory} ci.example.org 127.0.0.1 ::1 *.ci.example.org", script.display()));
    let made = (scratch.path("sai-master.pem"), scratch.path("sai-master-key.pem"));
    let world = world_with(scratch, Some(made), |_| ());
    for (host, named) in [
        ("ci.example.org", true),
        ("a.ci.example.org", true),
        ("127.0.0.1", true),
        ("::1", true),
        ("example.org", false),
        ("127.0.0.2", false),
        ("not a name", false),
    ] {
        assert_eq!(world.identity.names(host), named, "{host}");
    }
    // And curl agrees, with the certificate as the one to believe.
    let port = world.address.port();
    for (host, status) in [("ci.example.org", 0), ("a.ci.example.org", 0), ("example.org", 60)] {
        let done = Command::new("curl")
            .args(["-sS", "--cacert", "sai-master.pem", "--resolve", &format!("{host}:{port}:127.0.0.1")])
            .arg(format!("https://{host}:{port}/hello"))
            .current_dir(&world.scratch.0)
            .output()
            .unwrap();
        assert_eq!(done.status.code(), Some(status), "{host}: {done:?}");
    }
}

#[test]
fn every_kind_of_key_in_every_kind_of_file_is_used() {
    for recipe in [
        EXPLICIT_P521,
        "openssl ecparam -name secp521r1 -genkey -noout -out key.pem",
        "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-521 -out key.pem",
        "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-521 -pkeyopt ec_param_enc:explicit -out key.pem",
        "openssl ecparam -name prime256v1 -genkey -out key.pem",
        "openssl ecparam -name prime256v1 -genkey -param_enc explicit -out key.pem",
        "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out key.pem",
        "openssl genpkey -algorithm ed25519 -out key.pem",
        "openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out key.pem",
        "openssl genrsa -traditional -out key.pem 2048",
    ] {
        let scratch = Scratch::new();
        let files = operator(&scratch, recipe);
        let world = world_with(scratch, Some(files), |_| ());
        smol::block_on(soon(world.connect())).unwrap_or_else(|error| panic!("{recipe}: {error}"));
        assert!(world.curl_text("", "/hello").starts_with("GET /hello"), "{recipe}");
        let odd = recipe.contains("521") || recipe.contains("ed25519");
        assert_eq!(world.identity.companion_fingerprint().is_some(), odd, "{recipe}");
    }
}

#[test]
fn with_nothing_given_a_certificate_is_made_once_and_kept() {
    let first = world(|_| ());
    everybody_connects(&first);
    let file = first.scratch.path("tls/master.pem");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let directory = std::fs::metadata(first.scratch.path("tls")).unwrap();
    assert_eq!(directory.permissions().mode() & 0o777, 0o700);
    let sources = Sources { operator: None, directory: first.scratch.path("tls"), names: Vec::new() };
    let again = Identity::load(sources).unwrap();
    assert_eq!(again.fingerprint(), first.identity.fingerprint());
    let shown = run(&first.scratch.0, "openssl x509 -in tls/master.pem -noout -checkend 300000000 -ext subjectAltName");
    let shown = String::from_utf8(shown.stdout).unwrap();
    for name in ["DNS:localhost", "DNS:ci.example", "IP Address:127.0.0.1"] {
        assert!(shown.contains(name), "{shown}");
    }
    // With that certificate as its authority, a client that checks names is content.
    let port = first.address.port();
    let strict =
        format!("curl -sS --cacert tls/master.pem --resolve ci.example:{port}:127.0.0.1 https://ci.example:{port}/");
    run(&first.scratch.0, &strict);
}

#[test]
fn a_stranger_with_another_certificate_is_refused_by_our_client() {
    let world = world(|_| ());
    let error = smol::block_on(soon(world.connect_pinned([7; 32]))).unwrap_err().to_string();
    assert!(error.contains("fingerprint"), "{error}");
}

/// Loads with these files and expects it to fail.
fn fault(certificate: &Path, key: &Path, directory: &Path) -> IdentityError {
    let sources = Sources {
        operator: Some((certificate.to_owned(), key.to_owned())),
        directory: directory.to_owned(),
        names: Vec::new(),
    };
    match Identity::load(sources) {
        Ok(_) => panic!("{} and {} were accepted", certificate.display(), key.display()),
        Err(error) => error,
    }
}

#[test]
fn errors_name_the_file_and_what_was_expected() {
    let scratch = Scratch::new();
    let (certificate, key) = operator(&scratch, EXPLICIT_P521);
    run(&scratch.0, "openssl ecparam -name secp521r1 -genkey -noout -out other.pem");
    run(&scratch.0, "openssl ec -in key.pem -aes256 -passout pass:secret -out locked.pem");
    run(&scratch.0, "openssl ecparam -name secp256k1 -genkey -noout -out bitcoin.pem");
    std::fs::write(scratch.path("empty.pem"), "").unwrap();
    std::fs::write(scratch.path("broken.pem"), "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n")
        .unwrap();
    std::fs::write(scratch.path("lie.pem"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    std::fs::write(scratch.path("huge.pem"), vec![b'a'; (1 << 20) + 1]).unwrap();
    let path = |name: &str| scratch.path(name);
    for (certificate, key, file, word) in [
        (path("none.pem"), key.clone(), "none.pem", "cannot be read"),
        (path("empty.pem"), key.clone(), "empty.pem", "holds no certificate"),
        (path("broken.pem"), key.clone(), "broken.pem", "not PEM"),
        (path("lie.pem"), key.clone(), "lie.pem", "not an X.509 certificate"),
        (path("huge.pem"), key.clone(), "huge.pem", "larger than 1 MiB"),
        (key.clone(), key.clone(), "key.pem", "holds no certificate"),
        (certificate.clone(), path("none.pem"), "none.pem", "cannot be read"),
        (certificate.clone(), path("empty.pem"), "empty.pem", "holds no private key"),
        (certificate.clone(), path("cert.pem"), "cert.pem", "holds no private key"),
        (certificate.clone(), path("other.pem"), "other.pem", "is not the key of the first certificate"),
        (certificate.clone(), path("locked.pem"), "locked.pem", "passphrase"),
        (certificate.clone(), path("bitcoin.pem"), "bitcoin.pem", "P-256, P-384 or P-521"),
    ] {
        let error = fault(&certificate, &key, &scratch.0);
        assert!(error.file.ends_with(file), "{error}");
        assert!(error.what.contains(word), "{error}");
    }
}

#[test]
fn replaced_files_are_used_by_the_next_connection_and_broken_ones_are_not() {
    let scratch = Scratch::new();
    let files = make_certificate(&scratch.0);
    let world = world_with(scratch, Some(files.clone()), |limits| limits.certificate_check = Duration::ZERO);
    let old = world.identity.fingerprint();
    assert_eq!(s_client(&world, "-tls1_3"), old);

    make_certificate(&world.scratch.0);
    let new = s_client(&world, "-tls1_3");
    assert_ne!(new, old);
    assert_eq!(new, world.identity.fingerprint());
    assert!(smol::block_on(soon(world.connect_pinned(old))).is_err());
    let said = world.reports.lock().unwrap().join("\n");
    assert!(said.contains(&pin::fingerprint_text(&new)), "{said}");

    std::fs::write(&files.0, "half a cert").unwrap();
    for _ in 0..3 {
        assert_eq!(s_client(&world, "-tls1_3"), new);
    }
    let said = world.reports.lock().unwrap().clone();
    assert_eq!(said.len(), 2, "each change is told once: {said:?}");
    assert!(said[1].contains("sai-master.pem"), "{said:?}");

    std::fs::remove_file(&files.1).unwrap();
    assert!(matches!(world.identity.refresh(), Refresh::Refused(_)));
    assert_eq!(world.identity.refresh(), Refresh::Unchanged);
    make_certificate(&world.scratch.0);
    assert!(matches!(world.identity.refresh(), Refresh::Replaced(_)));
}

#[test]
fn many_that_start_at_once_agree_on_one_certificate() {
    let scratch = Arc::new(Scratch::new());
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let scratch = Arc::clone(&scratch);
            std::thread::spawn(move || {
                let sources = Sources { operator: None, directory: scratch.path("tls"), names: Vec::new() };
                Identity::load(sources).unwrap().fingerprint()
            })
        })
        .collect();
    let mut found: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    found.dedup();
    assert_eq!(found.len(), 1);
    assert_eq!(std::fs::read_dir(scratch.path("tls")).unwrap().count(), 1);
}
