//! 需求定制 (6.5, 7.5): demands are fetched from the platform, judged by catalogue and free capacity, and answered once, with a
//! proposal that holds the capacity for a while or a refusal. What the buyer then chose frees what it did not. Demand, answer and
//! choice are entries. What they are is `trade::demand` and `trade::matching`.

use std::collections::VecDeque;

use hufu_gm::{Signed, sm3::sm3};
use hufu_ledger::Log;
use hufu_trade::{
    decode,
    demand::{Demand, DemandRefusal, Proposal, Response},
    encode,
    entry::{EntryKind, EntryName},
    estimate::all_held,
    if2::{Answer, DemandList, DemandResponse, Demands, Interface, Problem, Sealed},
    matching::Matching,
    money::Money,
    octets::{Digest, Octets},
    party::platform_of,
};

use crate::{
    act::malformed,
    book::Book,
    books::BookError,
    catalogue::ProductConfig,
    clock::Now,
    node::{Core, Effect, Fatal},
    outbox::LINK_NS,
    stock::reserves,
};

/// An answer is told again after this, ns, until the platform has it.
const TELL_NS: u64 = 10_000_000_000;
/// One that the platform has is never told again on this link.
const NEVER: u64 = u64::MAX;

/// How this node takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    /// Between two questions, ns; `None`: the node answers no demands.
    pub(crate) every_ns: Option<u64>,
    /// How long the capacity of a proposal is held, ns.
    pub(crate) hold_ns: i64,
}

impl Default for Terms {
    fn default() -> Self {
        Self { every_ns: Some(60_000_000_000), hold_ns: 900_000_000_000 }
    }
}

/// Where the conversation about demands stands on this link; nothing of it need survive.
#[derive(Debug, Default)]
pub(crate) struct Market {
    pub(crate) terms: Terms,
    /// Place of the last demand that the platform told.
    after: u64,
    /// When it is asked next, CLOCK_MONOTONIC ns.
    ask_ns: u64,
    /// Told and not judged yet.
    waiting: VecDeque<Vec<u8>>,
    /// What was chosen, told and not judged yet.
    chosen: VecDeque<Vec<u8>>,
    /// When an answer is told again, by the demand's hash.
    told: std::collections::BTreeMap<Digest, u64>,
}

impl Market {
    /// A new link: the platform may be another, or have lost what it knew.
    pub(crate) fn relinked(&mut self, mono_ns: u64) {
        *self = Self { terms: self.terms, ask_ns: mono_ns.saturating_add(LINK_NS), ..Self::default() };
    }

    /// When something is due, CLOCK_MONOTONIC ns.
    pub(crate) fn due_ns(&self) -> impl Iterator<Item = u64> + '_ {
        let ask = self.terms.every_ns.map(|_| self.ask_ns);
        ask.into_iter().chain(self.told.values().copied().filter(|at| *at != NEVER))
    }
}

/// A demand of this log, and what the node answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Demanded {
    pub(crate) entry: EntryName,
    pub(crate) demand: Demand,
    /// The entry of the answer, its body, and what it says.
    pub(crate) answer: Option<(EntryName, Vec<u8>, Response)>,
    /// The entry of what its buyer chose.
    pub(crate) matching: Option<EntryName>,
    /// Its capacity was ordered or is free again.
    pub(crate) is_released: bool,
}

impl Demanded {
    /// The proposal whose capacity is held.
    pub(crate) fn held(&self) -> Option<&Proposal> {
        self.answer.as_ref().and_then(|(.., response)| response.proposal.as_ref()).filter(|_| !self.is_released)
    }
}

impl Book {
    /// A demand of the log. Those that lapsed before it and hold nothing are forgotten.
    pub(crate) fn demand(&mut self, at: &EntryName, body: &[u8]) -> Result<(), String> {
        let signed = Signed::from_bytes(body).map_err(|e| e.to_string())?;
        let demand: Demand = decode(signed.tbs(), "Demand").map_err(|e| e.to_string())?;
        self.demands.retain(|_, known| known.demand.valid_until > demand.time || known.held().is_some());
        let (entry, hash) = (at.clone(), Octets(sm3(&[signed.tbs()])));
        self.demands.insert(hash, Demanded { entry, demand, answer: None, matching: None, is_released: false });
        Ok(())
    }

