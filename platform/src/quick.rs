//! The small messages of a node: catalogue, presence, bill push, payment question. Ledger blocks are `blocks.rs`.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hufu_gm::{Certificate, Signed};
use hufu_trade::{
    if2::{
        Answer, AuthCode, BillPush, Catalogue, DemandResponse, Demands, Envelope, Interface, Logout, MESSAGE_BYTES_MAX,
        PaymentConfirm, PaymentState, TokenRequest, UserInfo,
    },
    octets::rfc3339,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sqlx::AnyConnection;

use crate::{
    demand,
    envelope::{Opened, open, read, seal},
    error::Error,
    identity::Identity,
    inbox::trust,
    judge::{Code, Refusal},
    session,
    store::{
        bill::{self, Moved, State, StoredBill},
        contract, list,
        message::{self, StoredMessage},
        node, parent,
    },
};

/// The answer to a report or push.
#[derive(Serialize)]
struct Stored<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    bill_no: Option<&'a str>,
    state: &'a str,
}

/// What everything here is told about one message.
struct Call<'a> {
    identity: &'a Identity,
    now_ns: i64,
    pool: &'a str,
    interface: Interface,
    received: &'a [u8],
}

/// Takes one small message in and gives the signed answer.
///
/// # Errors
/// [`Error`] from the database; inside, the [`Refusal`].
pub(crate) async fn take(
    db: &mut AnyConnection,
    identity: &Identity,
    now_ns: i64,
    (pool, interface): (&str, Interface),
    received: &[u8],
) -> Result<Result<Vec<u8>, Refusal>, Error> {
    let call = Call { identity, now_ns, pool, interface, received };
    match interface {
        Interface::ProductReport => match products(&mut *db, identity, now_ns, pool, received).await? {
            Ok(opened) => {
                let answer = Answer::Ok(Stored { bill_no: None, state: "stored" });
                call.reply(&mut *db, &opened, &answer, true).await
            }
            Err(refusal) => Ok(Err(refusal)),
        },
        Interface::BillPush => match call.open::<BillPush>(&mut *db).await? {
            Ok(opened) => {
                let push = &opened.payload.body;
                let answer = match pushed(&mut *db, pool, push).await? {
                    Ok(()) => Answer::Ok(Stored { bill_no: Some(&push.bill_no), state: "stored" }),
                    Err(refusal) => Answer::Error(refusal.problem()),
                };
                let is_final = matches!(answer, Answer::Ok(_));
                call.reply(&mut *db, &opened, &answer, is_final).await
            }
            Err(refusal) => Ok(Err(refusal)),
        },
        Interface::PaymentConfirm => match call.open::<PaymentConfirm>(&mut *db).await? {
            Ok(opened) => {
                let (answer, is_final) = match paid(&mut *db, identity, pool, &opened.payload.body.bill_no).await? {
                    Ok((state, is_settled)) => (Answer::Ok(state), is_settled),
                    Err(refusal) => (Answer::Error(refusal.problem()), false),
                };
                call.reply(&mut *db, &opened, &answer, is_final).await
            }
            Err(refusal) => Ok(Err(refusal)),
        },
        Interface::Demands => match call.open::<Demands>(&mut *db).await? {
            Ok(opened) => {
                let told = Answer::Ok(demand::list(&mut *db, now_ns, pool, opened.payload.body.after).await?);
                call.reply(&mut *db, &opened, &told, false).await
            }
            Err(refusal) => Ok(Err(refusal)),
        },
        Interface::DemandResponse => match call.open::<DemandResponse>(&mut *db).await? {
            Ok(opened) => {
                let answer = match demand::answered(&mut *db, (pool, now_ns), &opened.payload.body).await? {
                    Ok(taken) => Answer::Ok(taken),
                    Err(refusal) => Answer::Error(refusal.problem()),
                };
                let is_final = matches!(answer, Answer::Ok(_));
                call.reply(&mut *db, &opened, &answer, is_final).await
            }
            Err(refusal) => Ok(Err(refusal)),
        },
        Interface::AuthCode => match call.open::<AuthCode>(&mut *db).await? {
            Ok(opened) => {
                let answer = said(session::authorise(&mut *db, (pool, now_ns), &opened.payload.body).await?);
                call.reply(&mut *db, &opened, &answer, false).await
            }
            Err(refusal) => Ok(Err(refusal)),
        },
        Interface::Token => match call.open::<TokenRequest>(&mut *db).await? {
            Ok(opened) => {
                let given = session::give(&mut *db, identity, (pool, now_ns), &opened.payload.body).await?;
                call.reply(&mut *db, &opened, &said(given), false).await
            }
            Err(refusal) => Ok(Err(refusal)),
        },
        Interface::Logout => match call.open::<Logout>(&mut *db).await? {
            Ok(opened) => {
                let answer = said(session::end(&mut *db, (pool, now_ns), &opened.payload.body).await?);
                call.reply(&mut *db, &opened, &answer, false).await
            }
            Err(refusal) => Ok(Err(refusal)),
        },
        Interface::UserInfo => match call.open::<UserInfo>(&mut *db).await? {
            Ok(opened) => {
                let answer = said(session::user(&mut *db, (pool, now_ns), &opened.payload.body).await?);
                call.reply(&mut *db, &opened, &answer, false).await
            }
            Err(refusal) => Ok(Err(refusal)),
        },
        _ => Ok(Err(Refusal::new(Code::Malformed, "not an interface of a node"))),
    }
}

