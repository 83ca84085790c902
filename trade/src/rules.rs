//! The contract's rule table: strict TOML text that the site signs as the first entry of its trade log.
//! The table selects, it never computes: guards and writes are closed enums. Interpreting it is `contract.rs`.

use serde::Deserialize;

use crate::{Error, entry::EntryKind, period::Period, prepaid::Proration, resource::KINDS};

/// The rule table a new node starts with.
pub const DEFAULT: &str = include_str!("../contract.toml");
/// Longest time a table may name, seconds: ten years.
const SECONDS_MAX: u64 = 10 * 365 * 86_400;
/// The act that begins a contract.
pub const BROWSE: &str = "browse";
/// The act by which the node refuses an order: it has no room, or has lost the deal that followed.
pub const REFUSE: &str = "refuse";
/// The act of a term that ends.
pub const EXPIRE: &str = "expire";
/// The act of a ceiling that the next window might exceed; where a table has no row for it, service goes on unpaid.
pub const EXHAUST: &str = "exhaust";
/// The act of the bill after the end of service.
pub const BILL: &str = "bill";
/// The act of a bill for one period while service runs.
pub const BILL_PERIOD: &str = "bill_period";
/// The act of a payment after which no bill of the contract is open.
pub const PAY: &str = "pay";
/// The act of a payment after which others are; a table that does not know it has every payment [`PAY`].
pub const PAY_PART: &str = "pay_part";
/// The act by which the node notes that the platform refused its bill.
pub const CONTEST: &str = "contest";
/// The act of a longer term; its notice says how long.
pub const RENEW: &str = "renew";
/// The act of a bill that is disputed; its notice names the bill.
pub const DISPUTE: &str = "dispute";
/// The act of a correction.
pub const CORRECT: &str = "correct";
/// The act of a refund that was paid.
pub const REFUND: &str = "refund";

/// Who must have signed for an act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Party {
    /// The buyer.
    Buyer,
    /// The node.
    Node,
    /// The operations platform.
    Platform,
}

/// A condition the interpreter's caller has checked against facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Guard {
    /// Nothing to check.
    None,
    /// The requirement fits the free capacity.
    CapacityFree,
    /// Offer, tariff, quantity, term and time are those of the offer.
    WithinOffer,
    /// The service window is still open.
    WindowOpen,
    /// The amount is the bill's total.
    AmountMatches,
}

/// What an act leaves in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Write {
    /// Browse entry.
    Browse,
    /// Offer entry.
    Offer,
    /// Order entry.
    Order,
    /// Deal entry.
    Deal,
    /// Order status entry.
    OrderStatus,
    /// Bill entry.
    Bill,
    /// Payment entry.
    Payment,
    /// Score entry.
    Score,
    /// Notice entry.
    Notice,
    /// Correction entry.
    Correction,
    /// Refund paid entry.
    RefundPaid,
}

impl Write {
    /// The entry kind it stands for.
    pub fn kind(self) -> EntryKind {
        match self {
            Write::Browse => EntryKind::Browse,
            Write::Offer => EntryKind::Offer,
            Write::Order => EntryKind::Order,
            Write::Deal => EntryKind::Deal,
            Write::OrderStatus => EntryKind::OrderStatus,
            Write::Bill => EntryKind::Bill,
            Write::Payment => EntryKind::Payment,
            Write::Score => EntryKind::Score,
            Write::Notice => EntryKind::Notice,
            Write::Correction => EntryKind::Correction,
            Write::RefundPaid => EntryKind::RefundPaid,
        }
    }

    /// Whether its entry stands in the finance log; all others stand in the trade log.
    fn is_finance(self) -> bool {
        matches!(self, Write::Bill | Write::Correction | Write::Payment | Write::RefundPaid)
    }

    /// Whether a contract has it at most once.
    fn is_once(self) -> bool {
        matches!(self, Write::Browse | Write::Offer | Write::Order | Write::Deal | Write::Score)
    }

