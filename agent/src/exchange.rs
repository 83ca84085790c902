//! The node's side of the IF2 conversation: messages in, messages out, as the core sees them. Topics and bytes only;
//! MQTT is `link.rs`.

use hufu_gm::{Signed, sm3::Hash};
use hufu_trade::{
    decode,
    entry::{EntryName, Receipt},
    if2::{
        Accepted, Answer, Browse, Envelope, Interface, Offered, OrderChange, PLATFORM, Problem, Sealed, SendOrder,
        Topic,
    },
    octets::{ContractNo, Octets},
};
use serde::Serialize;
use serde_json::Value;

use crate::{
    act::{self, Plan, malformed, problem},
    book::Book,
    change,
    clock::Now,
    node::{Core, Effect},
    outbox::Cursor,
};

impl Book {
    /// How far a log may be sent: finance entries rest on trade entries the platform must hold first, and the other way
    /// round for what names them back; so the far end can always judge what it gets. `held`: blocks of each log that it holds
    /// by then.
    pub(crate) fn sendable_below(&self, log: u8, held: [Option<u64>; 2]) -> u64 {
        let obligation = self.obligation.get(usize::from(log)).copied().unwrap_or(0);
        let [trade_held, finance_held] = held.map(|held| held.unwrap_or(0));
        let bills = self.contracts.values().flat_map(|contract| &contract.bills);
        let mut below = obligation;
        for billed in bills {
            let moved = billed.bill.rests_on.as_ref().map_or(0, |name| name.height);
            let rests_on = billed.bill.last_record.height.max(moved);
            if log == 1 && billed.name.height >= finance_held && rests_on >= trade_held {
                below = below.min(billed.name.height);
            }
        }
        for (trade_height, finance_height) in &self.links {
            if log == 0 && *trade_height >= trade_held && *finance_height >= finance_held {
                below = below.min(*trade_height);
            }
        }
        below
    }
}

impl Core {
    /// What the platform says of its presence. Nobody signed it: it may hasten a question, and nothing else.
    fn platform_state(&mut self, site: &str, payload: &[u8]) {
        let is_ours = self.identity.pool.split_once('/').is_some_and(|(own, _)| own == site);
        let told: Option<Value> = serde_json::from_slice(payload).ok();
        if is_ours && told.is_some_and(|told| told["state"] == "online") {
            self.cursors.iter_mut().for_each(Cursor::platform_is_back);
        }
    }

    /// A message of the platform.
    pub(crate) fn message(&mut self, now: Now, topic: Topic, payload: &[u8]) -> Vec<Effect> {
        let (pool, interface, answer) = match topic {
            Topic::Call { pool, interface, answer } => (pool, interface, answer),
            Topic::PlatformState { site } => {
                self.platform_state(&site, payload);
                return Vec::new();
            }
            _ => return Vec::new(),
        };
        if pool != self.identity.pool || answer != interface.is_up() {
            return Vec::new();
        }
        let outcome = match interface {
            Interface::Browse | Interface::SendOrder | Interface::Score | Interface::OrderChange => {
                self.request(now, interface, payload)
            }
            Interface::RefundAmount => {
                self.question(now, interface, payload, |core, asked| core.refund_amount(now, asked))
            }
            Interface::BillQuery => self.question(now, interface, payload, |core, asked| core.bill_query(asked)),
            Interface::Account => self.account_told(now, payload),
            Interface::AuthCode => self.authorised(now, payload),
            Interface::Token => self.token_given(now, payload),
            // Nothing hangs on the answer: a token that is not given back expires.
            Interface::Logout | Interface::UserInfo => Ok(Vec::new()),
            Interface::Demands => self.demands_told(payload),
            Interface::DemandResponse => self.response_taken(payload),
            Interface::Blocks => self.receipt(payload),
            Interface::PaymentConfirm => self.payment(now, payload),
            Interface::BillPush => self.push_answered(payload),
            // What a comparison asked for and did not wait for any more.
            Interface::ProductReport | Interface::Fetch => Ok(Vec::new()),
        };
        outcome.unwrap_or_else(|problem| {
            if self.session.is_refused(&problem) {
                return Vec::new();
            }
            let detail = format!("{} {}: {}", interface.name(), problem.code, problem.remedy.en);
            vec![Effect::Alarm { what: "message refused", detail }]
        })
    }

