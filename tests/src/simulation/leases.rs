//! People who want boards for a while → leases, and words for those that have one; and what their supervisors take of these → the first
//! broken promise.

use super::host::Directory;
use super::{Bug, Outcome, World};
use sai_core::hub::{Input, Wish};
use sai_core::job::{JobKey, JobState};
use sai_core::ledger::Leased;
use sai_core::plan;
use sai_core::wire::Word;
use sai_core::writers::Writers;

/// Words that a person says in a row.
const IN_A_ROW: u64 = 5;

/// What the supervisor of a lease has heard: of one writer.
#[derive(Debug, Default)]
pub(super) struct Heard {
    writers: Writers,
    last: u64,
}

impl World {
    /// Somebody wants a board, or says something at one.
    pub(super) fn person_at_board(&mut self) -> Outcome {
        let running = self.master.durable.jobs.values().filter(|job| job.lease.is_some());
        let running = running.filter(|job| matches!(job.state, JobState::Assigned | JobState::Running));
        let running: Vec<JobKey> = running.map(|job| JobKey { job: job.id, attempt: job.attempt }).collect();
        match self.random.pick(&running).filter(|_| self.random.chance(700)) {
            Some(key) => self.say_words(key),
            None => self.want_a_board(),
        }
    }

    fn want_a_board(&mut self) -> Outcome {
        let mut wanted = self.random_wanted();
        let named = self.random.chance(300).then(|| self.random.below(self.hosts.len() as u64) as usize);
        let named = named
            .and_then(|host| Some((self.hosts[host].name.clone(), self.hosts[host].bench.offered.first()?.clone())));
        let agent = named.map(|(agent, board)| {
            (wanted.kind, wanted.name) = (board.kind, Some(board.name));
            agent
        });
        let person = self.random.pick(&["anna", "bert"]).unwrap_or("anna").to_string();
        let (id, job) = self.master.numbers.give(1);
        // It ends so, whoever wants that.
        self.oracle.asked.insert(job);
        let leased = Leased { minutes: self.random.between(1, 3), agent, people: None };
        let mut wish = Wish::new((id, job), (wanted, leased), &person, self.now);
        // Far beyond the end of a world: what ends it is that its time is over.
        wish.spec.timeout_s = Some(24 * 3600);
        self.saifiles.insert(id, (wish.event.clone(), vec![wish.spec.clone()]));
        let row = self.show_files(id, plan::write(std::slice::from_ref(&wish.spec)).into_bytes());
        self.summary.leases += 1;
        self.hub_with(Input::Lease(wish), vec![row])
    }

    /// A program says again what was not answered, and it may come in another order.
    fn say_words(&mut self, key: JobKey) -> Outcome {
        let heard = self.hosts.iter().find_map(|host| Some(host.directories.get(&key)?.heard.last));
        let next = heard.unwrap_or(0) + 1;
        for _ in 0..self.random.between(1, IN_A_ROW) {
            let number = self.random.between(next.saturating_sub(1).max(1), next + 2);
            let word = Word { key, writer: "w".to_string(), number, said: "{\"t\":\"play\"}".to_string() };
            self.hub(Input::Word(word))?;
        }
        Ok(())
    }

    /// The agent of a lease hands a word to its supervisor.
    pub(super) fn hear_word(&mut self, host: usize, word: &Word) -> Outcome {
        let key = word.key;
        let bug = self.bug == Some(Bug::WordsAsTheyCome);
        let at = self.oracle.attempts.get(&key).map(|attempt| attempt.host);
        let Some(Directory { supervisor: Some(_), assignment: Some(assignment), heard, .. }) =
            self.hosts[host].directories.get_mut(&key)
        else {
            // It is about to begin, or gone.
            return Ok(());
        };
        let leased = assignment.lease.is_some();
        if !heard.writers.take(&word.writer, word.number) && !bug {
            return Ok(());
        }
        let before = std::mem::replace(&mut heard.last, word.number);
        if !leased || at != Some(host) {
            return self.broken("words", format!("{word:?} is heard at {}", self.hosts[host].name));
        }
        if word.number != before + 1 {
            return self.broken("words", format!("word {} of {key} is done after word {before}", word.number));
        }
        self.summary.words += 1;
        Ok(())
    }
}
