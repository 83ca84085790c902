//! Users of this platform (6.1, 7.1, 7.6): who comes as a buyer gets an account by itself, the operator changes it, nodes are told of it;
//! and what users did here that must be provable is a chain of operations, which this platform signs link by link. The rows are
//! `store/account.rs` and `store/operation.rs`, the way to the nodes `courier.rs`.

use std::{collections::BTreeMap, os::unix::fs::MetadataExt};

use hufu_gm::{Hash, Signed, sm2::PublicKey, sm3::sm3};
use hufu_trade::{
    account::{ACTIVE, BUYER, FIRST, Operation},
    encode,
    octets::{ContractNo, Digest, Octets},
};
use sqlx::AnyConnection;

use crate::{
    error::Error,
    identity::Identity,
    judge::{Code, Refusal},
    store::{
        account::{self, Stored},
        bill, contract,
        operation::{self, Done, Unsigned},
    },
};

/// Operations signed at a time.
const SIGNED_AT_ONCE: i64 = 256;
/// Longest text of an operation, characters.
const TEXT_CHARS: usize = 400;

/// What an operation may hold of a text: one line.
fn line(text: &str) -> String {
    let shown = |found: char| if found.is_control() { ' ' } else { found };
    text.chars().take(TEXT_CHARS).map(shown).collect::<String>().trim().to_owned()
}

/// Who runs this process, as the system names it.
pub(crate) fn local_operator() -> String {
    let uid = std::fs::metadata("/proc/self").map(|found| found.uid());
    let Ok(uid) = uid else { return "os:unknown".to_owned() };
    let names = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let fields = names.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let mut named = fields.filter_map(|fields| Some((*fields.first()?, fields.get(2)?.parse::<u32>().ok()?)));
    let name = named.find(|(name, found)| !name.is_empty() && *found == uid).map(|(name, _)| name.to_owned());
    format!("os:{}", line(&name.unwrap_or_else(|| format!("uid {uid}"))))
}

/// Notes what somebody did, in the transaction that does it.
///
/// # Errors
/// [`Error`] from the database.
pub(crate) async fn note(db: &mut AnyConnection, done: &Done<'_>, now_ns: i64) -> Result<u64, Error> {
    let (about, why) = (line(done.about), line(done.why));
    operation::add(db, &Done { about: &about, why: &why, ..*done }, now_ns).await
}

/// Notes what whoever runs this command did to a contract, a bill, or something that concerns no buyer.
///
/// # Errors
/// [`Error`] from the database.
pub(crate) async fn note_local(
    db: &mut AnyConnection,
    (act, about, why): (&str, &str, &str),
    now_ns: i64,
) -> Result<(), Error> {
    let billed = bill::find(&mut *db, about).await?.and_then(|found| found.contract.as_slice().try_into().ok());
    let contract = billed.map(Octets).or_else(|| ContractNo::from_hex(about));
    let concerns = match contract {
        Some(no) => contract::buyer_of(&mut *db, no).await?,
        None => None,
    };
    let operator = local_operator();
    note(db, &Done { operator: &operator, act, about, concerns, why }, now_ns).await.map(drop)
}

/// Signs what is noted and not signed yet, and the accounts that it made.
///
/// # Errors
/// [`Error`] from the database or the key.
pub(crate) async fn seal(db: &mut AnyConnection, identity: &Identity) -> Result<(), Error> {
    let mut before = operation::last_signed(&mut *db).await?;
    for Unsigned { number, operator, act, about, why, at } in operation::unsigned(&mut *db, SIGNED_AT_ONCE).await? {
        let previous = before.as_deref().map_or(FIRST, |tbs| Octets(sm3(&[tbs])));
        let relay = identity.name.clone();
        let made = Operation { version: 1, relay, number, previous, operator, act, about, time: at, why };
        made.check()?;
        made.follows(before.as_deref())?;
        let tbs = encode(&made, "Operation")?;
        let signed = Signed::seal(tbs.clone(), &identity.cert_id, &identity.key)?.to_bytes()?;
        operation::sign(&mut *db, number, (&tbs, &signed)).await?;
        let hash = Octets(sm3(&[&tbs]));
        if let Some(account) = account::made_by(&mut *db, (number, hash), &identity.name).await? {
            account.check()?;
            let signed = Signed::seal(encode(&account, "Account")?, &identity.cert_id, &identity.key)?.to_bytes()?;
            account::sign(&mut *db, &account, &signed).await?;
        }
        before = Some(tbs);
    }
    Ok(())
}

