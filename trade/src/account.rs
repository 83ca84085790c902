//! 用户账号 (6.1, 7.1, 7.6): the platform's accounts as a node gets them, and what users did at the platform that must be provable. Both
//! are signed by the platform; an account is an entry of each node that it was told to, an operation a link of the platform's own chain.
//! Whom an account belongs to is told by certificate id alone: names and contacts stay at the platform.

use der::Sequence;
use hufu_gm::sm3::sm3;
use serde::Serialize;

use crate::{
    Error,
    demand::{is_text, rises},
    if2::{PLATFORM, segment_ok},
    octets::{self, Digest, Octets},
};

/// Who buys: may browse and order.
pub const BUYER: &str = "buyer";
/// Who runs the platform: sees every operation.
pub const OPERATOR: &str = "operator";
/// Who sells: a site's people.
pub const PROVIDER: &str = "provider";
/// The roles there are, as [`Account::roles`] has them.
pub const ROLES: [&str; 3] = [BUYER, OPERATOR, PROVIDER];

/// [`Account::state`]: it may do what its roles allow.
pub const ACTIVE: &str = "active";
/// [`Account::state`]: nothing new for now; what runs goes on, and its contracts keep their acts.
pub const SUSPENDED: &str = "suspended";
/// [`Account::state`]: over.
pub const CLOSED: &str = "closed";
/// The states there are.
pub const STATES: [&str; 3] = [ACTIVE, SUSPENDED, CLOSED];

/// A user's account (travels and is stored as `Signed` over its DER, by the platform).
#[derive(Clone, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct Account {
    /// Format version, 1.
    pub version: u8,
    /// Whose account it is: `{site}/platform`, which signs.
    pub relay: String,
    /// The user's certificate id.
    pub user: Digest,
    /// Counts the changes of this account, from 1; the highest stands.
    pub revision: u64,
    /// Of [`ROLES`], rising, each once; at least one.
    pub roles: Vec<String>,
    /// One of [`STATES`].
    pub state: String,
    /// When, ns since 1970-01-01Z.
    #[serde(with = "octets::time")]
    pub time: i64,
    /// SM3 of the DER of the [`Operation`] that made this revision: so the ledgers of nodes hold the platform's chain to its word.
    pub operation: Digest,
}

impl Account {
    /// Whether its fields are in range.
    ///
    /// # Errors
    /// [`Error::Field`] naming the first violation.
    pub fn check(&self) -> Result<(), Error> {
        let wrong = |field: &'static str, why: &str| Err(Error::Field { what: "Account", field, why: why.to_owned() });
        if self.version != 1 {
            return wrong("version", "unknown, 1 expected");
        }
        if !is_platform(&self.relay) {
            return wrong("relay", "{site}/platform expected");
        }
        if self.revision == 0 {
            return wrong("revision", "it counts from 1");
        }
        if self.roles.is_empty()
            || !rises(self.roles.iter())
            || !self.roles.iter().all(|role| ROLES.contains(&role.as_str()))
        {
            return wrong("roles", "one or more of buyer, operator, provider, rising, each once");
        }
        if !STATES.contains(&self.state.as_str()) {
            return wrong("state", "active, suspended or closed expected");
        }
        Ok(())
    }

    /// Whether the user may act in a role.
    pub fn may(&self, role: &str) -> bool {
        self.state == ACTIVE && self.roles.iter().any(|own| own == role)
    }
}

/// What somebody did at the platform (stored as `Signed` over its DER, by the platform): one link of a chain without gaps.
#[derive(Clone, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct Operation {
    /// Format version, 1.
    pub version: u8,
    /// Where: `{site}/platform`, which signs.
    pub relay: String,
    /// Place in the chain, from 1.
    pub number: u64,
    /// SM3 of the DER of the operation before it; zeros for the first.
    pub previous: Digest,
    /// Who: a user's certificate id, 64 hexadecimal digits, where a signature proves it; otherwise `os:` and the name on the
    /// platform's machine.
    pub operator: String,
    /// What: 1 to 64 of `[a-z0-9_-]`.
    pub act: String,
    /// Upon what: a certificate id, a number of a contract, bill or demand, a node.
    pub about: String,
    /// When, ns since 1970-01-01Z.
    #[serde(with = "octets::time")]
    pub time: i64,
    /// Particulars for a person; may be empty.
    pub why: String,
}

/// [`Operation::previous`] of the first.
pub const FIRST: Digest = Octets([0; 32]);

