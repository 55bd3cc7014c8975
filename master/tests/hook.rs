//! Hooks: forged, replayed and oversized ones, and the scripts for git servers run by real pushes.

mod rig;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rig::{Origin, Request, Scratch, git, git_command, read_request};
use sai_core::ordered::Map;
use sai_master::hook::{BODY_BYTES, HookError, HookOutcome, HookRequest, HookSecret, VerifiedPush, receive};
use sai_master::nonces::Nonces;
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const REVISION: &str = "0123456789abcdef0123456789abcdef01234567";
const BOUNDARY: &str = "multipart/form-data; boundary=xxBOUNDARYxx";

fn repositories() -> Map<String, HookSecret> {
    let secret = |text: Option<&str>| HookSecret { secret: text.map(Into::into) };
    let named = |(name, text): (&str, Option<&str>)| (name.to_string(), secret(text));
    [("origin", Some(SECRET)), ("group/origin", Some(SECRET)), ("open", None), ("empty", Some(""))].map(named).into()
}

fn send(
    method: &str,
    path: &str,
    query: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<HookOutcome, HookError> {
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    receive(&HookRequest { method, path, query, headers: &headers, body }, &repositories())
}

fn status(result: Result<HookOutcome, HookError>) -> u16 {
    result.map_or_else(|error| error.status, |_| 200)
}

fn poke(repository: &str, reference: Option<&str>, revision: Option<&str>) -> Result<HookOutcome, HookError> {
    let (reference, revision) = (reference.map(ToString::to_string), revision.map(ToString::to_string));
    Ok(HookOutcome::Poke { repository: repository.to_string(), reference, revision })
}

/// The signature as openssl makes it.
fn openssl(algorithm: &str, key: &str, bytes: &[u8]) -> String {
    let mut child = Command::new("openssl")
        .args(["dgst", &format!("-{algorithm}"), "-hmac", key, "-r"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_string()
}

#[test]
fn pokes() {
    let get = |path: &str, query: &str| send("GET", path, query, &[], b"");
    assert_eq!(get("/hook/open", ""), poke("open", None, None));
    assert_eq!(get("/hook/group/origin", "x=y"), poke("group/origin", None, None));
    assert_eq!(get("/hook/group%2Forigin", "ref="), poke("group/origin", None, None));
    let query = format!("ref=refs%2Fheads%2Ffix%2F%C3%A4%2Bb&rev={REVISION}");
    assert_eq!(get("/hook/open", &query), poke("open", Some("refs/heads/fix/ä+b"), Some(REVISION)));
    assert_eq!(get("/hook/open", "ref=main"), poke("open", Some("refs/heads/main"), None));
    let gone = format!("ref=main&rev={}", "0".repeat(40));
    assert_eq!(get("/hook/open", &gone), poke("open", Some("refs/heads/main"), None), "what is gone is looked for");
    for ignored in ["ref=_x", "ref=refs/heads/_x"] {
        assert!(matches!(get("/hook/open", ignored), Ok(HookOutcome::Ignored(_))), "{ignored}");
    }
    for path in [
        "/hook/none",
        "/hook/",
        "/hook",
        "/hook/../open",
        "/hook/open%00",
        "/hook/%zz",
        "/hook/%F",
        "/hook/%ff",
        "/open",
    ] {
        let error = HookError { status: 404, text: "no such repository".to_string() };
        assert_eq!(get(path, ""), Err(error), "{path}");
    }
    for (query, named) in [
        ("ref=refs/pull/1/head", "ref: expected"),
        ("ref=a..b", "ref: expected"),
        ("ref=a%5Cxe9", "ref: expected"),
        ("ref=a%0Ab", "ref: expected"),
        ("ref=a+b", "ref: expected"),
        ("ref=%", "ref: expected"),
        ("ref=%+1a", "ref: expected"),
        ("rev=HEAD", "rev: expected"),
        ("rev=--all", "rev: expected"),
        ("rev=%C3", "rev: expected"),
    ] {
        let error = get("/hook/open", query).unwrap_err();
        assert!(error.status == 400 && error.text.starts_with(named), "{query}: {error:?}");
    }
    // Whatever git takes for a name: one that looks like an option, and one that is not UTF-8.
    for (query, reference) in [
        ("ref=-dash2", "refs/heads/-dash2"),
        ("ref=--upload-pack%3Dx", "refs/heads/--upload-pack=x"),
        ("ref=refs/heads/caf%e9", "refs/heads/caf\\xe9"),
        ("ref=a%E2%80%AEb", "refs/heads/a\\xe2\\x80\\xaeb"),
    ] {
        assert_eq!(get("/hook/open", query), poke("open", Some(reference), None), "{query}");
    }
    assert_eq!(status(get("/hook/open", &format!("ref={}", "a".repeat(4000)))), 200);
    assert_eq!(status(get("/hook/open", &"x".repeat(13_000))), 400);
    assert_eq!(status(send("DELETE", "/hook/open", "", &[], b"")), 405);
    assert_eq!(status(send("GET", "/hook/open", "", &[], &vec![0; BODY_BYTES + 1])), 413);
}

#[test]
fn a_wrong_name_tells_a_signed_hook_which_there_are_and_nobody_else() {
    let body = br#"{"ref":"refs/heads/main"}"#;
    let mac = format!("sha256={}", openssl("sha256", SECRET, body));
    let forged = format!("sha256={}", openssl("sha256", "another-secret-of-anybody", body));
    let hub = |mac: &str| send("POST", "/hook/orign", "", &[("X-Hub-Signature-256", mac)], body);
    let with = "no such repository; those with this secret are: group/origin, origin";
    assert_eq!(hub(&mac), Err(HookError { status: 404, text: with.to_string() }));
    let without = Err(HookError { status: 404, text: "no such repository".to_string() });
    assert_eq!(hub(&forged), without);
    assert_eq!(send("POST", "/hook/orign", "", &[], body), without);
    assert_eq!(send("POST", "/hook/orign", "", &[("x-gitlab-token", "")], body), without);
    assert_eq!(send("POST", "/hook/orign", "", &[("x-gitlab-token", SECRET)], body), hub(&mac));
}

/// The webhooks of the forges, in the parts of their documented form that matter.
#[test]
fn webhooks() {
    let body = format!(
        r#"{{"ref":"refs/heads/main","before":"x","after":"{REVISION}","deleted":false,"commits":[{{"id":1}}]}}"#
    );
    let body = body.as_bytes();
    let mac = openssl("sha256", SECRET, body);
    let hub = format!("sha256={mac}");
    let json = ("content-type", "application/json; charset=utf-8");
    let genuine: [&[(&str, &str)]; 6] = [
        &[("X-GitHub-Event", "push"), ("X-Hub-Signature-256", &hub), ("X-Hub-Signature", "sha1=old"), json],
        &[("X-Gitea-Event", "push"), ("X-Gitea-Signature", &mac), json],
        &[("X-Gitea-Event", "push"), ("X-Gitea-Signature", &mac), ("Authorization", "Bearer of news"), json],
        &[
            ("X-Forgejo-Event", "push"),
            ("X-Gitea-Event", "push"),
            ("X-Forgejo-Signature", &mac),
            ("X-Hub-Signature-256", &hub),
            json,
        ],
        &[("X-Gitlab-Event", "Push Hook"), ("X-Gitlab-Token", SECRET), json],
        &[("X-Gitlab-Event", "Tag Push Hook"), ("X-Gitlab-Token", SECRET), json],
    ];
    for headers in genuine {
        assert_eq!(
            send("POST", "/hook/origin", "", headers, body),
            poke("origin", Some("refs/heads/main"), Some(REVISION)),
            "{headers:?}"
        );
        // For a repository without a secret nothing is genuine.
        for path in ["/hook/open", "/hook/empty"] {
            assert_eq!(status(send("POST", path, "", headers, body)), 401);
        }
    }
    let ping: &[(&str, &str)] = &[("X-GitHub-Event", "ping"), ("X-Hub-Signature-256", &hub), json];
    assert!(matches!(send("POST", "/hook/origin", "", ping, body), Ok(HookOutcome::Ignored(_))));
    let form: &[(&str, &str)] = &[
        ("X-GitHub-Event", "push"),
        ("X-Hub-Signature-256", &hub),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    assert_eq!(status(send("POST", "/hook/origin", "", form, body)), 415);

    let gitlab = |body: &str| send("POST", "/hook/origin", "", genuine[4], body.as_bytes());
    let zeros = "0".repeat(40);
    let deleted = format!(r#"{{"ref":"refs/heads/main","after":"{zeros}","checkout_sha":null}}"#);
    assert_eq!(gitlab(&deleted), poke("origin", Some("refs/heads/main"), None), "what is gone is looked for");
    let tag = format!(r#"{{"ref":"refs/tags/v1","after":"{}","checkout_sha":"{REVISION}"}}"#, "1".repeat(40));
    assert_eq!(gitlab(&tag), poke("origin", Some("refs/tags/v1"), Some(REVISION)));
    assert!(matches!(gitlab(r#"{"ref":"refs/notes/x"}"#), Ok(HookOutcome::Ignored(_))));
    for wrong in
        ["", "[]", "{}", r#"{"ref":1}"#, r#"{"ref":"refs/heads/../x"}"#, r#"{"ref":"refs/heads/x","after":"HEAD"}"#]
    {
        assert_eq!(status(gitlab(wrong)), 400, "{wrong}");
    }
}

#[test]
fn whatever_is_wrong_with_a_signature_the_answer_is_the_same() {
    let body = format!(r#"{{"ref":"refs/heads/main","after":"{REVISION}"}}"#);
    let body = body.as_bytes();
    let mac = openssl("sha256", SECRET, body);
    let other = openssl("sha256", "other", body);
    let event = ("X-GitHub-Event", "push");
    let json = ("content-type", "application/json");
    let upper = mac.to_uppercase();
    let forged: [&[(&str, &str)]; 13] = [
        &[event, json],
        &[event, json, ("X-Hub-Signature-256", "")],
        &[event, json, ("X-Hub-Signature-256", "sha256=")],
        &[event, json, ("X-Hub-Signature-256", &other)],
        &[event, json, ("X-Hub-Signature-256", &mac[1..])],
        &[event, json, ("X-Hub-Signature-256", &mac[..2])],
        &[event, json, ("X-Hub-Signature-256", "sha256=ä")],
        &[event, json, ("X-Hub-Signature-256", &mac), ("x-hub-signature-256", &mac)],
        &[event, json, ("X-Hub-Signature", &mac)],
        &[event, json, ("X-Gitlab-Token", "")],
        &[event, json, ("X-Gitlab-Token", &SECRET[1..])],
        &[event, json, ("authorization", "sai sha256=00")],
        &[event, json, ("authorization", "sai md5=00")],
    ];
    for headers in forged {
        let error = send("POST", "/hook/origin", "", headers, body).unwrap_err();
        let notification = headers.iter().any(|(_, value)| *value == "sai sha256=00");
        // A body that is no multipart form cannot be compared with anything.
        assert_eq!(error.status, if notification { 400 } else { 401 }, "{headers:?}");
        assert!(notification || error.text == "expected a signature made with this repository's secret");
    }
    let genuine = [event, json, ("X-Hub-Signature-256", upper.as_str())];
    assert_eq!(status(send("POST", "/hook/origin", "", &genuine, body)), 200);
    assert_eq!(status(send("POST", "/hook/origin", "", &genuine, &[body, b" "].concat())), 401);
    assert_eq!(status(send("POST", "/hook/origin", "", &genuine, &vec![0; BODY_BYTES + 1])), 413);
}

/// The original's notification. `change` edits the JSON before it is signed.
fn notify(path: &str, algorithm: &str, change: impl Fn(String) -> String) -> Result<HookOutcome, HookError> {
    let part = change(notification(b"{\"schema\":\"sai-1\"}\n"));
    let body = multipart(&[("file", Some("x.json"), &part)]);
    let signature = format!("sai {algorithm}={}", openssl(algorithm, SECRET, part.as_bytes()));
    send("POST", path, "", &[("Authorization", &signature), ("Content-Type", BOUNDARY)], &body)
}

fn notification(saifile: &[u8]) -> String {
    let saifile = STANDARD.encode(saifile);
    format!(
        r#"{{"schema":"com-warmcat-sai-notification",
 "action":"repo-update",
 "repository":{{
   "name":"origin",
   "fetchurl":"https://example.org/repo/origin"
 }},
 "nonce":"n1",
 "ref":"refs/heads/main",
 "hash":"{REVISION}",
 "saifile_len":{},
 "saifile":"{saifile}"
}}
"#,
        saifile.len()
    )
}

fn multipart(parts: &[(&str, Option<&str>, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, file, content) in parts {
        let file =
            file.map_or(String::new(), |file| format!("; filename=\"{file}\"\r\nContent-Type: application/json"));
        write!(body, "--xxBOUNDARYxx\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n{content}\r\n")
            .unwrap();
    }
    body.extend(b"--xxBOUNDARYxx--\r\n");
    body
}

#[test]
fn notifications_in_the_originals_format() {
    for path in ["/hook/origin", "/hook/group/origin"] {
        for algorithm in ["sha256", "sha384", "sha512"] {
            let push = VerifiedPush {
                repository: path.strip_prefix("/hook/").unwrap().to_string(),
                reference: "refs/heads/main".to_string(),
                revision: REVISION.to_string(),
                saifile: b"{\"schema\":\"sai-1\"}\n".to_vec(),
                nonce: "n1".to_string(),
            };
            assert_eq!(notify(path, algorithm, |json| json), Ok(HookOutcome::Push(push)));
        }
    }
    assert_eq!(status(notify("/hook/origin", "sha1", |json| json)), 401);
    assert_eq!(status(notify("/hook/open", "sha256", |json| json)), 401);
    assert_eq!(status(notify("/hook/none", "sha256", |json| json)), 404);
    // Signed, and wrong all the same.
    for (from, to, status, named) in [
        ("com-warmcat-sai-notification", "sai-1", 400, "schema: "),
        ("repo-update", "repo-delete", 400, "action: "),
        ("\"name\":\"origin\"", "\"name\":\"another\"", 400, "repository.name: "),
        ("\"name\":\"origin\",", "\"name\":\"origin\"", 400, "expected valid JSON"),
        ("refs/heads/main", "main", 400, "ref: "),
        ("refs/heads/main", "refs/heads/a..b", 400, "ref: "),
        (REVISION, "HEAD", 400, "hash: "),
        ("\"nonce\":\"n1\",", "", 400, "expected valid JSON"),
        ("\"n1\"", "\"\"", 400, "nonce: "),
        ("\"n1\"", "\"a b\"", 400, "nonce: "),
        ("\"saifile\":\"", "\"saifile\":\"!", 400, "saifile: "),
        ("\"saifile_len\":", "\"saifile_len\":1", 400, "saifile_len: "),
        ("\"saifile_len\":", "\"saifile_len\":-", 400, "expected valid JSON"),
        ("}\n", "} trailing", 400, "expected valid JSON"),
    ] {
        let error = notify("/hook/origin", "sha256", |json| {
            assert!(json.contains(from), "{from}");
            json.replace(from, to)
        });
        let error = error.unwrap_err();
        assert!(error.status == status && error.text.starts_with(named), "{from} → {to}: {error:?}");
    }
    for (from, to) in [("refs/heads/main", "refs/heads/_main"), (REVISION, &"0".repeat(40))] {
        assert!(matches!(notify("/hook/origin", "sha256", |json| json.replace(from, to)), Ok(HookOutcome::Ignored(_))));
    }
    // The decoded length is accepted as well, being what the name says.
    let decoded = |json: String| json.replace("\"saifile_len\":28", "\"saifile_len\":19");
    assert_eq!(status(notify("/hook/origin", "sha256", decoded)), 200);
    let largest = vec![b' '; 1 << 20];
    assert_eq!(status(notify("/hook/origin", "sha256", |_| notification(&largest))), 200);
    let larger = vec![b' '; (1 << 20) + 1];
    assert_eq!(status(notify("/hook/origin", "sha256", |_| notification(&larger))), 413);
}

#[test]
fn the_signature_covers_the_one_file_part() {
    let part = notification(b"{}");
    let signature = format!("sai sha256={}", openssl("sha256", SECRET, part.as_bytes()));
    let send = |kind: &str, body: &[u8]| {
        status(send("POST", "/hook/origin", "", &[("authorization", &signature), ("content-type", kind)], body))
    };
    let file = ("file", Some("f"), part.as_str());
    let fine = multipart(&[file]);
    assert_eq!(send(BOUNDARY, &fine), 200);
    assert_eq!(send(BOUNDARY, &multipart(&[("file", Some("f"), &part.replace("main", "mein"))])), 401);
    for parts in
        [&[][..], &[file, file], &[file, ("more", None, "x")], &[("more", None, "x"), file], &[("file", None, &part)]]
    {
        assert_eq!(send(BOUNDARY, &multipart(parts)), 400, "{parts:?}");
    }
    for kind in ["", "application/json", "multipart/form-data", "multipart/form-data; boundary=other"] {
        assert_eq!(send(kind, &fine), 400, "{kind}");
    }
    for end in [0, 1, 20, 80, fine.len() - 20] {
        assert_eq!(send(BOUNDARY, &fine[..end]), 400, "cut at {end}");
    }
    assert_eq!(send(BOUNDARY, part.as_bytes()), 400);
}

#[test]
fn a_replayed_notification_is_known_also_after_a_restart() {
    let scratch = Scratch::new();
    let path = scratch.path("nonces");
    let mut nonces = Nonces::open(&path).unwrap();
    assert!(nonces.is_fresh("origin", "n1").unwrap());
    assert!(!nonces.is_fresh("origin", "n1").unwrap());
    assert!(nonces.is_fresh("group/origin", "n1").unwrap());
    drop(nonces);
    // A master killed in the middle of a line.
    fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"origin\n\xff torn").unwrap();
    let mut nonces = Nonces::open(&path).unwrap();
    assert!(!nonces.is_fresh("origin", "n1").unwrap());
    assert!(!nonces.is_fresh("group/origin", "n1").unwrap());
    assert!(nonces.is_fresh("origin", "n2").unwrap());
    nonces.forget("origin", "n2").unwrap();
    drop(nonces);
    let mut nonces = Nonces::open(&path).unwrap();
    assert!(nonces.is_fresh("origin", "n2").unwrap(), "what was not taken may be sent again, after a restart too");
    for n in 0..20_000 {
        assert!(nonces.is_fresh("origin", &format!("many-{n}")).unwrap());
    }
    assert!(fs::metadata(&path).unwrap().len() < 9000 * 20);
    let mut nonces = Nonces::open(&path).unwrap();
    assert!(!nonces.is_fresh("origin", "many-19999").unwrap());
    assert!(nonces.is_fresh("origin", "n1").unwrap(), "the window is bounded");
}

/// Installs one of our hook scripts in an origin.
fn install(origin: &Origin, script: &str) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/hooks").join(script);
    let to = origin.bare.join("hooks/post-receive");
    fs::copy(from, &to).unwrap();
    fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Pushes with the given refspecs, and returns what the user sees and the requests that arrive meanwhile.
fn push(origin: &Origin, listener: &TcpListener, refspecs: &[&str]) -> (String, Vec<Request>) {
    let address = listener.local_addr().unwrap();
    let own = listener.try_clone().unwrap();
    let served = thread::spawn(move || {
        let mut requests = Vec::new();
        for mut stream in own.incoming().map(Result::unwrap) {
            let Some(request) = read_request(&mut stream) else {
                break;
            };
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
            requests.push(request);
        }
        requests
    });
    let output = git_command(&origin.work).args(["push", "--force", "origin"]).args(refspecs).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    // A connection without a request ends the listening.
    drop(std::net::TcpStream::connect(address).unwrap());
    (said, served.join().unwrap())
}

fn received(request: &Request) -> Result<HookOutcome, HookError> {
    let Request { method, path, query, headers, body } = request;
    receive(&HookRequest { method, path, query, headers, body }, &repositories())
}

#[test]
fn a_real_push_pokes() {
    let scratch = Scratch::new();
    let origin = Origin::new(&scratch.0, "origin", &[]);
    let first = origin.push("main", "file", b"1");
    install(&origin, "post-receive");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    origin.config("sai.url", &format!("http://{}/", listener.local_addr().unwrap()));

    let odd = "refs/heads/fix/ä&b+c%20d#e\"$(x)'";
    let (said, requests) = push(
        &origin,
        &listener,
        &[&format!("HEAD:{odd}"), "HEAD:refs/heads/_private", "HEAD:refs/notes/x", "HEAD:refs/tags/v1"],
    );
    assert!(!said.contains("sai:"), "{said}");
    let outcomes: Vec<_> = requests.iter().map(received).collect();
    assert_eq!(outcomes, [poke("origin", Some(odd), Some(&first)), poke("origin", Some("refs/tags/v1"), Some(&first))]);

    let (_, requests) = push(&origin, &listener, &[":refs/tags/v1"]);
    let outcomes: Vec<_> = requests.iter().map(received).collect();
    assert_eq!(outcomes, [poke("origin", Some("refs/tags/v1"), None)], "what is gone is looked for");

    origin.config("sai.repository", "group/origin");
    let many: Vec<String> = (0..40).map(|n| format!("HEAD:refs/heads/b{n:02}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let (_, requests) = push(&origin, &listener, &many);
    assert_eq!(requests.len(), 17);
    assert_eq!(received(&requests[15]), poke("group/origin", Some("refs/heads/b15"), Some(&first)));
    assert_eq!(received(&requests[16]), poke("group/origin", None, None));
}

#[test]
fn a_push_is_never_failed_nor_held_up_by_the_hooks() {
    let scratch = Scratch::new();
    fs::write(scratch.path("key"), format!("{SECRET}\n")).unwrap();
    for (name, script) in [("a", "post-receive"), ("b", "post-receive-notify")] {
        let origin = Origin::new(&scratch.0, name, &[]);
        install(&origin, script);
        let push = |content: &str, refspecs: &[&str]| {
            fs::write(origin.work.join(".sai.json"), content).unwrap();
            git(&origin.work, &["add", "--all"]);
            git(&origin.work, &["commit", "--quiet", "-m", "x"]);
            let output = git_command(&origin.work).args(["push", "origin"]).args(refspecs).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{said}");
            assert_eq!(said.matches("sai:").count(), 1, "{said}");
            said
        };
        assert!(push("1", &["HEAD:main"]).contains("sai.url"));
        // Nobody listens.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        origin.config("sai.url", &format!("http://127.0.0.1:{port}"));
        if script == "post-receive-notify" {
            assert!(push("2", &["HEAD:main"]).contains("sai.keyfile"));
            origin.config("sai.keyfile", scratch.path("key").to_str().unwrap());
        }
        assert!(push("3", &["HEAD:main", "HEAD:a", "HEAD:b"]).contains("not told"));
        // Somebody listens who never answers: the poke is given up once, however many branches there are.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        origin.config("sai.url", &format!("http://{}", listener.local_addr().unwrap()));
        if script == "post-receive" {
            push("4", &["HEAD:main", "HEAD:a", "HEAD:b"]);
            listener.set_nonblocking(true).unwrap();
            assert_eq!(std::iter::from_fn(|| listener.accept().ok()).count(), 1);
        }
    }
}

#[test]
fn a_real_push_notifies_with_its_saifile() {
    let scratch = Scratch::new();
    let origin = Origin::new(&scratch.0, "origin", &[]);
    install(&origin, "post-receive-notify");
    let key = scratch.path("key");
    fs::write(&key, format!("{SECRET}\n")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    origin.config("sai.url", &format!("http://{}", listener.local_addr().unwrap()));
    origin.config("sai.keyfile", key.to_str().unwrap());
    let saifile: Vec<u8> = (0..=255).cycle().take(5000).collect();
    fs::write(origin.work.join(".sai.json"), &saifile).unwrap();
    git(&origin.work, &["add", "--all"]);
    git(&origin.work, &["commit", "--quiet", "-m", "x"]);
    git(&origin.work, &["tag", "-a", "-m", "x", "v1"]);
    let revision = git(&origin.work, &["rev-parse", "HEAD"]);
    let odd = "refs/heads/a\"b'$(x)";
    let (said, requests) = push(&origin, &listener, &[&format!("HEAD:{odd}"), "HEAD:refs/heads/_x", "v1"]);
    assert!(!said.contains("sai:"), "{said}");
    let mut seen = Vec::new();
    for request in &requests {
        let Ok(HookOutcome::Push(push)) = received(request) else { panic!("{:?}", received(request)) };
        assert_eq!((push.repository.as_str(), push.revision.as_str()), ("origin", revision.as_str()));
        assert_eq!(push.saifile, saifile);
        seen.push(push.reference);
    }
    assert_eq!(seen, [odd, "refs/tags/v1"]);
    // A name that is no text.
    let mut command = git_command(&origin.work);
    let name = std::os::unix::ffi::OsStrExt::from_bytes(b"HEAD:refs/heads/caf\xe9".as_slice());
    let own = listener.try_clone().unwrap();
    let served = thread::spawn(move || {
        let (mut stream, _) = own.accept().unwrap();
        let request = read_request(&mut stream).unwrap();
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
        request
    });
    let name: &std::ffi::OsStr = name;
    assert!(command.args(["push", "--quiet", "origin"]).arg(name).status().unwrap().success());
    // One who was not told waits no longer.
    drop(std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap());
    let Ok(HookOutcome::Push(told)) = received(&served.join().unwrap()) else { panic!() };
    assert_eq!(told.reference, "refs/heads/caf\\xe9");
    let mut forged = requests[0].clone();
    let at = forged.body.iter().position(|&b| b == b'{').unwrap();
    forged.body[at + 2] ^= 1;
    assert_eq!(status(received(&forged)), 401);

    fs::remove_file(origin.work.join(".sai.json")).unwrap();
    git(&origin.work, &["commit", "--quiet", "-am", "No saifile"]);
    let (said, requests) = push(&origin, &listener, &["HEAD:main"]);
    assert_eq!((requests.len(), said.contains("sai:")), (0, false), "{said}");
}
