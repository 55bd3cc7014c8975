//! Programs that are wanted and that end, and time → which is started when: each again for as long as the machine is on.
//!
//! The first process has no other way to be useful than to go on. So nothing is ever given up; what ends at once again and again
//! is started after longer and longer pauses, up to a minute, so that a fault leaves the machine to those who look for it.

use std::collections::BTreeMap;

/// Milliseconds since the machine was started.
pub type Millis = u64;

/// The pause after the first end, and after one of a program that had run for long.
pub const FIRST_PAUSE: Millis = 500;
/// The longest pause.
pub const LONGEST_PAUSE: Millis = 60_000;
/// How long a program must have run for its end to be the first one again.
pub const STEADY: Millis = 60_000;
/// The pause after an end that gets no better by trying again: a configuration that is not understood, a token that was revoked.
/// It is not for ever, since the master may be mended, too.
pub const HOPELESS_PAUSE: Millis = 300_000;
/// The statuses that an agent says that with.
const HOPELESS: [i32; 2] = [2, 3];

/// A program that is to run as long as the machine does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// Holds what owners of boards hold.
    Guard,
    /// Sai's agent.
    Agent,
    /// Asks for the time.
    Time,
    /// Answers whoever looks for this machine by its name.
    Name,
    /// Asks for the address of an interface.
    Address(String),
    /// Brings an interface into a wireless network.
    Wireless(String),
    /// Tries the hardware, once.
    SelfTest,
    /// Makes the images that jobs run in, once.
    Images,
    /// Lets those in whose keys the settings name.
    Shell,
}

impl Service {
    /// Whether it comes to an end by itself, and is not started again then.
    fn is_once(&self) -> bool {
        matches!(self, Self::SelfTest | Self::Images)
    }
}

impl std::fmt::Display for Service {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Guard => out.write_str("guard"),
            Self::Agent => out.write_str("agent"),
            Self::Time => out.write_str("time"),
            Self::Name => out.write_str("name"),
            Self::Address(interface) => write!(out, "dhcp {interface}"),
            Self::Wireless(interface) => write!(out, "wifi {interface}"),
            Self::SelfTest => out.write_str("selftest"),
            Self::Images => out.write_str("images"),
            Self::Shell => out.write_str("shell"),
        }
    }
}

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// It is to run from now on.
    Wanted(Service),
    /// It has ended, with this status; none where a signal ended it, or it could not be started.
    Ended(Service, Option<i32>),
    /// Time has passed.
    Tick,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Start it.
    Start(Service),
    /// Tell that it has ended, and after how many milliseconds it is started again.
    Told(Service, Option<i32>, Millis),
    /// What runs once is over.
    Over(Service),
}

#[derive(Clone, Copy, Debug)]
enum State {
    Runs { since: Millis },
    Pauses { until: Millis },
    IsOver,
}

/// All that is to run.
#[derive(Clone, Debug, Default)]
pub struct Services {
    all: BTreeMap<Service, (State, Millis)>,
}

