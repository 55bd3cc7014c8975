//! What jobs need and the units they want, against what really passed and really runs → the first broken promise.

use super::{Outcome, World};
use sai_core::job::{JobKey, JobState};
use sai_core::ledger::Needed;
use sai_core::ordered::Map;
use std::collections::BTreeMap;

/// Seconds that a job may take where its spec does not say.
pub(super) const TIMEOUT_S: u64 = 120;

/// The units of every world.
pub(super) fn amounts() -> Map<String, u32> {
    Map::from([("licences".to_string(), 2), ("rig".to_string(), 1)])
}

impl World {
    /// What a job wants of them: most want nothing.
    pub(super) fn random_units(&mut self) -> Map<String, u32> {
        let mut units = Map::new();
        if self.random.chance(250) {
            units.insert("licences".to_string(), self.random.between(1, 2) as u32);
        }
        if self.random.chance(100) {
            units.insert("rig".to_string(), 1);
        }
        units
    }

    /// The ledger between two turns: nobody waits for what has ended, and no unit is given beyond its amount.
    pub(super) fn check_waits(&mut self) -> Outcome {
        let jobs = &self.master.durable.jobs;
        for record in jobs.values().filter(|record| record.standing() == JobState::Blocked) {
            let states = record.needs.iter().flatten().map(|needed| jobs.get(&needed.job).map(|other| other.state));
            let mut open = false;
            for state in states {
                match state {
                    Some(JobState::Passed) => {}
                    Some(state) if !state.ended() => open = true,
                    _ => return self.broken("one commit", format!("job {} waits for what is {state:?}", record.id)),
                }
            }
            if !open {
                return self.broken("one commit", format!("job {} waits although all has passed", record.id));
            }
        }
        let mut used: BTreeMap<&str, u32> = BTreeMap::new();
        let grants = self.master.durable.agents.values().flat_map(|agent| agent.grants.iter().flatten());
        for (unit, amount) in grants.flat_map(|grant| &grant.units) {
            *used.entry(unit).or_default() += amount;
        }
        let amounts = amounts();
        if let Some((unit, used)) = used.into_iter().find(|(unit, used)| amounts.get(*unit) < Some(used)) {
            return self.broken("units", format!("{used} of {unit} are granted"));
        }
        Ok(())
    }

    /// An assignment as it leaves the master: all that the job needs has passed, in the attempts that it names.
    pub(super) fn check_needs(&mut self, key: JobKey, needs: &[Needed]) -> Outcome {
        let wanted = self.master.durable.jobs.get(&key.job).and_then(|record| {
            let (event, specs) = self.saifiles.get(&record.event)?;
            let needs = &specs.get((key.job - event.first_job) as usize)?.needs;
            Some(needs.iter().map(|need| event.first_job + u64::from(*need)).collect::<Vec<_>>())
        });
        let wanted = wanted.unwrap_or_default();
        if needs.iter().map(|needed| needed.job).ne(wanted.iter().copied()) {
            return self.broken("needs first", format!("{key} needs {wanted:?} and is given {needs:?}"));
        }
        self.summary.unblocked += u64::from(!needs.is_empty());
        for needed in needs {
            let passed = self.oracle.passed.contains(&JobKey { job: needed.job, attempt: needed.attempt.unwrap_or(0) });
            if !passed {
                return self.broken("needs first", format!("{key} begins, and {needed:?} has not passed"));
            }
        }
        Ok(())
    }

    /// An assignment as it is decided on: from now on it counts as holding what it wants.
    pub(super) fn note_units(&mut self, key: JobKey) {
        let Some(record) = self.master.latest.jobs.get(&key.job).filter(|record| record.units.is_some()) else {
            return;
        };
        let spec =
            self.saifiles.get(&record.event).and_then(|(event, specs)| specs.get((key.job - event.first_job) as usize));
        let timeout_s = spec.and_then(|spec| spec.timeout_s).unwrap_or(TIMEOUT_S);
        let until = self.now + timeout_s * 1000 + self.policy.grace_ms;
        self.oracle.units_until.insert(key, until);
    }

    /// An attempt as an agent begins it: with what really runs anywhere it occupies no more of a unit than there is. By the
    /// rule for agents that do not come back, an attempt counts no longer than it may take, and the grace.
    pub(super) fn check_units(&mut self, host: usize, key: JobKey) -> Outcome {
        let units = |key: &JobKey| self.master.latest.jobs.get(&key.job).and_then(|record| record.units.clone());
        // Of two machines with one identity each speaks for the other.
        let copied = self.hosts.iter().any(|here| here.is_copy);
        let Some(wanted) = units(&key).filter(|_| !self.hosts[host].liar && !copied) else { return Ok(()) };
        let mut used: BTreeMap<String, u32> =
            BTreeMap::from_iter(wanted.iter().map(|(unit, amount)| (unit.clone(), *amount)));
        let mut by = Vec::new();
        for here in self.hosts.iter().filter(|here| !here.liar) {
            for (other, directory) in here.directories.iter().filter(|(other, _)| **other != key) {
                let spent = self.oracle.units_until.get(other).is_some_and(|until| self.now >= *until);
                let begins = directory.assignment.is_some();
                let runs = directory.supervisor.as_ref().map_or(begins, |supervisor| !supervisor.has_ended());
                for (unit, amount) in units(other).iter().flatten().filter(|_| runs && !spent) {
                    *used.entry(unit.clone()).or_default() += amount;
                    by.push(format!("{other} at {}: {amount} of {unit}", here.name));
                }
            }
        }
        let amounts = amounts();
        if let Some((unit, used)) = used.iter().find(|(unit, used)| amounts.get(unit.as_str()) < Some(*used)) {
            return self.broken("units", format!("{used} of {unit} are in use once {key} begins, by {by:?}"));
        }
        self.summary.granted += 1;
        Ok(())
    }
}
