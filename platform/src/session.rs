//! 统一认证: codes and tokens of nodes, tokens of users, and whether a message shows one that holds. What a token is, is
//! `trade::token`; who a node is its signature says, with or without a token.

use hufu_gm::{Signed, sm3::sm3};
use hufu_trade::{
    account::{ACTIVE, BUYER},
    encode,
    if2::{AuthCode, Authorised, Interface, Logout, Sealed, TokenGiven, TokenRequest, UserInfo, UserState},
    octets::{Digest, Octets, rfc3339},
    party::platform_of,
    token::{SCOPE_CONTRACT, SCOPE_IF2, Token},
};
use serde::Serialize;
use sqlx::AnyConnection;

use crate::{
    error::Error,
    identity::Identity,
    judge::{Code, Refusal},
    store::{account, token},
};

/// A code is good for so long, ns.
const CODE_NS: i64 = 60_000_000_000;
/// A node's token, ns.
const NODE_NS: i64 = 3_600_000_000_000;
/// A user's token, ns.
const USER_NS: i64 = 900_000_000_000;

/// The answer to [`Logout`].
#[derive(Debug, Serialize)]
pub(crate) struct LoggedOut {
    token_id: String,
    state: &'static str,
}

/// What nobody can guess who has not the platform's key, and what the same course of events always gives: the platform signs what
/// it is for, and the signature, which is determined by key and content, stays here.
fn unguessable(identity: &Identity, what: &str) -> Result<Octets<16>, Error> {
    let secret = sm3(&[&identity.key.sign(what.as_bytes())?]);
    let mut id = [0; 16];
    id.copy_from_slice(&secret[..16]);
    Ok(Octets(id))
}

fn id_of(text: &str) -> Result<Octets<16>, Refusal> {
    Octets::from_hex(text).ok_or_else(|| Refusal::new(Code::Malformed, "32 hexadecimal digits expected"))
}

/// Whether a message of a node may be taken: its token is one that holds, or it needs none.
///
/// # Errors
/// [`Error`] from the database; inside, the [`Refusal`].
pub(crate) async fn admit(
    db: &mut AnyConnection,
    identity: &Identity,
    (pool, interface, now_ns): (&str, Interface, i64),
    shown: Option<&str>,
) -> Result<Result<(), Refusal>, Error> {
    let no = |why: &str| Ok(Err(Refusal::new(Code::Token, why)));
    if !interface.needs_token() {
        return Ok(Ok(()));
    }
    let Some(text) = shown else {
        return if identity.needs_tokens { no("the message shows no token") } else { Ok(Ok(())) };
    };
    let id = match id_of(text) {
        Ok(id) => id,
        Err(refusal) => return Ok(Err(refusal)),
    };
    match token::find(&mut *db, id).await? {
        Some(found) if found.subject != pool || found.scope != SCOPE_IF2 => no("the token is another's"),
        Some(found) if found.is_ended => no("the token was logged out"),
        Some(found) if found.not_after <= now_ns => no("the token has expired"),
        Some(_) => Ok(Ok(())),
        None => no("the token is not known here"),
    }
}

/// A code for a node.
///
/// # Errors
/// [`Error`] from the database or the key; inside, the [`Refusal`].
pub(crate) async fn authorise(
    db: &mut AnyConnection,
    identity: &Identity,
    (pool, now_ns): (&str, i64),
    asked: &AuthCode,
) -> Result<Result<Authorised, Refusal>, Error> {
    if asked.scope != SCOPE_IF2 {
        return Ok(Err(Refusal::new(Code::Malformed, "scope: if2 is expected")));
    }
    let code = unguessable(identity, &format!("hufu-auth-code-v1\n{pool}\n{now_ns}"))?;
    let expires_at = now_ns.saturating_add(CODE_NS);
    token::add_code(db, (&code.0, pool), expires_at, now_ns).await?;
    Ok(Ok(Authorised { code: code.to_string(), expires: rfc3339(expires_at) }))
}

