//! The forge against real git repositories behind real servers.

mod rig;
#[path = "../../tests/src/steady.rs"]
mod steady;

use rig::{Origin, Scratch, Server, git, listen, serve_git};
use sai_core::git_text::Tip;
use sai_master::forge::{Forge, ForgeError, REFERENCES, Repository, SAIFILE_BYTES, Saifile};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use steady::steadily;

/// Longest that anything takes on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

const SAIFILE: &[u8] = b"{ \"schema\": \"sai-1\" } # not parsed here\n";

fn repository(url: &str) -> Repository {
    Repository { name: "group/project".to_string(), url: url.into(), ..Repository::default() }
}

fn forge(scratch: &Scratch) -> Forge {
    Forge::open(&scratch.path("cache")).unwrap()
}

fn tips(forge: &Forge, repository: &Repository) -> Result<Vec<Tip>, ForgeError> {
    smol::block_on(forge.tips(repository))
}

fn saifile(forge: &Forge, repository: &Repository, revision: &str) -> Result<Saifile, ForgeError> {
    smol::block_on(forge.saifile(repository, "refs/heads/main", revision))
}

/// An origin of three commits, whose saifile is another in each.
fn three(scratch: &Scratch, options: &[&str]) -> (Origin, Vec<String>) {
    let origin = Origin::new(&scratch.0, "origin", options);
    fs::create_dir_all(origin.work.join("deep/tree")).unwrap();
    fs::write(origin.work.join("deep/tree/file"), "x".repeat(100_000)).unwrap();
    // The list of submodules is looked at by fsck, and must not be followed.
    fs::write(origin.work.join(".gitmodules"), "[submodule \"s\"]\n\tpath = s\n\turl = https://127.0.0.1:1/s\n")
        .unwrap();
    let revisions = (0..3).map(|n| origin.push("main", ".sai.json", &content(n))).collect();
    (origin, revisions)
}

fn content(n: usize) -> Vec<u8> {
    [SAIFILE, n.to_string().as_bytes()].concat()
}

/// What every way to a repository must give: tips, the newest saifile, older ones, and errors.
fn check(scratch: &Scratch, repository: &Repository, revisions: &[String]) {
    let forge = forge(scratch);
    let expected = Tip { reference: "refs/heads/main".to_string(), revision: revisions[2].clone() };
    assert_eq!(tips(&forge, repository), Ok(vec![expected]));
    assert_eq!(smol::block_on(forge.default_branch(repository)), Ok(Some("refs/heads/main".to_string())));
    for n in [2, 0, 1] {
        let expected = Saifile {
            bytes: content(n),
            subject: "Change .sai.json".to_string(),
            author: "Zoë".to_string(),
            committed_s: 1_700_000_000,
        };
        assert_eq!(saifile(&forge, repository, &revisions[n]), Ok(expected), "revision {n}");
    }
    let none = "1".repeat(revisions[0].len());
    assert_eq!(saifile(&forge, repository, &none), Err(ForgeError::RevisionGone));
    let names = |names: &[&str]| Ok(Some(names.iter().map(ToString::to_string).collect()));
    assert_eq!(changed(&forge, repository, &revisions[0], &revisions[2]), names(&[".sai.json"]));
    assert_eq!(changed(&forge, repository, &revisions[2], &revisions[2]), names(&[]));
    // As where the revision was pushed over, and the server has forgotten it; some do not tell that from what they do not give.
    let gone = changed(&forge, repository, &none, &revisions[2]);
    assert!(matches!(gone, Err(ForgeError::RevisionGone | ForgeError::Unreachable(_))), "{gone:?}");
}

fn changed(
    forge: &Forge,
    repository: &Repository,
    base: &str,
    revision: &str,
) -> Result<Option<Vec<String>>, ForgeError> {
    let tip = Tip { reference: "refs/heads/main".to_string(), revision: revision.to_string() };
    smol::block_on(forge.changed(repository, base, &tip))
}