    /// What its buyer chose: capacity that is held and was not chosen is free again.
    pub(crate) fn matching(&mut self, at: &EntryName, body: &[u8]) -> Result<(), String> {
        let signed = Signed::from_bytes(body).map_err(|e| e.to_string())?;
        let matching: Matching = decode(signed.tbs(), "Matching").map_err(|e| e.to_string())?;
        self.release(matching.time);
        let Some(demanded) = self.demands.get_mut(&matching.demand) else { return Ok(()) };
        demanded.matching = Some(at.clone());
        let own = demanded.answer.as_ref().map(|(.., response)| response.proposal_no);
        let is_chosen = own.is_some_and(|own| matching.chose(&own).unwrap_or(false));
        if demanded.held().is_some() && !is_chosen {
            demanded.is_released = true;
            self.revision += 1;
        }
        Ok(())
    }

    /// The node's answer to one.
    pub(crate) fn response(&mut self, at: &EntryName, body: &[u8]) -> Result<(), String> {
        let signed = Signed::from_bytes(body).map_err(|e| e.to_string())?;
        let response: Response = decode(signed.tbs(), "Response").map_err(|e| e.to_string())?;
        self.release(response.time);
        // One that is not known any more lapsed, or was lost with an earlier epoch.
        if let Some(demanded) = self.demands.get_mut(&response.demand) {
            self.revision += u64::from(response.proposal.is_some());
            demanded.answer = Some((at.clone(), body.to_vec(), response));
        }
        Ok(())
    }

    /// Frees what was held until `time`. Whenever that is noticed, the revision rises once for each: live and in replay alike.
    fn release(&mut self, time: i64) {
        for demanded in self.demands.values_mut() {
            if demanded.held().is_some_and(|held| held.hold_until <= time) {
                demanded.is_released = true;
                self.revision += 1;
            }
        }
    }

    /// An order of `buyer` at `time` takes what was held for it.
    pub(crate) fn take_proposed(&mut self, (buyer, time): (Digest, i64), products: &[String]) {
        self.release(time);
        for demanded in self.demands.values_mut().filter(|demanded| demanded.demand.buyer == buyer) {
            demanded.is_released |= demanded.held().is_some_and(|held| products.contains(&held.product_id));
        }
    }
}

impl Core {
    /// What the platform says of demands is kept until it is judged, one at a time.
    ///
    /// # Errors
    /// The [`Problem`] with what it says.
    pub(crate) fn demands_told(&mut self, payload: &[u8]) -> Result<Vec<Effect>, Problem> {
        let told = match self.open::<Answer<DemandList>>(Interface::Demands, payload)?.payload.body {
            Answer::Ok(told) => told,
            // A node that is not introduced yet asks again.
            Answer::Error(problem) if problem.code == "certificate" => return Ok(Vec::new()),
            Answer::Error(problem) => return Err(problem),
        };
        let count = told.demands.len().saturating_add(told.matchings.len());
        if count > hufu_trade::if2::DEMANDS_MAX || told.last < self.market.after {
            return Err(malformed("more demands than one answer has, or a count that goes back"));
        }
        self.market.after = told.last;
        self.market.waiting.extend(told.demands.into_iter().map(|signed| signed.0));
        self.market.chosen.extend(told.matchings.into_iter().map(|signed| signed.0));
        if told.more {
            self.market.ask_ns = 0;
        }
        Ok(Vec::new())
    }

    /// The platform has an answer.
    ///
    /// # Errors
    /// The [`Problem`] with what it says.
    pub(crate) fn response_taken(&mut self, payload: &[u8]) -> Result<Vec<Effect>, Problem> {
        let opened = self.open::<Answer<serde_json::Value>>(Interface::DemandResponse, payload)?;
        let number = match opened.payload.body {
            Answer::Ok(taken) => taken["demand_no"].as_str().unwrap_or_default().to_owned(),
            Answer::Error(problem) => return Err(problem),
        };
        let known = self.book.demands.iter().find(|(_, known)| known.demand.demand_no.to_string() == number);
        self.market.told.extend(known.map(|(hash, _)| (*hash, NEVER)));
        Ok(Vec::new())
    }

