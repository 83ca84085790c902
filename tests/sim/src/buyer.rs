//! Buyers: they browse, order, move their contracts, dispute and score, each with a key of its own; and they cheat.

use hufu_gm::{Signed, sm3::sm3};
use hufu_ledger::entry_hash;
use hufu_platform::sim::Request;
use hufu_trade::{
    contract::overall_score,
    decode, encode,
    if2::{Accepted, Answer, Browse, Interface, Offered, OrderChange, Sealed, SendOrder},
    money::Money,
    notice::{Notice, Renewal},
    octets::{ContractNo, Digest, Octets},
    resource::Resource,
    rules::RuleTable,
    statement::{
        ContractValue, Offer, Payment, Requirement, RequirementItem, ScoreCard, ScoreItem, Statement, con_type,
        contract_no,
    },
};
use serde_json::Value;

use crate::{
    broker::Letter,
    clocks::{self, MINUTE, SECOND},
    parties::{Party, parties},
    world::{What, World},
};

/// Contracts of one buyer at most.
const CONTRACTS_MAX: usize = 7;

/// A request that waits for its answer.
#[derive(Clone, Debug)]
struct Waiting {
    interface: Interface,
    body: Value,
    tries: u32,
    /// Under which id the platform asked last.
    id: Option<String>,
    /// So often it asks on after an answer that may pass by itself.
    patience: u32,
}

/// One contract as its buyer knows it.
#[derive(Clone, Debug)]
struct Course {
    site: usize,
    no: ContractNo,
    offer: Option<(Offer, Digest, String)>,
    deal: Option<Digest>,
    waiting: Option<Waiting>,
    /// The last order, to be sent again.
    order: Option<Value>,
    scored: bool,
    is_over: bool,
}

/// A buyer.
#[derive(Debug, Default)]
pub(crate) struct Buyer {
    courses: Vec<Course>,
}

fn statement(who: &Party, pool: &str, kind: u8, no: ContractNo, time: i64) -> Statement {
    Statement {
        version: 1,
        con_type: kind,
        contract_no: no,
        contract_time: time,
        computing_pool_id: pool.to_owned(),
        buyer: Octets(who.id),
        nonce: None,
        offer: None,
        follows: None,
        requirement: None,
        contract_value: None,
        score: None,
    }
}

fn signed(who: &Party, statement: &Statement) -> SendOrder {
    let bytes = encode(statement, "Statement").unwrap();
    let signature = who.key.sign(&bytes).unwrap();
    SendOrder { statement: Sealed(bytes), signature: Sealed(signature) }
}

fn value<T: serde::Serialize>(body: &T) -> Value {
    serde_json::to_value(body).unwrap()
}

impl World {
    /// A buyer does something.
    pub(crate) fn buyer(&mut self, index: usize) -> Result<(), String> {
        let pause = self.dice.pause(50 * SECOND).min(10 * MINUTE);
        self.after(pause, What::Buyer(index));
        if self.platform_down {
            return Ok(());
        }
        for place in 0..self.buyers[index].courses.len() {
            self.ask_on(index, place)?;
        }
        let is_open = self.time < self.profile.market_ns;
        let count = self.buyers[index].courses.len();
        if is_open && count < CONTRACTS_MAX && self.dice.permille(250) {
            return self.browse(index);
        }
        let place = usize::try_from(self.dice.below(u64::try_from(count).unwrap())).unwrap();
        let Some(course) = self.buyers[index].courses.get(place).cloned() else { return Ok(()) };
        if course.waiting.is_some() || course.is_over {
            return Ok(());
        }
        match (&course.offer, course.deal) {
            (None, _) => Ok(()),
            (Some(_), None) if is_open => self.order(index, place),
            (Some(_), None) => Ok(()),
            (Some(_), Some(_)) if is_open && self.dice.permille(40) => {
                let again = course.order.clone().unwrap();
                self.ask(index, place, Interface::SendOrder, again)
            }
            (Some(_), Some(deal)) => self.change(index, place, deal),
        }
    }

