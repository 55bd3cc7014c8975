//! An agent with real job directories, supervisors and git, on in-process links to a small master.

mod master;
mod wss;

use async_tungstenite::tungstenite::Message;
use master::{Master, Place, assignment, repository};
use sai_agent::job_directory::Launcher;
use sai_agent::link::{DialError, Dialer, Frame, Link, Timing};
use sai_agent::needs::fetch::Source;
use sai_agent::offering::Offering;
use sai_agent::pin::Trust;
use sai_agent::serve::{Control, Settings, serve};
use sai_agent::state::State;
use sai_core::job::{JobKey, Outcome};
use sai_core::join::Address;
use sai_core::limits::CHUNK_BYTES;
use sai_core::wire::{Offer, Prefetch};
use smol::channel::{self, Receiver, Sender};
use smol::future::{self, FutureExt as _};
use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};
use smol::net::{TcpListener, TcpStream};
use smol::stream::StreamExt as _;
use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use wss::{Server, TOKEN, identity};

/// Longest a test may take, which takes seconds on a machine with nothing else to do.
const PATIENCE: Duration = Duration::from_secs(180);

fn settings(lines: &Arc<Mutex<Vec<String>>>) -> Settings {
    let lines = Arc::clone(lines);
    Settings {
        env: sai_core::ordered::Map::new(),
        host: "test".to_owned(),
        offering: Offering { host: vec!["linux/test".to_owned()], slots: 2, ..Offering::default() },
        parallel: 3,
        user: None,
        keep_free_mib: 0,
        files: Source::Here(Arc::new(|_, _| Err("there are no files here".to_owned()))),
        launcher: Launcher { program: PathBuf::from(env!("CARGO_BIN_EXE_sai-agent")), first_arguments: Vec::new() },
        say: Arc::new(move |line| lines.lock().expect("lines").push(line.to_owned())),
    }
}

/// Runs an agent beside a test that is given the agent's links and its controls.
fn with_agent<T>(place: &Place, test: impl AsyncFnOnce(Receiver<Link>, Sender<Control>) -> T) -> (T, Vec<String>) {
    let (ends, links) = channel::bounded(1);
    let dial = move || {
        let ends = ends.clone();
        async move {
            let (near, far) = Link::pair();
            ends.send(far).await.map_err(|_| DialError::Unreachable("no master".to_owned()))?;
            Ok(near)
        }
    };
    with_dialing_agent(place, dial, async |controls| test(links, controls).await)
}

/// Runs an agent that dials so beside a test that is given its controls.
fn with_dialing_agent<T, D, F>(place: &Place, dial: D, test: impl AsyncFnOnce(Sender<Control>) -> T) -> (T, Vec<String>)
where
    D: Fn() -> F,
    F: Future<Output = Result<Link, DialError>> + Send + 'static,
{
    let lines = Arc::default();
    let state = State::open(&place.join("state")).expect("a state directory");
    let (controls, orders) = channel::bounded(4);
    let outcome = smol::block_on(async {
        let serving = async {
            serve(&state, settings(&lines), dial, orders).await.expect("an agent");
            future::pending().await
        };
        let limit = async {
            smol::Timer::after(PATIENCE).await;
            panic!("the test takes longer than {PATIENCE:?}: {:#?}", lines.lock().expect("lines"));
        };
        test(controls).or(serving).or(limit).await
    });
    let lines = lines.lock().expect("lines").clone();
    (outcome, lines)
}

/// Attends a link until it is gone, enough bytes have come, or `over`.
async fn attend(master: &mut Master, link: &Link, mut bytes: usize, over: impl Fn(&Master) -> bool) -> bool {
    while let Some(frame) = link.receiver.receive().await {
        let length = match &frame {
            Frame::Binary(content) => content.len(),
            Frame::Text(_) => 0,
        };
        if length > bytes {
            return false;
        }
        bytes -= length;
        for message in master.take(&frame) {
            if link.sender.send(Frame::Text(message.encode())).await.is_err() {
                return false;
            }
        }
        if over(master) {
            return true;
        }
    }
    false
}

