//! Starts of a machine, updates that are put into its other slot, contacts with its master and time → which slot is started, what is
//! written down before, and when a new one has proven itself or is left again.
//!
//! A new slot is started once. That it was is written down first, so that whatever ends it (a panic, the watchdog, a plug that is
//! pulled) has the old one started next. It has proven itself when it reached the master; if it does not within the time that is
//! counted from the old one's last contact, the machine starts the old one again, and stays there whether or not that joins: a
//! master that is away is no reason to go back and forth.

use crate::limits::Millis;
use alloc::string::String;
use alloc::vec::Vec;

/// How long a new slot has to reach the master, from the old one's last contact on, in milliseconds: ten minutes, in which a
/// switch that was started anew by the same power cut has learned its ports, and a master its own update.
pub const REJOIN_MS: Millis = 600_000;

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// What the card was written with.
    A,
    /// The other one.
    B,
}

impl Slot {
    /// Which an update goes to while this one is the good one.
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// A slot that is to prove itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// The image's number, larger than that of any older one.
    pub number: u64,
    /// Whether it was started; it is once.
    pub started: bool,
    /// Milliseconds of its time that were over when it was put there, or that it has used.
    pub spent_ms: Millis,
}

/// All that is written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The slot that has proven itself.
    pub good: Slot,
    /// The number of its image.
    pub number: u64,
    /// What is tried in the other one.
    pub trial: Option<Trial>,
    /// The number of the last image that did not prove itself, to be told to the master.
    pub left: Option<u64>,
}

impl Kept {
    /// That of a card which was just written.
    pub fn new(number: u64) -> Self {
        Self { good: Slot::A, number, trial: None, left: None }
    }
}

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The machine has started, and no slot yet.
    Power,
    /// This slot runs.
    Runs(Slot),
    /// An image is asked to be put into the other slot: its number, and whether it may be older than what there is.
    Offered(u64, bool),
    /// The image of this number is in the other slot, whole, and flushed.
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
    /// Start this slot.
    Start(Slot),
    /// Start the machine anew.
    Restart,
    /// Write an image into this slot.
    Write(Slot),
    /// The image is not taken, and why.
    Refused(String),
    /// A slot has proven itself.
    Proven(Slot),
    /// A slot was left, and which is gone on with.
    Left(Slot, Slot),
}

/// The slots of a machine.
#[derive(Clone, Debug)]
pub struct Slots {
    kept: Kept,
    runs: Option<Slot>,
    /// The last contact of the slot that runs.
    contact: Option<Millis>,
    /// When the slot that runs must have had one.
    until: Option<Millis>,
    /// What is being written to the other slot.
    awaited: Option<u64>,
}

impl Slots {
    /// Goes on with what was written down.
    pub fn new(kept: Kept) -> Self {
        Self { kept, runs: None, contact: None, until: None, awaited: None }
    }

    /// When [`Input::Tick`] is wanted.
    pub fn deadline(&self) -> Option<Millis> {
        self.until
    }