#[test]
fn what_changed_is_told_by_name_without_a_file_being_fetched() {
    let scratch = Scratch::new();
    let origin = Origin::new(&scratch.0, "origin", &[]);
    origin.config("uploadpack.allowFilter", "true");
    let first = origin.push("main", "lib/a file", "x".repeat(50_000).as_bytes());
    fs::rename(origin.work.join("lib"), origin.work.join("moved")).unwrap();
    fs::write(origin.work.join("new\nline"), "").unwrap();
    let second = origin.push("main", "last", b"");
    let (forge, repository) = (forge(&scratch), repository(&origin.url()));
    let names = ["last", "lib/a file", "moved/a file", "new\\x0aline"].map(String::from).to_vec();
    assert_eq!(changed(&forge, &repository, &first, &second), Ok(Some(names)));
    let objects = git(
        &scratch.path("cache/group%2Fproject%sha1"),
        &["cat-file", "--batch-all-objects", "--batch-check=%(objecttype)"],
    );
    assert!(!objects.contains("blob"), "{objects}");
    // More than anybody compares: names of 1 MiB.
    for number in 0..5_500 {
        fs::write(origin.work.join(format!("{number:0200}")), "").unwrap();
    }
    let third = origin.push("main", "last", b"more");
    assert_eq!(changed(&forge, &repository, &second, &third), Ok(None));
}

#[test]
fn over_file() {
    let scratch = Scratch::new();
    let (origin, revisions) = three(&scratch, &[]);
    check(&scratch, &repository(&origin.url()), &revisions);
    // Of all files only the saifiles were fetched.
    let cache = scratch.path("cache/group%2Fproject%sha1");
    let objects = git(&cache, &["cat-file", "--batch-all-objects", "--batch-check=%(objecttype) %(objectsize)"]);
    assert_eq!(objects.lines().filter(|line| line.starts_with("blob")).count(), 3, "{objects}");
    let path = Repository { name: "other".to_string(), ..repository(origin.bare.to_str().unwrap()) };
    check(&scratch, &path, &revisions);
}

#[test]
fn over_the_git_protocol() {
    let scratch = Scratch::new();
    let (origin, revisions) = three(&scratch, &[]);
    let daemon = Server::git_daemon(&scratch.0);
    let repository = repository(&format!("git://127.0.0.1:{}/origin.git", daemon.port));
    check(&scratch, &repository, &revisions);
    fs::remove_dir_all(scratch.path("cache")).unwrap();
    origin.config("uploadpack.allowFilter", "true");
    check(&scratch, &repository, &revisions);
}

#[test]
fn over_http() {
    let scratch = Scratch::new();
    let (origin, revisions) = three(&scratch, &[]);
    origin.config("uploadpack.allowFilter", "true");
    let root = scratch.0.clone();
    let port = listen(move |mut stream| serve_git(&root, &mut stream));
    let repository = repository(&format!("http://user:secret@127.0.0.1:{port}/origin.git"));
    check(&scratch, &repository, &revisions);
    let missing = Repository { url: repository.url.reveal().replace("origin", "missing").into(), ..repository };
    let Err(ForgeError::Unreachable(said)) = tips(&forge(&scratch), &missing) else { panic!() };
    assert!(said.contains("missing.git") && !said.contains("secret"), "{said}");
}

