//! A real forge, Debian's gitolite: who pushes there by ssh has it built, by a master that may read there and nothing else.

use sai_tests::process::{Process, eventually};
use sai_tests::repository::{git, run};
use sai_tests::world::{World, free_port};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Who has a key: whoever manages the forge, whoever pushes, and the master.
const PEOPLE: [&str; 3] = ["admin", "ann", "sai"];

/// A forge with its own users, rights and sshd.
struct Gitolite {
    place: PathBuf,
    port: u16,
    user: String,
    _sshd: Process,
}

impl Gitolite {
    fn new(place: &Path) -> Self {
        fs::create_dir_all(place.join("home")).expect("a directory");
        for key in PEOPLE.iter().chain(&["host"]) {
            let made = ["-q", "-t", "ed25519", "-N", "", "-C", key, "-f"];
            run(Command::new("ssh-keygen").args(made).arg(place.join(key)));
        }
        let user = run(Command::new("id").arg("-un"));
        let mut setup = Command::new("gitolite");
        setup.args(["setup", "-pk"]).arg(place.join("admin.pub"));
        run(setup.env("HOME", place.join("home")).env("USER", &user));
        // Where sshd drops its privileges; Debian makes it when its service starts.
        let _ = fs::create_dir_all("/run/sshd");
        let port = free_port();
        let mut sshd = Command::new("/usr/sbin/sshd");
        sshd.args(["-D", "-e", "-f", "/dev/null", "-o", "ListenAddress=127.0.0.1"]).stdout(Stdio::null());
        for option in [
            format!("Port={port}"),
            format!("HostKey={}", place.join("host").display()),
            format!("AuthorizedKeysFile={}", place.join("home/.ssh/authorized_keys").display()),
            // The account's own home is another's.
            format!("SetEnv=HOME={}", place.join("home").display()),
            "UsePAM=no".to_string(),
            "StrictModes=no".to_string(),
            "PidFile=none".to_string(),
            "PasswordAuthentication=no".to_string(),
            "PermitRootLogin=prohibit-password".to_string(),
        ] {
            sshd.args(["-o", &option]);
        }
        let sshd = Process::start("sshd", &mut sshd);
        sshd.await_line("Server listening on");
        let host = fs::read_to_string(place.join("host.pub")).expect("a key");
        fs::write(place.join("known"), format!("[127.0.0.1]:{port} {host}")).expect("a file");
        Self { place: place.to_path_buf(), port, user, _sshd: sshd }
    }

    fn url(&self, repository: &str) -> String {
        format!("ssh://{}@127.0.0.1:{}/{repository}", self.user, self.port)
    }

    /// The command by which git comes here with somebody's key.
    fn ssh(&self, who: &str) -> String {
        let file = |name: &str| self.place.join(name).display().to_string();
        format!(
            "ssh -F /dev/null -i {} -o IdentitiesOnly=yes -o UserKnownHostsFile={} -o BatchMode=yes",
            file(who),
            file("known")
        )
    }

