//! What is personal of a contract (ADR 0011): which entries are encrypted at rest, who may have them erased and when, and the
//! entries that say who read what. Pure, like `act.rs`; encrypting and destroying keys is the ledger's.

use hufu_ledger::{EntryRef, Log, NewBlock};
use hufu_trade::{
    encode,
    entry::{ERASE, EXPORT, EntryKind, EntryName, READ, UserOperation},
    if2::Problem,
    notice::InForce,
    octets::{ContractNo, Octets},
    rules::REFUND,
};

use crate::{
    act::{self, malformed, problem},
    batch::{Batch, Draft},
    book::Book,
    contract::{Billed, Contract},
    node::Core,
};

/// Entries of this kind in one block.
const ENTRIES_PER_BLOCK: usize = 64;

/// Whether the entries of a kind are encrypted at rest: who the buyer is, what people wrote, and payment data. An order names
/// the buyer by the hash of a certificate only.
pub(crate) fn is_personal(kind: EntryKind) -> bool {
    matches!(kind, EntryKind::Browse | EntryKind::Notice | EntryKind::Payment | EntryKind::RefundPaid)
}

/// Who wants it, and why.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    /// User of this machine, as the system told it.
    pub(crate) operator: String,
    /// `read`, `export` or `erase`.
    pub(crate) act: String,
    /// For a person.
    pub(crate) why: String,
}

/// A contract of which everything personal was erased answers nobody any more.
pub(crate) fn erased(no: ContractNo) -> Problem {
    let en = format!("what is personal of contract {no} was erased; it is closed for good");
    problem("erased", Some("contractNo"), en, format!("合约 {no} 的个人数据已清除，不再受理"))
}

/// The entries that say that the personal data of some contracts is read or written out, to be durable before it is.
///
/// # Errors
/// The [`Problem`] for whoever asks.
pub(crate) fn reading(
    core: &Core,
    now_ns: i64,
    operation: &Operation,
    contracts: &[ContractNo],
) -> Result<Vec<NewBlock>, Problem> {
    if ![READ, EXPORT].contains(&operation.act.as_str()) {
        return Err(malformed(format!("act {:?} where read or export is due", operation.act)));
    }
    let known = |no: &ContractNo| core.book.contracts.get(no).ok_or_else(|| act::unknown(*no));
    let contracts = contracts.iter().map(known).collect::<Result<Vec<_>, _>>()?;
    blocks(core, now_ns, operation, &contracts)
}

/// The entry that says that a contract's personal data is erased, to be durable before it is; none if it stands already.
/// `found` are the contract's entries.
///
/// # Errors
/// The [`Problem`] for whoever asks: the contract is unknown, not over, or not wholly acknowledged by the platform.
pub(crate) fn erasure(
    core: &Core,
    now_ns: i64,
    operation: &Operation,
    (no, found): (ContractNo, &[EntryRef]),
) -> Result<Vec<NewBlock>, Problem> {
    let contract = core.book.contracts.get(&no).ok_or_else(|| act::unknown(no))?;
    if contract.erased {
        return Ok(Vec::new());
    }
    let state = &contract.state;
    if !core.book.table_of(Some(contract)).is_some_and(|(.., table)| table.is_final(state)) {
        let en = format!("contract {no} is {state}: only what is over for good can be erased");
        return Err(problem("state", Some("contractNo"), en, format!("合约 {no} 处于 {state}：仅可清除已终结的合约")));
    }
    let size = |log: Log| core.book.receipted.get(usize::from(log.number())).and_then(Option::as_ref);
    if found.iter().any(|at| size(at.log).is_none_or(|receipt| receipt.size <= at.height)) {
        let en = format!("the platform has not acknowledged every entry of contract {no}; they must still be sent");
        return Err(problem("state", Some("contractNo"), en, format!("平台尚未回执合约 {no} 的全部条目，仍需发送")));
    }
    let operation = Operation { act: ERASE.to_owned(), ..operation.clone() };
    blocks(core, now_ns, &operation, &[contract])
}

fn blocks(core: &Core, now_ns: i64, operation: &Operation, contracts: &[&Contract]) -> Result<Vec<NewBlock>, Problem> {
    let mut batch = Batch::new(&core.identity.salt_key, core.sizes);
    for chunk in contracts.chunks(ENTRIES_PER_BLOCK) {
        let drafts = chunk.iter().map(|contract| draft(now_ns, operation, contract));
        batch.block(Log::Trade, drafts.collect::<Result<_, _>>()?).map_err(act::own_fault)?;
    }
    Ok(batch.finish())
}

