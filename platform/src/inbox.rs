//! What nodes send: each message is judged, and message, judgement and answer are stored in one transaction before the
//! answer leaves; messages that came together share one. Ledger blocks are `blocks.rs`, the small messages `quick.rs`; MQTT is `link.rs`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use hufu_trade::if2::{Answer, Interface, Told, Topic};
use sqlx::{AnyConnection, Connection};

use crate::{
    blocks,
    desk::Desks,
    envelope,
    error::Error,
    fetch, fork,
    identity::Identity,
    judge::{Code, Refusal, certificate},
    limit::Limit,
    quick,
    seat::{self, Seat},
    store::{
        Kind, SQLITE_BEGIN, Store, alarm, is_unstorable, lease,
        message::{self, StoredMessage},
        node,
    },
    witness,
};

/// Alarms about messages a minute; senders nobody vouches for cannot fill the table or the log.
const ALARMS_A_MINUTE: u32 = 60;

/// A message to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outgoing {
    /// Where.
    pub(crate) topic: Topic,
    /// What.
    pub(crate) payload: Vec<u8>,
}

/// What came back from a node for a request of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answered {
    /// The node.
    pub(crate) pool: String,
    /// Id of the request.
    pub(crate) id: String,
}

/// What taking a message in led to.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// To be published, after the commit.
    pub(crate) outgoing: Vec<Outgoing>,
    /// A request of ours that was answered.
    pub(crate) answered: Option<Answered>,
}

/// Most messages that are judged and stored in one transaction.
pub(crate) const BATCH_MAX: usize = 64;

/// A message that came: where, and what.
pub(crate) type Received<'a> = (&'a Topic, &'a [u8]);

/// The writer of what nodes send: of all, or of those whose parts its worker holds.
#[derive(Debug)]
pub(crate) struct Inbox {
    store: Store,
    identity: Arc<Identity>,
    alarms: Limit,
    worker: Option<String>,
    /// On a database that is a file.
    seat: Option<Seat>,
}

impl Inbox {
    /// An inbox over a database that has no other.
    pub(crate) fn new(store: Store, identity: Arc<Identity>) -> Self {
        Self { store, identity, alarms: Limit::new(ALARMS_A_MINUTE, 60_000_000_000), worker: None, seat: None }
    }

    /// The inbox of a worker beside others: messages of nodes that it does not hold are dropped, their holder has them too.
    pub(crate) fn of_worker(self, worker: Option<String>) -> Self {
        Self { worker, ..self }
    }

    /// Gives up the connection that it keeps between messages.
    ///
    /// # Errors
    /// [`Error::Sql`].
    pub(crate) async fn leave(&mut self) -> Result<(), Error> {
        match self.seat.take() {
            Some(seat) => Ok(seat.db.close().await?),
            None => Ok(()),
        }
    }

    /// The connection that it keeps between messages.
    #[cfg(test)]
    pub(crate) fn connection(&mut self) -> Option<&mut AnyConnection> {
        self.seat.as_mut().map(|seat| &mut seat.db)
    }

    /// Takes one message in.
    ///
    /// # Errors
    /// [`Error`] when the database failed: nothing was stored and nothing may be answered; the node sends it again.
    pub(crate) async fn take(&mut self, now_ns: i64, topic: &Topic, payload: &[u8]) -> Result<Taken, Error> {
        Ok(self.take_many(now_ns, &[(topic, payload)]).await?.pop().unwrap_or_default())
    }

