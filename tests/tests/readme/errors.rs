//! The README's section on errors → each of them, provoked.

use super::{readme, text};
use sai_tests::process::{Process, eventually, program};
use sai_tests::repository::{git, run, saifile};
use sai_tests::world::{World, free_port};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};

/// Whether a text of the README, in which `…` stands for anything, is in this output.
fn said(output: &str, quote: &str) -> bool {
    let mut rest = output;
    quote.split('…').all(|part| match rest.split_once(part) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

/// What one trial says that waits for another.
fn trouble_of_trials(world: &World) -> Vec<String> {
    world.repository.write(".sai.json", saifile(&["true"]));
    world.repository.commit("Something to try");
    let state = world.directory.join("try-twice");
    let trial = |options: &[&str]| {
        let mut command = Command::new(program("sai-master"));
        command.arg("try").arg(&world.repository.work).arg("--state").arg(&state).args(options).stdout(Stdio::null());
        Process::start("try", &mut command)
    };
    let first = trial(&["--stay"]);
    first.await_line("the page stays at");
    vec![trial(&[]).await_line("is being tried already")]
}

/// What an agent says of fronts and proxies that are set up wrong.
fn trouble_on_the_way(world: &World) -> Vec<String> {
    let place = &world.directory;
    let openssl = |words: &str| {
        let mut command = Command::new("openssl");
        command.args(words.split(' ')).current_dir(place);
        command
    };
    let make = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";
    run(&mut openssl(&format!("{make} -subj /CN=root -keyout root.key -out root.pem")));
    run(&mut openssl(&format!("{make} -subj /CN=middle -CA root.pem -CAkey root.key -keyout key.pem -out middle.pem")));
    let leaf = "-subj /CN=localhost -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE";
    run(&mut openssl(&format!("{make} {leaf} -CA middle.pem -CAkey key.pem -keyout leaf.key -out leaf.pem")));
    let join = |port: u16, environment: &[(&str, &str)]| {
        let line = format!("sai1:localhost:{port}:one:{}:system", "0123456789abcdef".repeat(2));
        let mut command = Command::new(program("sai-agent"));
        command.args(["join", &line, "--only-save", "--state"]).arg(place.join("way")).env("NO_PROXY", "");
        command.env("SSL_CERT_FILE", place.join("root.pem")).envs(environment.iter().copied());
        text(&command.output().expect("sai-agent can be run").stderr)
    };
    let front = |options: &str| {
        let port = free_port();
        let serve = format!("s_server -quiet -accept 127.0.0.1:{port} -cert leaf.pem -key leaf.key{options}");
        let server = Process::start("front", openssl(&serve).stdout(Stdio::null()));
        eventually("the front listens", || TcpStream::connect(("127.0.0.1", port)).ok());
        (server, port)
    };
    let (whole, old) = (front(""), front(" -tls1_2"));
    let proxy = TcpListener::bind("127.0.0.1:0").expect("a port");
    let asked = proxy.local_addr().expect("its address");
    let url = format!("http://{asked}");
    let refuses = std::thread::spawn(move || {
        let (mut stream, _) = proxy.accept().expect("a connection");
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
    });
    let said = vec![join(whole.1, &[]), join(old.1, &[]), join(1, &[("HTTPS_PROXY", &url)])];
    // One who was not asked waits no longer.
    drop(TcpStream::connect(asked));
    refuses.join().expect("the proxy was asked");
    said
}

/// What is said where a disk has changed what was written, each time something else.
fn trouble_of_a_disk(world: &World) -> Vec<String> {
    let copy = world.directory.join("damaged");
    let mut said = Vec::new();
    for entry in std::fs::read_dir(world.state().join("journal")).expect("the journal").flatten() {
        let _ = std::fs::remove_dir_all(&copy);
        run(Command::new("cp").arg("-r").arg(world.state()).arg(&copy));
        let file = copy.join("journal").join(entry.file_name());
        let mut bytes = std::fs::read(&file).expect("a file of it");
        let middle = bytes.len() / 2;
        if let Some(byte) = bytes.get_mut(middle) {
            *byte ^= 1;
        }
        std::fs::write(&file, bytes).expect("a file of it");
        for words in [&["export"][..], &["agent", "list"]] {
            let mut command = Command::new(program("sai-master"));
            command.args(words).arg("--state").arg(&copy);
            said.push(text(&command.output().expect("sai-master can be run").stderr));
        }
    }
    said
}

#[test]
fn every_error_of_the_readme_is_real() {
    let readme = readme();
    let section = readme.split("## When something is wrong\n").nth(1).and_then(|rest| rest.split("\n## ").next());
    let section = section.expect("a section on errors");
    // What is quoted before the colon is a message; what comes after says what to do.
    let quotes: Vec<&str> = section
        .split("\n- ")
        .flat_map(|item| item.split(": ").next().unwrap_or("").split('`').skip(1).step_by(2))
        .collect();
    assert!(quotes.len() >= 14, "{quotes:?}");

    let mut world = World::new("trouble");
    world.set("expire_s", "86400");
    let mut outputs = Vec::new();
    let try_it = |world: &World| {
        let mut command = Command::new(program("sai-master"));
        command.arg("try").arg(&world.repository.work).arg("--state").arg(world.directory.join("try"));
        text(&command.output().expect("sai-master can be run").stderr)
    };
    world.repository.write("file", "content");
    world.repository.commit("No saifile yet");
    outputs.push(try_it(&world));
    outputs.extend(trouble_of_trials(&world));
    outputs.extend(trouble_on_the_way(&world));
    let mut absent = Command::new(program("sai-master"));
    absent.args(["agent", "list", "--state"]).arg(world.directory.join("absent"));
    outputs.push(text(&absent.output().expect("sai-master can be run").stderr));
    world.repository.write(".sai.json", saifile(&["true"]).replace("linux", "plan9"));
    world.repository.commit("Ask for another system");
    outputs.push(try_it(&world));

    let mut master = world.master();
    let work = &world.repository.work;
    run(git(&world.repository.bare).args(["config", "--unset", "sai.insecure"]));
    let push = |reference: &str| {
        let output = git(work).args(["push", "--quiet", "origin", reference]).output().expect("git can be run");
        text(&output.stderr)
    };
    outputs.push(push("HEAD:refs/heads/main"));
    run(git(&world.repository.bare).args(["config", "sai.insecure", "true"]));
    outputs.push(push("HEAD:refs/heads/again"));
    eventually("the push becomes an event", || world.event(1));
    outputs.push(text(&world.get("/event/1").expect("the event's page")));

    let line = world.join_line("one");
    let join = |state: &str| {
        let mut command = Command::new(program("sai-agent"));
        command.args(["join", &line, "--only-save", "--state"]).arg(world.agent_state(state));
        text(&command.output().expect("sai-agent can be run").stderr)
    };
    outputs.push(join("one"));
    outputs.push(join("two"));
    let mut export = Command::new(program("sai-master"));
    export.arg("export").arg("--config").arg(world.configuration());
    outputs.push(text(&export.output().expect("sai-master can be run").stderr));
    master.kill();
    outputs.extend(trouble_of_a_disk(&world));
    std::fs::remove_dir_all(world.state().join("tls")).expect("the master's certificate can be removed");
    let _master = world.master();
    let mut again = Command::new(program("sai-agent"));
    again.arg("--state").arg(world.agent_state("one")).stdout(Stdio::null());
    outputs.push(Process::start("one", &mut again).await_line("is pinned"));

    for quote in quotes {
        assert!(outputs.iter().any(|output| said(output, quote)), "nothing says {quote:?}: {outputs:#?}");
    }
}