    pub(crate) fn open<T: serde::de::DeserializeOwned>(
        &self,
        interface: Interface,
        payload: &[u8],
    ) -> Result<hufu_trade::if2::Opened<T>, Problem> {
        let envelope = Envelope::parse(payload).map_err(malformed)?;
        let signer = envelope.signer().map_err(malformed)?;
        if signer.0 != self.identity.platform.id() {
            let en = "the signer is not this node's platform; renew platform.certificates";
            return Err(problem(
                "signature",
                Some("cert_id"),
                en,
                "签名者不是本节点的平台；请更新 platform.certificates",
            ));
        }
        let key = self.identity.platform.public_key();
        envelope.open(key, interface, &self.identity.pool, payload).map_err(malformed)
    }

    /// Opens a question of the platform and answers it.
    fn question<T: serde::de::DeserializeOwned, A: Serialize>(
        &self,
        now: Now,
        interface: Interface,
        payload: &[u8],
        answer: impl Fn(&Self, &T) -> Result<A, Problem>,
    ) -> Result<Vec<Effect>, Problem> {
        let asked = self.open::<T>(interface, payload)?.payload;
        let said = match answer(self, &asked.body) {
            Ok(found) => Answer::Ok(found),
            Err(problem) => Answer::Error(problem),
        };
        Ok(self.say(now, interface, Some(&asked.id), &said).into_iter().collect())
    }

    fn request(&mut self, now: Now, interface: Interface, payload: &[u8]) -> Result<Vec<Effect>, Problem> {
        let mut signed = None;
        let (re, judged) = match interface {
            Interface::Browse => {
                let opened = self.open::<Browse>(interface, payload)?;
                let body = &opened.payload.body;
                let judged = act::browse(self, now.real_ns, body);
                let judged = judged.map_err(|refused| match refused.code.as_str() {
                    "certificate" => self.look_up(&body.certificates, now.real_ns).unwrap_or(refused),
                    _ => refused,
                });
                (opened.payload.id, judged)
            }
            Interface::OrderChange => {
                let opened = self.open::<OrderChange>(interface, payload)?;
                let judged = change::notice(self, now.real_ns, &opened.payload.body).map(|(contract, hash, plan)| {
                    signed = Some(hash);
                    (contract, plan)
                });
                (opened.payload.id, judged)
            }
            _ => {
                let opened = self.open::<SendOrder>(interface, payload)?;
                let body = &opened.payload.body;
                let orders = interface == Interface::SendOrder;
                let judged = if orders { act::order(self, now.real_ns, body) } else { act::score(self, body) };
                (opened.payload.id, judged)
            }
        };
        Ok(match judged {
            Ok((contract, Plan::Write(blocks))) => {
                vec![Effect::Append(blocks), Effect::Reply { interface, re, contract, signed }]
            }
            Ok((contract, Plan::Again)) => vec![Effect::Reply { interface, re, contract, signed }],
            Err(problem) => self.say(now, interface, Some(&re), &Answer::<()>::Error(problem)).into_iter().collect(),
        })
    }

    /// The entries an answer is made of, to be read back from the ledger.
    pub(crate) fn reply_entries(&self, interface: Interface, no: ContractNo, signed: Option<Hash>) -> Vec<EntryName> {
        let Some(contract) = self.book.contracts.get(&no) else { return Vec::new() };
        let names = match interface {
            Interface::Browse => vec![Some(&contract.browse), contract.offer.as_ref().map(|(name, ..)| name)],
            Interface::SendOrder => vec![contract.deal.as_ref().map(|(name, _)| name)],
            Interface::OrderChange => {
                let notice = contract.notices.iter().find(|(hash, _)| Some(*hash) == signed);
                vec![notice.map(|(_, name)| name)]
            }
            _ => vec![contract.score.as_ref().map(|(name, _)| name)],
        };
        names.into_iter().flatten().cloned().collect()
    }

