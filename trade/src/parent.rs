//! 父子订单, standard table 1: several orders of one buyer that belong together, at one node or at many. Each child is a contract
//! of its own with its own bills; the parent has no deal, and is the sum of its children. Pure sums; who pays is the platform's.

use std::collections::BTreeSet;

use der::{Enumerated, Sequence};
use hufu_gm::sm3::sm3;
use serde::Serialize;

use crate::{
    Error,
    money::Money,
    octets::{self, ContractNo, Digest, Octets},
};

/// Number of a parent order: first 16 bytes of SM3 over the DER of [`ParentNoInput`].
pub type ParentNo = Octets<16>;

/// Fewest children of a parent: one order alone has no need of one.
pub const CHILDREN_MIN: u32 = 2;
/// Most children of a parent.
pub const CHILDREN_MAX: u32 = 64;
/// Most bills of all children together in one parent bill.
pub const BILLS_MAX: usize = 400;

/// Which level is paid; the other never is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumerated, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u32)]
pub enum Payable {
    /// Each child's bills by themselves.
    Child = 0,
    /// All children at once, through the parent.
    Parent = 1,
}

impl Payable {
    /// `child` or `parent`.
    pub fn name(self) -> &'static str {
        match self {
            Payable::Child => "child",
            Payable::Parent => "parent",
        }
    }
}

/// What binds a child to its parent: the buyer signs it in each child's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct ParentOrder {
    /// The same in all children.
    pub parent_no: ParentNo,
    /// The same in all children.
    pub payable: Payable,
    /// How many children there are, [`CHILDREN_MIN`] to [`CHILDREN_MAX`]; the same in all of them.
    pub children: u32,
}

impl ParentOrder {
    /// Whether the number of children is in range.
    ///
    /// # Errors
    /// [`Error::Field`].
    pub fn check(&self) -> Result<(), Error> {
        if (CHILDREN_MIN..=CHILDREN_MAX).contains(&self.children) {
            return Ok(());
        }
        let why = format!("{CHILDREN_MIN} to {CHILDREN_MAX} expected");
        Err(Error::Field { what: "ParentOrder", field: "children", why })
    }
}

/// What a parent number is computed from; never stored.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct ParentNoInput {
    /// The buyer's certificate id.
    pub buyer: Digest,
    /// Of whoever makes the number.
    pub nonce: Octets<16>,
    /// When, ns since 1970-01-01Z.
    pub time: i64,
}

/// The number of a new parent order.
///
/// # Errors
/// [`Error::Malformed`] when the input does not fit DER.
pub fn parent_no(buyer: Digest, nonce: Octets<16>, time: i64) -> Result<ParentNo, Error> {
    let hash = sm3(&[&crate::encode(&ParentNoInput { buyer, nonce, time }, "ParentNoInput")?]);
    let mut number = [0; 16];
    number.copy_from_slice(&hash[..16]);
    Ok(Octets(number))
}

/// One bill of one child.
#[derive(Clone, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct ChildBill {
    /// The child.
    pub contract_no: ContractNo,
    /// The node that serves it, `{site}/{node}`.
    pub computing_pool_id: String,
    /// Entry hash of the bill.
    pub bill: Digest,
    /// The bill's number.
    pub number: String,
    /// What is due for it: its total, or that of its last correction.
    pub due: Money,
}

/// What a parent order costs: the sum of what is due for its children's bills (`Signed` over its DER, by the platform).
#[derive(Clone, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct ParentBill {
    /// Format version, 1.
    pub version: u8,
    /// The parent order.
    pub parent_no: ParentNo,
    /// The buyer's certificate id.
    pub buyer: Digest,
    /// When the platform added it up, ns since 1970-01-01Z.
    #[serde(with = "octets::time")]
    pub time: i64,
    /// ISO 4217.
    pub currency: String,
    /// The bills, by node, contract and number.
    pub children: Vec<ChildBill>,
    /// The sum of what is due.
    pub total: Money,
}

/// One bill of one child, with what its order and its bill say of parent, buyer and currency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    /// What the buyer signed in the child's order.
    pub parent: ParentOrder,
    /// The buyer's certificate id.
    pub buyer: Digest,
    /// Of the bill.
    pub currency: String,
    /// The bill.
    pub bill: ChildBill,
}