fn said<T>(judged: Result<T, Refusal>) -> Answer<T> {
    match judged {
        Ok(said) => Answer::Ok(said),
        Err(refusal) => Answer::Error(refusal.problem()),
    }
}

impl Call<'_> {
    /// Verifies the message and its token, and reads its body.
    async fn open<T: DeserializeOwned>(&self, db: &mut AnyConnection) -> Result<Result<Opened<T>, Refusal>, Error> {
        let opened = match open::<T>(&mut *db, (self.pool, self.interface), self.received).await? {
            Ok(opened) => opened,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let (place, shown) = ((self.pool, self.interface, self.now_ns), opened.payload.token.as_deref());
        Ok(session::admit(db, self.identity, place, shown).await?.map(|()| opened))
    }

    /// The answer to a message: the one given before where it was final, otherwise this one. The same id with other content
    /// is refused. Only final answers are kept: a question that is asked every minute leaves nothing behind.
    async fn reply<T, A: Serialize>(
        &self,
        db: &mut AnyConnection,
        opened: &Opened<T>,
        answer: &Answer<A>,
        is_final: bool,
    ) -> Result<Result<Vec<u8>, Refusal>, Error> {
        let id = opened.payload.id.as_str();
        let key = (self.pool, self.interface.name(), id);
        if let Some(before) = message::find(&mut *db, key).await? {
            if before.content != opened.content {
                return Ok(Err(Refusal::new(Code::Duplicate, format!("id {id} with other content"))));
            }
            if let Some(given) = before.answer.filter(|_| before.is_final) {
                return Ok(Ok(given));
            }
        }
        let sealed = seal(self.identity, self.now_ns, (self.pool, self.interface), Some(id), answer)?;
        if is_final {
            let stored = StoredMessage { content: opened.content.clone(), answer: Some(sealed.clone()), is_final };
            message::put(&mut *db, key, self.received, &stored, self.now_ns).await?;
        }
        Ok(Ok(sealed))
    }
}