impl Operation {
    /// Whether its fields are in range.
    ///
    /// # Errors
    /// [`Error::Field`] naming the first violation.
    pub fn check(&self) -> Result<(), Error> {
        let wrong =
            |field: &'static str, why: &str| Err(Error::Field { what: "Operation", field, why: why.to_owned() });
        if self.version != 1 {
            return wrong("version", "unknown, 1 expected");
        }
        if !is_platform(&self.relay) {
            return wrong("relay", "{site}/platform expected");
        }
        if self.number == 0 || (self.number == 1) != (self.previous == FIRST) {
            return wrong("number", "it counts from 1, and only the first has none before it");
        }
        let is_local = self.operator.strip_prefix("os:").is_some_and(|name| is_text(name, 1));
        if !is_local && Digest::from_hex(&self.operator).is_none() {
            return wrong("operator", "a certificate id or os:NAME expected");
        }
        if !segment_ok(&self.act) {
            return wrong("act", "1 to 64 of a-z 0-9 _ - expected");
        }
        if !is_text(&self.about, 1) || !is_text(&self.why, 0) {
            return wrong("about", "about and why are at most 400 characters without control ones, about is not empty");
        }
        Ok(())
    }

    /// Whether it comes right after an operation, given by its DER; `None` stands for the chain's beginning.
    ///
    /// # Errors
    /// [`Error::Field`] for a chain that is broken here, [`Error::Malformed`] for DER that is none.
    pub fn follows(&self, before: Option<&[u8]>) -> Result<(), Error> {
        let wrong =
            |field: &'static str, why: &str| Err(Error::Field { what: "Operation", field, why: why.to_owned() });
        let number = match before {
            None => 0,
            Some(der) => crate::decode::<Self>(der, "Operation")?.number,
        };
        if number.checked_add(1) != Some(self.number) {
            return wrong("number", "not the next of the chain");
        }
        if self.previous != before.map_or(FIRST, |der| Octets(sm3(&[der]))) {
            return wrong("previous", "not the hash of the operation before it");
        }
        Ok(())
    }
}

fn is_platform(name: &str) -> bool {
    name.split_once('/').is_some_and(|(site, name)| segment_ok(site) && name == PLATFORM)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> Account {
        Account {
            version: 1,
            relay: "s1/platform".to_owned(),
            user: Octets([7; 32]),
            revision: 1,
            roles: vec![BUYER.to_owned(), PROVIDER.to_owned()],
            state: ACTIVE.to_owned(),
            time: 1_000,
            operation: Octets([9; 32]),
        }
    }

    fn operation(number: u64, previous: Digest) -> Operation {
        Operation {
            version: 1,
            relay: "s1/platform".to_owned(),
            number,
            previous,
            operator: "os:root".to_owned(),
            act: "account".to_owned(),
            about: "ab".repeat(32),
            time: 1_000,
            why: String::new(),
        }
    }

    #[test]
    fn an_account_has_a_place_roles_and_a_state_and_may_act_while_it_is_active() {
        account().check().unwrap();
        assert!(account().may(BUYER) && !account().may(OPERATOR));
        for state in [SUSPENDED, CLOSED] {
            let other = Account { state: state.to_owned(), ..account() };
            other.check().unwrap();
            assert!(!other.may(BUYER), "{state}");
        }
        for (field, wrong) in [
            ("version", Account { version: 2, ..account() }),
            ("relay", Account { relay: "s1/n1".to_owned(), ..account() }),
            ("revision", Account { revision: 0, ..account() }),
            ("roles", Account { roles: Vec::new(), ..account() }),
            ("roles", Account { roles: vec![PROVIDER.to_owned(), BUYER.to_owned()], ..account() }),
            ("roles", Account { roles: vec!["root".to_owned()], ..account() }),
            ("state", Account { state: "gone".to_owned(), ..account() }),
        ] {
            let found = wrong.check().unwrap_err();
            assert!(matches!(found, Error::Field { field: named, .. } if named == field), "{field}: {found}");
        }
    }

    #[test]
    fn operations_make_a_chain_without_gaps() {
        let first = operation(1, FIRST);
        first.check().unwrap();
        first.follows(None).unwrap();
        let der = crate::encode(&first, "Operation").unwrap();
        let second = operation(2, Octets(sm3(&[&der])));
        second.check().unwrap();
        second.follows(Some(&der)).unwrap();
        second.follows(None).unwrap_err();
        operation(3, second.previous).follows(Some(&der)).unwrap_err();
        operation(2, Octets([1; 32])).follows(Some(&der)).unwrap_err();
        for (field, wrong) in [
            ("version", Operation { version: 0, ..first.clone() }),
            ("relay", Operation { relay: "platform".to_owned(), ..first.clone() }),
            ("number", operation(1, Octets([1; 32]))),
            ("number", operation(2, FIRST)),
            ("operator", Operation { operator: "root".to_owned(), ..first.clone() }),
            ("operator", Operation { operator: "os:".to_owned(), ..first.clone() }),
            ("act", Operation { act: "a b".to_owned(), ..first.clone() }),
            ("about", Operation { about: String::new(), ..first.clone() }),
            ("about", Operation { why: "a\nb".to_owned(), ..first.clone() }),
        ] {
            let found = wrong.check().unwrap_err();
            assert!(matches!(found, Error::Field { field: named, .. } if named == field), "{field}: {found}");
        }
    }
}