#[test]
fn over_https_with_the_operators_certificates() {
    let scratch = Scratch::new();
    let (_origin, revisions) = three(&scratch, &[]);
    let made = rcgen::generate_simple_self_signed(["localhost".to_string()]).unwrap();
    fs::write(scratch.path("ca.pem"), made.cert.pem()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder().with_no_client_auth();
    let config = Arc::new(config.with_single_cert(vec![made.cert.der().clone()], key).unwrap());
    let root = scratch.0.clone();
    let port = listen(move |mut stream| {
        let mut tls = rustls::ServerConnection::new(config.clone()).unwrap();
        serve_git(&root, &mut rustls::Stream::new(&mut tls, &mut stream));
        tls.send_close_notify();
        let _ = tls.complete_io(&mut stream);
    });
    let untrusted = repository(&format!("https://localhost:{port}/origin.git"));
    let Err(ForgeError::Unreachable(said)) = tips(&forge(&scratch), &untrusted) else { panic!() };
    assert!(said.contains("certificate"), "{said}");
    check(&scratch, &Repository { ca_file: Some(scratch.path("ca.pem")), ..untrusted }, &revisions);
}

fn user() -> String {
    let output = std::process::Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}

/// Over ssh, with sshd taking GIT_PROTOCOL or not, from a server that gives filtered packs or not.
fn over_ssh(accept: &[&str], filter: bool) {
    let scratch = Scratch::new();
    let (origin, revisions) = three(&scratch, &[]);
    origin.config("uploadpack.allowFilter", &filter.to_string());
    let sshd = Server::sshd(&scratch.0, accept);
    let keys = scratch.path("it's \"100%\" ours");
    fs::create_dir(&keys).unwrap();
    for name in ["client", "known_hosts"] {
        fs::rename(scratch.path(name), keys.join(name)).unwrap();
    }
    let url = format!("ssh://{}@127.0.0.1:{}{}", user(), sshd.port, origin.bare.display());
    let repository = Repository {
        ssh_key: Some(keys.join("client")),
        ssh_known_hosts: Some(keys.join("known_hosts")),
        ..repository(&url)
    };
    check(&scratch, &repository, &revisions);
    let stranger = Repository { ssh_known_hosts: Some("/dev/null".into()), ..repository };
    let Err(ForgeError::Unreachable(said)) = tips(&forge(&scratch), &stranger) else { panic!() };
    assert!(said.contains("Host key verification failed"), "{said}");
}

#[test]
fn over_ssh_with_protocol_version_2() {
    over_ssh(&["AcceptEnv=GIT_PROTOCOL"], true);
}

#[test]
fn over_ssh_with_protocol_version_0() {
    over_ssh(&[], false);
}

/// The filter is accepted, but the single file left out is then refused.
#[test]
fn over_ssh_with_protocol_version_0_and_filters() {
    over_ssh(&[], true);
}

#[test]
fn repositories_of_sha256_objects() {
    let scratch = Scratch::new();
    let (origin, revisions) = three(&scratch, &["--object-format=sha256"]);
    assert_eq!(revisions[0].len(), 64);
    check(&scratch, &repository(&origin.url()), &revisions);
}

#[test]
fn tags_are_peeled_and_left_out_unless_wanted() {
    let scratch = Scratch::new();
    let (origin, revisions) = three(&scratch, &[]);
    git(&origin.work, &["tag", "light", &revisions[0]]);
    git(&origin.work, &["tag", "-a", "-m", "x", "heavy", &revisions[1]]);
    git(&origin.work, &["push", "--quiet", "--tags", "origin"]);
    let (forge, plain) = (forge(&scratch), repository(&origin.url()));
    assert_eq!(tips(&forge, &plain).unwrap().len(), 1);
    let tagged = Repository { tags: true, ..plain };
    let tips = tips(&forge, &tagged).unwrap();
    let tags: Vec<_> = tips.iter().map(|tip| (tip.reference.as_str(), tip.revision.as_str())).collect();
    let expected = [
        ("refs/heads/main", revisions[2].as_str()),
        ("refs/tags/heavy", revisions[1].as_str()),
        ("refs/tags/light", revisions[0].as_str()),
    ];
    assert_eq!(tags, expected);
}

#[test]
fn a_fetched_revision_needs_no_network_also_after_a_restart() {
    let scratch = Scratch::new();
    let (origin, revisions) = three(&scratch, &[]);
    let repository = repository(&origin.url());
    let running = forge(&scratch);
    // The first has no parents, which git remembers in another way.
    for revision in [&revisions[2], &revisions[0]] {
        saifile(&running, &repository, revision).unwrap();
    }
    fs::rename(&origin.bare, scratch.path("away")).unwrap();
    for forge in [running, forge(&scratch)] {
        assert_eq!(saifile(&forge, &repository, &revisions[2]).unwrap().bytes, content(2));
        assert_eq!(saifile(&forge, &repository, &revisions[0]).unwrap().bytes, content(0));
        let error = saifile(&forge, &repository, &revisions[1]).unwrap_err();
        assert!(error.is_infrastructure() && error.to_string().contains("cannot be reached"), "{error}");
        assert!(tips(&forge, &repository).unwrap_err().is_infrastructure());
    }
}

#[test]
fn what_is_wrong_with_a_revision_is_told_apart() {
    let scratch = Scratch::new();
    let origin = Origin::new(&scratch.0, "origin", &[]);
    let (forge, repository) = (forge(&scratch), repository(&origin.url()));
    assert_eq!(tips(&forge, &repository), Ok(vec![]), "an empty repository");
    assert_eq!(smol::block_on(forge.default_branch(&repository)), Ok(None));

    let without = origin.push("main", "README", b"x");
    assert_eq!(saifile(&forge, &repository, &without), Err(ForgeError::NoSaifile));

    let limit = usize::try_from(SAIFILE_BYTES).unwrap();
    let large = origin.push("main", ".sai.json", &vec![b' '; limit]);
    assert_eq!(saifile(&forge, &repository, &large).unwrap().bytes.len(), limit);
    let larger = origin.push("main", ".sai.json", &vec![b' '; limit + 1]);
    assert_eq!(saifile(&forge, &repository, &larger), Err(ForgeError::TooLarge(SAIFILE_BYTES + 1)));
    let huge = origin.push("main", ".sai.json", &vec![b' '; 8 * limit]);
    assert_eq!(saifile(&forge, &repository, &huge), Err(ForgeError::TooLarge(8 * SAIFILE_BYTES)));

    fs::remove_file(origin.work.join(".sai.json")).unwrap();
    let directory = origin.push("main", ".sai.json/file", b"x");
    assert_eq!(saifile(&forge, &repository, &directory), Err(ForgeError::NotAFile));
    let tree = git(&origin.work, &["rev-parse", &format!("{without}^{{tree}}")]);
    assert_eq!(saifile(&forge, &repository, &tree), Err(ForgeError::NotACommit));
    let blob = git(&origin.work, &["rev-parse", &format!("{without}:README")]);
    assert_eq!(saifile(&forge, &repository, &blob), Err(ForgeError::NotACommit));

    let binary = origin.push("other", ".sai.json/../.sai.json2", b"");
    assert_eq!(saifile(&forge, &repository, &binary), Err(ForgeError::NotAFile));
    for error in [ForgeError::NoSaifile, ForgeError::TooLarge(1), ForgeError::RevisionGone] {
        assert!(!error.is_infrastructure());
    }
}

#[test]
fn a_commit_is_shown_in_the_encoding_it_names() {
    let scratch = Scratch::new();
    let (origin, _) = three(&scratch, &[]);
    for (encoding, message, subject) in [
        ("ISO-8859-1", &b"Caf\xe9\n"[..], "Café"),
        ("ISO-8859-15", b"5 \xa4\n", "5 €"),
        ("EUC-JP", b"\xc6\xfc\xcb\xdc\n", "日本"),
        ("KOI8-R", b"\xf4\xc5\xd3\xd4\n", "Тест"),
        ("no-such-encoding", b"Caf\xe9\n", "Caf\u{fffd}"),
        ("UTF-8", "Zoë\n".as_bytes(), "Zoë"),
    ] {
        let tree = git(&origin.work, &["rev-parse", "HEAD^{tree}"]);
        let head = format!(
            "tree {tree}\nauthor A <a@x> 1700000000 +0000\ncommitter A <a@x> 1700000000 +0000\nencoding {encoding}\n\n"
        );
        fs::write(scratch.path("commit"), [head.as_bytes(), message].concat()).unwrap();
        let file = scratch.path("commit");
        let revision = git(&origin.work, &["hash-object", "-t", "commit", "-w", file.to_str().unwrap()]);
        git(&origin.work, &["push", "--quiet", "--force", "origin", &format!("{revision}:refs/heads/main")]);
        let found = saifile(&forge(&scratch), &repository(&origin.url()), &revision).unwrap();
        assert_eq!((found.subject.as_str(), found.author.as_str()), (subject, "A"), "{encoding}");
    }
}

#[test]
fn what_is_broken_in_a_repository_is_the_pushers_and_no_trouble_of_ours() {
    let scratch = Scratch::new();
    let origin = Origin::new(&scratch.0, "origin", &[]);
    origin.push("main", ".sai.json", b"{}");
    // A tree with an entry that would write into git's own directory.
    let blob = git(&origin.work, &["rev-parse", "HEAD:.sai.json"]);
    fs::write(scratch.path("tree"), [b"100644 .git\0".as_slice(), &bytes_of(&blob)].concat()).unwrap();
    let file = scratch.path("tree");
    let tree = git(&origin.work, &["hash-object", "-t", "tree", "-w", "--literally", file.to_str().unwrap()]);
    let revision = git(&origin.work, &["commit-tree", "-m", "evil", &tree]);
    git(&origin.work, &["push", "--quiet", "origin", &format!("{revision}:refs/heads/main"), "--force"]);
    let error = saifile(&forge(&scratch), &repository(&origin.url()), &revision).unwrap_err();
    assert!(matches!(&error, ForgeError::Content(said) if said.contains("hasDotgit")), "{error:?}");
    assert!(!error.is_infrastructure());
}

fn bytes_of(name: &str) -> Vec<u8> {
    (0..name.len() / 2).map(|at| u8::from_str_radix(&name[2 * at..2 * at + 2], 16).unwrap()).collect()
}

#[test]
fn a_message_of_megabytes_is_cut() {
    let scratch = Scratch::new();
    let (origin, _) = three(&scratch, &[]);
    fs::write(scratch.path("message"), format!("Subject {}\n\n{}", "x".repeat(1000), "y".repeat(4 << 20))).unwrap();
    git(&origin.work, &["commit", "--quiet", "--allow-empty", "-F", scratch.path("message").to_str().unwrap()]);
    git(&origin.work, &["push", "--quiet", "origin", "HEAD:main"]);
    let revision = git(&origin.work, &["rev-parse", "HEAD"]);
    let found = saifile(&forge(&scratch), &repository(&origin.url()), &revision).unwrap();
    assert_eq!(found.bytes, content(2));
    assert!(found.subject.starts_with("Subject xxx") && found.subject.chars().count() <= 200, "{}", found.subject);
}

#[test]
fn a_damaged_cache_is_made_again() {
    let scratch = Scratch::new();
    let (origin, revisions) = three(&scratch, &[]);
    let repository = repository(&origin.url());
    let running = forge(&scratch);
    saifile(&running, &repository, &revisions[0]).unwrap();
    let cache = scratch.path("cache/group%2Fproject%sha1");
    let in_packs = |change: &dyn Fn(&Path)| {
        for entry in fs::read_dir(cache.join("objects/pack")).unwrap() {
            change(&entry.unwrap().path());
        }
    };
    let damages: [&dyn Fn(); 7] = [
        &|| in_packs(&|path| fs::remove_file(path).unwrap()),
        &|| {
            in_packs(&|path| {
                fs::remove_file(path).unwrap();
                fs::write(path, b"").unwrap();
            })
        },
        &|| {
            in_packs(&|path| {
                let bytes = fs::read(path).unwrap();
                fs::remove_file(path).unwrap();
                fs::write(path, bytes.iter().map(|byte| byte ^ 0x55).collect::<Vec<u8>>()).unwrap();
            })
        },
        &|| fs::write(cache.join("shallow"), b"garbage\n").unwrap(),
        &|| fs::write(cache.join("refs/sai/tip"), b"garbage\n").unwrap(),
        &|| fs::write(cache.join("config"), b"[core\n").unwrap(),
        &|| fs::remove_dir_all(&cache).unwrap(),
    ];
    for (number, damage) in damages.iter().enumerate() {
        for n in [0, 1] {
            damage();
            let found = saifile(&running, &repository, &revisions[n]);
            assert_eq!(found.map(|found| found.bytes), Ok(content(n)), "damage {number}, revision {n}");
        }
        damage();
        assert_eq!(tips(&running, &repository).map(|tips| tips.len()), Ok(1), "damage {number}");
    }
}

#[test]
fn locks_of_a_killed_git_are_removed() {
    let scratch = Scratch::new();
    let (origin, revisions) = three(&scratch, &[]);
    let repository = repository(&origin.url());
    saifile(&forge(&scratch), &repository, &revisions[0]).unwrap();
    let cache = scratch.path("cache/group%2Fproject%sha1");
    let left = ["shallow.lock", "config.lock", "refs/sai/tip.lock", "objects/pack/tmp_pack_x"];
    for name in left {
        fs::write(cache.join(name), b"").unwrap();
    }
    // The cache is kept: making it anew would also do away with the locks.
    fs::write(cache.join("kept"), b"").unwrap();
    assert_eq!(saifile(&forge(&scratch), &repository, &revisions[1]).unwrap().bytes, content(1));
    for name in left {
        assert!(!cache.join(name).exists(), "{name}");
    }
    assert!(cache.join("kept").exists());
}

#[test]
fn a_cache_does_not_grow_for_ever_and_follows_its_configuration() {
    let scratch = Scratch::new();
    let (origin, mut revisions) = three(&scratch, &[]);
    let (forge, first) = (forge(&scratch), repository(&origin.url()));
    for n in 3..40 {
        revisions.push(origin.push("main", ".sai.json", &content(n)));
    }
    for (n, revision) in revisions.iter().enumerate() {
        assert_eq!(saifile(&forge, &first, revision).unwrap().bytes, content(n));
    }
    let cache = scratch.path("cache/group%2Fproject%sha1");
    let packs = fs::read_dir(cache.join("objects/pack")).unwrap().flatten();
    let packs = packs.filter(|entry| entry.path().extension().is_some_and(|e| e == "pack")).count();
    assert!(packs < 70, "{packs}");
    // The same name with another URL is another repository.
    let other = Origin::new(&scratch.0, "other", &[]);
    let revision = other.push("main", ".sai.json", b"other");
    let second = repository(&other.url());
    assert_eq!(saifile(&forge, &second, &revision).unwrap().bytes, b"other");
    assert_eq!(saifile(&forge, &second, &revisions[0]), Err(ForgeError::RevisionGone));
}

#[test]
fn many_at_once_for_one_repository() {
    let scratch = Scratch::new();
    let (origin, revisions) = three(&scratch, &[]);
    let (forge, repository) = (Arc::new(forge(&scratch)), Arc::new(repository(&origin.url())));
    let tasks: Vec<_> = (0..12)
        .map(|n: usize| {
            let (forge, repository, revision) = (forge.clone(), repository.clone(), revisions[n % 3].clone());
            smol::spawn(async move {
                if n % 4 == 3 {
                    forge.tips(&repository).await.map(|_| n)
                } else {
                    let found = forge.saifile(&repository, "refs/heads/main", &revision).await?;
                    assert_eq!(found.bytes, content(n % 3));
                    Ok(n)
                }
            })
        })
        .collect();
    for (n, task) in tasks.into_iter().enumerate() {
        assert_eq!(smol::block_on(task), Ok(n));
    }
}

#[test]
fn hostile_urls_references_and_revisions_reach_no_git() {
    let scratch = Scratch::new();
    let (origin, revisions) = three(&scratch, &[]);
    let forge = forge(&scratch);
    let witness = scratch.path("witness");
    let touch = format!("touch {}", witness.display());
    for url in [
        format!("--upload-pack={touch}"),
        format!("ext::sh -c {}", touch.replace(' ', "% ")),
        format!("ssh://-oProxyCommand={touch}/x"),
        format!("-oProxyCommand={touch}:x"),
        format!("{}/../{}", origin.bare.display(), "origin.git"),
        format!("{}\n[core]\n\tsshCommand = {touch}", origin.url()),
        "relative".to_string(),
    ] {
        let error = tips(&forge, &repository(&url)).unwrap_err();
        assert!(matches!(&error, ForgeError::Refused(said) if said.contains("expected")), "{url}: {error:?}");
    }
    // A URL that is allowed stays one value of the configuration, whatever it holds.
    let odd = repository(&format!("file:///nowhere/\"]; [core] sshCommand = {touch} #\\"));
    assert!(matches!(tips(&forge, &odd), Err(ForgeError::Unreachable(_))));

    let fine = repository(&origin.url());
    for revision in [
        "HEAD",
        "--all",
        "-x",
        "",
        "main",
        &format!("+{}:refs/heads/evil", revisions[0]),
        &format!("{}\n", revisions[0]),
    ] {
        assert!(matches!(saifile(&forge, &fine, revision), Err(ForgeError::Refused(_))), "{revision}");
    }
    for reference in ["", "main", "--upload-pack=x", "refs/heads/../../x", "refs/heads/x:refs/heads/y", "refs/heads/*"]
    {
        let found = smol::block_on(forge.saifile(&fine, reference, &revisions[0]));
        assert!(matches!(found, Err(ForgeError::Refused(_))), "{reference}");
    }
    for name in ["", "..", "../x", "a/../../b", "a b", ".git", "/x"] {
        let named = Repository { name: name.to_string(), ..fine.clone() };
        assert!(matches!(tips(&forge, &named), Err(ForgeError::Refused(_))), "{name}");
    }
    assert!(!witness.exists());
}

/// A server-side redirect or a hostile repository must not lead git to another protocol.
#[test]
fn a_redirect_to_another_protocol_is_not_followed() {
    let scratch = Scratch::new();
    let (origin, _) = three(&scratch, &[]);
    let target = origin.url();
    let port = listen(move |mut stream| {
        rig::read_request(&mut stream);
        let answer = format!(
            "HTTP/1.1 302 Found\r\nLocation: {target}/info/refs\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        let _ = std::io::Write::write_all(&mut stream, answer.as_bytes());
    });
    let repository = repository(&format!("http://127.0.0.1:{port}/origin.git"));
    assert!(matches!(tips(&forge(&scratch), &repository), Err(ForgeError::Unreachable(_))));
}

#[test]
fn a_server_that_never_answers_costs_its_time_and_no_more() {
    // Of a machine that stands still, git has no time to connect before its own is over.
    steadily(Duration::from_millis(100), never_answers);
}

fn never_answers() {
    let scratch = Scratch::new();
    let (origin, revisions) = three(&scratch, &[]);
    let (held, holding) = std::sync::mpsc::channel();
    let port = listen(move |stream| {
        let _ = held.send(stream);
    });
    let limit = Duration::from_millis(300);
    let forge = forge(&scratch).time_limits(limit, limit).unwrap();
    let silent = repository(&format!("git://127.0.0.1:{port}/x"));
    let start = Instant::now();
    assert!(matches!(tips(&forge, &silent), Err(ForgeError::Unreachable(said)) if said.contains("no answer")));
    assert!(matches!(saifile(&forge, &silent, &revisions[0]), Err(ForgeError::Unreachable(_))));
    assert!(start.elapsed() < PATIENCE);
    // git and all it started are gone: the connections are closed.
    for _ in 0..2 {
        let mut stream = holding.recv_timeout(Duration::from_secs(5)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
    }
    // Nothing that was killed is in the way of the next.
    let forge = Forge::open(&scratch.path("cache")).unwrap();
    assert_eq!(saifile(&forge, &repository(&origin.url()), &revisions[0]).unwrap().bytes, content(0));
}

#[test]
fn a_list_of_too_many_references_is_refused() {
    let scratch = Scratch::new();
    let (origin, revisions) = three(&scratch, &[]);
    let packed = |count: usize| {
        let lines: String = (0..count).map(|n| format!("{} refs/heads/b{n:06}\n", revisions[0])).collect();
        fs::write(origin.bare.join("packed-refs"), lines).unwrap();
    };
    packed(30_000);
    let begin = Instant::now();
    assert_eq!(tips(&forge(&scratch), &repository(&origin.url())).map(|tips| tips.len()), Ok(30_001));
    assert!(begin.elapsed() < PATIENCE, "{:?}", begin.elapsed());
    packed(REFERENCES + 1);
    assert_eq!(tips(&forge(&scratch), &repository(&origin.url())), Err(ForgeError::TooManyReferences));
}
