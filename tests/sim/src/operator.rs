//! The platform's end: messages in and answers out, the operator who pays and decides, the sites who correct; and a platform
//! that lies.

use hufu_agent::sim::In;
use hufu_gm::Signed;
use hufu_ledger::Log;
use hufu_trade::{
    decode, encode,
    entry::{Receipt, Refused},
    if2::{Answer, Envelope, Interface, PLATFORM, PaymentState, Topic},
    money::Money,
    octets::{Octets, rfc3339},
};

use crate::{
    broker::Letter,
    clocks::{self, MINUTE, SECOND},
    parties::parties,
    world::{What, World},
};

impl World {
    /// A message has reached the platform's end of the link.
    pub(crate) fn take(&mut self, letter: Letter) -> Result<(), String> {
        if self.platform_down {
            if self.platform_kept.len() < 2000 {
                self.platform_kept.push(letter);
            }
            return Ok(());
        }
        let answers = self.platform.take(&letter.topic, &letter.payload).map_err(|broken| broken.0)?;
        // Committed and not yet answered: the moment at which a platform may die.
        if self.dice.permille(self.profile.platform_dies) {
            self.count("platform died before it answered");
            return self.platform_ends(None);
        }
        for answer in answers {
            if let Ok(signed) = Signed::from_bytes(&answer.payload)
                && let Ok(receipt) = decode::<Receipt>(signed.tbs(), "Receipt")
                && let Some(index) = self.sites.iter().position(|site| site.pool == receipt.computing_pool_id)
            {
                let known = self.receipted.entry((index, receipt.log)).or_default();
                *known = receipt.size.max(*known);
            }
            let letter = Letter { topic: answer.topic, payload: answer.payload };
            if self.profile.platform_lies && self.dice.permille(60) {
                self.lie(&letter.topic)?;
            }
            self.post_down(letter);
        }
        Ok(())
    }

    /// The platform's process ends, and starts again after a while.
    pub(crate) fn platform_ends(&mut self, backup: Option<&std::path::Path>) -> Result<(), String> {
        self.platform_down = true;
        self.platform.restart(backup).map_err(|broken| broken.0)?;
        if backup.is_some() {
            self.receipted.clear();
            self.was_set_back = true;
            for index in 0..self.sites.len() {
                let site = &self.sites[index];
                let compares = site.node.as_ref().is_none_or(hufu_agent::sim::Node::is_comparing);
                if site.is_restored && compares {
                    self.forget_future(index)?;
                }
            }
        }
        let pause = self.dice.pause(10 * SECOND);
        self.after(pause, What::PlatformUp);
        Ok(())
    }

    /// The platform is back, and gets what the broker kept for it.
    pub(crate) fn platform_up(&mut self) {
        self.platform_down = false;
        if self.dice.permille(self.profile.forgets) {
            self.platform_kept.clear();
        }
        for letter in std::mem::take(&mut self.platform_kept) {
            let pause = self.dice.pause(SECOND / 10);
            self.after(pause, What::ToPlatform(letter));
        }
    }

    /// The operator pays what is due, gives back what was too much, upholds and revokes.
    pub(crate) fn operator(&mut self) -> Result<(), String> {
        let pause = self.dice.pause(MINUTE).min(5 * MINUTE);
        self.after(pause, What::Operator);
        if self.platform_down {
            return Ok(());
        }
        for index in 0..self.sites.len() {
            let pool = self.sites[index].pool.clone();
            for bill in self.platform.bills(&pool).map_err(|broken| broken.0)? {
                let due: Money = bill.due.parse().map_err(|error| format!("{error}"))?;
                let paid = self.platform.paid(&bill.number).map_err(|broken| broken.0)?;
                if paid != Some(due) && bill.is_payable && self.dice.permille(600) {
                    let wrong = Money(i128::from(self.dice.below(20) == 0) * 1_000_000);
                    let amount = due.plus(wrong).map_err(|error| error.to_string())?;
                    // What was paid too much goes back where the contract says so; otherwise this is refused.
                    let over = paid.and_then(|paid| paid.minus(due).ok()).filter(|over| over.0 > 0);
                    let back = over.map(|over| self.platform.refund(&bill.number, over)).transpose();
                    if back.map_err(|broken| broken.0)?.is_none_or(|done| done.is_err()) {
                        self.platform.pay(&bill.number, amount).map_err(|broken| broken.0)?.ok();
                    }
                }
            }
            for (no, state) in self.platform.states(&pool).map_err(|broken| broken.0)? {
                let Ok(no) = <[u8; 16]>::try_from(no.as_slice()).map(Octets) else { continue };
                let is_open = self.time < self.profile.market_ns;
                let act = match state.as_str() {
                    "disputed" | "disputed_scored" | "reopened" | "reopened_scored" => "uphold",
                    "serving" | "suspended" if is_open && self.dice.permille(20) => "revoke",
                    _ => continue,
                };
                if self.dice.permille(if is_open { 200 } else { 900 }) {
                    self.platform.notice(no, act, None).map_err(|broken| broken.0)?.ok();
                }
            }
        }
        for message in self.platform.courier().map_err(|broken| broken.0)? {
            self.post_down(Letter { topic: message.topic, payload: message.payload });
        }
        Ok(())
    }