/// Adds up a parent order from the bills of its children; a child may have several. `time` is now, ns since 1970-01-01Z.
///
/// # Errors
/// [`Error::Field`] naming `children` (none at all, one is missing, there are more than the buyer signed, or a bill comes twice),
/// `parentNo`, `buyer`, `currency`, `payable` or `due`, where they differ or are out of range; [`Error::Overflow`].
pub fn parent_bill(children: &[Child], time: i64) -> Result<ParentBill, Error> {
    let wrong = |field: &'static str, why: String| Err(Error::Field { what: "ParentBill", field, why });
    let Some(first) = children.first() else { return wrong("children", "no child has a bill".to_owned()) };
    first.parent.check()?;
    if children.len() > BILLS_MAX {
        return wrong("children", format!("more than {BILLS_MAX} bills"));
    }
    let (mut contracts, mut bills, mut numbers) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for Child { parent, buyer, currency, bill } in children {
        for (field, same) in [
            ("parentNo", parent.parent_no == first.parent.parent_no),
            ("payable", parent.payable == first.parent.payable),
            ("children", parent.children == first.parent.children),
            ("buyer", *buyer == first.buyer),
            ("currency", *currency == first.currency),
        ] {
            if !same {
                return wrong(field, format!("bill {} has another than bill {}", bill.number, first.bill.number));
            }
        }
        if bill.due < Money(0) || bill.due != bill.due.cut_to_fen() {
            return wrong("due", format!("bill {}: whole fen, not below zero", bill.number));
        }
        if !bills.insert(bill.bill) || !numbers.insert(&bill.number) {
            return wrong("children", format!("bill {} comes twice", bill.number));
        }
        contracts.insert(bill.contract_no);
    }
    if contracts.len() != usize::try_from(first.parent.children).unwrap_or(usize::MAX) {
        return wrong("children", format!("{} of {} children have a bill", contracts.len(), first.parent.children));
    }
    let mut rows: Vec<ChildBill> = children.iter().map(|child| child.bill.clone()).collect();
    let key = |row: &ChildBill| (row.computing_pool_id.clone(), row.contract_no, row.number.clone());
    rows.sort_by_key(key);
    let total = rows.iter().map(|row| row.due).try_fold(Money(0), Money::plus)?;
    Ok(ParentBill {
        version: 1,
        parent_no: first.parent.parent_no,
        buyer: first.buyer,
        time,
        currency: first.currency.clone(),
        children: rows,
        total,
    })
}

impl ParentBill {
    /// SM3 of its DER: what the payment of a child names.
    ///
    /// # Errors
    /// [`Error::Malformed`] when it does not fit DER.
    pub fn hash(&self) -> Result<Digest, Error> {
        Ok(Octets(sm3(&[&crate::encode(self, "ParentBill")?])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn child(no: u8, number: &str, due: &str) -> Child {
        Child {
            parent: ParentOrder { parent_no: Octets([9; 16]), payable: Payable::Parent, children: 2 },
            buyer: Octets([7; 32]),
            currency: "CNY".to_owned(),
            bill: ChildBill {
                contract_no: Octets([no; 16]),
                computing_pool_id: format!("s1/n{}", 9 - no),
                bill: Octets(sm3(&[number.as_bytes()])),
                number: number.to_owned(),
                due: due.parse().unwrap(),
            },
        }
    }

    #[test]
    fn a_parent_is_the_sum_of_its_children_in_one_order() {
        let (a, b, c) = (child(1, "a-1", "1.07"), child(2, "b-1", "0.50"), child(2, "b-2", "0"));
        let bill = parent_bill(&[a.clone(), b.clone(), c.clone()], 5).unwrap();
        assert_eq!(bill.total.to_string(), "1.57");
        assert_eq!(bill.children.iter().map(|row| &*row.number).collect::<Vec<_>>(), ["b-1", "b-2", "a-1"]);
        assert_eq!(parent_bill(&[c, b, a], 5).unwrap().hash().unwrap(), bill.hash().unwrap());
    }

    #[test]
    fn what_does_not_belong_together_is_not_added_up() {
        let (a, b) = (child(1, "a-1", "1"), child(2, "b-1", "2"));
        let with = |change: &dyn Fn(&mut Child)| {
            let mut other = b.clone();
            change(&mut other);
            vec![a.clone(), other]
        };
        for (name, children, want) in [
            ("nothing", vec![], "children"),
            ("a child is missing", vec![a.clone()], "children"),
            ("a bill twice", vec![a.clone(), b.clone(), b.clone()], "children"),
            ("the same number under two hashes", with(&|c| c.bill.number = "a-1".to_owned()), "children"),
            ("too many children", vec![a.clone(), b.clone(), child(3, "c-1", "1")], "children"),
            ("another count", with(&|c| c.parent.children = 3), "children"),
            ("another parent", with(&|c| c.parent.parent_no = Octets([8; 16])), "parentNo"),
            ("mixed levels", with(&|c| c.parent.payable = Payable::Child), "payable"),
            ("another buyer", with(&|c| c.buyer = Octets([8; 32])), "buyer"),
            ("another currency", with(&|c| c.currency = "USD".to_owned()), "currency"),
            ("less than nothing", with(&|c| c.bill.due = Money(-1_000_000)), "due"),
            ("no whole fen", with(&|c| c.bill.due = Money(1)), "due"),
        ] {
            match parent_bill(&children, 0) {
                Err(Error::Field { field, .. }) => assert_eq!(field, want, "{name}"),
                other => panic!("{name}: {other:?}"),
            }
        }
        let huge = Money(i128::MAX).cut_to_fen();
        let both = [&a, &b].map(|one| Child { bill: ChildBill { due: huge, ..one.bill.clone() }, ..one.clone() });
        assert!(matches!(parent_bill(&both, 0), Err(Error::Overflow { .. })));
    }
}