    /// Who must have signed for it, whatever a table says: the signatures are in the entry.
    fn signers(self) -> &'static [Party] {
        match self {
            Write::Browse | Write::Order | Write::Score => &[Party::Buyer],
            Write::Deal => &[Party::Buyer, Party::Node],
            Write::Payment | Write::RefundPaid => &[Party::Platform],
            Write::Offer | Write::OrderStatus | Write::Bill | Write::Notice | Write::Correction => &[],
        }
    }
}

/// One row: in `state`, `act` signed by `signers` under `guard` leads to `next` and leaves `writes`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// State before.
    pub state: String,
    /// The act.
    pub act: String,
    /// Who must have signed.
    pub signers: Vec<Party>,
    /// What must hold.
    pub guard: Guard,
    /// What it leaves.
    pub writes: Vec<Write>,
    /// State after.
    pub next: String,
}

/// Where a timer starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Since {
    /// When the state was entered; anew with every act that leads to it, also from itself.
    #[default]
    State,
    /// The end of the period of the oldest open bill, whatever happens meanwhile; it does not run while none is open.
    Bill,
}

/// After `after_s` seconds in `state` the contract does `act` by itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timer {
    /// The state it runs in.
    pub state: String,
    /// Seconds from there.
    pub after_s: u64,
    /// From where.
    #[serde(default, rename = "from")]
    pub since: Since,
    /// What happens.
    pub act: String,
}

/// Numbers the contract uses.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// How gaps are rated: `free`.
    pub gap_rating: String,
    /// Rounding rule, [`crate::tariff::ROUNDING`].
    pub rounding: String,
    /// Seconds an offer stays valid.
    pub offer_valid_s: u64,
    /// How often a contract is billed while service runs.
    #[serde(default)]
    pub billing_period: Period,
    /// In which steps the time of a prepaid contract is charged.
    #[serde(default)]
    pub proration: Proration,
    /// Weight of each resource kind in the overall score, basis points; kinds of the deal are scaled to 10,000.
    pub score_weights: std::collections::BTreeMap<String, u32>,
}

impl Parameters {
    fn check(&self) -> Result<(), String> {
        if self.gap_rating != "free" {
            return Err(format!("gap_rating {} is unknown, free expected", self.gap_rating));
        }
        if self.rounding != crate::tariff::ROUNDING {
            return Err(format!("rounding {} is unknown", self.rounding));
        }
        if !(1..=SECONDS_MAX).contains(&self.offer_valid_s) {
            return Err(format!("offer_valid_s must be 1 to {SECONDS_MAX}"));
        }
        match self.score_weights.keys().find(|name| KINDS.iter().all(|kind| kind.name() != name.as_str())) {
            Some(name) => Err(format!("score weight of {name}: no such resource kind")),
            None => Ok(()),
        }
    }
}

/// A rule table.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleTable {
    /// Version of the table's language, 1.
    pub version: u32,
    /// State every contract starts in.
    pub start: String,
    /// States in which the order is metered.
    pub metered: Vec<String>,
    /// States in which capacity is held.
    pub holding: Vec<String>,
    /// Numbers.
    pub parameters: Parameters,
    /// Rows.
    #[serde(rename = "rule")]
    pub rows: Vec<Row>,
    /// Timers.
    #[serde(rename = "timer", default)]
    pub timers: Vec<Timer>,
}

impl RuleTable {
    /// Reads and checks a table.
    ///
    /// # Errors
    /// [`Error::Text`] for unknown keys, version or parameter, two rows for one state and act, a row that lacks the signer
    /// of what it writes, a state that the start does not lead to, a second deal, capacity held without being free, or an
    /// act of a timer or of the term's end that the node cannot do by itself.
    pub fn from_toml(text: &str) -> Result<Self, Error> {
        let wrong = |why: String| Error::Text { what: "rule table", why };
        let table: Self = toml::from_str(text).map_err(|e| wrong(e.to_string().trim_end().to_owned()))?;
        if table.version != 1 {
            return Err(wrong(format!("version {} is unknown, 1 expected", table.version)));
        }
        table.parameters.check().map_err(wrong)?;
        table.check_rows().map_err(wrong)?;
        for timer in &table.timers {
            table.check_alone(&timer.state, &timer.act, "timer").map_err(wrong)?;
            if timer.after_s > SECONDS_MAX {
                return Err(wrong(format!("timer of state {}: after_s is above {SECONDS_MAX}", timer.state)));
            }
        }
        let known = |state: &String| table.rows.iter().any(|row| row.state == *state || row.next == *state);
        if let Some(state) = table.metered.iter().chain(&table.holding).find(|state| !known(state)) {
            return Err(wrong(format!("state {state} stands in no rule")));
        }
        table.check_holding().map_err(wrong)?;
        Ok(table)
    }

