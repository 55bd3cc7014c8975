//! A world's temper → who lives in it, what people do, and what breaks when.

use super::disk::Row;
use super::host::Host;
use super::network::Side;
use super::random::Random;
use super::{Bug, Event, Outcome, START, World};
use sai_core::hub::{Input, LinkId, Rebuild};
use sai_core::job::JobId;
use sai_core::ledger::{AgentRecord, EventRecord, JobRecord};
use sai_core::limits::Millis;
use sai_core::matrix::JobSpec;
use sai_core::ordered::Map;
use sai_core::plan::{self, Kept, Planned};
use sai_core::rebuild;
use sai_core::requests;

/// Platforms that machines offer.
const OFFERED: [&str; 3] = ["linux-debian-12/x86_64/gcc", "linux-debian-12/aarch64/gcc", "freebsd-14/x86_64/clang"];
/// Platforms that jobs want; the last is offered by nobody.
const WANTED: [&str; 5] = ["linux/x86_64", "linux-debian-12", "linux-debian/aarch64", "freebsd", "plan9/mips"];

/// What can break.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Cut,
    Stall,
    MasterCrash,
    AgentCrash,
    PowerLoss,
    Scrap,
    Disk,
    AgentDisk,
    Slots,
    Clock,
}

/// Milliseconds by which a clock is set: hours, as by a wrong time zone, and years, as by a machine without a battery.
const STEPS: [i64; 5] = [-315_576_000_000, -7_200_000, 0, 7_200_000, 315_576_000_000];

const FAULTS: [Fault; 10] = [
    Fault::Cut,
    Fault::Stall,
    Fault::MasterCrash,
    Fault::AgentCrash,
    Fault::PowerLoss,
    Fault::Scrap,
    Fault::Disk,
    Fault::AgentDisk,
    Fault::Slots,
    Fault::Clock,
];

/// How a world is inclined: which faults are common in it, and how common.
#[derive(Clone, Debug, Default)]
pub(super) struct Temper {
    weights: [u64; FAULTS.len()],
    /// Milliseconds between two faults at most.
    pace: u64,
    /// Milliseconds between two deeds of people at most.
    people: u64,
    pushes: u64,
    /// Whether logs are so long that windows fill.
    pub(super) big: bool,
    quiet_after: Millis,
}

impl Temper {
    pub(super) fn new(random: &mut Random) -> Self {
        let mut weights = [10, 6, 5, 5, 1, 1, 4, 2, 2, 3];
        for weight in &mut weights {
            *weight *= random.below(4);
        }
        let big = random.chance(60);
        Self {
            weights,
            pace: random.pick(&[1_500, 6_000, 30_000]).unwrap_or(6_000),
            people: random.pick(&[5_000, 30_000, 200_000]).unwrap_or(30_000),
            pushes: if big { 1 } else { random.between(1, 5) },
            big,
            quiet_after: random.between(20_000, 240_000),
        }
    }

    fn pick(&self, random: &mut Random) -> Option<Fault> {
        let mut at = random.below(self.weights.iter().sum());
        for (fault, weight) in FAULTS.iter().zip(self.weights) {
            if at < weight {
                return Some(*fault);
            }
            at -= weight;
        }
        None
    }
}

fn identity(random: &mut Random) -> String {
    format!("{:016x}{:016x}", random.next(), random.next())
}

fn agent_record(name: &str, before: Option<&AgentRecord>) -> AgentRecord {
    AgentRecord::added(name.to_string(), "0".repeat(64), START, before)
}

impl World {
    /// Machines, people, and the first of everything that recurs.
    pub(super) fn populate(&mut self) {
        self.master.slow = if self.temper.big { 2_000 } else { self.random.between(2, 60) };
        for index in 0..self.random.between(1, 4) {
            let name = format!("agent{index}");
            self.master.durable.agents.insert(name.clone(), agent_record(&name, None));
            self.join(name, index);
        }
        if self.random.chance(250) {
            self.hosts[0].liar = self.hosts.len() > 1;
        }
        if self.random.chance(200) {
            // Somebody copied a token to another machine.
            let name = self.hosts[0].name.clone();
            self.join(name, 0);
        }
        if self.random.chance(150) {
            // Somebody copied a card: the same name and the same identity, on another machine.
            let Host { name, identity, platforms, slots, .. } = &self.hosts[0];
            let mut twin = Host::new(name.clone(), identity.clone(), platforms.clone(), *slots);
            twin.is_copy = true;
            self.hosts.push(twin);
            self.after(4_000, Event::StartAgent(self.hosts.len() - 1));
        }
        self.found_forges();
        self.master.latest = self.master.durable.clone();
        self.after(0, Event::StartMaster);
        for _ in 0..self.temper.pushes {
            let wait = self.random.below(self.temper.quiet_after);
            self.after(wait, Event::Push);
        }
        self.after(1, Event::Push);
        self.after(1_000, Event::Trouble);
        self.after(self.temper.people, Event::Person);
        self.after(self.temper.quiet_after, Event::Calm);
        self.after(5_000, Event::Inspect);
    }