/// Whether a user has an account of which a node is told, as it is now.
///
/// # Errors
/// [`Error`] from the database; inside, the [`Refusal`] of an account that may not buy.
pub(crate) async fn is_met(
    db: &mut AnyConnection,
    (user, pool): (Digest, &str),
) -> Result<Result<bool, Refusal>, Error> {
    let Some(known) = account::find(&mut *db, user).await? else { return Ok(Ok(false)) };
    if let Err(refusal) = may(&known, BUYER) {
        return Ok(Err(refusal));
    }
    account::is_told(db, user, pool).await.map(Ok)
}

/// A buyer comes to a node: whoever is new here gets an account, and the node is told of it.
///
/// # Errors
/// [`Error`] from the database or the key; inside, the [`Refusal`] of an account that may not buy.
pub(crate) async fn meet(
    db: &mut AnyConnection,
    identity: &Identity,
    (user, pool): (Digest, &str),
    now_ns: i64,
) -> Result<Result<(), Refusal>, Error> {
    match account::find(&mut *db, user).await? {
        Some(known) => {
            if let Err(refusal) = may(&known, BUYER) {
                return Ok(Err(refusal));
            }
        }
        None => {
            let (who, why) = (user.to_string(), format!("the first browse, at {pool}"));
            let done = Done { operator: &who, act: "register", about: &who, concerns: Some(user), why: &why };
            let number = note(&mut *db, &done, now_ns).await?;
            let new = Stored { revision: 1, roles: vec![BUYER.to_owned()], state: ACTIVE.to_owned() };
            account::put(&mut *db, user, &new, (number, now_ns)).await?;
        }
    }
    account::tell(&mut *db, user, pool).await?;
    seal(db, identity).await?;
    Ok(Ok(()))
}

/// Whether an account may act in a role.
///
/// # Errors
/// The [`Refusal`].
fn may(account: &Stored, role: &str) -> Result<(), Refusal> {
    if account.state == ACTIVE && account.roles.iter().any(|own| own == role) {
        return Ok(());
    }
    let (state, roles) = (&account.state, account.roles.join(", "));
    Err(Refusal::new(Code::State, format!("the account is {state} with the roles {roles}; ask the operator")))
}

/// Whether a user has an account that may act in a role; one that was never made here may buy.
///
/// # Errors
/// [`Error`] from the database; inside, the [`Refusal`].
pub(crate) async fn allowed(db: &mut AnyConnection, user: Digest, role: &str) -> Result<Result<(), Refusal>, Error> {
    Ok(match account::find(db, user).await? {
        Some(known) => may(&known, role),
        None if role == BUYER => Ok(()),
        None => Err(Refusal::new(Code::State, "no account here")),
    })
}

/// The platform's keys by certificate id.
pub(crate) type Keys<'a> = BTreeMap<Hash, &'a PublicKey>;

/// Checks the chain of operations from its beginning: signatures, numbers, hashes; how many there are.
///
/// # Errors
/// [`Error`] from the database; inside, the number of the first that does not hold, and why.
pub(crate) async fn check(db: &mut AnyConnection, keys: &Keys<'_>) -> Result<Result<u64, (u64, String)>, Error> {
    let (mut held, mut before) = (0_u64, None::<Vec<u8>>);
    loop {
        let some = operation::chain(&mut *db, held.saturating_add(1), SIGNED_AT_ONCE).await?;
        if some.is_empty() {
            return Ok(Ok(held));
        }
        for (number, bytes) in some {
            match link(&bytes, before.as_deref(), keys) {
                Ok((found, tbs)) if found.number == number => (held, before) = (number, Some(tbs)),
                Ok(_) => return Ok(Err((number, "it says another number".to_owned()))),
                Err(why) => return Ok(Err((number, why))),
            }
        }
    }
}

fn link(bytes: &[u8], before: Option<&[u8]>, keys: &Keys<'_>) -> Result<(Operation, Vec<u8>), String> {
    let signed = Signed::from_bytes(bytes).map_err(|e| e.to_string())?;
    if !keys.get(&signed.cert_id()).is_some_and(|key| signed.verify(key).is_valid()) {
        return Err("not signed under one of these certificates".to_owned());
    }
    let found: Operation = hufu_trade::decode(signed.tbs(), "Operation").map_err(|e| e.to_string())?;
    found.check().and_then(|()| found.follows(before)).map_err(|e| e.to_string())?;
    Ok((found, signed.tbs().to_vec()))
}

/// The account that a change makes of one: what is not said stays as it was, and a new one is an active buyer's.
pub(crate) fn changed(before: Option<&Stored>, mut roles: Vec<String>, state: Option<String>) -> Stored {
    if roles.is_empty() {
        roles = before.map_or_else(|| vec![BUYER.to_owned()], |before| before.roles.clone());
    }
    roles.sort_unstable();
    roles.dedup();
    let state = state.or_else(|| before.map(|before| before.state.clone())).unwrap_or_else(|| ACTIVE.to_owned());
    Stored { revision: before.map_or(0, |before| before.revision).saturating_add(1), roles, state }
}