    /// A site looks after its node: it corrects disputed bills, reads and erases personal data.
    pub(crate) fn keeper(&mut self, index: usize) -> Result<(), String> {
        let pause = self.dice.pause(3 * MINUTE).min(20 * MINUTE);
        self.after(pause, What::Keeper(index));
        let Some(node) = &self.sites[index].node else { return Ok(()) };
        let contracts: Vec<_> = node.contracts().filter(|contract| contract.deal.is_some()).collect();
        let Some(contract) = self.dice.of(&contracts) else { return Ok(()) };
        let no = contract.no;
        let told = match self.dice.below(8) {
            0 => In::Read { contract: no },
            1 if self.profile.erases => In::Erase { contract: no },
            2..=5 => match contract.bills.last() {
                Some(bill) => {
                    let most = u64::try_from(bill.due.0 / 1_000_000).unwrap_or(0);
                    let amount = Money(-i128::from(self.dice.below(most + 2)) * 1_000_000);
                    In::Correct { bill_no: bill.number.clone(), amount }
                }
                None => return Ok(()),
            },
            _ => return Ok(()),
        };
        self.drive(index, Some(told))
    }

    /// Something that the platform signs and that is not so.
    fn lie(&mut self, topic: &Topic) -> Result<(), String> {
        self.count("lie");
        let Topic::Call { pool, .. } = topic else { return Ok(()) };
        let log = u8::try_from(self.dice.below(2)).unwrap();
        let of = if log == 1 { Log::Finance } else { Log::Trade };
        let (size, root) = self.platform.held(pool, of).map_err(|broken| broken.0)?;
        let sealed = |receipt: &Receipt| {
            let tbs = encode(receipt, "Receipt").unwrap();
            Signed::seal(tbs, &parties().platform.id, &parties().platform.key).unwrap().to_bytes().unwrap()
        };
        let mut receipt = Receipt {
            version: 1,
            computing_pool_id: pool.clone(),
            log,
            size,
            root: Octets(root),
            stored_at: clocks::real_ns(self.time),
            refused: Vec::new(),
            bills: Vec::new(),
        };
        let answer = |interface: Interface| Topic::Call { pool: pool.clone(), interface, answer: true };
        let say = |interface: Interface, body: &serde_json::Value, time: i64| {
            let (key, id) = (&parties().platform.key, Octets(parties().platform.id));
            Envelope::seal(interface, PLATFORM, pool, time, None, None, body, key, id).unwrap().1
        };
        let bills = self.platform.bills(pool).map_err(|broken| broken.0)?;
        let number = self.dice.of(&bills).map_or_else(|| "none-1".to_owned(), |bill| bill.number.clone());
        let at = Some(rfc3339(clocks::real_ns(self.time)));
        let payment = |state: &str, amount: u64| {
            let amount = Some(Money(i128::from(amount) * 1_000_000 + 777_000_000_000).to_string());
            serde_json::to_value(Answer::Ok(PaymentState {
                bill_no: number.clone(),
                state: state.to_owned(),
                amount_cny: amount.clone(),
                paid_at: at.clone(),
                refunded_cny: amount,
                refunded_at: at.clone(),
                parent_bill: None,
                refund_cny: None,
            }))
            .unwrap()
        };
        let time = clocks::real_ns(self.time);
        let (interface, payload) = match self.dice.below(8) {
            0 => {
                receipt.root = Octets([7; 32]);
                (Interface::Blocks, sealed(&receipt))
            }
            1 => {
                (receipt.size, receipt.root) = (size / 2, Octets([8; 32]));
                (Interface::Blocks, sealed(&receipt))
            }
            2 => {
                "s1/n9".clone_into(&mut receipt.computing_pool_id);
                (Interface::Blocks, sealed(&receipt))
            }
            3 => {
                receipt.refused = vec![Refused { entry: Octets([6; 32]), code: "amount".to_owned() }];
                (Interface::Blocks, sealed(&receipt))
            }
            4 => (Interface::PaymentConfirm, say(Interface::PaymentConfirm, &payment("paid", 1), time)),
            5 => (Interface::PaymentConfirm, say(Interface::PaymentConfirm, &payment("refunded", 2), time)),
            6 => (Interface::BillPush, say(Interface::BillPush, &serde_json::json!({ "ok": { "bill_no": 5 } }), time)),
            _ => (Interface::Blocks, say(Interface::Blocks, &serde_json::json!({ "ok": "so it is" }), time)),
        };
        self.post_down(Letter { topic: answer(interface), payload });
        Ok(())
    }
}