/// Waits until nothing is left of any job on disk.
async fn until_no_jobs(place: &Place) {
    let jobs = place.join("state/jobs");
    while std::fs::read_dir(&jobs).expect("jobs").next().is_some() {
        smol::Timer::after(Duration::from_millis(5)).await;
    }
}

fn numbers(count: usize) -> Vec<u8> {
    (1..=count).flat_map(|number| format!("{number}\n").into_bytes()).collect()
}

#[test]
fn a_job_runs_and_everything_it_printed_arrives() {
    let place = Place::new("serve-plain");
    let repository = repository(&place);
    let ((), lines) = with_agent(&place, async |links, _controls| {
        let mut master = Master::default();
        let mut first =
            assignment(1, &repository, &["cat hello.txt", "seq 1 200000 | tee out.txt", "echo $SAI_PARALLEL"]);
        first.artifacts = vec!["out.txt".to_owned()];
        let second = assignment(2, &repository, &["echo no newline | tr -d '\\n'; exit 7"]);
        master.assign(first);
        master.assign(second);
        let link = links.recv().await.expect("a link");
        assert!(attend(&mut master, &link, usize::MAX, |master| master.done.len() == 2).await);
        let attempts: Vec<_> = master.attempts.values().collect();
        let log = attempts[0].log();
        assert_eq!(log.verdict.as_ref().map(|verdict| verdict.outcome), Some(Outcome::Passed), "{log:?}");
        let mut wanted = b"hello\n".to_vec();
        wanted.extend(numbers(200_000));
        wanted.extend(b"3\n");
        assert!(log.printed == wanted, "{} bytes", log.printed.len());
        assert_eq!(log.artifacts.len(), 1);
        assert!(attempts[0].streams[1] == numbers(200_000));
        let log = attempts[1].log();
        let verdict = log.verdict.expect("a verdict");
        assert_eq!((verdict.outcome, verdict.status), (Outcome::Failed, Some(7)));
        assert_eq!(log.printed, b"no newline");
        until_no_jobs(&place).await;
        // What the next greeting says: the mirror is warm, nothing is held.
        drop(link);
        let link = links.recv().await.expect("a link");
        attend(&mut master, &link, usize::MAX, |master| master.hellos.len() == 2).await;
        assert_eq!(master.hellos[1].mirrors, ["hello"]);
        assert!(master.hellos[0].jobs.is_empty() && master.hellos[1].jobs.is_empty());
        assert_eq!(master.hellos[0].identity, master.hellos[1].identity);
    });
    assert!(lines.iter().any(|line| line.contains("connected as shed")), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("job 1-1 begins: hello linux default")), "{lines:?}");
}

#[test]
fn a_cancelled_job_ends_and_a_forgotten_one_is_gone() {
    let place = Place::new("serve-cancel");
    let repository = repository(&place);
    with_agent(&place, async |links, _controls| {
        let mut master = Master::default();
        let cancelled = assignment(1, &repository, &["echo begun; sleep 1000"]);
        let forgotten = assignment(2, &repository, &["echo begun; sleep 1000 & sleep 1000"]);
        let (first, second) = (cancelled.key, forgotten.key);
        master.assign(cancelled);
        master.assign(forgotten);
        let link = links.recv().await.expect("a link");
        let begun =
            |master: &Master, key| master.attempts.get(&key).is_some_and(|attempt| attempt.log().printed == b"begun\n");
        attend(&mut master, &link, usize::MAX, |master| begun(master, first) && begun(master, second)).await;
        let forget = sai_core::wire::MasterMessage::Forget(sai_core::wire::Forget { key: second });
        for message in [master.cancel(first), forget] {
            link.sender.send(Frame::Text(message.encode())).await.expect("a link");
        }
        master.done.insert(second);
        attend(&mut master, &link, usize::MAX, |master| master.done.len() == 2).await;
        let verdict = master.attempts[&first].log().verdict.expect("a verdict");
        assert_eq!(verdict.outcome, Outcome::Cancelled);
        until_no_jobs(&place).await;
    });
}