    /// The answer to a request, from the entries [`Self::reply_entries`] named: whole entries' DER with their bodies.
    pub(crate) fn reply(
        &self,
        now: Now,
        (interface, re, no): (Interface, &str, ContractNo),
        entries: &[(EntryName, Vec<u8>, Vec<u8>)],
    ) -> Option<Effect> {
        match (interface, entries) {
            (Interface::Browse, [(_, browse, _), (_, _, offer)]) => {
                let rules = self.book.table_of(self.book.contracts.get(&no)).map(|(_, text, _)| text.clone());
                let offered = Offered {
                    offer: Sealed(offer.clone()),
                    certificates: self.shop.certificates.iter().cloned().map(Sealed).collect(),
                    rules: rules.unwrap_or_default(),
                    entry: Sealed(browse.clone()),
                };
                self.say(now, interface, Some(re), &Answer::Ok(offered))
            }
            (Interface::SendOrder | Interface::Score | Interface::OrderChange, [(name, entry, _)]) => {
                let accepted = Accepted {
                    contract_no: no.to_string(),
                    entry: Sealed(entry.clone()),
                    height: name.height,
                    index: name.index,
                    address: self.addresses.get(&no).cloned(),
                };
                self.say(now, interface, Some(re), &Answer::Ok(accepted))
            }
            _ => {
                let en = "no capacity is free for this order now; browse again for the present stock";
                let problem = problem("stock", Some("requirement"), en, "目前没有空闲容量；请重新浏览以查看库存");
                self.say(now, interface, Some(re), &Answer::<()>::Error(problem))
            }
        }
    }

    /// A signed message to the platform; `None` when it cannot be made (larger than a message may be).
    pub(crate) fn say<T: Serialize>(
        &self,
        now: Now,
        interface: Interface,
        re: Option<&str>,
        body: &T,
    ) -> Option<Effect> {
        let asked = (interface.is_question() && re.is_none()).then_some(now.real_ns);
        let identity = &self.identity;
        let token = self.session.shown(now.real_ns).filter(|_| interface.needs_token() && re.is_none());
        let sealed = Envelope::seal_under(
            token.as_deref(),
            interface,
            &identity.pool,
            PLATFORM,
            now.real_ns,
            re,
            asked,
            body,
            &identity.key,
            identity.cert_id,
        );
        let (_, payload) = sealed.ok()?;
        let topic = Topic::Call { pool: identity.pool.clone(), interface, answer: re.is_some() };
        Some(Effect::Publish { topic, payload, retain: false })
    }

    /// A receipt is DER; what the platform has against a block comes before it, as an envelope.
    fn receipt(&mut self, payload: &[u8]) -> Result<Vec<Effect>, Problem> {
        if payload.first() == Some(&b'{') {
            let opened = self.open::<Answer<serde::de::IgnoredAny>>(Interface::Blocks, payload)?;
            return match opened.payload.body {
                Answer::Error(problem) => {
                    // A platform that does not know us yet, or not any more, has lost the catalogue that introduces us.
                    if problem.code == "certificate" {
                        self.told_revision = None;
                    }
                    Err(problem)
                }
                Answer::Ok(_) => Err(malformed("an answer to blocks is a receipt or a problem")),
            };
        }
        let signed = Signed::from_bytes(payload).map_err(malformed)?;
        let platform = &self.identity.platform;
        if signed.cert_id() != platform.id() || !signed.verify(platform.public_key()).is_valid() {
            return Err(problem("signature", None, "the receipt is not the platform's", "回执不是平台签发的"));
        }
        let receipt: Receipt = decode(signed.tbs(), "Receipt").map_err(malformed)?;
        if receipt.version != 1 || receipt.computing_pool_id != self.identity.pool || receipt.log > 1 {
            return Err(malformed("the receipt is of another version, node or log"));
        }
        Ok(vec![Effect::CheckReceipt { receipt, signed: payload.to_vec() }])
    }

    /// The catalogue, retained and reported, when the platform has another revision.
    pub(crate) fn tell_catalogue(&mut self, now: Now) -> Vec<Effect> {
        if self.told_revision == Some(self.book.revision) {
            return Vec::new();
        }
        self.told_revision = Some(self.book.revision);
        let catalogue = self.shop.catalogue(&self.book);
        let Some(Effect::Publish { topic, payload, .. }) = self.say(now, Interface::ProductReport, None, &catalogue)
        else {
            if self.identity.key.away().is_some() {
                return Vec::new();
            }
            return vec![Effect::Alarm { what: "catalogue too large", detail: String::new() }];
        };
        let retained = Topic::Products { pool: self.identity.pool.clone() };
        vec![
            Effect::Publish { topic: retained, payload: payload.clone(), retain: true },
            Effect::Publish { topic, payload, retain: false },
        ]
    }
}

/// The entry name of a ledger reference.
pub(crate) fn name_of(entry: &hufu_ledger::EntryRef) -> EntryName {
    EntryName { log: entry.log.number(), height: entry.height, index: entry.index, hash: Octets(entry.hash) }
}