fn draft(now_ns: i64, operation: &Operation, contract: &Contract) -> Result<Draft, Problem> {
    let Operation { operator, act, why } = operation.clone();
    let no = contract.no;
    let done =
        UserOperation { version: 1, contract_no: no, operator, act, state: contract.state.clone(), time: now_ns, why };
    done.check().map_err(malformed)?;
    Ok((EntryKind::UserOperation, Some(no), encode(&done, "UserOperation").map_err(act::own_fault)?))
}

impl Book {
    /// Takes an entry into account that was erased: all that is known is where it stands and whose it was. Everything else of
    /// the contract follows from its other entries, and its state from the entry of the erasure.
    ///
    /// # Errors
    /// Why it cannot be.
    pub(crate) fn erased(&mut self, at: &EntryName, no: ContractNo) -> Result<(), String> {
        self.oblige(at);
        if !self.contracts.contains_key(&no) {
            let start = self.tables.last().ok_or("no rule table before it")?.2.start.clone();
            self.contracts.insert(no, Contract::new(no, at, (start, 0), (Octets([0; 32]), None), [0; 32]));
        }
        self.contract(no)?.erase();
        Ok(())
    }

    /// The entry that says what a user of the site did; only an erasure leaves a trace in the contract.
    pub(crate) fn operation(&mut self, done: &UserOperation) -> Result<(), String> {
        let contract = self.contract(done.contract_no)?;
        if done.act == ERASE {
            contract.erase();
            contract.state.clone_from(&done.state);
            self.last_erased = Some(done.contract_no);
        }
        Ok(())
    }

    /// An erased payment or refund, as the trade log names it back: what was paid is what was due, or it had not been taken.
    pub(crate) fn settled_unseen(&mut self, no: ContractNo, kind: u16) -> Result<(), String> {
        let contract = self.contract(no)?;
        let since = contract.since;
        if !contract.erased {
            return Ok(());
        }
        if kind == EntryKind::Payment.number() {
            // Which bill it was is erased, too; how many are open is known.
            let open = contract.bills.iter().position(Billed::is_open);
            let open = open.or_else(|| contract.bills.iter().position(|billed| billed.paid.is_none()));
            let mut bill = Octets([0; 32]);
            if let Some(billed) = open.and_then(|index| contract.bills.get_mut(index)) {
                (billed.paid, bill) = (Some(billed.due.total), billed.name.hash);
            }
            let act = self.pay_act(no, bill)?;
            self.step(no, act, EntryKind::Payment, since)
        } else if kind == EntryKind::RefundPaid.number() {
            if let Some(billed) = contract.bills.iter_mut().find(|billed| !billed.refunded) {
                billed.refunded = true;
            }
            self.step(no, REFUND, EntryKind::RefundPaid, since)
        } else {
            Ok(())
        }
    }
}

impl Contract {
    /// Forgets what was personal, here as on the disk.
    fn erase(&mut self) {
        (self.erased, self.buyer_key, self.browse_hash) = (true, None, [0; 32]);
        self.notices.clear();
        // A replay cannot read what renewed the deal, either.
        self.in_force = self.deal.as_ref().map(|(_, deal)| InForce::of(deal));
    }
}

impl Core {
    /// A contract that takes part in the trade.
    ///
    /// # Errors
    /// The [`Problem`] for whoever asks: unknown, or erased.
    pub(crate) fn contract(&self, no: ContractNo) -> Result<&Contract, Problem> {
        match self.book.contracts.get(&no) {
            None => Err(act::unknown(no)),
            Some(contract) if contract.erased => Err(erased(no)),
            Some(contract) => Ok(contract),
        }
    }

    /// As [`Core::apply`], of an entry that was erased.
    ///
    /// # Errors
    /// Why it cannot be taken into account.
    pub(crate) fn apply_erased(&mut self, at: &EntryName, key: &[u8; 32]) -> Result<(), String> {
        self.grow(at);
        let mut no = [0; 16];
        no.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
        self.book.erased(at, Octets(no))
    }
}
