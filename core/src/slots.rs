//! Starts of a machine, updates that are put into one of its slots, contacts with its master and time → which of its systems is
//! started, what is written down before, and when a new one has proven itself or is left again.
//!
//! There is what the card was written with, the factory's system, which nothing changes, and two slots for updates. A new slot is
//! started once. That it was is written down first, so that whatever ends it (a panic, the watchdog, a plug that is pulled) has the
//! older system started next. It has proven itself when it reached the master; if it does not in time, the machine starts the older
//! one again, and stays there whether or not that joins: a master that is away is no reason to go back and forth.
//!
//! Nor is a system that was good believed for ever: one that does not come up a few times in a row gives way to the factory's, and
//! that goes on without starting anything where it cannot be started either.

use crate::limits::Millis;
use alloc::string::String;
use alloc::vec::Vec;

/// How long a new slot has to reach the master from its start on, in milliseconds: ten minutes, in which a switch that was started
/// anew by the same power cut has learned its ports, and a master its own update.
pub const REJOIN_MS: Millis = 600_000;
/// How often a system is started that does not come up, before it gives way: more often than a plug is pulled by accident.
pub const STARTS_MOST: u32 = 3;

/// What a machine can be started with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    /// What the card was written with.
    Factory,
    /// A slot for updates.
    A,
    /// The other one.
    B,
}

impl System {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Factory, Self::A, Self::B];

    /// The slot that an update goes to while this is the good one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::Factory | Self::B => Self::A,
        }
    }

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Factory => "factory",
            Self::A => "a",
            Self::B => "b",
        }
    }

    /// Which one a word means.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|system| system.word() == word)
    }
}

/// A slot that is to prove itself; which one is said by the good one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// The image's number, larger than that of any older one.
    pub number: u64,
    /// Whether it was started; it is once.
    pub started: bool,
}

/// All that is written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The number of the factory's image.
    pub factory: u64,
    /// The system that has proven itself.
    pub good: System,
    /// The number of its image.
    pub number: u64,
    /// What is tried in the slot beside it.
    pub trial: Option<Trial>,
    /// The number of the last image that did not prove itself, to be told to the master.
    pub left: Option<u64>,
    /// How often an image did not.
    pub lefts: u32,
    /// How often the good system was started since any of them came up.
    pub starts: u32,
}

impl Kept {
    /// That of a card which was just written with an image of this number.
    pub fn new(number: u64) -> Self {
        Self { factory: number, good: System::Factory, number, trial: None, left: None, lefts: 0, starts: 0 }
    }
}

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The machine has started, and no system yet.
    Power,
    /// What was to be started cannot be: it is damaged, or not there.
    Cannot(System),
    /// This system runs, started by one that took [`Input::Power`].
    Runs(System),
    /// An image is asked to be put into a slot: its number, and whether it may be older than what there is.
    Offered(u64, bool),
    /// The image of this number is in its slot, whole, and flushed.
    Written(u64),
    /// The agent has reached its master.
    Contact,
    /// Time has passed.
    Tick,
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Write this down, and do nothing of what follows before it is flushed. Where that cannot be done nothing follows.
    Keep(Kept),
    /// Start this system.
    Start(System),
    /// Go on as the factory's system, without starting anything.
    Stay,
    /// Start the machine anew.
    Restart,
    /// Write an image into this slot.
    Write(System),
    /// The image is not taken, and why.
    Refused(String),
    /// The image is to be asked for once more when the one that is being tried has proven itself, or not.
    Later,
    /// A slot has proven itself.
    Proven(System),
    /// A system was left, and which is gone on with.
    Left(System, System),
}

/// The systems of a machine.
#[derive(Clone, Debug)]
pub struct Slots {
    kept: Kept,
    /// How long a new slot has to reach the master.
    rejoin: Millis,
    runs: Option<System>,
    /// When the slot that runs must have reached the master.
    until: Option<Millis>,
    /// What is being written to a slot.
    awaited: Option<u64>,
}

