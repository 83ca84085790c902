//! Tokens (统一认证, table 1 and 6.1): what the platform signs for a node that speaks to it, and for a user who comes to a node's
//! service without a second login. Whoever holds the platform's certificate checks a token offline.

use der::Sequence;
use serde::Serialize;

use crate::{
    Error,
    if2::{PLATFORM, segment_ok},
    octets::{self, Digest, Octets},
};

/// Longest life of a token, ns: a week.
pub const LIFE_NS_MAX: i64 = 7 * 86_400_000_000_000;
/// Scope of a node's own token: interface IF2.
pub const SCOPE_IF2: &str = "if2";
/// First part of the scope of a user's token; the contract number follows.
pub const SCOPE_CONTRACT: &str = "contract:";

/// What a token says (travels as `Signed` over its DER, by the platform).
#[derive(Clone, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct Token {
    /// Format version, 1.
    pub version: u8,
    /// Its id, which nobody can guess.
    pub token_id: Octets<16>,
    /// Who signs: `{site}/platform`.
    pub issuer: String,
    /// Whom it is for: a node `{site}/{node}`, or a user by certificate id, 64 hexadecimal digits.
    pub subject: String,
    /// Who shall accept it: the platform for a node's token, the node for a user's.
    pub audience: String,
    /// [`SCOPE_IF2`], or [`SCOPE_CONTRACT`] with a contract number.
    pub scope: String,
    /// Valid from, ns since 1970-01-01Z.
    #[serde(with = "octets::time")]
    pub not_before: i64,
    /// Until, not included.
    #[serde(with = "octets::time")]
    pub not_after: i64,
}

fn party(name: &str) -> bool {
    name.split_once('/').is_some_and(|(site, node)| segment_ok(site) && segment_ok(node))
}

impl Token {
    /// Whether its fields are in range. Signature, issuer, audience and clock are the reader's questions.
    ///
    /// # Errors
    /// [`Error::Field`] naming the first violation.
    pub fn check(&self) -> Result<(), Error> {
        let wrong = |field: &'static str, why: &str| Err(Error::Field { what: "Token", field, why: why.to_owned() });
        if self.version != 1 {
            return wrong("version", "unknown, 1 expected");
        }
        if !party(&self.issuer) || !self.issuer.ends_with(&format!("/{PLATFORM}")) {
            return wrong("issuer", "{site}/platform expected");
        }
        if !party(&self.audience) {
            return wrong("audience", "{site}/{node} expected");
        }
        let contract = self.scope.strip_prefix(SCOPE_CONTRACT).and_then(Octets::<16>::from_hex);
        let fits = match (Digest::from_hex(&self.subject), contract) {
            (Some(_), Some(_)) => true,
            (None, None) => party(&self.subject) && self.scope == SCOPE_IF2 && self.audience == self.issuer,
            _ => false,
        };
        if !fits {
            return wrong("scope", "a node's token is for if2 at its platform, a user's for one contract");
        }
        let life = self.not_after.checked_sub(self.not_before);
        if life.is_none_or(|life| life <= 0 || life > LIFE_NS_MAX) {
            return wrong("notAfter", "after notBefore, by at most a week");
        }
        Ok(())
    }

    /// Whether it may be accepted by `audience` at a time.
    ///
    /// # Errors
    /// [`Error::Field`] naming what does not fit.
    pub fn holds(&self, audience: &str, at_ns: i64) -> Result<(), Error> {
        let wrong = |field: &'static str, why: String| Err(Error::Field { what: "Token", field, why });
        self.check()?;
        if self.audience != audience {
            return wrong("audience", format!("it is for {}, this is {audience}", self.audience));
        }
        if at_ns < self.not_before {
            return wrong("notBefore", "it is not valid yet".to_owned());
        }
        if at_ns >= self.not_after {
            return wrong("notAfter", "it has expired".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        Token {
            version: 1,
            token_id: Octets([1; 16]),
            issuer: "s1/platform".to_owned(),
            subject: "s1/n1".to_owned(),
            audience: "s1/platform".to_owned(),
            scope: SCOPE_IF2.to_owned(),
            not_before: 1000,
            not_after: 2000,
        }
    }

    #[test]
    fn a_token_is_of_one_of_two_kinds_and_holds_in_its_time_for_its_audience() {
        token().check().unwrap();
        let user = |edit: fn(&mut Token)| {
            let mut user = Token {
                subject: "ab".repeat(32),
                audience: "s1/n1".to_owned(),
                scope: format!("contract:{}", "0f".repeat(16)),
                ..token()
            };
            edit(&mut user);
            user
        };
        user(|_| ()).check().unwrap();
        for (name, wrong) in [
            ("another version", Token { version: 2, ..token() }),
            ("issued by a node", Token { issuer: "s1/n1".to_owned(), ..token() }),
            ("for nobody", Token { audience: "n1".to_owned(), ..token() }),
            ("a node's for a contract", Token { scope: user(|_| ()).scope, ..token() }),
            ("a node's for a node", Token { audience: "s1/n2".to_owned(), ..token() }),
            ("a user's for everything", user(|t| t.scope = SCOPE_IF2.to_owned())),
            ("a contract that is none", user(|t| t.scope = "contract:1".to_owned())),
            ("no life", Token { not_after: 1000, ..token() }),
            ("a life too long", Token { not_after: 1001 + LIFE_NS_MAX, ..token() }),
            ("beyond all time", Token { not_before: i64::MIN, not_after: i64::MAX, ..token() }),
        ] {
            assert!(wrong.check().is_err(), "{name}");
        }
        for (audience, at, field) in [
            ("s1/platform", 999, Some("notBefore")),
            ("s1/platform", 1000, None),
            ("s1/platform", 1999, None),
            ("s1/platform", 2000, Some("notAfter")),
            ("s2/platform", 1500, Some("audience")),
        ] {
            let found = token().holds(audience, at).err();
            let named = found.map(|error| match error {
                Error::Field { field, .. } => field,
                other => panic!("{other}"),
            });
            assert_eq!(named, field, "{audience} {at}");
        }
    }
}