    /// A git of somebody, and whether it succeeded with what it said.
    fn git(&self, who: &str, directory: &Path, words: &[&str]) -> (bool, String) {
        let output = git(directory).args(words).env("GIT_SSH_COMMAND", self.ssh(who)).output().expect("git runs");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Has a repository that ann may write to and the master may read.
    fn add(&self, repository: &str) -> PathBuf {
        let words = ["clone", "--quiet", &self.url("gitolite-admin"), "rights"];
        assert_eq!(self.git("admin", &self.place, &words), (true, String::new()));
        let rights = self.place.join("rights");
        let file = rights.join("conf/gitolite.conf");
        let before = fs::read_to_string(&file).expect("a file");
        fs::write(&file, format!("{before}\nrepo {repository}\n    RW+ = ann\n    R = sai\n")).expect("a file");
        for who in ["ann", "sai"] {
            fs::copy(self.place.join(format!("{who}.pub")), rights.join(format!("keydir/{who}.pub"))).expect("a key");
        }
        run(git(&rights).args(["add", "--all"]));
        run(git(&rights).args(["commit", "--quiet", "-m", "Let ann write and sai read"]));
        let (pushed, said) = self.git("admin", &rights, &["push", "--quiet", "origin", "HEAD"]);
        assert!(pushed, "{said}");
        self.place.join(format!("home/repositories/{repository}.git"))
    }
}

#[test]
fn who_pushes_to_gitolite_has_it_built_by_a_master_that_may_only_read() {
    let mut world = World::new("gitolite");
    let forge = Gitolite::new(&world.directory.join("forge"));
    let bare = forge.add("project");
    world.set("repositories", &format!("{{\"project\": {{\"url\": {:?}}}}}", forge.url("project")));
    // Master and agent come with a key that may read. What is given to programs lives as long as they may be started.
    world.variables.push(("GIT_SSH_COMMAND", Box::leak(forge.ssh("sai").into_boxed_str())));
    let _master = world.master();
    let _agent = world.agent("shed", &["linux"], 1);
    // The hook that we ship, as its own comment says.
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/hooks/post-receive");
    fs::copy(shipped, bare.join("hooks/post-receive")).expect("a hook");
    let url = format!("https://127.0.0.1:{}", world.port);
    for (key, value) in [("sai.url", url.as_str()), ("sai.insecure", "true")] {
        run(git(&bare).args(["config", key, value]));
    }
    let work = &world.repository.work;
    let saifile = "{ \"schema\": \"sai-1\", \"platforms\": { \"linux\": { \"build\": \"cat word\" } }, \"configurations\": { \"default\": {} } }";
    world.repository.write(".sai.json", saifile);
    world.repository.write("word", "what was pushed by ssh\n");
    let revision = world.repository.commit("Say a word");
    let push = ["push", &forge.url("project"), "HEAD:refs/heads/main"];
    // The forge lets in whom it knows, and the master is no writer.
    let (pushed, said) = forge.git("sai", work, &push);
    assert!(!pushed && said.contains("DENIED by fallthru"), "{said}");
    let (pushed, said) = forge.git("ann", work, &push);
    assert!(pushed && said.contains(&format!("remote: sai: {url}/")), "{said}");
    let event = world.ended(1);
    assert_eq!((event.event.revision.as_str(), event.event.source.as_str()), (revision.as_str(), "poke"));
    assert_eq!(event.jobs[0].state, "passed", "{}", event.jobs[0].cause);
    let log = String::from_utf8(world.log(event.jobs[0].id)).expect("UTF-8");
    assert!(log.contains("what was pushed by ssh"), "{log}");
    // A branch is pushed over by force, and another goes: the first is built, and nothing more is seen.
    run(git(work).args(["commit", "--quiet", "--amend", "-m", "Say it again"]));
    let again = run(git(work).args(["rev-parse", "HEAD"]));
    let words = ["push", &forge.url("project"), "+HEAD:refs/heads/main", "HEAD:refs/heads/_private"];
    let (pushed, said) = forge.git("ann", work, &words);
    assert!(pushed && said.contains(&format!("remote: sai: {url}/")), "{said}");
    assert_eq!(world.ended(2).event.revision, again);
    let (pushed, said) = forge.git("ann", work, &["push", &forge.url("project"), ":refs/heads/_private"]);
    assert!(pushed, "{said}");
    // Who is taken off the list is let in no more, and the master says whose fault that is.
    let rights = forge.place.join("rights");
    let file = rights.join("conf/gitolite.conf");
    let without = fs::read_to_string(&file).expect("a file").replace("    R = sai\n", "");
    fs::write(&file, without).expect("a file");
    run(git(&rights).args(["commit", "--quiet", "-am", "Let sai read no more"]));
    assert!(forge.git("admin", &rights, &["push", "--quiet", "origin", "HEAD"]).0);
    world.repository.commit("Say what nobody reads");
    assert!(forge.git("ann", work, &push).0);
    let state = || String::from_utf8(world.get("/api/v1/repositories").expect("an answer")).expect("UTF-8");
    eventually("it is told that nothing can be read", || state().contains("unreachable for").then_some(()));
    assert!(world.event(3).is_none());
}