/// A catalogue, retained or reported: its own certificates introduce the node.
///
/// # Errors
/// [`Error`] from the database; inside, the [`Refusal`].
pub(crate) async fn products(
    db: &mut AnyConnection,
    identity: &Identity,
    now_ns: i64,
    pool: &str,
    received: &[u8],
) -> Result<Result<Opened<Catalogue>, Refusal>, Error> {
    let listed = |catalogue: &Catalogue| catalogue.certificates.iter().map(|der| der.0.clone()).collect();
    let (opened, ders) = match introduced::<Catalogue>((pool, Interface::ProductReport), received, listed) {
        Ok(found) => found,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if let Err(refusal) = trust(&mut *db, identity, now_ns, pool, &ders).await? {
        return Ok(Err(refusal));
    }
    let body = serde_json::to_string(&opened.payload.body)?;
    node::set_catalogue(&mut *db, pool, opened.payload.body.revision, &body, now_ns).await?;
    Ok(Ok(opened))
}

/// A message that brings its signer's certificates, and holds under the first of them; whether those are trusted is still open.
///
/// # Errors
/// The [`Refusal`].
pub(crate) fn introduced<T: DeserializeOwned>(
    (pool, interface): (&str, Interface),
    received: &[u8],
    listed: impl Fn(&T) -> Vec<Vec<u8>>,
) -> Result<(Opened<T>, Vec<Vec<u8>>), Refusal> {
    #[derive(Deserialize)]
    struct Outer<T> {
        body: T,
    }
    let malformed = |error: hufu_trade::Error| Refusal::new(Code::Malformed, error);
    let envelope = Envelope::parse(received).map_err(malformed)?;
    let signer = envelope.signer().map_err(malformed)?;
    let json = URL_SAFE_NO_PAD.decode(&envelope.payload).map_err(|error| Refusal::new(Code::Malformed, error))?;
    let outer: Outer<T> = serde_json::from_slice(&json).map_err(|error| Refusal::new(Code::Malformed, error))?;
    let ders = listed(&outer.body);
    let leaf = ders.first().and_then(|der| Certificate::from_der(der).ok()).filter(|leaf| leaf.id() == signer.0);
    let leaf = leaf.ok_or_else(|| {
        Refusal::new(Code::Certificate, "the message is not signed under the first certificate in it")
    })?;
    Ok((read(&envelope, &leaf, (pool, interface), received)?, ders))
}

/// A pushed bill must be one whose block is stored and which was not refused.
async fn pushed(db: &mut AnyConnection, pool: &str, push: &BillPush) -> Result<Result<(), Refusal>, Error> {
    let number = &push.bill_no;
    let Some(found) = bill::find(&mut *db, number).await?.filter(|found| found.pool == pool) else {
        return Ok(Err(Refusal::new(Code::Unknown, format!("the block of bill {number} is not here yet"))));
    };
    if found.state != State::Payable {
        return Ok(Err(Refusal::new(Code::Amount, format!("bill {number} was refused"))));
    }
    let is_same = hufu_ledger::entry_hash(&push.entry.0).as_slice() == found.hash && found.total == push.total_cny;
    Ok(if is_same { Ok(()) } else { Err(Refusal::new(Code::Duplicate, format!("bill {number} is another one"))) })
}

/// What is known about the payment of a bill, and whether that is all there will be: while something of it is to go back, the
/// node asks on.
async fn paid(
    db: &mut AnyConnection,
    identity: &Identity,
    pool: &str,
    number: &str,
) -> Result<Result<(PaymentState, bool), Refusal>, Error> {
    let Some(found) = bill::find(&mut *db, number).await?.filter(|found| found.pool == pool) else {
        return Ok(Err(Refusal::new(Code::Unknown, format!("no bill {number} here"))));
    };
    let payment = bill::payment(&mut *db, number).await?;
    let refund = bill::refund(&mut *db, number).await?;
    let parent_bill = parent_bill(&mut *db, identity, number).await?;
    let is_settled = refund.is_some() || payment.as_ref().is_some_and(|paid| paid.amount == found.due);
    let state = match (&payment, &refund) {
        (None, _) => "unpaid",
        (Some(_), None) => "paid",
        (Some(_), Some(_)) => "refunded",
    };
    let state = PaymentState {
        bill_no: number.to_owned(),
        state: state.to_owned(),
        amount_cny: payment.as_ref().map(|paid| paid.amount.clone()),
        paid_at: payment.as_ref().map(|paid| rfc3339(paid.at_ns)),
        refund_cny: goes_back(db, &found, payment.as_ref()).await?,
        refunded_cny: refund.as_ref().map(|back| back.amount.clone()),
        refunded_at: refund.as_ref().map(|back| rfc3339(back.at_ns)),
        parent_bill,
    };
    Ok(Ok((state, is_settled)))
}

/// The parent bill that a bill was paid with. It is signed before a payment names it.
async fn parent_bill(db: &mut AnyConnection, identity: &Identity, number: &str) -> Result<Option<String>, Error> {
    let Some((hash, unsigned)) = parent::paid_with(&mut *db, number).await? else { return Ok(None) };
    if let Some(tbs) = unsigned {
        let signed = Signed::seal(tbs, &identity.cert_id, &identity.key)?.to_bytes()?;
        parent::set_signed(&mut *db, hash, &signed).await?;
    }
    Ok(Some(hash.to_string()))
}

/// What of a prepaid price goes back as its bill is paid: the price less what was paid.
async fn goes_back(
    db: &mut AnyConnection,
    found: &StoredBill,
    payment: Option<&Moved>,
) -> Result<Option<String>, Error> {
    let Some(paid) = payment else { return Ok(None) };
    let course = contract::course(&mut *db, &found.pool, list::contract_no(&found.contract)?).await?;
    let bills = course.map(|(contract, _)| contract.bills).unwrap_or_default();
    let Some(billed) = bills.iter().find(|billed| billed.hash.0.as_slice() == found.hash) else { return Ok(None) };
    let Some(refund) = billed.bill.refund else { return Ok(None) };
    Ok(Some(refund.plus(billed.bill.total)?.minus(paid.amount.parse()?)?.to_string()))
}

/// Presence as a node or its will says it; not signed, so it is shown and never relied on.
#[derive(Deserialize)]
struct Presence {
    state: String,
    #[serde(default)]
    boot: serde_json::Value,
    #[serde(default)]
    session: u64,
}

/// Keeps the presence of a node that is known; strangers leave no row.
///
/// # Errors
/// [`Error`] from the database; inside, the [`Refusal`].
pub(crate) async fn presence(
    db: &mut AnyConnection,
    now_ns: i64,
    pool: &str,
    received: &[u8],
) -> Result<Result<(), Refusal>, Error> {
    if received.is_empty() {
        return Ok(Ok(()));
    }
    if received.len() > MESSAGE_BYTES_MAX {
        let why = format!("{} bytes, at most {MESSAGE_BYTES_MAX}", received.len());
        return Ok(Err(Refusal::new(Code::Malformed, why)));
    }
    let presence: Presence = match serde_json::from_slice(received) {
        Ok(presence) => presence,
        Err(error) => return Ok(Err(Refusal::new(Code::Malformed, error))),
    };
    if !["online", "offline", "lost"].contains(&presence.state.as_str()) {
        return Ok(Err(Refusal::new(Code::Malformed, "presence is online, offline or lost")));
    }
    let boot: String = presence.boot.to_string().chars().take(80).collect();
    node::set_presence(&mut *db, pool, (&presence.state, &boot, presence.session), now_ns).await?;
    Ok(Ok(()))
}
