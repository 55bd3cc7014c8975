//! The real program over real TLS: joining, serving, being killed and coming back.

mod master;
mod wss;

use async_tungstenite::tungstenite::Message;
use master::{Master, Place, assignment, repository};
use sai_agent::link::Frame;
use sai_agent::pin;
use sai_core::job::{JobKey, Outcome};
use sai_core::join::{Address, JoinLine};
use sai_core::wire::{AgentMessage, Bye, MasterMessage};
use smol::future;
use smol::io::AsyncReadExt as _;
use smol::process::{Child, Command, Output, Stdio};
use smol::stream::StreamExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::time::{Duration, Instant};
use wss::{Server, TOKEN, identity, within};

fn join_line(server: &Server, fingerprint: Option<[u8; 32]>) -> String {
    JoinLine::new(server.address(), "shed", TOKEN, fingerprint).expect("a line").to_string()
}

fn agent(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sai-agent"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// What a program says that ends by itself.
async fn run(arguments: &[&str]) -> (i32, String) {
    let Output { status, stderr, stdout } = agent(arguments).output().await.expect("the agent");
    let text = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
    (status.code().expect("a status"), text)
}

async fn ended(mut child: Child) -> (Option<i32>, String) {
    let status = child.status().await.expect("the agent");
    let mut text = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut text).await.expect("its words");
    (status.code(), text)
}

/// Attends the next link until it is gone or `over`.
async fn attend(server: &Server, master: &mut Master, over: impl Fn(&Master) -> bool) -> bool {
    let mut websocket = server.accept().await;
    while let Some(Ok(message)) = websocket.next().await {
        let frame = match message {
            Message::Text(text) => Frame::Text(text.as_str().to_owned()),
            Message::Binary(bytes) => Frame::Binary(bytes.into()),
            _ => continue,
        };
        for message in master.take(&frame) {
            if websocket.send(Message::text(message.encode())).await.is_err() {
                return false;
            }
        }
        if over(master) {
            return true;
        }
    }
    false
}

fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).expect("a number")).expect("a process");
    rustix::process::kill_process(pid, signal).expect("a process");
}

#[test]
fn a_line_is_all_that_a_machine_needs() {
    let place = Place::new("process-join");
    let repository = repository(&place);
    let state = place.join("state");
    let state = state.to_str().expect("text");
    within(async {
        let server = Server::new().await;
        let mut master = Master::default();
        master.assign(assignment(1, &repository, &["echo joined"]));
        let line = format!(" '{}'\n", join_line(&server, Some(identity().1)));
        let child =
            agent(&["join", &line, "--name", "shed-2", "--platform", "linux/x", "--slots", "2", "--state", state]);
        let child = { child }.spawn().expect("the agent");
        attend(&server, &mut master, |master| master.hellos.len() == 1).await;
        assert!(attend(&server, &mut master, |master| master.done.len() == 1).await);
        let [trial, real] = master.hellos.as_slice() else { panic!("{:?}", master.hellos) };
        assert_eq!((trial.slots, real.slots), (0, 2));
        assert_eq!((real.host.as_str(), real.platforms.as_slice()), ("shed-2", &["linux/x".to_owned()][..]));
        assert_eq!(trial.identity, real.identity);
        let saved = place.join("state/agent.json");
        assert_eq!(std::fs::metadata(&saved).expect("a configuration").mode() & 0o777, 0o600);
        // A second agent in the same place would run the same jobs twice.
        let (status, words) = run(&["--state", state]).await;
        assert_eq!(status, 1);
        assert!(words.contains(&format!("another agent (process {}) works in", child.id())), "{words}");
        signal(&child, rustix::process::Signal::TERM);
        let (status, words) = ended(child).await;
        assert_eq!(status, Some(0), "{words}");
        assert!(words.contains("joined wss://127.0.0.1:") && words.contains("as shed; saved in"), "{words}");
        assert!(words.contains(&format!("start it with: sai-agent --state {state}")), "{words}");
        assert!(!words.contains(TOKEN), "{words}");
        // From now on its name and place are enough.
        let child = agent(&["--state", state]).spawn().expect("the agent");
        attend(&server, &mut master, |master| master.loads.len() == 2).await;
        assert_eq!(master.hellos[2].host, "shed-2");
        drop(child);
    });
}