    /// Takes one thing that happens.
    pub fn handle(&mut self, now: Millis, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Power => self.start(out),
            Input::Runs(slot) => {
                self.runs = Some(slot);
                let trial = self.kept.trial.as_ref().filter(|_| slot != self.kept.good);
                self.until = trial.map(|trial| now + REJOIN_MS.saturating_sub(trial.spent_ms));
            }
            Input::Offered(number, may_be_older) => self.offered(number, may_be_older, out),
            Input::Written(number) => self.written(now, number, out),
            Input::Contact => {
                self.contact = Some(now);
                self.until = None;
                if let Some(slot) = self.runs.filter(|slot| *slot != self.kept.good)
                    && let Some(trial) = self.kept.trial.take()
                {
                    self.kept.good = slot;
                    self.kept.number = trial.number;
                    self.kept.left = None;
                    out.push(Output::Keep(self.kept.clone()));
                    out.push(Output::Proven(slot));
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

    /// Which slot is started.
    fn start(&mut self, out: &mut Vec<Output>) {
        let (good, other) = (self.kept.good, self.kept.good.other());
        match &mut self.kept.trial {
            Some(trial) if !trial.started => {
                trial.started = true;
                out.push(Output::Keep(self.kept.clone()));
                out.push(Output::Start(other));
            }
            Some(trial) => {
                self.kept.left = Some(trial.number);
                self.kept.trial = None;
                out.push(Output::Keep(self.kept.clone()));
                out.push(Output::Left(other, good));
                out.push(Output::Start(good));
            }
            None => out.push(Output::Start(good)),
        }
    }

    fn offered(&mut self, number: u64, may_be_older: bool, out: &mut Vec<Output>) {
        let good = self.kept.good;
        let refused = if self.runs != Some(good) {
            Some("another image is being tried, and its slot is the only other one")
        } else if number == self.kept.number {
            Some("it is the image that runs")
        } else if number < self.kept.number && !may_be_older {
            Some("it is older than the image that runs")
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
        out.push(Output::Write(good.other()));
    }

    fn written(&mut self, now: Millis, number: u64, out: &mut Vec<Output>) {
        // What nobody waits for any more, since another one was offered meanwhile, is written over.
        if self.awaited != Some(number) {
            return;
        }
        self.awaited = None;
        let spent_ms = self.contact.map_or(0, |contact| now.saturating_sub(contact)).min(REJOIN_MS / 2);
        self.kept.trial = Some(Trial { number, started: false, spent_ms });
        out.push(Output::Keep(self.kept.clone()));
        out.push(Output::Restart);
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
        runs: Option<Slot>,
        /// Numbers of images, as they are in the slots; none while one is being written.
        images: [Option<u64>; 2],
        /// How often each image was started.
        starts: Vec<u64>,
        said: Vec<Output>,
    }

    fn place(slot: Slot) -> usize {
        usize::from(slot == Slot::B)
    }

    impl Machine {
        fn new() -> Self {
            let card = Kept::new(1);
            let slots = Slots::new(card.clone());
            Self { card, slots, now: 0, runs: None, images: [Some(1), None], starts: vec![], said: vec![] }
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
                    Output::Start(slot) => {
                        self.runs = Some(*slot);
                        self.starts.push(self.images[place(*slot)].expect("a whole image is started"));
                    }
                    Output::Write(slot) => self.images[place(*slot)] = None,
                    Output::Restart => restart = true,
                    Output::Refused(_) | Output::Proven(_) | Output::Left(..) => {}
                }
                self.said.push(output);
            }
            restart
        }

        /// Starts, with the power cut after so many steps of it, and then with power.
        fn power(&mut self, steps: usize) -> Slot {
            for steps in [steps, usize::MAX] {
                self.slots = Slots::new(self.card.clone());
                self.runs = None;
                self.now = 0;
                self.take(Input::Power, steps);
                if let Some(slot) = self.runs {
                    self.take(Input::Runs(slot), usize::MAX);
                    if steps == usize::MAX {
                        return slot;
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

    #[test]
    fn an_image_that_reaches_the_master_stays() {
        let mut machine = Machine::new();
        assert_eq!(machine.power(ALL), Slot::A);
        machine.take(Input::Contact, ALL);
        machine.update(2, false);
        assert_eq!(machine.power(ALL), Slot::B);
        assert_eq!(machine.slots.deadline(), Some(REJOIN_MS));
        machine.now = 5_000;
        machine.take(Input::Contact, ALL);
        assert_eq!(machine.said.last(), Some(&Output::Proven(Slot::B)));
        assert_eq!((machine.slots.deadline(), machine.card.good, machine.card.number), (None, Slot::B, 2));
        assert_eq!(machine.power(ALL), Slot::B, "and from now on");
        machine.update(3, false);
        assert_eq!(machine.power(ALL), Slot::A, "the next one goes where the first one was");
    }

    #[test]
    fn an_image_that_does_not_is_left_in_time_and_not_tried_again() {
        let mut machine = Machine::new();
        machine.power(ALL);
        machine.take(Input::Contact, ALL);
        machine.now = 60_000;
        machine.update(2, false);
        assert_eq!(machine.power(ALL), Slot::B);
        let until = machine.slots.deadline().expect("a deadline");
        assert_eq!(until, REJOIN_MS - 60_000, "counted from the old one's last contact");
        machine.now = until - 1;
        assert!(!machine.take(Input::Tick, ALL));
        machine.now = until;
        assert!(machine.take(Input::Tick, ALL), "it is started anew");
        for _ in 0..3 {
            assert_eq!(machine.power(ALL), Slot::A);
            assert_eq!(machine.slots.deadline(), None, "it stays, whether it joins or not");
        }
        assert_eq!((machine.card.left, &machine.card.trial), (Some(2), &None));
        assert_eq!(machine.starts.iter().filter(|image| **image == 2).count(), 1);
        machine.update(2, false);
        assert_eq!(machine.power(ALL), Slot::B, "unless somebody asks for it once more");
    }

    #[test]
    fn a_machine_that_was_long_without_its_master_still_gives_an_image_half_of_its_time() {
        let mut machine = Machine::new();
        machine.power(ALL);
        machine.take(Input::Contact, ALL);
        machine.now = 9 * REJOIN_MS;
        machine.update(2, false);
        machine.power(ALL);
        assert_eq!(machine.slots.deadline(), Some(REJOIN_MS / 2));
    }

    #[test]
    fn an_older_image_is_taken_where_that_is_said() {
        let mut machine = Machine::new();
        machine.card.number = 5;
        machine.power(ALL);
        for (number, older, why) in [(4, false, "older"), (5, false, "that runs"), (5, true, "that runs")] {
            machine.take(Input::Offered(number, older), ALL);
            assert!(matches!(machine.said.last(), Some(Output::Refused(text)) if text.contains(why)), "{number}");
        }
        machine.update(4, true);
        assert_eq!(machine.power(ALL), Slot::B);
        machine.take(Input::Offered(9, false), ALL);
        assert!(matches!(machine.said.last(), Some(Output::Refused(text)) if text.contains("being tried")));
        machine.take(Input::Contact, ALL);
        assert_eq!(machine.card.number, 4);
    }

    #[test]
    fn what_is_half_written_is_never_started() {
        let mut machine = Machine::new();
        machine.power(ALL);
        machine.update(2, false);
        // It was not started yet when another one is offered, whose writing the power ends.
        machine.power(0);
        let mut machine = Machine::new();
        machine.power(ALL);
        machine.take(Input::Offered(2, false), ALL);
        assert_eq!(machine.power(ALL), Slot::A);
        machine.take(Input::Written(2), ALL);
        assert_eq!(machine.card.trial, None, "nobody waits for it after a start");
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
            let (mut machine, mut asked, mut number) = (Machine::new(), 0, 1);
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
                                asked += 1;
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
                    let slot = machine.power(draw(4) as usize);
                    let image = machine.images[place(slot)].expect("a whole image");
                    assert!(proven.contains(&image) || machine.card.trial.as_ref().is_some_and(|trial| trial.started));
                }
                let good = machine.images[place(machine.card.good)];
                assert_eq!(good, Some(machine.card.number), "the good slot is never written to");
            }
            for image in 2..=number {
                let starts = machine.starts.iter().filter(|other| **other == image).count();
                assert!(starts <= 1 || proven.contains(&image), "image {image} was started {starts} times");
            }
            assert!(asked <= number);
        }
    }
}