    /// Sends what waits again, and takes its answer.
    fn ask_on(&mut self, index: usize, place: usize) -> Result<(), String> {
        let course = &self.buyers[index].courses[place];
        let Some(mut waiting) = course.waiting.clone() else { return Ok(()) };
        let pool = self.sites[course.site].pool.clone();
        if let Some(id) = &waiting.id
            && let Some(said) = self.platform.answer(&pool, waiting.interface, id).map_err(|broken| broken.0)?
        {
            if waiting.patience == 0 || said.get("ok").is_some() {
                return self.answered(index, place, &waiting, said);
            }
            waiting.patience -= 1;
        }
        match self.platform.ask(&pool, waiting.interface, &waiting.body).map_err(|broken| broken.0)? {
            Request::Answered(answer) => self.answered(index, place, &waiting, answer),
            Request::Refused(_) => {
                self.buyers[index].courses[place].waiting = None;
                Ok(())
            }
            Request::Send(id, message) => {
                let letter = Letter { topic: message.topic, payload: message.payload };
                self.post_down(letter);
                let course = &mut self.buyers[index].courses[place];
                let tries = waiting.tries + 1;
                // A buyer gives up; what the node did meanwhile stays done.
                course.waiting = (tries < 15).then_some(Waiting { tries, id: Some(id), ..waiting });
                course.is_over |= tries >= 15 && course.deal.is_none();
                Ok(())
            }
        }
    }

    fn ask(&mut self, index: usize, place: usize, interface: Interface, body: Value) -> Result<(), String> {
        let patience = if self.dice.below(10) == 0 { 3 } else { 0 };
        let waiting = Waiting { interface, body, tries: 0, id: None, patience };
        self.buyers[index].courses[place].waiting = Some(waiting);
        self.ask_on(index, place)
    }

    fn answered(&mut self, index: usize, place: usize, waiting: &Waiting, answer: Value) -> Result<(), String> {
        let course = &mut self.buyers[index].courses[place];
        course.waiting = None;
        if let Some(problem) = answer.get("error") {
            let code = problem.get("code").and_then(Value::as_str).unwrap_or_default();
            course.is_over |= course.deal.is_none() && code != "busy";
            return Ok(());
        }
        let unreadable = |error: serde_json::Error| format!("an answer that cannot be read: {error}");
        match waiting.interface {
            Interface::Browse => {
                let answer: Answer<Offered> = serde_json::from_value(answer).map_err(unreadable)?;
                if let Answer::Ok(offered) = answer {
                    let signed = Signed::from_bytes(&offered.offer.0).map_err(|e| e.to_string())?;
                    let offer: Offer = decode(signed.tbs(), "Offer").map_err(|e| e.to_string())?;
                    course.offer = Some((offer, Octets(sm3(&[signed.tbs()])), offered.rules));
                }
            }
            Interface::SendOrder => {
                let answer: Answer<Accepted> = serde_json::from_value(answer).map_err(unreadable)?;
                if let Answer::Ok(accepted) = answer {
                    course.deal = Some(Octets(entry_hash(&accepted.entry.0)));
                    self.count("deal");
                }
            }
            Interface::Score => course.scored = true,
            _ => {}
        }
        Ok(())
    }