#[test]
fn a_line_that_does_not_work_changes_nothing_and_says_what_to_do() {
    let place = Place::new("process-refused");
    let state = place.join("state");
    let state = state.to_str().expect("text");
    within(async {
        let server = Server::new().await;
        let good = join_line(&server, Some(identity().1));
        // The master does not know the token.
        let body = "this token was revoked";
        let answer = format!("HTTP/1.1 401 Unauthorized\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let ((status, words), ()) = future::zip(run(&["join", &good, "--state", state]), server.answer(&answer)).await;
        assert_eq!(status, 3, "{words}");
        assert!(words.contains("token refused: this token was revoked; ask for a new join line"), "{words}");
        // The token is bound to another machine.
        let stolen = async {
            let mut websocket = server.accept().await;
            let hello = websocket.next().await.expect("a greeting").expect("a greeting");
            assert!(matches!(AgentMessage::decode(hello.to_text().expect("text")), Ok(AgentMessage::Hello(_))));
            let bye = MasterMessage::Bye(Bye { why: "this token belongs to another machine".to_owned(), code: None });
            websocket.send(Message::text(bye.encode())).await.expect("a link");
            let _ = websocket.close(None).await;
        };
        let ((status, words), ()) = future::zip(run(&["join", &good, "--state", state]), stolen).await;
        assert_eq!(status, 3, "{words}");
        assert!(words.contains("the master says: this token belongs to another machine; nothing was saved"), "{words}");
        // Somebody else has the master's address.
        let mut other = identity().1;
        other[0] ^= 1;
        let stranger = async {
            let (stream, _) = server.listener.accept().await.expect("a connection");
            let _ = futures_rustls::TlsAcceptor::from(identity().0.clone()).accept(stream).await;
        };
        let line = join_line(&server, Some(other));
        let ((status, words), ()) = future::zip(run(&["join", &line, "--state", state]), stranger).await;
        assert_eq!(status, 3, "{words}");
        assert!(words.contains(&format!("has fingerprint {}", pin::fingerprint_text(&identity().1))), "{words}");
        // Nobody has.
        let gone = Address::new("127.0.0.1".to_owned(), server.address().port);
        drop(server);
        let line = JoinLine::new(gone, "shed", TOKEN, None).expect("a line").to_string();
        let (status, words) = run(&["join", &line, "--state", state]).await;
        assert_eq!(status, 1, "{words}");
        assert!(words.contains("cannot be reached"), "{words}");
        assert!(!place.join("state/agent.json").exists());
    });
}

#[test]
fn a_command_line_that_is_not_understood_is_refused() {
    let place = Place::new("process-usage");
    let config = place.join("agent.json");
    std::fs::write(
        &config,
        format!("{{\n  \"master\": \"wss://a\", \"token\": \"{}\",\n  \"slot\": 2 }}\n", "ab".repeat(16)),
    )
    .expect("a file");
    std::fs::set_permissions(&config, std::fs::Permissions::from_mode(0o600)).expect("a file");
    let config = config.to_str().expect("text");
    let empty = place.join("nothing");
    let empty = empty.to_str().expect("text");
    within(async {
        for (arguments, status, wanted) in [
            (&["--help"][..], 0, "exit status:"),
            (&["join", "-h"], 0, "exit status:"),
            (&["--version"], 0, "sai-agent 0."),
            (&["--colour"], 2, "--colour is not understood; see sai-agent --help"),
            (&["serve"], 2, "serve is not understood"),
            (&["--config"], 2, "--config"),
            (&["--config", "/no/such/file"], 2, "/no/such/file cannot be read"),
            (&["--config", config], 2, &format!("{config}:3:3: slot: expected one of master, others, token")),
            (&["--state", empty], 2, "join a master first (sai-agent join LINE)"),
            (&["join"], 2, "join needs the line"),
            (&["join", "-"], 2, "this is no join line"),
            (&["join", "sai1:host:1:name:short:system"], 2, "expected a token"),
            (&["join", "x", "--slots", "0"], 2, "1 to 256 slots"),
            (&["join", "x", "--platform", "../../etc"], 2, "expected a platform name"),
            (&["join", "x", "--name", "a b"], 2, "expected a name"),
            (&["join", "x", "y"], 2, "y is not understood"),
        ] {
            let (found, words) = run(arguments).await;
            assert_eq!(found, status, "{arguments:?}: {words}");
            assert!(words.contains(wanted), "{arguments:?}: {words}");
            assert!(status == 0 || words.lines().count() == 1, "{arguments:?}: {words}");
        }
        assert!(!place.join("nothing").exists());
    });
}

#[test]
fn a_job_outlives_its_agent_again_and_again() {
    let place = Place::new("process-kill");
    let repository = repository(&place);
    let config = place.join("agent.json");
    let state = place.join("state");
    let runs = place.join("runs");
    within(async {
        let server = Server::new().await;
        let pin = pin::fingerprint_text(&identity().1);
        let text = format!(
            "{{ \"master\": \"{}\", \"token\": \"{TOKEN}\", \"pin\": \"{pin}\", \"state\": \"{}\", # slots by default\n}}",
            server.address(),
            state.display()
        );
        std::fs::write(&config, text.replace(", #", " #")).expect("a file");
        let config = config.to_str().expect("text");
        let mut master = Master { lazy: true, ..Master::default() };
        let step = format!("echo run >> {}; for i in $(seq 1 40); do seq 1 20000; sleep 0.05; done", runs.display());
        master.assign(assignment(1, &repository, &[&step]));
        let mut kills = 0;
        loop {
            let child = agent(&["--config", config]).spawn().expect("the agent");
            let before = master.data_bytes;
            let more = 30_000 * (kills + 1);
            if attend(&server, &mut master, |master| master.done.len() == 1 || master.data_bytes > before + more).await
                && master.done.len() == 1
            {
                signal(&child, rustix::process::Signal::INT);
                assert_eq!(ended(child).await.0, Some(0));
                break;
            }
            signal(&child, rustix::process::Signal::KILL);
            assert_eq!(ended(child).await.0, None);
            master.forget_what_is_not_durable();
            kills += 1;
        }
        assert!(kills >= 5, "killed {kills} times");
        let attempt = &master.attempts[&JobKey { job: 1, attempt: 1 }];
        let log = attempt.log();
        assert_eq!(log.verdict.as_ref().map(|verdict| verdict.outcome), Some(Outcome::Passed));
        let numbers: Vec<u8> = (1..=20_000).flat_map(|number| format!("{number}\n").into_bytes()).collect();
        assert!(log.printed == numbers.repeat(40), "{} bytes", log.printed.len());
        assert_eq!(std::fs::read_to_string(&runs).expect("runs"), "run\n", "it ran once");
    });
}

/// Prints what an idle agent takes and how fast a log goes through: figures to look at, and bounds far above them.
#[test]
fn an_idle_agent_is_small_and_a_busy_one_fast() {
    let place = Place::new("process-size");
    let repository = repository(&place);
    let config = place.join("agent.json");
    within(async {
        let server = Server::new().await;
        let pin = pin::fingerprint_text(&identity().1);
        let state = place.join("state");
        let text = format!(
            "{{ \"master\": \"{}\", \"token\": \"{TOKEN}\", \"pin\": \"{pin}\", \"state\": \"{}\" }}",
            server.address(),
            state.display()
        );
        std::fs::write(&config, text).expect("a file");
        let mut child = agent(&["--config", config.to_str().expect("text")]).spawn().expect("the agent");
        let status = format!("/proc/{}/status", child.id());
        let resident = || {
            let status = std::fs::read_to_string(&status).expect("a process");
            let kib = |key: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("a line");
                line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number")
            };
            (kib("VmRSS:"), kib("VmHWM:"), kib("Threads:"))
        };
        let mut master = Master { data_only_counted: true, ..Master::default() };
        let mut websocket = server.accept().await;
        let mut idle = None;
        let mut begun = Instant::now();
        while let Some(Ok(message)) = websocket.next().await {
            let frame = match message {
                Message::Text(text) => Frame::Text(text.as_str().to_owned()),
                Message::Binary(bytes) => Frame::Binary(bytes.into()),
                _ => continue,
            };
            let mut answers = master.take(&frame);
            if idle.is_none() && !master.loads.is_empty() {
                // Threads of the pool for blocking work leave after half a second without any.
                smol::Timer::after(Duration::from_millis(800)).await;
                idle = Some(resident());
                answers.push(master.assign(assignment(1, &repository, &["seq 1 20000000"])));
                begun = Instant::now();
            }
            for message in answers {
                websocket.send(Message::text(message.encode())).await.expect("a link");
            }
            if master.done.len() == 1 {
                break;
            }
        }
        let seconds = begun.elapsed().as_secs_f64();
        let (idle, threads) = idle.map(|(rss, _, threads)| (rss, threads)).expect("it was idle");
        let (_, peak, _) = resident();
        let mib = master.data_bytes as f64 / f64::from(1 << 20);
        println!("idle {idle} KiB in {threads} threads, at most {peak} KiB; {mib:.0} MiB in {seconds:.2} s");
        assert!(master.data_bytes > 168_000_000);
        assert!(idle < 16 << 10 && peak < idle + (8 << 10), "idle {idle} KiB, at most {peak} KiB");
        child.kill().expect("the agent");
    });
}