    /// The question for demands, where it is due, and answers that the platform has not taken.
    pub(crate) fn tell_demands(&mut self, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        if let Some(every_ns) = self.market.terms.every_ns.filter(|_| self.market.ask_ns <= now.mono_ns) {
            self.market.ask_ns = now.mono_ns.saturating_add(every_ns);
            let asked = Demands { after: self.market.after };
            effects.extend(self.say(now, Interface::Demands, None, &asked));
        }
        let due = |hash: &Digest| self.market.told.get(hash).is_none_or(|at| *at <= now.mono_ns);
        let answers =
            self.book.demands.iter().filter(|(hash, known)| now.real_ns < known.demand.valid_until && due(hash));
        let told: Vec<(Digest, DemandResponse)> = answers
            .filter_map(|(hash, known)| {
                let (name, body, _) = known.answer.as_ref()?;
                let place = (Log::Trade, name.height, name.index);
                let kind = EntryKind::Response.number();
                let (entry, _) = hufu_ledger::foresee(&self.identity.salt_key, place, kind, body.clone()).ok()?;
                let demand_no = known.demand.demand_no.to_string();
                Some((*hash, DemandResponse { demand_no, entry: Sealed(entry), height: name.height }))
            })
            .collect();
        for (hash, response) in told {
            self.market.told.insert(hash, now.mono_ns.saturating_add(TELL_NS));
            effects.extend(self.say(now, Interface::DemandResponse, None, &response));
        }
        effects
    }

    /// Frees what was held for too long, and judges the next demand.
    ///
    /// # Errors
    /// [`Fatal`].
    pub(crate) fn judge_demand(&mut self, now: Now) -> Result<Option<Effect>, Fatal> {
        self.book.release(now.real_ns);
        self.book.demands.retain(|_, known| known.demand.valid_until > now.real_ns || known.held().is_some());
        let demands = &self.book.demands;
        self.market.told.retain(|hash, _| demands.contains_key(hash));
        while let Some(body) = self.market.waiting.pop_front() {
            match self.demand_of(&body) {
                Err(detail) => return Ok(Some(Effect::Alarm { what: "demand refused", detail })),
                Ok((hash, demand)) => {
                    if !self.book.demands.contains_key(&hash) && now.real_ns < demand.valid_until {
                        return self.answered(now, (hash, &demand), body).map(Some).map_err(Fatal::from);
                    }
                }
            }
        }
        while let Some(body) = self.market.chosen.pop_front() {
            match self.choice_of(&body) {
                Err(detail) => return Ok(Some(Effect::Alarm { what: "demand refused", detail })),
                Ok(true) => {
                    let mut batch = self.batch();
                    batch.entry(Log::Trade, (EntryKind::Matching, None, body)).map_err(BookError::from)?;
                    return Ok(Some(Effect::Append(batch.finish())));
                }
                Ok(false) => {}
            }
        }
        Ok(None)
    }

    /// Whether this is the first choice that the platform tells of a demand that this node answered and still knows.
    ///
    /// # Errors
    /// Why it is none of the platform's.
    fn choice_of(&self, body: &[u8]) -> Result<bool, String> {
        let signed = self.of_platform(body)?;
        let matching: Matching = decode(signed.tbs(), "Matching").map_err(|e| e.to_string())?;
        matching.check().map_err(|e| e.to_string())?;
        let Some(known) = self.book.demands.get(&matching.demand) else { return Ok(false) };
        let buyer = known.demand.buyer;
        if matching.relay != known.demand.relay || matching.selection.cert_id() != buyer.0 {
            return Err(format!("what was chosen for demand {} is not its buyer's choice", known.demand.demand_no));
        }
        Ok(known.answer.is_some() && known.matching.is_none())
    }

    /// What this node's platform signed.
    fn of_platform(&self, body: &[u8]) -> Result<Signed, String> {
        let signed = Signed::from_bytes(body).map_err(|e| e.to_string())?;
        let platform = &self.identity.platform;
        if signed.cert_id() != platform.id() || !signed.verify(platform.public_key()).is_valid() {
            return Err("it is not signed by this node's platform".to_owned());
        }
        Ok(signed)
    }

    /// A demand of this node's platform that this node may see.
    fn demand_of(&self, body: &[u8]) -> Result<(Digest, Demand), String> {
        let signed = self.of_platform(body)?;
        let demand: Demand = decode(signed.tbs(), "Demand").map_err(|e| e.to_string())?;
        demand.check().map_err(|e| e.to_string())?;
        if demand.relay != platform_of(&self.identity.pool) || !demand.is_for(&self.identity.pool) {
            return Err(format!("demand {} is not for this node", demand.demand_no));
        }
        Ok((Octets(sm3(&[signed.tbs()])), demand))
    }