    fn browse(&mut self, index: usize) -> Result<(), String> {
        let site = usize::try_from(self.dice.below(u64::try_from(self.sites.len()).unwrap())).unwrap();
        let pool = self.sites[site].pool.clone();
        let who = &parties().buyers[index];
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&self.dice.number().to_be_bytes());
        let (nonce, time) = (Octets(nonce), clocks::real_ns(self.time));
        let no = contract_no(Octets(who.id), &pool, nonce, time).unwrap();
        let said = Statement { nonce: Some(nonce), ..statement(who, &pool, con_type::BROWSE, no, time) };
        let SendOrder { statement, signature } = signed(who, &said);
        let product_id = ["small", "small", "large", "none"][usize::try_from(self.dice.below(4)).unwrap()].to_owned();
        let certificates = vec![Sealed(who.certificate.der().to_vec())];
        let body = value(&Browse { statement, signature, certificates, product_id });
        let course =
            Course { site, no, offer: None, deal: None, waiting: None, order: None, scored: false, is_over: false };
        self.buyers[index].courses.push(course);
        let place = self.buyers[index].courses.len() - 1;
        self.ask(index, place, Interface::Browse, body)
    }

    /// An order within the offer, or not quite.
    fn order(&mut self, index: usize, place: usize) -> Result<(), String> {
        let course = self.buyers[index].courses[place].clone();
        let (offer, hash, _) = course.offer.unwrap();
        let who = &parties().buyers[index];
        let quantity = match self.dice.below(8) {
            0 => offer.stock + 1,
            1 | 2 => offer.stock.max(1),
            _ => 1,
        };
        let amount = match self.dice.below(6) {
            0 => Money(i128::from(self.dice.below(300)) * 1_000_000),
            _ => Money(100_000 * 100_000_000),
        };
        // As the buyer's program does: the node's clock may be ahead.
        let time = clocks::real_ns(self.time).max(offer.valid_from);
        let mut said = Statement {
            offer: Some(hash),
            follows: Some(offer.browse),
            requirement: Some(Requirement {
                catalogue_revision: offer.catalogue_revision,
                items: vec![RequirementItem { product_id: offer.product_id.clone(), quantity }],
                term_ns: self.dice.between(1, 40) * MINUTE + self.dice.below(MINUTE),
                tariff: offer.tariff.hash().unwrap(),
                parent: None,
            }),
            contract_value: Some(ContractValue { payment: Payment::Postpaid, amount }),
            ..statement(who, &offer.computing_pool_id, con_type::ORDER, course.no, time)
        };
        let wrong = self.dice.below(40);
        match wrong {
            0 => said.follows = Some(Octets([1; 32])),
            1 => said.offer = Some(Octets([2; 32])),
            2 => said.requirement.as_mut().unwrap().term_ns = 100 * 60 * MINUTE,
            3 => said.contract_no = Octets([3; 16]),
            _ => {}
        }
        let mut request = signed(who, &said);
        if wrong == 4 {
            request.signature = Sealed(parties().stranger.key.sign(&request.statement.0).unwrap());
        }
        let body = value(&request);
        self.buyers[index].courses[place].order = Some(body.clone());
        if self.dice.permille(100) {
            // Another order for the same contract, under way at the same time.
            let other = value(&signed(who, &Statement { contract_time: said.contract_time + 1, ..said }));
            let pool = self.sites[course.site].pool.clone();
            let asked = self.platform.ask(&pool, Interface::SendOrder, &other).map_err(|broken| broken.0)?;
            if let Request::Send(_, message) = asked {
                self.post_down(Letter { topic: message.topic, payload: message.payload });
            }
        }
        self.ask(index, place, Interface::SendOrder, body)
    }

    /// A notice or a score, at the right time or not.
    fn change(&mut self, index: usize, place: usize, deal: Digest) -> Result<(), String> {
        let course = self.buyers[index].courses[place].clone();
        let (offer, hash, rules) = course.offer.unwrap();
        let pool = offer.computing_pool_id.clone();
        let who = &parties().buyers[index];
        let time = clocks::real_ns(self.time);
        let acts = ["suspend", "resume", "renew", "terminate", "dispute", "withdraw", "score", "none", "none"];
        let act = acts[usize::try_from(self.dice.below(9)).unwrap()];
        // A market that has closed lets what runs come to its end.
        let is_open = self.time < self.profile.market_ns;
        if act == "none" || (!is_open && ["suspend", "renew", "dispute"].contains(&act)) {
            return Ok(());
        }
        if act == "score" {
            if course.scored {
                return Ok(());
            }
            let table = RuleTable::from_toml(&rules).map_err(|error| error.to_string())?;
            let resources = offer.tariff.prices.iter().filter_map(|price| price.resource.parse::<Resource>().ok());
            let mut codes: Vec<u8> = resources.map(|resource| resource.kind as u8).collect();
            codes.sort_unstable();
            codes.dedup();
            let mut items = Vec::new();
            for code in codes {
                items.push(ScoreItem { code, score: u8::try_from(self.dice.below(101)).unwrap() });
            }
            let overall = overall_score(&table, &items).map_err(|error| error.to_string())?;
            let overall = overall + u16::from(self.dice.below(10) == 0);
            let said = Statement {
                offer: Some(hash),
                follows: Some(deal),
                score: Some(ScoreCard { overall, items }),
                ..statement(who, &pool, con_type::SCORE, course.no, time)
            };
            return self.ask(index, place, Interface::Score, value(&signed(who, &said)));
        }
        let bills = self.platform.bills(&pool).map_err(|broken| broken.0)?;
        let prefix = format!("{}-", course.no);
        let bill = bills.iter().rev().find(|bill| bill.number.starts_with(&prefix));
        let bill = bill.and_then(|bill| Some(Octets(<[u8; 32]>::try_from(bill.hash.as_slice()).ok()?)));
        let amount = Money(200_000 * 100_000_000);
        let renewal = (act == "renew").then(|| Renewal {
            term_ns: self.dice.between(1, 20) * MINUTE,
            contract_value: ContractValue { payment: Payment::Postpaid, amount },
        });
        let notice = Notice {
            version: 1,
            contract_no: course.no,
            computing_pool_id: pool,
            deal,
            act: act.to_owned(),
            time,
            bill: if act == "dispute" { bill.or(Some(Octets([9; 32]))) } else { None },
            renewal,
            why: "because".to_owned(),
        };
        let who = if self.dice.below(20) == 0 { &parties().stranger } else { who };
        let tbs = encode(&notice, "Notice").unwrap();
        let signed = Signed::seal(tbs, &who.id, &who.key).unwrap().to_bytes().unwrap();
        self.ask(index, place, Interface::OrderChange, value(&OrderChange { notice: Sealed(signed) }))
    }
}