#[test]
fn links_cut_at_random_places_lose_and_repeat_nothing() {
    // Several agents at once, since most of the time goes by between a cut and the redial.
    let workers: Vec<_> = (0..16_u64)
        .map(|seed| {
            std::thread::spawn(move || {
                let place = Place::new(&format!("serve-cut-{seed}"));
                let repository = repository(&place);
                let runs = place.join("runs");
                let step = format!(
                    "echo run >> {}; for i in 1 2 3 4 5 6 7 8 9 10; do seq 1 60000; sleep 0.1; done",
                    runs.display()
                );
                let cuts = with_agent(&place, async |links, _controls| {
                    let mut master = Master { lazy: seed % 2 == 0, ..Master::default() };
                    let mut job = assignment(1, &repository, &[&step]);
                    job.artifacts = vec!["hello.txt".to_owned()];
                    master.assign(job);
                    let mut random = Random::new(seed);
                    let mut cuts = 0;
                    loop {
                        let link = links.recv().await.expect("a link");
                        let after = random.below(6 * CHUNK_BYTES as u64);
                        if cuts < 14 {
                            if attend(&mut master, &link, after, |master| master.done.len() == 1).await {
                                break;
                            }
                        } else if attend(&mut master, &link, usize::MAX, |master| master.done.len() == 1).await {
                            break;
                        }
                        cuts += 1;
                        drop(link);
                        master.forget_what_is_not_durable();
                    }
                    let attempt = &master.attempts[&JobKey { job: 1, attempt: 1 }];
                    let log = attempt.log();
                    assert_eq!(log.verdict.as_ref().map(|verdict| verdict.outcome), Some(Outcome::Passed));
                    assert!(log.printed == numbers(60_000).repeat(10), "{} bytes", log.printed.len());
                    assert_eq!(attempt.streams[1], b"hello\n");
                    cuts
                });
                assert_eq!(std::fs::read_to_string(&runs).expect("runs"), "run\n", "it ran once");
                cuts.0
            })
        })
        .collect();
    let cuts: usize = workers.into_iter().map(|worker| worker.join().expect("a worker")).sum();
    assert!(cuts >= 100, "only {cuts} cuts");
}

/// Numbers that differ from worker to worker and are the same in each run.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, most: u64) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % most) as usize
    }
}

/// Lets a number of bytes through between two connections, both ways together; then cuts them or falls silent.
async fn unreliable(listener: &TcpListener, server: &Server, random: &RefCell<Random>, rounds: usize) {
    for round in 0.. {
        let (agent, _) = listener.accept().await.expect("a connection");
        let master = TcpStream::connect(("127.0.0.1", server.address().port)).await.expect("a master");
        let left = Cell::new(if round < rounds { random.borrow_mut().below(400_000) } else { usize::MAX });
        let copy = async |mut from: TcpStream, mut to: TcpStream| {
            let mut buffer = vec![0; 16 << 10];
            while left.get() > 0 {
                let most = buffer.len().min(left.get());
                match from.read(&mut buffer[..most]).await {
                    Ok(read @ 1..) => {
                        // The other way may have used it up meanwhile.
                        let through = read.min(left.get());
                        left.set(left.get() - through);
                        if to.write_all(&buffer[..through]).await.is_err() {
                            return;
                        }
                    }
                    _ => return,
                }
            }
        };
        copy(agent.clone(), master.clone()).or(copy(master.clone(), agent.clone())).await;
        if round % 3 == 0 {
            // Silence instead of an end: only its own deadline helps the agent.
            let mut rest = [0; 4096];
            while left.get() == 0 && matches!(agent.clone().read(&mut rest).await, Ok(1..)) {}
        }
    }
}