impl Slots {
    /// Goes on with what was written down. A new slot has so many milliseconds to reach the master.
    pub fn new(kept: Kept, rejoin: Millis) -> Self {
        Self { kept, rejoin, runs: None, until: None, awaited: None }
    }

    /// What is written down.
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// The number of the image that runs.
    pub fn number(&self) -> u64 {
        let tried = self.kept.trial.as_ref().filter(|trial| trial.started);
        match self.runs {
            Some(system) if system == self.kept.good => self.kept.number,
            Some(System::Factory) | None => self.kept.factory,
            Some(_) => tried.map_or(self.kept.number, |trial| trial.number),
        }
    }

    /// When [`Input::Tick`] is wanted.
    pub fn deadline(&self) -> Option<Millis> {
        self.until
    }

    /// Takes one thing that happens.
    pub fn handle(&mut self, now: Millis, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Power => self.start(out),
            Input::Cannot(system) => self.cannot(system, out),
            Input::Runs(system) => self.runs(now, system, out),
            Input::Offered(number, may_be_older) => self.offered(number, may_be_older, out),
            Input::Written(number) => {
                // What nobody waits for any more, since another one was offered meanwhile, is written over.
                if self.awaited == Some(number) {
                    self.awaited = None;
                    self.kept.trial = Some(Trial { number, started: false });
                    out.push(Output::Keep(self.kept.clone()));
                    out.push(Output::Restart);
                }
            }
            Input::Contact => {
                self.until = None;
                if let Some(system) = self.runs.filter(|system| *system == self.kept.good.other())
                    && let Some(trial) = self.kept.trial.take_if(|trial| trial.started)
                {
                    self.kept.good = system;
                    self.kept.number = trial.number;
                    self.kept.left = None;
                    out.push(Output::Keep(self.kept.clone()));
                    out.push(Output::Proven(system));
                }
            }
            Input::Tick => {
                if self.until.is_some_and(|until| until <= now) {
                    self.until = None;
                    // The start finds that it was tried.
                    out.push(Output::Restart);
                }
            }
        }
    }

    /// Which system is started.
    fn start(&mut self, out: &mut Vec<Output>) {
        match &mut self.kept.trial {
            Some(trial) if !trial.started => {
                trial.started = true;
                out.push(Output::Keep(self.kept.clone()));
                out.push(Output::Start(self.kept.good.other()));
            }
            Some(_) => self.leave(out),
            None => self.start_good(out),
        }
    }

    /// Leaves what was tried, and starts what is good.
    fn leave(&mut self, out: &mut Vec<Output>) {
        self.kept.left = self.kept.trial.take().map(|trial| trial.number);
        self.kept.lefts = self.kept.lefts.saturating_add(1);
        out.push(Output::Left(self.kept.good.other(), self.kept.good));
        self.start_good(out);
    }

    /// Starts what is good, unless it has not come up again and again.
    fn start_good(&mut self, out: &mut Vec<Output>) {
        let good = self.kept.good;
        let most = if good == System::Factory { STARTS_MOST } else { 2 * STARTS_MOST };
        self.kept.starts = self.kept.starts.saturating_add(1);
        let starts = self.kept.starts;
        if starts > most {
            // The next time it is tried once more, since somebody may just have pulled the plug too often.
            self.kept.starts = most - 1;
        }
        out.push(Output::Keep(self.kept.clone()));
        out.push(match starts {
            _ if starts > most => Output::Stay,
            _ if starts > STARTS_MOST => Output::Start(System::Factory),
            _ => Output::Start(good),
        });
    }

    /// Passes over what cannot be started: a slot for good, since it has to be written anew.
    fn cannot(&mut self, system: System, out: &mut Vec<Output>) {
        if system == System::Factory {
            out.push(Output::Stay);
        } else if self.kept.trial.is_some() && system == self.kept.good.other() {
            self.leave(out);
        } else {
            self.kept.left = Some(self.kept.number);
            self.kept.lefts = self.kept.lefts.saturating_add(1);
            self.kept.good = System::Factory;
            self.kept.number = self.kept.factory;
            self.kept.starts = 0;
            out.push(Output::Left(system, System::Factory));
            self.start_good(out);
        }
    }

    fn runs(&mut self, now: Millis, system: System, out: &mut Vec<Output>) {
        self.runs = Some(system);
        let tried = self.kept.trial.as_ref().is_some_and(|trial| trial.started);
        if tried && system == self.kept.good.other() {
            self.until = Some(now + self.rejoin);
        } else if self.kept.starts != 0 {
            self.kept.starts = 0;
            out.push(Output::Keep(self.kept.clone()));
        }
    }

    fn offered(&mut self, number: u64, may_be_older: bool, out: &mut Vec<Output>) {
        if self.kept.trial.as_ref().is_some_and(|trial| trial.started) {
            // Its slot is the one that this one would be written to.
            out.push(Output::Later);
            return;
        }
        let refused = if number == self.kept.number {
            Some("it is the image that is there")
        } else if number < self.kept.number && !may_be_older {
            Some("it is older than the image that is there")
        } else {
            None
        };
        if let Some(why) = refused {
            out.push(Output::Refused(why.into()));
            return;
        }
        // Nothing that is half written is ever started.
        self.awaited = Some(number);
        if self.kept.trial.take().is_some() {
            out.push(Output::Keep(self.kept.clone()));
        }
        out.push(Output::Write(self.kept.good.other()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    /// A machine with a card: what is flushed is there after its power is cut, and nothing else.
    struct Machine {
        card: Kept,
        slots: Slots,
        now: Millis,
        runs: Option<System>,
        /// Numbers of images, as they are in the slots; none while one is being written.
        images: [Option<u64>; 3],
        /// The number of each image that was started.
        starts: Vec<u64>,
        said: Vec<Output>,
    }

    fn place(system: System) -> usize {
        System::ALL.iter().position(|other| *other == system).expect("one of all")
    }

    impl Machine {
        fn new() -> Self {
            let card = Kept::new(1);
            let slots = Slots::new(card.clone(), REJOIN_MS);
            let images = [Some(1), None, None];
            Self { card, slots, now: 0, runs: None, images, starts: vec![], said: vec![] }
        }

        /// Takes an input, and carries out so many of what comes of it before the power is cut. Whether it was.
        fn take(&mut self, input: Input, mut steps: usize) -> bool {
            let mut out = Vec::new();
            self.slots.handle(self.now, input, &mut out);
            let mut restart = false;
            for output in out {
                if steps == 0 {
                    return true;
                }
                steps -= 1;
                match &output {
                    Output::Keep(kept) => self.card = kept.clone(),
                    Output::Start(system) => {
                        self.runs = Some(*system);
                        self.starts.push(self.images[place(*system)].expect("a whole image is started"));
                    }
                    Output::Stay => self.runs = Some(System::Factory),
                    Output::Write(slot) => self.images[place(*slot)] = None,
                    Output::Restart => restart = true,
                    Output::Refused(_) | Output::Later | Output::Proven(_) | Output::Left(..) => {}
                }
                self.said.push(output);
            }
            restart
        }

        /// Has power, for so many steps: what is started then, which has not come up yet.
        fn begin(&mut self, steps: usize) -> Option<System> {
            self.slots = Slots::new(self.card.clone(), REJOIN_MS);
            self.runs = None;
            self.now = 0;
            self.take(Input::Power, steps);
            self.runs
        }

        /// Starts, with the power cut after so many steps of it, and then with power.
        fn power(&mut self, steps: usize) -> System {
            for steps in [steps, usize::MAX] {
                if let Some(system) = self.begin(steps) {
                    self.take(Input::Runs(system), usize::MAX);
                    if steps == usize::MAX {
                        return system;
                    }
                }
            }
            unreachable!("the second time it has power")
        }

        fn update(&mut self, number: u64, older: bool) {
            self.take(Input::Offered(number, older), usize::MAX);
            let slot = match self.said.last() {
                Some(Output::Write(slot)) => *slot,
                other => panic!("not taken: {other:?}"),
            };
            self.images[place(slot)] = Some(number);
            assert!(self.take(Input::Written(number), usize::MAX), "it is started");
        }
    }

    const ALL: usize = usize::MAX;
    use System::{A, B, Factory};

    #[test]
    fn an_image_that_reaches_the_master_stays() {
        let mut machine = Machine::new();
        assert_eq!(machine.power(ALL), Factory);
        machine.take(Input::Contact, ALL);
        machine.update(2, false);
        assert_eq!(machine.power(ALL), A);
        assert_eq!(machine.slots.deadline(), Some(REJOIN_MS));
        machine.now = 5_000;
        machine.take(Input::Contact, ALL);
        assert_eq!(machine.said.last(), Some(&Output::Proven(A)));
        assert_eq!((machine.slots.deadline(), machine.card.good, machine.card.number), (None, A, 2));
        assert_eq!(machine.power(ALL), A, "and from now on");
        machine.update(3, false);
        assert_eq!(machine.power(ALL), B, "the next one goes beside it");
        machine.take(Input::Contact, ALL);
        machine.update(4, false);
        assert_eq!(machine.power(ALL), A);
    }

    #[test]
    fn an_image_that_does_not_is_left_in_time_and_not_tried_again() {
        let mut machine = Machine::new();
        machine.power(ALL);
        machine.take(Input::Contact, ALL);
        machine.now = 60_000;
        machine.update(2, false);
        assert_eq!(machine.power(ALL), A);
        machine.now = REJOIN_MS - 1;
        assert!(!machine.take(Input::Tick, ALL));
        machine.take(Input::Offered(3, false), ALL);
        assert_eq!(machine.said.last(), Some(&Output::Later));
        machine.now = REJOIN_MS;
        assert!(machine.take(Input::Tick, ALL), "it is started anew");
        for _ in 0..3 {
            assert_eq!(machine.power(ALL), Factory);
            assert_eq!(machine.slots.deadline(), None, "it stays, whether it joins or not");
        }
        assert_eq!((machine.card.left, &machine.card.trial), (Some(2), &None));
        assert_eq!(machine.starts.iter().filter(|image| **image == 2).count(), 1);
        machine.update(2, false);
        assert_eq!(machine.power(ALL), A, "unless somebody asks for it once more");
    }

    #[test]
    fn a_slot_that_is_damaged_gives_way() {
        let mut machine = Machine::new();
        machine.power(ALL);
        machine.update(2, false);
        assert_eq!(machine.begin(ALL), Some(A));
        machine.take(Input::Cannot(A), ALL);
        assert_eq!((machine.runs, machine.card.left, &machine.card.trial), (Some(Factory), Some(2), &None));
        machine.take(Input::Runs(Factory), ALL);
        machine.update(2, false);
        machine.power(ALL);
        machine.take(Input::Contact, ALL);
        assert_eq!(machine.begin(ALL), Some(A));
        machine.take(Input::Cannot(A), ALL);
        assert_eq!((machine.runs, machine.card.good, machine.card.number), (Some(Factory), Factory, 1));
        machine.take(Input::Runs(Factory), ALL);
        machine.update(2, false);
        assert_eq!(machine.power(ALL), A, "what is written anew is tried anew");
        machine.begin(ALL);
        machine.take(Input::Cannot(Factory), ALL);
        assert_eq!(machine.said.last(), Some(&Output::Stay), "there is always something that goes on");
    }

    #[test]
    fn a_system_that_never_comes_up_gives_way_for_a_while() {
        let mut machine = Machine::new();
        machine.power(ALL);
        machine.update(2, false);
        machine.power(ALL);
        machine.take(Input::Contact, ALL);
        let mut begin = || {
            let system = machine.begin(ALL);
            (system, machine.said.last() == Some(&Output::Stay))
        };
        for (system, stays) in [(A, false), (A, false), (A, false), (Factory, false), (Factory, false)] {
            assert_eq!(begin(), (Some(system), stays));
        }
        for _ in 0..3 {
            assert_eq!(begin(), (Some(Factory), false));
            assert_eq!(begin(), (Some(Factory), true), "and then nothing is started any more");
        }
        machine.take(Input::Runs(Factory), ALL);
        assert_eq!(machine.begin(ALL), Some(A), "what came up has it tried again");
    }

    #[test]
    fn an_older_image_is_taken_where_that_is_said() {
        let mut machine = Machine::new();
        machine.card = Kept::new(5);
        machine.power(ALL);
        for (number, older, why) in [(4, false, "older"), (5, false, "is there"), (5, true, "is there")] {
            machine.take(Input::Offered(number, older), ALL);
            assert!(matches!(machine.said.last(), Some(Output::Refused(text)) if text.contains(why)), "{number}");
        }
        machine.update(4, true);
        assert_eq!(machine.power(ALL), A);
        machine.take(Input::Contact, ALL);
        assert_eq!(machine.card.number, 4);
    }

    #[test]
    fn what_is_half_written_is_never_started() {
        let mut machine = Machine::new();
        machine.power(ALL);
        machine.take(Input::Offered(2, false), ALL);
        assert_eq!(machine.power(ALL), Factory);
        machine.take(Input::Written(2), ALL);
        assert_eq!(machine.card.trial, None, "nobody waits for it after a start");
        machine.update(2, false);
        machine.take(Input::Offered(3, false), ALL);
        assert_eq!(machine.card.trial, None, "the one that was to be tried is written over");
        assert_eq!(machine.power(ALL), Factory);
    }

    /// Many lives of machines, whose power is cut anywhere.
    #[test]
    fn whatever_happens_a_machine_starts_an_image_that_has_proven_itself_or_a_new_one_once() {
        // Marsaglia's xorshift with 64 bits.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut draw = |most: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % most
        };
        for _ in 0..2_000 {
            let (mut machine, mut number) = (Machine::new(), 1);
            let mut proven = vec![1];
            machine.power(ALL);
            for _ in 0..40 {
                let steps = if draw(3) == 0 { draw(3) as usize } else { ALL };
                machine.now += draw(REJOIN_MS);
                let ended = match draw(5) {
                    0 => {
                        number += 1;
                        let said = machine.said.len();
                        let cut = machine.take(Input::Offered(number, false), steps);
                        let slot = machine.said[said..].iter().find_map(|output| match output {
                            Output::Write(slot) => Some(*slot),
                            _ => None,
                        });
                        match slot.filter(|_| !cut) {
                            Some(slot) => {
                                machine.images[place(slot)] = Some(number);
                                machine.take(Input::Written(number), if draw(2) == 0 { ALL } else { draw(3) as usize })
                            }
                            None => cut,
                        }
                    }
                    1 => {
                        let cut = machine.take(Input::Contact, steps);
                        proven.push(machine.card.number);
                        cut
                    }
                    2 => machine.take(Input::Tick, steps),
                    3 => true,
                    _ => false,
                };
                if ended {
                    let system = machine.power(draw(4) as usize);
                    let image = machine.images[place(system)].expect("a whole image");
                    assert!(proven.contains(&image) || machine.card.trial.as_ref().is_some_and(|trial| trial.started));
                }
                let good = machine.images[place(machine.card.good)];
                assert_eq!(good, Some(machine.card.number), "the good slot is never written to");
            }
            for image in 2..=number {
                let starts = machine.starts.iter().filter(|other| **other == image).count();
                assert!(starts <= 1 || proven.contains(&image), "image {image} was started {starts} times");
            }
        }
    }
}