    fn join(&mut self, name: String, index: u64) {
        let mut platforms = vec![OFFERED[(index % 3) as usize].to_string()];
        if self.random.chance(400) {
            platforms.push(OFFERED[0].to_string());
        }
        let slots = self.random.between(1, 3) as u32;
        let identity = identity(&mut self.random);
        let mut host = Host::new(name, identity, platforms, slots);
        host.bench = self.random_bench();
        self.hosts.push(host);
        self.break_image();
        let latest = if self.random.chance(200) { self.temper.quiet_after } else { 3_000 };
        let wait = self.random.below(latest);
        self.after(wait, Event::StartAgent(self.hosts.len() - 1));
    }

    /// What a push asks for.
    pub(super) fn random_specs(&mut self) -> Vec<JobSpec> {
        let jobs = if self.temper.big { 2 } else { self.random.between(1, 5) };
        let graph = self.random.chance(500);
        let mut specs = Vec::new();
        for index in 0..jobs {
            let common = if self.random.chance(60) { WANTED.len() } else { WANTED.len() - 1 };
            let platform = self.random.pick(&WANTED[..common]).unwrap_or("linux").to_string();
            specs.push(JobSpec {
                platform,
                configuration: format!("configuration{index}"),
                steps: vec!["make".to_string(), "make check".to_string()],
                env: Map::new(),
                artifacts: vec!["out/*".to_string()],
                timeout_s: self.random.chance(300).then_some(90),
                step_timeout_s: None,
                priority: self.random.between(0, 2) as i32 - 1,
                root: None,
                needs: (0..index as u32).filter(|_| graph && self.random.chance(450)).collect(),
                units: self.random_units(),
                board: self.random_board(),
                bundle: None,
            });
        }
        specs
    }

    /// Writes down what an event's jobs are; gives them as the hub is told, and what carries that.
    pub(super) fn keep_plan(&mut self, event: &EventRecord, mut specs: Vec<JobSpec>) -> (Vec<JobSpec>, Row) {
        self.saifiles.insert(event.id, (event.clone(), specs.clone()));
        let row = self.show_files(event.id, plan::write(&specs).into_bytes());
        if self.bug == Some(Bug::BlockedStarted) {
            specs.iter_mut().for_each(|spec| spec.needs.clear());
        }
        (specs, row)
    }

    pub(super) fn person(&mut self) -> Outcome {
        if self.calm.is_some() {
            return Ok(());
        }
        let wait = self.random.between(1, self.temper.people);
        self.after(wait, Event::Person);
        if self.master.hub.is_none() {
            return Ok(());
        }
        let host = self.random.below(self.hosts.len() as u64) as usize;
        match self.random.below(26) {
            20..=22 => self.person_at_board(),
            23..=25 => self.person_about_board(),
            0..=6 => self.cancel(),
            7..=12 => self.rebuild(),
            13 | 14 => {
                self.fill_disk();
                Ok(())
            }
            15 | 16 => {
                let aside = self.random.chance(400);
                self.hub(Input::SetAside(self.hosts[host].name.clone(), aside))
            }
            17 if self.random.chance(300) => self.revoke(host),
            _ => {
                // Two deeds in a row, as by an impatient hand.
                self.cancel()?;
                self.rebuild()
            }
        }
    }

    fn cancel(&mut self) -> Outcome {
        let jobs: Vec<JobId> = self.master.latest.jobs.keys().copied().collect();
        let Some(job) = self.random.pick(&jobs) else { return Ok(()) };
        let attempt = self.master.hub.as_ref().and_then(|hub| hub.scheduler().job(job)).map(|record| record.attempt);
        let event = self.master.latest.jobs.get(&job).map_or(0, |record| record.event);
        let whole = self.random.chance(200);
        let of_it = self.master.latest.jobs.values().filter(|record| record.event == event);
        let jobs: Vec<JobRecord> = of_it.filter(|record| whole || record.id == job).cloned().collect();
        let Ok(jobs) = requests::to_cancel(&jobs) else { return Ok(()) };
        self.oracle.asked.extend(jobs.iter().copied());
        self.hub_for(
            Input::Cancel(jobs, "anna cancelled it".to_string()),
            attempt.map(|attempt| (job, attempt)),
            Vec::new(),
        )
    }

    fn rebuild(&mut self) -> Outcome {
        let ended: Vec<JobRecord> =
            self.master.durable.jobs.values().filter(|record| record.state.ended()).cloned().collect();
        let Some(record) = self.random.pick(&ended) else { return Ok(()) };
        let Some(event) = self.master.durable.events.get(&record.event).cloned() else { return Ok(()) };
        let kept = Kept::Plan(self.plans.get(&event.id).cloned().unwrap_or_default());
        let Ok(Planned { specs, .. }) = plan::of(&event, kept) else { return Ok(()) };
        let all = self.random.chance(300);
        let jobs: Vec<JobRecord> =
            self.master.durable.jobs.values().filter(|other| other.event == event.id).cloned().collect();
        let asked: Vec<JobId> = jobs.iter().map(|other| other.id).filter(|id| all || *id == record.id).collect();
        let following = self.random.chance(300);
        let person = self.random.chance(500).then(|| "anna".to_string());
        let Ok(rebuild) = rebuild::of(event, specs, jobs, &asked, following, person) else { return Ok(()) };
        // Between reading the records and asking for the rebuild anything may happen.
        let wait = if self.random.chance(300) { self.random.below(20_000) } else { 0 };
        self.after(wait, Event::Rebuild(self.master.boot, rebuild));
        Ok(())
    }

