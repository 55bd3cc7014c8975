//! An image and the agents' records → whose cards it goes to, and what is said of it to people.
//!
//! An image is told to an agent alone whose machine was started from a card of Sai's image: whoever installed another agent
//! updates it, too. Of several cards one is told first, and the others when that one has come back with it.

use crate::ledger::AgentRecord;
use crate::update::Said;
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

/// Which agents an image goes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// In their order.
    pub names: Vec<String>,
    /// Those of all that it does not go to, and why.
    pub left_out: Vec<String>,
}

/// What an agent, named or one of all, has to do with an image.
enum Fit {
    Fits,
    /// It needs no image, or can have none: that ends nothing where all are meant.
    Not(String),
}

fn fit(record: &AgentRecord, said: &Said, key: &str, may_be_older: bool) -> Fit {
    let name = &record.name;
    let not = |why: String| Fit::Not(format!("{name}{why}"));
    let Some(card) = record.card.as_ref().filter(|_| !record.revoked) else {
        return not(match (record.revoked, record.seen_at) {
            (true, _) => " is revoked".to_string(),
            (false, None) => " has never been connected, so that nobody knows what it is".to_string(),
            (false, Some(_)) => {
                " is not updated this way: it was not started from a card of Sai's image, or from one of before there \
                                 were updates; whatever installed it updates it"
                    .to_string()
            }
        });
    };
    match card.key.as_deref() {
        _ if card.model != said.model => {
            return not(format!(" is a {}, and the image is for a {}", card.model, said.model));
        }
        None => {
            return not(" believes no update key, since its join line had none: revoke it, add it anew, and write the new line into \
                        the sai.json of its card"
                .to_string());
        }
        Some(other) if !other.eq_ignore_ascii_case(key) => {
            return not(
                " believes another update key than this master's: it joined by a line of another one".to_string()
            );
        }
        Some(_) => {}
    }
    if card.number == said.number {
        return not(" has this image already".to_string());
    }
    if card.number > said.number && !may_be_older {
        return not(format!(
            " has a newer image (number {}, and this one has {}): --downgrade lets an older one take its place",
            card.number, said.number
        ));
    }
    Fit::Fits
}

/// Which of these agents are meant by a name, or by `all`, and can have this image. Who is connected comes first.
///
/// # Errors
/// None: why.
pub fn choose(
    agents: &[AgentRecord],
    connected: &dyn Fn(&str) -> bool,
    who: &str,
    said: &Said,
    key: &str,
    may_be_older: bool,
) -> Result<Choice, String> {
    let all = who == ALL;
    let meant: Vec<&AgentRecord> = agents.iter().filter(|agent| all || agent.name == who).collect();
    if meant.is_empty() && !all {
        return Err(format!("there is no agent {who:?}"));
    }
    let mut choice = Choice::default();
    for agent in meant.into_iter().filter(|agent| !(all && agent.revoked)) {
        match fit(agent, said, key, may_be_older) {
            Fit::Fits => choice.names.push(agent.name.clone()),
            Fit::Not(why) if all => choice.left_out.push(why),
            Fit::Not(why) => return Err(why),
        }
    }
    if choice.names.is_empty() {
        let why = choice.left_out.join("; ");
        return Err(if why.is_empty() { "there are no agents".to_string() } else { why });
    }
    choice.names.sort_by_key(|name| !connected(name));
    Ok(choice)
}

/// Stands for all agents.
pub const ALL: &str = "all";

/// A sentence about the image that an agent's card has, or is to have; none where it is no card.
pub fn told(record: &AgentRecord, progress: Option<&str>) -> Option<String> {
    let card = record.card.as_ref()?;
    let mut text = format!("card for a {}, image {}", card.model, card.number);
    if let Some(wanted) = &record.update {
        let number = wanted.number;
        text.push_str(&match (&wanted.failed, &wanted.after, progress) {
            (Some(why), ..) => format!("; image {number} was not taken: {why}"),
            (None, Some(first), _) => format!("; image {number} waits until {first} has come back with it"),
            (None, None, Some(progress)) => format!("; image {number}: {progress}"),
            (None, None, None) => format!("; image {number} is to be told to it"),
        });
    }
    Some(text)
}
