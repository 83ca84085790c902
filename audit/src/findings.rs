//! Collects what a verification finds, verdict by verdict. What is a problem is decided by who calls.

use crate::{Lang, text::Text};

/// How a verdict came out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Everything that was checked is right.
    #[default]
    Pass,
    /// Nothing is wrong, but something cannot be judged or is worth knowing.
    Warn,
    /// The answer is no.
    Fail,
}

impl Outcome {
    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Pass => "pass",
            Outcome::Warn => "warn",
            Outcome::Fail => "fail",
        }
    }
}

/// One thing a verdict has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file inside the pack, which names log, height, index and kind of an entry, and behind `#` the field.
    pub place: String,
    /// What is wrong there.
    pub what: Text,
    /// Whether it makes the verdict fail.
    pub outcome: Outcome,
}

/// One verdict.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The worst of its problems.
    pub result: Outcome,
    /// How many things were checked.
    pub checked: u64,
    /// The problems, at most [`PROBLEMS_MAX`] and one that counts the rest.
    pub problems: Vec<Problem>,
    more: u64,
}

/// Most problems that a verdict lists.
pub const PROBLEMS_MAX: usize = 200;

impl Verdict {
    pub(crate) fn checked(&mut self) {
        self.checked = self.checked.saturating_add(1);
    }

    pub(crate) fn fail(&mut self, place: impl Into<String>, what: Text) {
        self.add(place.into(), what, Outcome::Fail);
    }

    pub(crate) fn warn(&mut self, place: impl Into<String>, what: Text) {
        self.add(place.into(), what, Outcome::Warn);
    }

    fn add(&mut self, place: String, what: Text, outcome: Outcome) {
        self.result = self.result.max(outcome);
        let problem = Problem { place, what, outcome };
        if self.problems.contains(&problem) {
            return;
        }
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        } else {
            self.more = self.more.saturating_add(1);
            // A failure may not be crowded out by remarks.
            let remark = self.problems.iter_mut().rfind(|there| there.outcome == Outcome::Warn);
            if let (Outcome::Fail, Some(remark)) = (outcome, remark) {
                *remark = problem;
            }
        }
    }

    /// Counts one check; a failure when it did not hold.
    pub(crate) fn check(&mut self, holds: bool, place: impl Into<String>, what: impl FnOnce() -> Text) {
        self.checked();
        if !holds {
            self.fail(place, what());
        }
    }

    /// Takes over what another verdict found, failures as remarks only where they are `history`.
    pub(crate) fn absorb(&mut self, other: Self, history: bool) {
        self.checked = self.checked.saturating_add(other.checked);
        self.more = self.more.saturating_add(other.more);
        for Problem { place, what, outcome } in other.problems {
            self.add(place, what, if history { outcome.min(Outcome::Warn) } else { outcome });
        }
    }

    /// True when nothing fails.
    pub(crate) fn holds(&self) -> bool {
        self.result != Outcome::Fail
    }

    /// Leaves out problems that are none to the reader.
    pub(crate) fn forget(&mut self, which: impl Fn(&Text) -> bool) {
        self.problems.retain(|problem| !which(&problem.what));
        self.result = self.problems.iter().map(|problem| problem.outcome).max().unwrap_or_default();
    }

    /// Says how many problems were left out.
    pub(crate) fn close(&mut self) {
        if self.more > 0 {
            let what = Text::More { count: self.more.to_string() };
            self.problems.push(Problem { place: "-".to_owned(), what, outcome: self.result });
            self.more = 0;
        }
    }

    /// The command contract's JSON of one verdict.
    pub fn to_json(&self, lang: Lang) -> serde_json::Value {
        let problem =
            |problem: &Problem| serde_json::json!({ "where": problem.place, "what": problem.what.render(lang) });
        let problems: Vec<_> = self.problems.iter().map(problem).collect();
        serde_json::json!({ "result": self.result.name(), "checked": self.checked, "problems": problems })
    }
}

/// The four verdicts while they are being reached.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) signatures: Verdict,
    pub(crate) completeness: Verdict,
    pub(crate) data_quality: Verdict,
    pub(crate) arithmetic: Verdict,
}