    /// Takes messages in, in their order, at most [`BATCH_MAX`] in one transaction; for each of them what it led to. Where the
    /// transaction fails each is tried alone, so that none stands in another's way.
    ///
    /// # Errors
    /// [`Error`] when the database failed: of one that is not answered nothing is stored, and its node sends it again.
    pub(crate) async fn take_many(&mut self, now_ns: i64, messages: &[Received<'_>]) -> Result<Vec<Taken>, Error> {
        let mut all = Vec::with_capacity(messages.len());
        for batch in messages.chunks(BATCH_MAX) {
            match self.together(now_ns, batch).await {
                Ok(taken) => all.extend(taken),
                Err(error) => {
                    if batch.len() > 1 {
                        tracing::warn!(%error, "messages not stored together; trying each alone");
                    }
                    for message in batch {
                        all.push(self.alone(now_ns, *message).await?);
                    }
                }
            }
        }
        Ok(all)
    }

    async fn together(&mut self, now_ns: i64, messages: &[Received<'_>]) -> Result<Vec<Taken>, Error> {
        let (mut tx, held) = match (&self.worker, self.store.kind()) {
            (None, Kind::Sqlite) => return self.seated(now_ns, messages).await,
            (None, Kind::Postgres) => (self.store.write().await?, None),
            (Some(worker), _) => {
                let mut tx = self.store.write_beside().await?;
                let held = lease::held(&mut tx, worker).await?;
                (tx, Some(held))
            }
        };
        let all = self.judge_all(&mut tx, (now_ns, &mut Desks::default()), held.as_ref(), messages).await?;
        tx.commit().await?;
        Ok(all)
    }

    /// Where the connection is our own and nobody else has written, what was known with the last batch still is.
    async fn seated(&mut self, now_ns: i64, messages: &[Received<'_>]) -> Result<Vec<Taken>, Error> {
        let mut seat = match self.seat.take() {
            Some(seat) => seat,
            None => Seat::take(&self.store).await?,
        };
        let Seat { db, known } = &mut seat;
        let mut tx = db.begin_with(SQLITE_BEGIN).await?;
        let version = seat::version(&mut tx).await?;
        let mut desks = known.take(version).at(now_ns);
        let all = self.judge_all(&mut tx, (now_ns, &mut desks), None, messages).await?;
        tx.commit().await?;
        known.keep(version, desks);
        self.seat = Some(seat);
        Ok(all)
    }

    /// Judges messages of a transaction, in their order; but what changes nothing comes behind the blocks that it stands between, so that
    /// they are judged and written together.
    async fn judge_all(
        &mut self,
        db: &mut AnyConnection,
        (now_ns, desks): (i64, &mut Desks),
        held: Option<&BTreeSet<i64>>,
        messages: &[Received<'_>],
    ) -> Result<Vec<Taken>, Error> {
        let numbered: Vec<(usize, &Received<'_>)> = messages.iter().enumerate().collect();
        let may_turn = |(_, (topic, _)): &(usize, &Received<'_>)| is_blocks(topic) || leaves_facts(topic);
        let mut all: BTreeMap<usize, Taken> = BTreeMap::new();
        for run in numbered.chunk_by(|one, next| may_turn(one) && may_turn(next)) {
            let (later, now): (Vec<_>, Vec<_>) = run.iter().partition(|(_, (topic, _))| leaves_facts(topic));
            for (index, (topic, payload)) in now.into_iter().chain(later) {
                // A batch is judged in one go, and buyers are served by the same thread.
                tokio::task::yield_now().await;
                let is_held =
                    held.is_none_or(|held| pool_of(topic).is_some_and(|pool| held.contains(&lease::part_of(pool))));
                let taken = if is_held {
                    self.judge(&mut *db, (now_ns, &mut *desks), topic, payload).await?
                } else {
                    Taken::default()
                };
                all.insert(index, taken);
            }
        }
        desks.write_all(db).await?;
        Ok(all.into_values().collect())
    }

    /// One message in a transaction of its own. What the database has no place for is refused like anything malformed: tried
    /// again it would fail for ever.
    async fn alone(&mut self, now_ns: i64, (topic, payload): Received<'_>) -> Result<Taken, Error> {
        match self.together(now_ns, &[(topic, payload)]).await {
            Err(error) if is_unstorable(&error) => {
                let mut tx = self.store.write().await?;
                let refusal = Refusal::new(Code::Malformed, "text with a NUL in it");
                let mut taken = Taken::default();
                self.refuse(&mut tx, now_ns, (topic, payload), &refusal, &mut taken).await?;
                tx.commit().await?;
                Ok(taken)
            }
            taken => Ok(taken?.pop().unwrap_or_default()),
        }
    }

    /// Judges a message, and stores it with its answers.
    async fn judge(
        &mut self,
        db: &mut AnyConnection,
        (now_ns, desks): (i64, &mut Desks),
        topic: &Topic,
        payload: &[u8],
    ) -> Result<Taken, Error> {
        let identity = Arc::clone(&self.identity);
        let mut taken = Taken::default();
        // What is told of logs is held against what is stored by then; the rest of it is compared later.
        let is_of_log = matches!(topic, Topic::Ledger { .. } | Topic::LedgerTo { .. });
        if let Some(pool) = pool_of(topic).filter(|_| !is_blocks(topic) && !is_of_log) {
            // Every other message finds everything in the database.
            if leaves_facts(topic) {
                desks.write(&mut *db, pool).await?;
            } else {
                desks.put_away(&mut *db, pool).await?;
            }
        }
        let outcome = match topic {
            Topic::Call { pool, interface: Interface::Blocks, answer: false } => {
                let answers =
                    blocks::take(&mut *db, &identity, (now_ns, &mut self.alarms, desks), pool, payload).await?;
                answers.map(|answers| taken.outgoing = answers)
            }
            Topic::Call { pool, interface: Interface::Fetch, answer: false } => {
                let answers = fetch::take(&mut *db, &identity, now_ns, pool, payload).await?;
                answers.map(|answers| taken.outgoing = answers)
            }
            Topic::Call { pool, interface, answer: false } if interface.is_up() => {
                let answer = quick::take(&mut *db, &identity, now_ns, (pool, *interface), payload).await?;
                answer.map(|payload| taken.outgoing.push(Outgoing { topic: answer_topic(pool, *interface), payload }))
            }
            Topic::Call { pool, interface, answer: true } if !interface.is_up() => {
                let answered = answer(&mut *db, (pool, *interface), payload).await?;
                answered.map(|answered| taken.answered = answered)
            }
            Topic::Ledger { pool, told: Told::Headers } => {
                fork::headers(&mut *db, now_ns, pool, payload).await?.map(|outgoing| taken.outgoing = outgoing)
            }
            Topic::Ledger { pool, told: Told::Fork(_) } => {
                let shown = fork::shown(&mut *db, &identity, now_ns, (pool, payload)).await?;
                shown.map(|outgoing| taken.outgoing = outgoing)
            }
            Topic::Ledger { pool, told: Told::Checkpoint(log) } => {
                witness::checkpoint(&mut *db, (pool, *log), payload).await?
            }
            Topic::Products { pool } => quick::products(&mut *db, &identity, now_ns, pool, payload).await?.map(drop),
            Topic::Presence { pool } => quick::presence(&mut *db, now_ns, pool, payload).await?,
            _ => Ok(()),
        };
        if let Err(refusal) = &outcome {
            self.refuse(db, now_ns, (topic, payload), refusal, &mut taken).await?;
        }
        Ok(taken)
    }

    async fn refuse(
        &mut self,
        db: &mut AnyConnection,
        now_ns: i64,
        (topic, payload): Received<'_>,
        refusal: &Refusal,
        taken: &mut Taken,
    ) -> Result<(), Error> {
        let Some(pool) = pool_of(topic) else { return Ok(()) };
        // A node that has no token yet is told so and gets one: nobody need look at that.
        if refusal.code != Code::Token && self.alarms.allow(now_ns) {
            tracing::warn!(pool, code = refusal.code.name(), why = %refusal.why, "message refused");
            alarm::raise(db, pool, refusal.code.name(), &refusal.why, now_ns).await?;
        }
        if let Topic::Call { interface, answer: false, .. } = topic {
            let problem = refusal.problem();
            let payload = envelope::refuse(&self.identity, now_ns, (pool, *interface), payload, problem)?;
            taken.outgoing.push(Outgoing { topic: answer_topic(pool, *interface), payload });
        }
        Ok(())
    }
}

fn is_blocks(topic: &Topic) -> bool {
    matches!(topic, Topic::Call { interface: Interface::Blocks, answer: false, .. })
}

/// Whether a message leaves all that blocks are judged by as it is.
fn leaves_facts(topic: &Topic) -> bool {
    match topic {
        Topic::Presence { .. } => true,
        Topic::Call { interface, answer: false, .. } => matches!(
            interface,
            Interface::BillPush
                | Interface::PaymentConfirm
                | Interface::Demands
                | Interface::AuthCode
                | Interface::Token
                | Interface::UserInfo
        ),
        _ => false,
    }
}

fn pool_of(topic: &Topic) -> Option<&str> {
    match topic {
        Topic::Presence { pool }
        | Topic::Products { pool }
        | Topic::Call { pool, .. }
        | Topic::Ledger { pool, .. }
        | Topic::LedgerTo { pool, .. } => Some(pool),
        Topic::PlatformState { .. } => None,
    }
}

/// The topic of the platform's answer.
pub(crate) fn answer_topic(pool: &str, interface: Interface) -> Topic {
    Topic::Call { pool: pool.to_owned(), interface, answer: true }
}

/// Whether an answer of a node stands for good. What passes by itself is asked again: the node was busy, had no room, or
/// did not know yet.
pub(crate) fn is_final(answer: &Answer<serde_json::Value>) -> bool {
    match answer {
        Answer::Ok(_) => true,
        Answer::Error(problem) => !["busy", "stock", "unknown"].contains(&problem.code.as_str()),
    }
}

/// Whether the request was granted, with an answer that may still be followed by a fuller one.
pub(crate) fn is_accepted(before: &StoredMessage) -> bool {
    let answer = before.answer.as_deref().and_then(|answer| serde_json::from_slice(answer).ok());
    matches!(answer, Some(Answer::<serde_json::Value>::Ok(_))) && !before.is_final
}

/// A node's answer to a request of ours.
async fn answer(
    db: &mut AnyConnection,
    (pool, interface): (&str, Interface),
    received: &[u8],
) -> Result<Result<Option<Answered>, Refusal>, Error> {
    let opened = envelope::open::<Answer<serde_json::Value>>(&mut *db, (pool, interface), received).await?;
    let payload = match opened {
        Ok(opened) => opened.payload,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let Some(id) = payload.re else {
        return Ok(Err(Refusal::new(Code::Malformed, "an answer names what it answers")));
    };
    let body = serde_json::to_vec(&payload.body)?;
    let key = (pool, interface.name(), id.as_str());
    let before = message::find(&mut *db, key).await?;
    if matches!(payload.body, Answer::Error(_)) && before.as_ref().is_some_and(is_accepted) {
        // Asked once more for its address, the node is busy: what it accepted stands.
        return Ok(Ok(Some(Answered { pool: pool.to_owned(), id })));
    }
    let lacks_address =
        interface == Interface::SendOrder && matches!(&payload.body, Answer::Ok(body) if body["address"].is_null());
    // The deal is signed before its place is made; the same order asked later is answered with where to go.
    let is_final = is_final(&payload.body) && !lacks_address;
    let was_asked = message::answer(&mut *db, key, &body, is_final).await?;
    Ok(Ok(was_asked.then(|| Answered { pool: pool.to_owned(), id })))
}

/// Verifies a chain for a node and keeps it.
///
/// # Errors
/// [`Error`] from the database; inside, the [`Refusal`].
pub(crate) async fn trust(
    db: &mut AnyConnection,
    identity: &Identity,
    now_ns: i64,
    pool: &str,
    ders: &[Vec<u8>],
) -> Result<Result<(), Refusal>, Error> {
    match certificate::for_node(ders, &identity.anchors, now_ns, pool) {
        Ok(chain) => {
            node::see(&mut *db, pool, now_ns).await?;
            node::add_certificates(&mut *db, pool, &chain, now_ns).await?;
            Ok(Ok(()))
        }
        Err(refusal) => Ok(Err(refusal)),
    }
}
