//! Boards that people have for a while: an emulated Arduino Uno with the stock optiboot, its owner and guard, an agent and a master, and
//! people who ask by the API, as the program on their laptops does.

use sai_core::axis::{Answer, Entry};
use sai_core::record::Decoder;
use sai_tests::bench::Bench;
use sai_tests::boards::saifile;
use sai_tests::process::eventually;
use sai_tests::world::World;

/// Somebody at a board: their token, and what their program is called there.
struct Person<'a> {
    world: &'a World,
    token: String,
    writer: &'static str,
}

impl<'a> Person<'a> {
    fn new(world: &'a World, name: &'static str, role: &str) -> Self {
        Self { world, token: world.command(&["user", "add", name, role]).trim().to_string(), writer: name }
    }

    /// Asks for a board: the job.
    fn asks(&self, fields: &str) -> Result<u64, (u16, String)> {
        let (status, body) = self.world.post(&format!("/api/v1/boards/lease?{fields}"), Some(&self.token));
        let job = body.rsplit("\"job\":").next().and_then(|rest| rest.trim_end_matches(['}', '\n']).parse().ok());
        job.filter(|_| status == 200).ok_or((status, body))
    }

    /// Says a word at the board of a job.
    fn says(&self, job: u64, number: u64, said: &str) -> (u16, String) {
        let said: String = said.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let fields = format!("attempt=1&writer={}&number={number}&said={said}", self.writer);
        self.world.post(&format!("/api/v1/jobs/{job}/word?{fields}"), Some(&self.token))
    }

    /// Says a word, and again until it is answered.
    fn is_answered(&self, job: u64, number: u64, said: &str) -> Answer {
        eventually(&format!("{said} is answered"), || {
            assert_eq!(self.says(job, number, said).0, 200);
            answers(self.world, job).into_iter().find(|one| one.writer == self.writer && one.number == number)
        })
    }
}

/// What happened in the log of a job.
fn entries(world: &World, job: u64) -> Vec<Entry> {
    let bytes = world.get(&format!("/job/{job}/records")).unwrap_or_default();
    let mut entries = Vec::new();
    Decoder::new().push(&bytes, |item| entries.extend(Entry::of(&item))).expect("a log");
    entries
}

fn answers(world: &World, job: u64) -> Vec<Answer> {
    let of = |entry| if let Entry::Answer(answer) = entry { Some(answer) } else { None };
    entries(world, job).into_iter().filter_map(of).collect()
}

/// The state of a job, and why it waits or ended.
fn state(world: &World, job: u64) -> (String, String) {
    let event = world.events().into_iter().find_map(|event| {
        let event = world.event(event.id)?;
        event.jobs.iter().any(|one| one.id == job).then_some(event)
    });
    let job = event.expect("an event").jobs.remove(0);
    (job.state, job.waiting.unwrap_or(job.cause))
}

#[test]
fn people_have_a_board_one_after_the_other_and_what_they_say_is_done_once() {
    let bench = Bench::new("leases");
    let world = &bench.world;
    let _master = world.master();
    let mut agent = bench.agent();
    bench.await_standing("free");
    let [ann, bob, eve] =
        [("ann", "builder"), ("bob", "builder"), ("eve", "reader")].map(|(name, role)| Person::new(world, name, role));
    world.repository.push_saifile(&saifile(&[("PASS", "")]));
    assert!(world.ended(1).jobs.iter().all(|job| job.state == "passed"));
    bench.await_standing("free");

    // Who may, and what there is.
    let (status, why) = eve.asks("type=arduino-uno").expect_err("she only reads");
    assert!(status == 403 && why.contains("takes a builder"), "{status} {why}");
    let (status, why) = ann.asks("type=esp32").expect_err("there is none");
    assert!(status == 409 && why.contains("a/uno-1 (arduino-uno)"), "{status} {why}");
    let (status, why) = ann.asks("tpye=esp32").expect_err("a slip");
    assert!(status == 400 && why.contains("expected one board, or one type"), "{status} {why}");

    let job = ann.asks("type=arduino-uno&minutes=5").expect("a board");
    bench.await_standing(&format!("job {job} is there"));
    let other = bob.asks("board=a/uno-1").expect("it is asked for");
    let (waits, why) = state(world, other);
    assert!(waits == "queued" && why.contains(&format!("job {job} is there")), "{waits} {why}");

    // What is said is done once, however often, and in order.
    let answer = ann.is_answered(job, 1, r#"{"t":"mode","name":"run"}"#);
    assert_eq!(answer.why, None);
    let answer = ann.is_answered(job, 2, r#"{"t":"expect","text":"login: $","ms":30000}"#);
    assert_eq!(answer.found.as_deref(), Some("login: "));
    assert_eq!(ann.says(job, 4, r#"{"t":"send","text":"too early\n"}"#).0, 200);
    for _ in 0..3 {
        assert_eq!(ann.says(job, 3, r#"{"t":"send","text":"root\n"}"#).0, 200);
    }
    let answer = ann.is_answered(job, 3, r#"{"t":"send","text":"root\n"}"#);
    assert_eq!(answer.why, None);
    let answer = ann.is_answered(job, 4, r#"{"t":"expect","text":"hello root","ms":30000}"#);
    assert_eq!(answer.found.as_deref(), Some("hello root"));
    let answer = ann.is_answered(job, 5, r#"{"t":"play","name":"no such"}"#);
    assert!(answer.why.as_ref().is_some_and(|why| why.contains("no sequence")), "{answer:?}");
    let sent: Vec<_> = entries(world, job)
        .into_iter()
        .filter_map(|entry| if let Entry::Sent(_, sent) = entry { Some(sent) } else { None })
        .collect();
    // What a person types may be a password.
    assert_eq!(sent.iter().map(|sent| (sent.writer.as_str(), sent.length)).collect::<Vec<_>>(), [("ann", 5)]);
    assert!(sent.iter().all(|sent| sent.bytes.is_none()));
    let (status, why) = bob.says(job, 1, r#"{"t":"mode","name":"run"}"#);
    assert!(status == 409 && why.contains("is ann's"), "{status} {why}");
    let (status, why) = ann.says(job, 6, "[1]");
    assert!(status == 400 && why.contains("expected a line of JSON"), "{status} {why}");

    // Whoever gives it back has passed, and the next one has it at once.
    ann.is_answered(job, 6, r#"{"t":"release"}"#);
    bench.await_standing(&format!("job {other} is there"));
    assert_eq!(state(world, job), ("passed".to_string(), String::new()));
    assert_eq!(ann.says(job, 7, r#"{"t":"release"}"#).0, 409);
    let answer = bob.is_answered(other, 1, r#"{"t":"mode","name":"run"}"#);
    assert_eq!(answer.why, None);

    // The agent's death takes the board from nobody.
    agent.kill();
    agent = world.agent_again("a");
    let answer = eventually("he goes on", || {
        let (status, _) = bob.says(other, 2, r#"{"t":"expect","text":"login: $","ms":30000}"#);
        assert!(matches!(status, 200 | 409));
        answers(world, other).into_iter().find(|one| one.number == 2)
    });
    assert_eq!((answer.found.as_deref(), answers(world, other).len()), (Some("login: "), 2));
    world.command(&["cancel", "job", &other.to_string()]);
    bench.await_standing("free");
    assert_eq!(state(world, other).0, "cancelled");
    drop(agent);
}