/// A token for a code.
///
/// # Errors
/// As [`authorise`].
pub(crate) async fn give(
    db: &mut AnyConnection,
    identity: &Identity,
    (pool, now_ns): (&str, i64),
    asked: &TokenRequest,
) -> Result<Result<TokenGiven, Refusal>, Error> {
    let code = match id_of(&asked.code) {
        Ok(code) => code,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if !token::use_code(&mut *db, &code.0, pool, now_ns).await? {
        return Ok(Err(Refusal::new(Code::Unknown, "the code is not known, used, or expired")));
    }
    let issuer = platform_of(pool);
    let (subject, scope) = (pool.to_owned(), SCOPE_IF2.to_owned());
    make(db, identity, (subject, issuer.clone(), issuer, scope), (now_ns, NODE_NS)).await.map(Ok)
}

/// Makes, keeps and signs a token of a subject for an audience by an issuer.
async fn make(
    db: &mut AnyConnection,
    identity: &Identity,
    (subject, audience, issuer, scope): (String, String, String, String),
    (now_ns, life_ns): (i64, i64),
) -> Result<TokenGiven, Error> {
    let what = format!("hufu-token-id-v1\n{subject}\n{audience}\n{scope}\n{now_ns}");
    let token = Token {
        version: 1,
        token_id: unguessable(identity, &what)?,
        issuer,
        subject,
        audience,
        scope,
        not_before: now_ns,
        not_after: now_ns.saturating_add(life_ns),
    };
    token.check()?;
    token::add(db, &token).await?;
    let signed = Signed::seal(encode(&token, "Token")?, &identity.cert_id, &identity.key)?;
    Ok(TokenGiven { token: Sealed(signed.to_bytes()?) })
}

/// A token with which the user of a contract comes to its node.
///
/// # Errors
/// [`Error`] from the database or the key.
pub(crate) async fn for_user(
    db: &mut AnyConnection,
    identity: &Identity,
    (user, contract_no, pool): (Digest, &str, &str),
    now_ns: i64,
) -> Result<TokenGiven, Error> {
    let parts = (user.to_string(), pool.to_owned(), platform_of(pool), format!("{SCOPE_CONTRACT}{contract_no}"));
    make(db, identity, parts, (now_ns, USER_NS)).await
}

/// Ends a node's own token.
///
/// # Errors
/// As [`authorise`].
pub(crate) async fn end(
    db: &mut AnyConnection,
    (pool, now_ns): (&str, i64),
    asked: &Logout,
) -> Result<Result<LoggedOut, Refusal>, Error> {
    let id = match id_of(&asked.token_id) {
        Ok(id) => id,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if !token::end(db, id, pool, now_ns).await? {
        return Ok(Err(Refusal::new(Code::Unknown, "this node has no such token")));
    }
    Ok(Ok(LoggedOut { token_id: asked.token_id.clone(), state: "ended" }))
}

/// Whose token a user showed to a node.
///
/// # Errors
/// As [`authorise`].
pub(crate) async fn user(
    db: &mut AnyConnection,
    (pool, now_ns): (&str, i64),
    asked: &UserInfo,
) -> Result<Result<UserState, Refusal>, Error> {
    let id = match id_of(&asked.token_id) {
        Ok(id) => id,
        Err(refusal) => return Ok(Err(refusal)),
    };
    // What is for another node is nothing to this one.
    let found = token::find(&mut *db, id).await?.filter(|found| found.audience == pool);
    let Some((found, contract_no)) = found.and_then(|found| {
        let contract = found.scope.strip_prefix(SCOPE_CONTRACT)?.to_owned();
        Some((found, contract))
    }) else {
        return Ok(Err(Refusal::new(Code::Unknown, "no user's token of this id for this node")));
    };
    let account = match Digest::from_hex(&found.subject) {
        Some(user) => account::find(&mut *db, user).await?,
        None => None,
    };
    let may = account.as_ref().is_none_or(|account| account.state == ACTIVE);
    Ok(Ok(UserState {
        token_id: asked.token_id.clone(),
        is_active: may && !found.is_ended && now_ns < found.not_after,
        user: found.subject,
        contract_no,
        roles: account.map_or_else(|| vec![BUYER.to_owned()], |account| account.roles),
        not_after: rfc3339(found.not_after),
    }))
}
