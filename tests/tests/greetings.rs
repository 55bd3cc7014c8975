//! Links by the thousand that present a good token and never greet: pages, hooks and honest agents notice nothing, and what
//! the links took is given back.
//!
//! `SAI_LINKS` sets how many there are; with 8192 it takes half a minute.

use sai_agent::config::Config;
use sai_agent::link::{Dialer, Timing};
use sai_core::wire::{AgentMessage, Load};
use sai_tests::peer::{Peer, hello};
use sai_tests::process::{Process, eventually};
use sai_tests::repository::saifile;
use sai_tests::world::World;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const PLATFORM: &str = "linux-test-1/x86_64/gcc";
/// Links with a token that nobody has used, unless `SAI_LINKS` says how many; half as many more have a used one.
const LINKS: usize = 2048;
/// Dials under way at once.
const DIALS: usize = 64;
/// Time that the last of them have for their greeting.
const GREETING: Duration = Duration::from_secs(10);
/// Time for a page, or for a push to be built, beside as many handshakes as this machine can do. Whoever is locked out
/// waits for as long as the links last.
const PROMPT: Duration = Duration::from_secs(45);
/// Descriptors and threads that a master may have more than before: a few connections of its pages are still open.
const FEW: usize = 12;
/// KiB that may be kept of what thousands of links took.
const KEPT_KIB: u64 = 48 << 10;

fn count(process: &Process, what: &str) -> usize {
    fs::read_dir(format!("/proc/{}/{what}", process.id())).map_or(0, Iterator::count)
}

#[derive(Default)]
struct Counts {
    /// Dials that have ended in a link or a refusal.
    dialled: AtomicUsize,
    /// Links there are now, and the most there were at once.
    open: AtomicUsize,
    most: AtomicUsize,
    /// Links there were.
    links: AtomicUsize,
}

/// Dials as often as told, greets never, and holds each link until the master ends it.
async fn flood(line: String, links: usize, counts: Arc<Counts>) {
    let config = Config::joined(&line.trim().parse().expect("a join line"));
    let dialer = Dialer::new(config.master, config.trust, config.token, Timing::default()).expect("a dialer");
    let places = Arc::new(smol::lock::Semaphore::new(DIALS));
    let mut tasks = Vec::new();
    for _ in 0..links {
        let place = places.acquire_arc().await;
        let (dialer, counts) = (dialer.clone(), counts.clone());
        tasks.push(smol::spawn(async move {
            let link = dialer.dial().await;
            counts.dialled.fetch_add(1, Ordering::Relaxed);
            drop(place);
            let Ok(link) = link else { return };
            counts.links.fetch_add(1, Ordering::Relaxed);
            let open = counts.open.fetch_add(1, Ordering::Relaxed) + 1;
            counts.most.fetch_max(open, Ordering::Relaxed);
            let driver = link.driver.expect("a real link");
            let listen = async { while link.receiver.receive().await.is_some() {} };
            smol::future::or(listen, driver).await;
            counts.open.fetch_sub(1, Ordering::Relaxed);
        }));
    }
    for task in tasks {
        task.await;
    }
}

#[test]
fn links_that_never_greet_lock_nobody_out_and_are_given_back() {
    let links = std::env::var("SAI_LINKS").ok().and_then(|text| text.parse().ok()).unwrap_or(LINKS);
    let world = World::new("mute");
    let master = world.master();
    let agent = world.agent("honest", &[PLATFORM], 1);
    let (fresh, used) = (world.join_line("mute"), world.join_line("used"));
    // The join line that was used belongs to a machine that is here.
    let owner = Peer::join(&used, hello(7, &["other/x86_64"], 1, &[]));
    let mut event = 0;
    let mut builds = |world: &World| {
        let begin = Instant::now();
        event += 1;
        world.repository.push_saifile(&saifile(&[&format!("echo {event}")]));
        let job = world.ended(event).jobs.remove(0);
        assert_eq!((job.state.as_str(), job.attempt), ("passed", 1), "{job:?}");
        begin.elapsed()
    };
    builds(&world);
    let before = (count(&master, "fd"), count(&master, "task"), master.resident_kib());
    let counts = Arc::new(Counts::default());
    let all = links + links / 2;
    let (one, other) = (counts.clone(), counts.clone());
    let begin = Instant::now();
    let mute = smol::spawn(flood(fresh, links, one));
    let thieves = smol::spawn(flood(used, links / 2, other));
    let mut rounds = 0;
    while counts.dialled.load(Ordering::Relaxed) < all {
        let asked = Instant::now();
        world.page("/agents");
        let page = asked.elapsed();
        let push = builds(&world);
        assert!(page < PROMPT && push < PROMPT, "a page took {page:?}, a push {push:?}");
        assert!(owner.say(AgentMessage::Load(Load { load_permille: rounds, free_mib: 1 })), "the owner's link stays");
        rounds += 1;
    }
    let took = begin.elapsed();
    // Another honest one is let in among them.
    let _late = world.agent("late", &["linux-late/x86_64"], 1);
    smol::block_on(async {
        mute.await;
        thieves.await;
    });
    let last = begin.elapsed() - took;
    let (most, there) = (counts.most.load(Ordering::Relaxed), counts.links.load(Ordering::Relaxed));
    eprintln!(
        "{there} links of {all} in {took:.1?}, {most} at once, the last gone {last:.1?} later; {rounds} pushes built"
    );
    assert!(there > all / 2 && rounds > 0, "the flood is one");
    // A token may have eight; the others are being opened or closed.
    assert!(most < all / 3, "{most} links at once");
    assert!(last < GREETING + PROMPT, "the last one lasted {last:?}");
    assert!(!agent.said().iter().any(|line| line.contains("lost")), "{:?}", agent.said());
    eventually("descriptors and threads are given back", || {
        (count(&master, "fd") <= before.0 + FEW && count(&master, "task") <= before.1 + FEW).then_some(())
    });
    let told: Vec<String> = master.said().into_iter().filter(|line| line.contains("agent mute")).collect();
    // What is new at once, and one count a minute of the rest.
    let minutes = usize::try_from(begin.elapsed().as_secs() / 60).unwrap_or(0);
    assert!(!told.is_empty() && told.len() <= 4 + minutes, "{told:#?}");
    let kept = master.resident_kib().saturating_sub(before.2);
    eprintln!("before {before:?}, after {:?}, {kept} KiB more", (count(&master, "fd"), count(&master, "task")));
    assert!(kept < KEPT_KIB, "{kept} KiB are kept");
}