    /// Demand and answer, as one append.
    fn answered(&self, now: Now, (hash, demand): (Digest, &Demand), body: Vec<u8>) -> Result<Effect, BookError> {
        let (proposal, refusal) = match self.propose(now.real_ns, demand) {
            Ok(proposal) => (Some(proposal), None),
            Err(refusal) => (None, Some(refusal)),
        };
        let mut batch = self.batch();
        let follows = batch.entry(Log::Trade, (EntryKind::Demand, None, body))?.hash;
        let mut response = Response {
            version: 1,
            demand: hash,
            follows,
            proposal_no: Octets([0; 16]),
            computing_pool_id: self.identity.pool.clone(),
            time: now.real_ns,
            proposal,
            refusal,
        };
        response.proposal_no = response.number()?;
        let sealed = self.seal(encode(&response, "Response")?).map_err(hufu_trade::Error::Sign)?;
        batch.entry(Log::Trade, (EntryKind::Response, None, sealed))?;
        Ok(Effect::Append(batch.finish()))
    }

    /// The cheapest product that serves the whole demand with what is free now.
    ///
    /// # Errors
    /// The refusal, with the reason of the product that came closest.
    fn propose(&self, now_ns: i64, demand: &Demand) -> Result<Proposal, DemandRefusal> {
        let hold_until = now_ns.saturating_add(self.market.terms.hold_ns);
        if demand.start_until <= now_ns || demand.start_from > hold_until {
            return Err(refusal("offer", "service can start from now until the capacity is held no longer".to_owned()));
        }
        let mut closest = (0, refusal("unknown", "no product of this class".to_owned()));
        let mut best: Option<Proposal> = None;
        for product in self.shop.products.iter().filter(|product| product.is_listed) {
            match self.fits(product, demand) {
                Ok((quantity, estimate)) => {
                    if best.as_ref().is_none_or(|best| estimate < best.estimate) {
                        best = Some(Proposal {
                            product_id: product.id.clone(),
                            catalogue_revision: self.book.revision,
                            quantity,
                            term_ns: demand.term_ns,
                            tariff: self.shop.tariff(product).hash().map_err(own_fault)?,
                            estimate,
                            hold_until,
                        });
                    }
                }
                Err((rank, refusal)) if rank > closest.0 => closest = (rank, refusal),
                Err(_) => {}
            }
        }
        best.ok_or(closest.1)
    }

    /// Units and price of a product that serves a demand; or how far it came, and why not.
    fn fits(&self, product: &ProductConfig, demand: &Demand) -> Result<(u32, Money), (u8, DemandRefusal)> {
        let no = |rank: u8, code: &str, why: String| Err((rank, refusal(code, why)));
        if demand.items.iter().any(|item| item.class != product.class) {
            return no(0, "unknown", format!("{} is of class {}", product.id, product.class));
        }
        let unit = reserves(product);
        if let Some(lacking) = demand.items.iter().find_map(|item| item.lacking(&unit)) {
            return no(1, "unknown", format!("a unit of {} has less {}", product.id, lacking.resource));
        }
        if demand.term_ns > product.term_max_ns {
            return no(
                2,
                "offer",
                format!("{} is sold for at most {} s", product.id, product.term_max_ns / 1_000_000_000),
            );
        }
        let units = demand.items.iter().try_fold(0_u32, |sum, item| sum.checked_add(item.quantity));
        let free = self.shop.free_for(&self.book, product, demand.buyer).unwrap_or(0);
        let Some(units) = units.filter(|units| *units <= free) else {
            return no(3, "stock", format!("{free} units of {} are free", product.id));
        };
        let tariff = self.shop.tariff(product);
        let estimate = match all_held(&tariff, &unit, u128::from(units), demand.term_ns) {
            Ok(estimate) => estimate,
            Err(error) => return no(3, "busy", error.to_string()),
        };
        if demand.ceiling.is_some_and(|ceiling| estimate > ceiling) {
            return no(4, "amount", format!("{} would cost up to {estimate} CNY", product.id));
        }
        Ok((units, estimate))
    }
}

fn refusal(code: &str, why: String) -> DemandRefusal {
    DemandRefusal { code: code.to_owned(), why }
}

fn own_fault(error: hufu_trade::Error) -> DemandRefusal {
    refusal("busy", error.to_string().chars().take(hufu_trade::demand::TEXT_CHARS_MAX).collect())
}
