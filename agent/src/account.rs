//! Accounts at the node (6.1, 7.1): the platform tells them, the node keeps its own as entries of its log, and who has one that is not
//! active, or not a buyer's, gets no new offer and no new deal. What runs goes on, and a contract keeps its acts. What an account is, is
//! `trade::account`.

use std::collections::BTreeMap;

use hufu_gm::{Signed, sm3::sm3};
use hufu_ledger::Log;
use hufu_trade::{
    account::{Account, BUYER},
    decode,
    entry::{EntryKind, EntryName},
    if2::{AccountHeld, AccountTold, Answer, Interface, Problem},
    octets::{Digest, Octets, rfc3339},
    party::platform_of,
};
use serde_json::{Value, json};

use crate::{
    act::{malformed, own_fault, problem},
    book::Book,
    clock::Now,
    node::{Core, Effect},
};

/// An account as the log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Local {
    /// Where the newest revision stands.
    pub(crate) entry: EntryName,
    /// SM3 of what the platform signed.
    hash: Digest,
    /// What it says.
    pub(crate) account: Account,
}

/// All of them, by user.
pub(crate) type Accounts = BTreeMap<Digest, Local>;

impl Book {
    /// Takes an account entry into account: the highest revision stands.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub(crate) fn account(&mut self, at: &EntryName, body: &[u8]) -> Result<(), String> {
        let signed = Signed::from_bytes(body).map_err(|e| e.to_string())?;
        let account: Account = decode(signed.tbs(), "Account").map_err(|e| e.to_string())?;
        let known = self.accounts.get(&account.user);
        if known.is_none_or(|known| known.account.revision < account.revision) {
            let hash = Octets(sm3(&[signed.tbs()]));
            self.accounts.insert(account.user, Local { entry: at.clone(), hash, account });
        }
        Ok(())
    }
}

impl Core {
    /// The platform tells an account: written down, unless it stands there already, and answered.
    ///
    /// # Errors
    /// The [`Problem`] of a message that is not the platform's.
    pub(crate) fn account_told(&self, now: Now, payload: &[u8]) -> Result<Vec<Effect>, Problem> {
        let told = self.open::<AccountTold>(Interface::Account, payload)?.payload;
        let (append, said) = match self.account(&told.body) {
            Ok((held, append)) => (append, Answer::Ok(held)),
            Err(problem) => (None, Answer::Error(problem)),
        };
        // The append is durable before the answer goes.
        Ok(append.into_iter().chain(self.say(now, Interface::Account, Some(&told.id), &said)).collect())
    }

    fn account(&self, told: &AccountTold) -> Result<(AccountHeld, Option<Effect>), Problem> {
        let signed = Signed::from_bytes(&told.account.0).map_err(malformed)?;
        let platform = &self.identity.platform;
        if signed.cert_id() != platform.id() || !signed.verify(platform.public_key()).is_valid() {
            let en = "the account is not signed by this node's platform";
            return Err(problem("signature", Some("account"), en, "账户不是本节点的平台签署的"));
        }
        let account: Account = decode(signed.tbs(), "Account").map_err(malformed)?;
        account.check().map_err(malformed)?;
        if account.relay != platform_of(&self.identity.pool) {
            return Err(malformed("relay is not the platform of this node's site"));
        }
        let held = AccountHeld { user: account.user.to_string(), revision: account.revision };
        match self.book.accounts.get(&account.user) {
            Some(known) if known.hash == Octets(sm3(&[signed.tbs()])) => return Ok((held, None)),
            Some(known) if known.account.revision == account.revision => {
                let en = "this revision of the account is taken by other content; count the revision up";
                return Err(problem("duplicate", Some("revision"), en, "该账户的此修订号已有其他内容；请递增修订号"));
            }
            Some(known) if known.account.revision > account.revision => {
                let stands = known.account.revision;
                let (en, zh) = (format!("revision {stands} stands here"), format!("本节点已有修订 {stands}"));
                return Err(problem("state", Some("revision"), en, zh));
            }
            _ => {}
        }
        let mut batch = self.batch();
        batch.entry(Log::Trade, (EntryKind::Account, None, told.account.0.clone())).map_err(own_fault)?;
        Ok((held, Some(Effect::Append(batch.finish()))))
    }

    /// Whether a user may start something new here as a buyer.
    ///
    /// # Errors
    /// The [`Problem`] for the buyer.
    pub(crate) fn may_buy(&self, user: Digest) -> Result<(), Problem> {
        match self.book.accounts.get(&user) {
            Some(known) if known.account.may(BUYER) => Ok(()),
            Some(known) => {
                let (state, roles) = (&known.account.state, known.account.roles.join(", "));
                let en = format!("the account is {state} with the roles {roles}; ask the platform");
                let zh = format!("账户状态为 {state}，角色为 {roles}；请联系平台");
                Err(problem("state", Some("account"), en, zh))
            }
            None if self.accounts_required => {
                let en =
                    "the platform has told this node of no account of this buyer yet; come again, or ask the platform";
                let zh = "平台尚未向本节点同步该买方的账户；请稍后再试或联系平台";
                Err(problem("unknown", Some("account"), en, zh))
            }
            None => Ok(()),
        }
    }

    /// The accounts as `hufu account list` shows them.
    pub(crate) fn accounts_shown(&self) -> Value {
        let shown = |local: &Local| {
            let Account { user, revision, roles, state, time, .. } = &local.account;
            json!({
                "user": user, "revision": revision, "roles": roles, "state": state, "changed_at": rfc3339(*time),
                "height": local.entry.height,
            })
        };
        let accounts: Vec<Value> = self.book.accounts.values().map(shown).collect();
        json!({ "accounts": accounts })
    }
}