#[test]
fn real_connections_cut_and_stalled_at_random_bytes_lose_and_repeat_nothing() {
    let workers: Vec<_> = (0..8_u64)
        .map(|seed| {
            std::thread::spawn(move || {
                let place = Place::new(&format!("serve-wire-{seed}"));
                let repository = repository(&place);
                let server = smol::block_on(Server::new());
                let listener = smol::block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
                let address = Address { port: listener.local_addr().expect("an address").port(), ..server.address() };
                let part = Duration::from_millis(250);
                let quick = Timing { ping: part / 5, dead: part, handshake: 4 * part, connect: 4 * part };
                let [quick, usual] = [quick, Timing::default()].map(|timing| {
                    let trust = Trust::Fingerprint(identity().1);
                    Dialer::new(address.clone(), trust, TOKEN.to_owned(), timing).expect("a dialer")
                });
                // Where the machine is too slow for the short deadlines, the usual ones bring the log to its end.
                let dials = AtomicU32::new(0);
                let dial = move || {
                    let few = dials.fetch_add(1, Ordering::Relaxed) < 40;
                    let dialer = if few { quick.clone() } else { usual.clone() };
                    async move { dialer.dial().await }
                };
                let links = with_dialing_agent(&place, dial, async |_controls| {
                    let random = RefCell::new(Random::new(seed + 1));
                    let mut master = Master { lazy: seed % 2 == 0, ..Master::default() };
                    master.assign(assignment(
                        1,
                        &repository,
                        &["for i in 1 2 3 4 5 6 7 8; do seq 1 60000; sleep 0.1; done"],
                    ));
                    let mut links = 0;
                    let attending = async {
                        while master.done.is_empty() {
                            links += 1;
                            let mut websocket = server.accept().await;
                            while let Some(Ok(message)) = websocket.next().await {
                                let frame = match message {
                                    Message::Text(text) => Frame::Text(text.as_str().to_owned()),
                                    Message::Binary(bytes) => Frame::Binary(bytes.into()),
                                    _ => continue,
                                };
                                for message in master.take(&frame) {
                                    // What cannot be sent shows when the next message is read.
                                    let _ = websocket.send(Message::text(message.encode())).await;
                                }
                                if !master.done.is_empty() {
                                    break;
                                }
                            }
                            master.forget_what_is_not_durable();
                        }
                    };
                    let wire = async {
                        unreliable(&listener, &server, &random, 10).await;
                    };
                    attending.or(wire).await;
                    let log = master.attempts[&JobKey { job: 1, attempt: 1 }].log();
                    assert!(log.printed == numbers(60_000).repeat(8), "{} bytes", log.printed.len());
                    links
                });
                links.0
            })
        })
        .collect();
    let links: usize = workers.into_iter().map(|worker| worker.join().expect("a worker")).sum();
    assert!(links >= 40, "only {links} links");
}

#[test]
fn an_agent_that_stops_leaves_its_jobs_to_the_next() {
    let place = Place::new("serve-adopt");
    let repository = repository(&place);
    let mut master = Master::default();
    let gate = place.join("gate");
    let step = format!("echo $SAI_INSTANCE_IDX; while ! test -e {}; do sleep 0.01; done; echo end", gate.display());
    master.assign(assignment(1, &repository, &[&step]));
    let ((), lines) = with_agent(&place, async |links, controls| {
        let link = links.recv().await.expect("a link");
        let printed = |master: &Master| master.attempts.values().any(|attempt| attempt.log().printed == b"0\n");
        attend(&mut master, &link, usize::MAX, printed).await;
        controls.send(Control::Stop).await.expect("an agent");
        assert!(!attend(&mut master, &link, usize::MAX, |_| false).await, "the link is closed");
    });
    assert!(lines.iter().all(|line| !line.contains("trying again")), "{lines:?}");
    // Nobody is there while the job goes on; what it prints now is kept for the next agent.
    let ((), lines) = with_agent(&place, async |links, _controls| {
        let link = links.recv().await.expect("a link");
        // A new job beside it gets another instance number.
        master.assign(assignment(2, &repository, &["echo $SAI_INSTANCE_IDX"]));
        attend(&mut master, &link, usize::MAX, |master| master.done.len() == 1).await;
        std::fs::write(&gate, "").expect("a file");
        attend(&mut master, &link, usize::MAX, |master| master.done.len() == 2).await;
        until_no_jobs(&place).await;
    });
    assert!(lines.iter().any(|line| line == "job 1-1 is adopted"), "{lines:?}");
    let printed: Vec<Vec<u8>> = master.attempts.values().map(|attempt| attempt.log().printed).collect();
    assert_eq!(printed, [b"0\nend\n".to_vec(), b"1\n".to_vec()]);
}