    /// An act the node does by itself, by the clock: no other party's signature, no guard, nothing but its own status entry.
    fn check_alone(&self, state: &str, act: &str, what: &str) -> Result<(), String> {
        let row = self.row(state, act).ok_or_else(|| format!("{what} of state {state} has no rule for act {act}"))?;
        if row.signers.iter().any(|party| *party != Party::Node)
            || row.guard != Guard::None
            || row.writes != [Write::OrderStatus]
        {
            let due = "signers [] or [node], guard none, writes [order_status]";
            return Err(format!("{what} of state {state}: act {act} happens by itself and must have {due}"));
        }
        Ok(())
    }

    /// What is metered holds its capacity, what begins to hold it needs it free, and metering ends with the term.
    fn check_holding(&self) -> Result<(), String> {
        if let Some(state) = self.metered.iter().find(|state| !self.holding.contains(state)) {
            return Err(format!("state {state} is metered and must be among the holding ones"));
        }
        for row in &self.rows {
            let takes = self.holding.contains(&row.next) && !self.holding.contains(&row.state);
            if takes && row.guard != Guard::CapacityFree {
                return Err(format!(
                    "act {} in state {} takes capacity without guard capacity_free",
                    row.act, row.state
                ));
            }
        }
        for state in &self.metered {
            self.check_alone(state, EXPIRE, "end of the term")?;
            if self.row(state, EXPIRE).is_some_and(|row| self.metered.contains(&row.next)) {
                return Err(format!("act {EXPIRE} in state {state} must end the metering"));
            }
        }
        Ok(())
    }

    fn check_rows(&self) -> Result<(), String> {
        let reached = self.reached(&self.start, |_| true);
        for (index, row) in self.rows.iter().enumerate() {
            if self.rows.iter().take(index).any(|other| other.state == row.state && other.act == row.act) {
                return Err(format!("two rules for act {} in state {}", row.act, row.state));
            }
            if !reached.contains(&row.state.as_str()) {
                return Err(format!("state {} is never reached", row.state));
            }
            self.check_bills(row)?;
            let notices = row.writes.contains(&Write::Notice);
            let one = matches!(row.signers.as_slice(), [Party::Buyer | Party::Platform]);
            if notices && !(one && row.writes == [Write::Notice]) {
                return Err(format!(
                    "act {} in state {} writes a notice: signers [buyer] or [platform], writes [notice]",
                    row.act, row.state
                ));
            }
            let due = row.writes.iter().flat_map(|write| write.signers());
            if let Some(party) = due.into_iter().find(|party| !row.signers.contains(party)) {
                return Err(format!("act {} in state {} must be signed by the {party:?}", row.act, row.state));
            }
        }
        for row in &self.rows {
            let after = self.reached(&row.next, |_| true);
            let again = |write: &&Write| {
                let mut later = self.rows.iter().filter(|other| after.contains(&other.state.as_str()));
                write.is_once() && later.any(|other| other.writes.contains(*write))
            };
            if let Some(write) = row.writes.iter().find(again) {
                return Err(format!("after act {} in state {} there could be a second {write:?}", row.act, row.state));
            }
        }
        if self.rows.iter().any(|row| row.state == self.start) {
            Ok(())
        } else {
            Err(format!("start {} has no rule", self.start))
        }
    }

