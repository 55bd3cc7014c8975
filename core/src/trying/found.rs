//! What the judge says, why an image is not on its board, or trouble of ours → how a trial ended, and whose fault that is.

use crate::bug;
use crate::job::{Fault, Finding, Outcome, Verdict};
use crate::judge::{self, Judgement};
use alloc::string::{String, ToString};

/// Whose fault it is that an image is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The board's: its loader refuses, or its memory does not take what is written.
    Board,
    /// That of what lies between us and the board, or of what was put into its place.
    Wiring,
    /// The image's: it cannot fit.
    Image,
    /// That of what was asked of us, in settings.
    Tool,
    /// Sai's own.
    Sai,
}

impl Whose {
    /// Its word, as it stands in logs.
    pub fn word(self) -> &'static str {
        match self {
            Whose::Board => "board",
            Whose::Wiring => "wiring",
            Whose::Image => "image",
            Whose::Tool => "tool",
            Whose::Sai => "sai",
        }
    }
}

/// Why an image is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Whose fault it is.
    pub whose: Whose,
    /// What happened, for people.
    pub text: String,
}

impl Failure {
    /// One of somebody's.
    pub fn new(whose: Whose, text: impl Into<String>) -> Self {
        Failure { whose, text: text.into() }
    }

    /// Something was found that cannot be: the image is given up, rather than a board be written by a guess.
    pub fn bug(what: &str) -> Self {
        Failure::new(Whose::Sai, bug::sentence(what))
    }
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The word of the verdict.
    pub word: &'static str,
    /// Whose fault it is.
    pub fault: Fault,
    /// One sentence for people; empty where it passed.
    pub cause: String,
    /// The step that decided.
    pub step: u32,
}

/// The word where an image did not get onto its board, or not whole.
pub const FLASH_FAILED: &str = "flash-failed";

impl Found {
    /// What the judge says of a step.
    pub fn judged(judgement: Judgement, step: u32) -> Found {
        Found { word: judgement.word.text(), fault: judgement.word.fault(), cause: judgement.cause, step }
    }

    /// An image is not there, which ends this step.
    pub fn flashed(failure: Failure, step: u32) -> Found {
        let (word, fault) = match failure.whose {
            // It cannot be on any board.
            Whose::Image => (FLASH_FAILED, Fault::Job),
            Whose::Board => (FLASH_FAILED, Fault::Infrastructure),
            Whose::Wiring | Whose::Tool | Whose::Sai => (judge::Word::Infra.text(), Fault::Infrastructure),
        };
        Found { word, fault, cause: failure.text, step }
    }

    /// The same as the end of a log: trouble of the bench is nobody's failure.
    pub fn verdict(&self) -> Verdict {
        let outcome = match self.fault {
            Fault::Nobody => Outcome::Passed,
            Fault::Infrastructure => Outcome::Infra,
            _ => Outcome::Failed,
        };
        let (fault, cause) = (self.fault, self.cause.clone());
        let verdict = Some(Finding { word: self.word.to_string(), what: None, board: None });
        Verdict { outcome, fault, cause, step: Some(self.step), status: None, trouble: None, verdict }
    }

    /// Trouble of ours in a step.
    pub fn infra(cause: String, step: u32) -> Found {
        Found { word: judge::Word::Infra.text(), fault: Fault::Infrastructure, cause, step }
    }
}