#[test]
fn a_supervisor_that_was_killed_is_told_as_trouble_of_ours() {
    let place = Place::new("serve-killed");
    let repository = repository(&place);
    with_agent(&place, async |links, _controls| {
        let mut master = Master::default();
        let step = "echo begun; sleep 1000";
        master.assign(assignment(1, &repository, &[step]));
        let link = links.recv().await.expect("a link");
        let printed = |master: &Master| master.attempts.values().any(|attempt| attempt.log().printed == b"begun\n");
        attend(&mut master, &link, usize::MAX, printed).await;
        let signature = std::fs::read_to_string(place.join("state/jobs/1-1/supervisor")).expect("a supervisor");
        let pid = signature.lines().next().expect("a number").parse().expect("a number");
        let pid = rustix::process::Pid::from_raw(pid).expect("a process");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("a process");
        attend(&mut master, &link, usize::MAX, |master| master.done.len() == 1).await;
        let verdict = master.attempts[&JobKey { job: 1, attempt: 1 }].log().verdict.expect("a verdict");
        assert_eq!(verdict.outcome, Outcome::Infra);
        until_no_jobs(&place).await;
    });
}

#[test]
fn what_cannot_be_started_is_refused() {
    let place = Place::new("serve-refuse");
    let repository = repository(&place);
    with_agent(&place, async |links, _controls| {
        let mut master = Master::default();
        master.assign(assignment(1, &repository, &["true"]));
        let link = links.recv().await.expect("a link");
        // The directory of attempts is a file now, so no attempt can have its own.
        std::fs::remove_dir(place.join("state/jobs")).expect("no jobs yet");
        std::fs::write(place.join("state/jobs"), "").expect("a file");
        attend(&mut master, &link, usize::MAX, |master| master.done.len() == 1).await;
        let refused = master.attempts[&JobKey { job: 1, attempt: 1 }].refused.as_deref();
        assert!(refused.is_some_and(|why| why.contains("cannot be started")), "{refused:?}");
    });
}

#[test]
fn offers_change_while_it_runs_and_fetching_ahead_makes_the_mirror_warm() {
    let place = Place::new("serve-offer");
    let repository = repository(&place);
    with_agent(&place, async |links, controls| {
        let mut master = Master::default();
        let link = links.recv().await.expect("a link");
        attend(&mut master, &link, usize::MAX, |master| master.loads.len() == 1).await;
        assert!(master.loads[0].free_mib > 0);
        let offer = Offer { platforms: vec!["linux/other".to_owned()], slots: 5, rooted: None, boards: None };
        let offering = Offering { host: offer.platforms.clone(), slots: offer.slots, ..Offering::default() };
        controls.send(Control::Offer(offering)).await.expect("an agent");
        attend(&mut master, &link, usize::MAX, |master| master.offers.len() == 1).await;
        assert_eq!(master.offers, [offer]);
        let prefetch = sai_core::wire::MasterMessage::Prefetch(Prefetch {
            repository: "hello".to_owned(),
            url: repository.0.clone().into(),
            reference: "refs/heads/main".to_owned(),
            revision: repository.1.clone(),
        });
        link.sender.send(Frame::Text(prefetch.encode())).await.expect("a link");
        while sai_agent::mirror::names(&place.join("state/mirrors")).is_empty() {
            smol::Timer::after(Duration::from_millis(5)).await;
        }
        // The next greeting says what was offered last.
        drop(link);
        let link = links.recv().await.expect("a link");
        attend(&mut master, &link, usize::MAX, |master| master.hellos.len() == 2).await;
        assert_eq!((master.hellos[1].slots, master.hellos[1].platforms.len()), (5, 1));
    });
}

#[test]
fn a_master_that_talks_nonsense_is_left_and_tried_again() {
    let place = Place::new("serve-nonsense");
    let ((), lines) = with_agent(&place, async |links, _controls| {
        for nonsense in ["{", "{\"t\":\"ack\"}", "{\"t\":\"assign\"}"] {
            let link = links.recv().await.expect("a link");
            // What it only does not know costs it nothing.
            link.sender.send(Frame::Text("{\"t\":\"what\"}".to_owned())).await.expect("a link");
            link.sender.send(Frame::Binary(vec![1; 30])).await.expect("a link");
            link.sender.send(Frame::Text(nonsense.to_owned())).await.expect("a link");
            while link.receiver.receive().await.is_some() {}
        }
    });
    assert!(lines.iter().filter(|line| line.contains("broke the protocol")).count() >= 3, "{lines:?}");
}
