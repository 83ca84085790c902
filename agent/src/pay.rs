//! Bills and money in the IF2 conversation: pushed, asked about, paid, refunded. Everything else of it is `exchange.rs`.

use hufu_trade::{
    confirm,
    contract::{Facts, next},
    correction::RefundPaid,
    encode,
    entry::{EntryKind, Payment, octet_string},
    if2::{Answer, BillPush, Interface, PaymentConfirm, PaymentState, Problem, Sealed},
    money::Money,
    octets::Digest,
    prepaid,
    rules::REFUND,
};

use crate::{
    act::{self, malformed, problem},
    books,
    clock::Now,
    contract::{Billed, Contract},
    node::{Core, Effect},
};

/// Pause before the first repetition of a question, ns; doubles to a minute.
const ASK_NS: u64 = 1_000_000_000;
const ASK_MAX_NS: u64 = 60_000_000_000;
/// A bill push is repeated after this, ns, until it is answered.
const PUSH_NS: u64 = 10_000_000_000;
/// A bill push that was answered is not repeated: the bill is in the blocks.
const NEVER: u64 = u64::MAX;

impl Core {
    /// The platform says whether a bill was paid, or what was paid too much went back.
    ///
    /// # Errors
    /// The [`Problem`] with what it says.
    pub(crate) fn payment(&mut self, now: Now, payload: &[u8]) -> Result<Vec<Effect>, Problem> {
        let opened = self.open::<Answer<PaymentState>>(Interface::PaymentConfirm, payload)?;
        let state = match opened.payload.body {
            Answer::Ok(state) => state,
            Answer::Error(problem) => {
                self.session.is_refused(&problem);
                return Ok(Vec::new());
            }
        };
        let found = self.book.contracts.values().find_map(|contract| {
            let billed = contract.bills.iter().find(|billed| billed.bill.number == state.bill_no)?;
            Some((contract, billed))
        });
        let Some((contract, billed)) = found else {
            return Err(malformed("payment of a bill this node never made"));
        };
        let (act, kind) = match (state.state.as_str(), billed.paid, billed.due.last) {
            ("paid", None, _) if billed.disputed => {
                let en = "the bill is in dispute; it is paid when that is settled";
                return Err(problem("state", Some("bill_no"), en, "该账单处于争议中；解决后方可付款"));
            }
            ("paid", None, _) => {
                (self.book.pay_act(contract.no, billed.name.hash).map_err(malformed)?, EntryKind::Payment)
            }
            // Without a correction nothing was paid above what is due.
            ("refunded", Some(_), Some(_)) if !billed.refunded => (REFUND, EntryKind::RefundPaid),
            _ => return Ok(Vec::new()),
        };
        let (amount, at) = match act {
            REFUND => (&state.refunded_cny, &state.refunded_at),
            _ => (&state.amount_cny, &state.paid_at),
        };
        let amount: Money = amount.as_deref().unwrap_or_default().parse().map_err(malformed)?;
        let at = at.as_deref().unwrap_or_default().parse::<jiff::Timestamp>().map_err(malformed)?;
        let (Some(moved), Ok(at)) = (contract.moved.clone(), i64::try_from(at.as_nanosecond())) else {
            return Err(malformed("the time is out of range"));
        };
        let due = billed.paid.map_or(Ok(billed.due.total), |paid| paid.minus(billed.due.total)).map_err(malformed)?;
        if amount != due {
            let en = format!("{amount} where {due} is due");
            return Err(problem("amount", Some("amount_cny"), en, format!("金额 {amount}，应为 {due}")));
        }
        let parent = contract.deal.as_ref().and_then(|(_, deal)| deal.requirement.parent);
        if act != REFUND
            && let Err(error) = confirm::parent_bill(&opened.received, parent.as_ref())
        {
            let zh = format!("支付层级与买方签署的不符：{error}");
            return Err(problem("amount", Some("parent_bill"), error.to_string(), zh));
        }
        let back = prepaid::refund_of(&billed.bill, &billed.due).map_err(malformed)?;
        if act != REFUND && !confirm::names_refund(&opened.received, back) {
            let shown = back.map_or_else(|| "-".to_owned(), |back| back.to_string());
            let en = format!("the answer must name what goes back of the price: {shown}");
            return Err(problem("amount", Some("refund_cny"), en, format!("应答须载明退还的金额：{shown}")));
        }
        let facts = Facts { platform_signed: true, amount_matches: true, ..self.facts(contract, at) };
        let Some((.., table)) = self.book.table_of(Some(contract)) else { return Ok(Vec::new()) };
        let step = next(table, &contract.state, act, facts).map_err(|refusal| act::refused(&refusal))?;
        let mut batch = self.batch();
        if !table.is_metered(&contract.state) && table.is_metered(step.next) {
            books::suspended(self, &mut batch, contract, now.real_ns).map_err(malformed)?;
        }
        let (no, number, bill) = (contract.no, state.bill_no, billed.name.hash);
        let confirmation = octet_string(&opened.received, "Payment").map_err(malformed)?;
        let body = if let (EntryKind::RefundPaid, Some(correction)) = (kind, billed.due.last) {
            let refund = RefundPaid {
                version: 1,
                contract_no: no,
                number,
                bill,
                correction,
                amount,
                paid_at: at,
                rests_on: moved,
                confirmation,
            };
            encode(&refund, "RefundPaid")
        } else {
            let payment = Payment {
                version: 1,
                contract_no: no,
                number,
                bill,
                amount,
                paid_at: at,
                rests_on: moved,
                confirmation,
            };
            encode(&payment, "Payment")
        };
        books::confirmed(&mut batch, no, kind, body.map_err(malformed)?).map_err(malformed)?;
        let blocks = batch.finish();
        self.asks.remove(&bill);
        Ok(vec![Effect::Append(blocks)])
    }