impl Services {
    /// Takes one thing that happens.
    pub fn handle(&mut self, now: Millis, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Wanted(service) => {
                if !self.all.contains_key(&service) {
                    self.all.insert(service.clone(), (State::Runs { since: now }, 0));
                    out.push(Output::Start(service));
                }
            }
            Input::Ended(service, status) => {
                // Nobody wanted it.
                let Some((state, pause)) = self.all.get_mut(&service) else { return };
                // What is to be started soon has ended already.
                let State::Runs { since } = *state else { return };
                if service.is_once() {
                    *state = State::IsOver;
                    out.push(Output::Over(service));
                    return;
                }
                let steady = now.saturating_sub(since) >= STEADY;
                *pause = if steady || *pause == 0 { FIRST_PAUSE } else { (*pause * 2).min(LONGEST_PAUSE) };
                let hopeless = service == Service::Agent && status.is_some_and(|status| HOPELESS.contains(&status));
                let wait = if hopeless { HOPELESS_PAUSE } else { *pause };
                *state = State::Pauses { until: now + wait };
                out.push(Output::Told(service, status, wait));
            }
            Input::Tick => {}
        }
        for (service, (state, _)) in &mut self.all {
            if matches!(state, State::Pauses { until } if *until <= now) {
                *state = State::Runs { since: now };
                out.push(Output::Start(service.clone()));
            }
        }
    }

    /// When it wants to hear of the time.
    pub fn deadline(&self) -> Option<Millis> {
        let pauses = self.all.values().filter_map(|(state, _)| match state {
            State::Pauses { until } => Some(*until),
            State::Runs { .. } | State::IsOver => None,
        });
        pauses.min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(services: &mut Services, now: Millis, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        services.handle(now, input, &mut out);
        out
    }

    #[test]
    fn what_ends_is_started_again_after_longer_and_longer_pauses() {
        let mut services = Services::default();
        let agent = || Service::Agent;
        assert_eq!(take(&mut services, 0, Input::Wanted(agent())), [Output::Start(agent())]);
        assert_eq!(take(&mut services, 1, Input::Wanted(agent())), [], "it is wanted once");
        assert_eq!(services.deadline(), None);
        let (mut now, mut pauses) = (10, Vec::new());
        for _ in 0..10 {
            let told = take(&mut services, now, Input::Ended(agent(), Some(1)));
            let [Output::Told(Service::Agent, Some(1), pause)] = told[..] else { panic!("{told:?}") };
            pauses.push(pause);
            assert_eq!(services.deadline(), Some(now + pause));
            assert_eq!(take(&mut services, now + pause - 1, Input::Tick), []);
            assert_eq!(take(&mut services, now + pause - 1, Input::Ended(agent(), None)), [], "it has ended already");
            now += pause;
            assert_eq!(take(&mut services, now, Input::Tick), [Output::Start(agent())]);
        }
        assert_eq!(pauses, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000]);
        now += STEADY;
        let told = take(&mut services, now, Input::Ended(agent(), None));
        assert_eq!(told, [Output::Told(agent(), None, FIRST_PAUSE)], "it had run for long");
    }

    #[test]
    fn a_token_that_was_revoked_is_tried_rarely_and_for_ever() {
        let mut services = Services::default();
        for status in HOPELESS {
            take(&mut services, 0, Input::Wanted(Service::Agent));
            let told = take(&mut services, 0, Input::Ended(Service::Agent, Some(status)));
            assert_eq!(told, [Output::Told(Service::Agent, Some(status), HOPELESS_PAUSE)]);
            assert_eq!(take(&mut services, HOPELESS_PAUSE, Input::Tick), [Output::Start(Service::Agent)]);
            services = Services::default();
        }
        take(&mut services, 0, Input::Wanted(Service::Time));
        assert_eq!(
            take(&mut services, 0, Input::Ended(Service::Time, Some(2))),
            [Output::Told(Service::Time, Some(2), 500)]
        );
    }

    #[test]
    fn what_runs_once_is_over_at_its_end() {
        let mut services = Services::default();
        assert_eq!(take(&mut services, 0, Input::Wanted(Service::SelfTest)), [Output::Start(Service::SelfTest)]);
        assert_eq!(take(&mut services, 5, Input::Ended(Service::SelfTest, Some(1))), [Output::Over(Service::SelfTest)]);
        assert_eq!(services.deadline(), None);
        assert_eq!(take(&mut services, 90_000, Input::Wanted(Service::SelfTest)), [], "also if it is wanted again");
        assert_eq!(take(&mut services, 90_000, Input::Ended(Service::SelfTest, None)), []);
    }

    #[test]
    fn one_that_ends_says_nothing_of_others() {
        let mut services = Services::default();
        let interface = |name: &str| Service::Address(name.to_owned());
        take(&mut services, 0, Input::Wanted(Service::Guard));
        take(&mut services, 0, Input::Wanted(interface("eth0")));
        assert_eq!(take(&mut services, 5, Input::Ended(interface("eth1"), None)), [], "nobody wants it");
        take(&mut services, 5, Input::Ended(interface("eth0"), Some(0)));
        assert_eq!(take(&mut services, 505, Input::Tick), [Output::Start(interface("eth0"))]);
    }
}