    /// A bill is written by its two acts alone and is all that they write; after the one that ends the contract no other comes,
    /// where there are bills by period: they tell where each begins.
    fn check_bills(&self, row: &Row) -> Result<(), String> {
        let is_act = matches!(row.act.as_str(), BILL | BILL_PERIOD);
        let by_period = self.rows.iter().any(|other| other.act == BILL_PERIOD);
        if by_period && (is_act || row.writes.contains(&Write::Bill)) && !(is_act && row.writes == [Write::Bill]) {
            return Err(format!(
                "act {} in state {}: {BILL} and {BILL_PERIOD} write [bill], no other act a bill",
                row.act, row.state
            ));
        }
        let after = self.reached(&row.next, |_| true);
        let mut later = self.rows.iter().filter(|other| after.contains(&other.state.as_str()));
        if by_period && row.act == BILL && later.any(|other| matches!(other.act.as_str(), BILL | BILL_PERIOD)) {
            return Err(format!("after act {BILL} in state {} there could be a second bill", row.state));
        }
        Ok(())
    }

    /// The act of a payment: [`PAY_PART`] while other bills stay open, in a table that has it.
    pub fn pay_act(&self, others_open: bool) -> &'static str {
        if others_open && self.rows.iter().any(|row| row.act == PAY_PART) { PAY_PART } else { PAY }
    }

    /// Every state that the acts of some rows lead to from a state, that state included.
    fn reached<'a>(&'a self, from: &'a str, by: impl Fn(&Row) -> bool) -> Vec<&'a str> {
        let mut reached = vec![from];
        let mut index = 0;
        while let Some(state) = reached.get(index).copied() {
            for row in self.rows.iter().filter(|row| row.state == state && by(row)) {
                if !reached.contains(&row.next.as_str()) {
                    reached.push(&row.next);
                }
            }
            index += 1;
        }
        reached
    }

    /// The row for an act in a state.
    pub fn row(&self, state: &str, act: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.state == state && row.act == act)
    }

    /// Whether an act that `state` does not allow may become allowed by entries of the other log alone, so that a reader who
    /// got the two logs at different times must wait for that log before judging.
    pub fn other_log_may_allow(&self, state: &str, act: &str) -> bool {
        let in_finance = |row: &Row| row.writes.iter().any(|write| write.is_finance());
        if self.row(state, act).is_some() {
            return false;
        }
        let mut due = self.rows.iter().filter(|row| row.act == act);
        due.any(|row| {
            let here = in_finance(row);
            self.reached(state, |other| in_finance(other) != here).contains(&row.state.as_str())
        })
    }

    /// Whether no row leaves `state`.
    pub fn is_final(&self, state: &str) -> bool {
        !self.rows.iter().any(|row| row.state == state)
    }

    /// Whether a contract in `state` is settled: whatever the rows still allow, nothing is metered or held any more, and
    /// nothing but a score is written.
    pub fn is_settled(&self, state: &str) -> bool {
        let after = self.reached(state, |_| true);
        let open = |row: &Row| after.contains(&row.state.as_str()) && row.writes != [Write::Score];
        !after.iter().any(|state| self.is_metered(state) || self.is_holding(state)) && !self.rows.iter().any(open)
    }

    /// Whether an order is metered in a state.
    pub fn is_metered(&self, state: &str) -> bool {
        self.metered.iter().any(|metered| metered == state)
    }

    /// Whether an order is metered in a state or may be later.
    pub fn may_be_metered(&self, state: &str) -> bool {
        self.reached(state, |_| true).iter().any(|reached| self.is_metered(reached))
    }

    /// Whether a bill may still be written from a state on.
    pub fn may_be_billed(&self, state: &str) -> bool {
        let after = self.reached(state, |_| true);
        let bills = |row: &Row| after.contains(&row.state.as_str()) && row.writes.contains(&Write::Bill);
        self.rows.iter().any(bills)
    }

    /// Whether capacity is held in a state.
    pub fn is_holding(&self, state: &str) -> bool {
        self.holding.iter().any(|holding| holding == state)
    }
}