    /// The platform has a pushed bill.
    ///
    /// # Errors
    /// The [`Problem`] with what it says.
    pub(crate) fn push_answered(&mut self, payload: &[u8]) -> Result<Vec<Effect>, Problem> {
        let opened = self.open::<Answer<serde_json::Value>>(Interface::BillPush, payload)?;
        if let Answer::Error(problem) = &opened.payload.body {
            self.session.is_refused(problem);
        }
        if let Answer::Ok(state) = opened.payload.body {
            let number = state.get("bill_no").and_then(serde_json::Value::as_str).unwrap_or_default();
            let mut bills = self.book.contracts.values().flat_map(|contract| &contract.bills);
            if let Some(bill) = bills.find(|billed| billed.bill.number == number).map(|billed| billed.name.hash) {
                self.pushed.insert(bill, NEVER);
            }
        }
        Ok(Vec::new())
    }

    /// DER of the entry of a bill.
    pub(crate) fn bill_entry(&self, billed: &Billed) -> Option<Vec<u8>> {
        let bill = encode(&billed.bill, "Bill").ok()?;
        let place = (hufu_ledger::Log::Finance, billed.name.height, billed.name.index);
        let foreseen = hufu_ledger::foresee(&self.identity.salt_key, place, EntryKind::Bill.number(), bill);
        foreseen.ok().map(|(entry, _)| entry)
    }

    /// Pushes of bills the platform holds and has not answered.
    pub(crate) fn push_bills(&mut self, now: Now) -> Vec<Effect> {
        let contracts = self.book.contracts.values().filter(|contract| !contract.erased);
        let bills = contracts.flat_map(|contract| contract.bills.iter().map(move |billed| (contract.no, billed)));
        let due: Vec<(Digest, BillPush)> = bills
            .filter(|(_, billed)| billed.receipted && billed.paid.is_none())
            .filter(|(_, billed)| self.pushed.get(&billed.name.hash).is_none_or(|at| *at <= now.mono_ns))
            .filter_map(|(no, billed)| {
                let entry = self.bill_entry(billed)?;
                let push = BillPush {
                    bill_no: billed.bill.number.clone(),
                    contract_no: no.to_string(),
                    entry: Sealed(entry),
                    height: billed.name.height,
                    total_cny: billed.bill.total.to_string(),
                };
                Some((billed.name.hash, push))
            })
            .collect();
        let mut effects = Vec::new();
        for (bill, push) in due {
            self.pushed.insert(bill, now.mono_ns.saturating_add(PUSH_NS));
            effects.extend(self.say(now, Interface::BillPush, None, &push));
        }
        effects
    }

    /// Questions whether receipted bills were paid, and whether what was paid too much went back.
    pub(crate) fn ask_payments(&mut self, now: Now) -> Vec<Effect> {
        let open = |contract: &Contract, billed: &Billed| {
            let Some((.., table)) = self.book.table_of(Some(contract)) else { return false };
            let (act, open) = match billed.paid {
                None => (table.pay_act(contract.others_open(billed.name.hash)), !billed.refused && !billed.disputed),
                Some(paid) => (REFUND, !billed.refunded && paid > billed.due.total),
            };
            open && billed.receipted && table.row(&contract.state, act).is_some()
        };
        let bills = self.book.contracts.values().flat_map(|contract| contract.bills.iter().map(move |b| (contract, b)));
        let due: Vec<(Digest, String)> = bills
            .filter(|(_, billed)| self.asks.get(&billed.name.hash).is_none_or(|(at, _)| *at <= now.mono_ns))
            .filter(|(contract, billed)| open(contract, billed))
            .map(|(_, billed)| (billed.name.hash, billed.bill.number.clone()))
            .collect();
        let mut effects = Vec::new();
        for (bill, bill_no) in due {
            let pause = self.asks.get(&bill).map_or(ASK_NS, |(_, pause)| (pause * 2).min(ASK_MAX_NS));
            self.asks.insert(bill, (now.mono_ns.saturating_add(pause), pause));
            effects.extend(self.say(now, Interface::PaymentConfirm, None, &PaymentConfirm { bill_no }));
        }
        effects
    }
}