    pub(super) fn rebuilt(&mut self, boot: u64, rebuild: Rebuild) -> Outcome {
        if self.master.hub.is_none() || self.master.boot != boot {
            return Ok(());
        }
        for job in &rebuild.jobs {
            self.oracle.cancels.remove(&job.id);
            self.master.void_cancel(job.id);
        }
        self.hub(Input::Rebuild(rebuild))
    }

    /// A token is revoked; perhaps another machine takes over the name.
    fn revoke(&mut self, host: usize) -> Outcome {
        let name = self.hosts[host].name.clone();
        if requests::to_revoke(&name, self.master.latest.agents.get(&name), "inside").is_err() {
            return Ok(());
        }
        self.hub(Input::Revoke(name.clone()))?;
        let free = requests::may_be_added(&name, self.master.latest.agents.get(&name), "inside").is_ok();
        if free && self.random.chance(500) {
            for old in self.hosts.iter_mut().filter(|host| host.name == name) {
                old.scrapped = true;
            }
            let record = agent_record(&name, self.master.latest.agents.get(&name));
            self.write(vec![Row::Agent(record.clone())])?;
            self.hub(Input::Agent(record))?;
            self.join(name, host as u64);
            let new = self.hosts.len() - 1;
            self.note(|| format!("host {new} takes over a name"));
        }
        Ok(())
    }

    pub(super) fn trouble(&mut self) -> Outcome {
        if self.calm.is_some() {
            return Ok(());
        }
        let wait = self.random.between(1, self.temper.pace);
        self.after(wait, Event::Trouble);
        let host = self.random.below(self.hosts.len() as u64) as usize;
        let links = self.network.living();
        match self.temper.pick(&mut self.random) {
            Some(Fault::Cut) => {
                if let Some(link) = self.random.pick(&links) {
                    self.cut(link);
                }
            }
            Some(Fault::Stall) => {
                if let Some(link) = self.random.pick(&links) {
                    let until = self.now + self.random.between(100, 45_000);
                    self.note(|| format!("link {link} STALLS until {}", until - START));
                    if !self.network.is_cut(link) {
                        self.network.stall(link, until);
                    }
                }
            }
            Some(Fault::MasterCrash) => self.crash_master(),
            Some(Fault::AgentCrash) => self.crash_agent(host),
            Some(Fault::PowerLoss) => self.lose_host(host, false),
            Some(Fault::Scrap) if self.random.chance(300) => self.lose_host(host, true),
            Some(Fault::Disk) => self.master.slow = self.random.pick(&[5, 50, 1_000, 8_000]).unwrap_or(50),
            Some(Fault::AgentDisk) => {
                let longest = self.random.pick(&[2_000, 60_000, 400_000]).unwrap_or(2_000);
                self.hosts[host].full_until = self.now + self.random.between(500, longest);
            }
            Some(Fault::Slots) => {
                let slots = self.random.below(4) as u32;
                self.offer(host, slots)?;
            }
            Some(Fault::Clock) => {
                self.skew = self.random.pick(&STEPS).unwrap_or(0);
                self.summary.steps += 1;
                self.note(|| format!("CLOCK is set by {} ms", self.skew));
            }
            Some(Fault::Scrap) | None => {}
        }
        Ok(())
    }

    /// Breaks a link; each side notices in its own time.
    pub(super) fn cut(&mut self, link: LinkId) {
        if self.network.is_cut(link) {
            return;
        }
        self.note(|| format!("link {link} CUT"));
        self.summary.cuts += 1;
        self.network.cut(link);
        for side in [Side::Agent, Side::Master] {
            let longest = if self.random.chance(300) { 62_000 } else { 500 };
            let wait = self.random.between(1, longest);
            self.after(wait, Event::Gone(link, side));
        }
    }

    /// Nothing breaks from now on, and what people held up is let go.
    pub(super) fn calm(&mut self) -> Outcome {
        self.note(|| "CALM".to_string());
        if self.master.hub.is_none() {
            self.after(1_000, Event::Calm);
            return Ok(());
        }
        self.calm = Some(self.now);
        self.calm_forges();
        // Somebody gives the copy of a machine up: which of two is let in is nobody's to say.
        for host in 0..self.hosts.len() {
            if self.hosts[host].is_copy {
                self.hosts[host].scrapped = true;
                self.crash_agent(host);
            }
        }
        self.master.slow = 20;
        self.clear_disk()?;
        for host in 0..self.hosts.len() {
            let name = self.hosts[host].name.clone();
            self.hosts[host].bad = None;
            self.hosts[host].full_until = 0;
            self.hub(Input::SetAside(name, false))?;
            if self.hosts[host].slots == 0 {
                self.offer(host, 1)?;
            }
        }
        Ok(())
    }
}
