//! Buyers' requests on their way to a node: kept, sent in a signed envelope, answered with what the node signed. The same
//! request again is the same message, and gets the answer it got.

use std::{sync::Arc, time::Duration};

use hufu_gm::sm3::sm3;
use hufu_trade::if2::{Answer, Envelope, Interface, PLATFORM, Topic};
use serde_json::Value;
use tokio::{
    sync::{Semaphore, broadcast, mpsc},
    time::timeout,
};

use crate::{
    error::Error,
    identity::Identity,
    inbox::{Answered, Outgoing, is_accepted},
    judge::{Code, Refusal},
    store::{
        Kind, Store,
        message::{self, StoredMessage},
        node,
    },
};

/// A request is published again after this long: the link may have been down, the node restarting.
const AGAIN: Duration = Duration::from_secs(2);
/// On a database that workers share it is looked for so often in between.
const LOOKS: u32 = 8;
/// So often; then the buyer is told to ask again.
const TIMES: u32 = 15;
/// Requests that may be under way at once; whoever comes then is told to come again.
const ASKED_MAX: usize = 64;

/// A request that is kept, and its message.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    /// Its id.
    pub(crate) id: String,
    /// The message, to be sent until it is answered.
    pub(crate) outgoing: Outgoing,
}

/// What became of a request before anything is sent.
#[derive(Debug)]
pub(crate) enum Asked {
    /// It is to be sent.
    Send(Question),
    /// It was answered for good before.
    Answered(Answer<Value>),
}

/// The way from a buyer's request to the node and back.
#[derive(Clone, Debug)]
pub(crate) struct Relay {
    store: Store,
    identity: Arc<Identity>,
    outgoing: mpsc::Sender<Outgoing>,
    answered: broadcast::Sender<Answered>,
    places: Arc<Semaphore>,
    now: fn() -> i64,
}

impl Relay {
    /// A relay that publishes through `outgoing` and is told of answers through `answered`.
    pub(crate) fn new(
        store: Store,
        identity: Arc<Identity>,
        outgoing: mpsc::Sender<Outgoing>,
        answered: broadcast::Sender<Answered>,
        now: fn() -> i64,
    ) -> Self {
        Self { store, identity, outgoing, answered, places: Arc::new(Semaphore::new(ASKED_MAX)), now }
    }

    /// Asks a node and waits for its answer.
    ///
    /// # Errors
    /// [`Error`] from the database; inside, the [`Refusal`]: an unknown node, or no answer in time (`busy`).
    pub(crate) async fn ask(
        &self,
        pool: &str,
        interface: Interface,
        body: Value,
    ) -> Result<Result<Answer<Value>, Refusal>, Error> {
        let Ok(_place) = self.places.try_acquire() else {
            return Ok(Err(Refusal::new(Code::Busy, "too many requests are under way")));
        };
        // Listening starts before anything is sent, so that no answer is missed.
        let mut answers = self.answered.subscribe();
        let question = match self.question(pool, interface, &body).await? {
            Ok(Asked::Send(question)) => question,
            Ok(Asked::Answered(before)) => return Ok(Ok(before)),
            Err(refusal) => return Ok(Err(refusal)),
        };
        let Question { id, outgoing } = question;
        let key = (pool, interface.name(), id.as_str());
        let wanted = Answered { pool: pool.to_owned(), id: id.clone() };
        // The worker that holds the node takes its answer in; it may be another one, which nobody hears here.
        let looks = match self.store.kind() {
            Kind::Sqlite => 1,
            Kind::Postgres => LOOKS,
        };
        for look in 0..TIMES.saturating_mul(looks) {
            if look % looks == 0 {
                // A full queue is a link that is down: the next round tries again.
                self.outgoing.try_send(outgoing.clone()).ok();
            }
            let is_heard = timeout(AGAIN / looks, heard(&mut answers, &wanted)).await.is_ok();
            if !is_heard && looks == 1 {
                continue;
            }
            let mut tx = self.store.read().await?;
            if let Some(answer) = message::find(&mut tx, key).await?.and_then(|stored| stored.answer) {
                return Ok(Ok(serde_json::from_slice(&answer)?));
            }
        }
        // A node that is away: what it accepted before stands.
        let mut tx = self.store.read().await?;
        if let Some(before) = message::find(&mut tx, key).await?.filter(is_accepted)
            && let Some(answer) = before.answer
        {
            return Ok(Ok(serde_json::from_slice(&answer)?));
        }
        drop(tx);
        let waited = AGAIN.saturating_mul(TIMES).as_secs();
        Ok(Err(Refusal::new(Code::Busy, format!("{pool} did not answer in {waited} s"))))
    }

    /// Sends a request to a node once and waits for nothing; one that was answered for good is not sent again.
    ///
    /// # Errors
    /// [`Error`] from the database.
    pub(crate) async fn tell(&self, pool: &str, interface: Interface, body: Value) -> Result<(), Error> {
        if let Ok(Asked::Send(question)) = self.question(pool, interface, &body).await? {
            // A full queue is a link that is down: it is told again.
            self.outgoing.try_send(question.outgoing).ok();
        }
        Ok(())
    }

    /// Signs a request and keeps it, to be sent until it is answered; gives the answer, where it has a final one already.
    ///
    /// # Errors
    /// [`Error`] from the database; inside, the [`Refusal`]: an unknown node, or a request that is too long.
    pub(crate) async fn question(
        &self,
        pool: &str,
        interface: Interface,
        body: &Value,
    ) -> Result<Result<Asked, Refusal>, Error> {
        let now_ns = (self.now)();
        let (key, cert_id) = (&self.identity.key, self.identity.digest());
        let asked = interface.is_question().then_some(now_ns);
        let sealed = Envelope::seal(interface, PLATFORM, pool, now_ns, None, asked, body, key, cert_id);
        let (id, payload) = match sealed {
            Ok(sealed) => sealed,
            Err(error @ hufu_trade::Error::Field { .. }) => return Ok(Err(Refusal::new(Code::Malformed, error))),
            Err(error) => return Err(error.into()),
        };
        let key = (pool, interface.name(), id.as_str());
        match self.keep(key, body, &payload, now_ns).await? {
            Ok(None) => {}
            Ok(Some(before)) => return Ok(Ok(Asked::Answered(before))),
            Err(refusal) => return Ok(Err(refusal)),
        }
        let outgoing = Outgoing { topic: Topic::Call { pool: pool.to_owned(), interface, answer: false }, payload };
        Ok(Ok(Asked::Send(Question { id, outgoing })))
    }

    /// Keeps the request before it is sent; gives the answer, where it has a final one already.
    async fn keep(
        &self,
        key: message::Key<'_>,
        body: &Value,
        payload: &[u8],
        now_ns: i64,
    ) -> Result<Result<Option<Answer<Value>>, Refusal>, Error> {
        let mut tx = self.store.write().await?;
        if !node::is_known(&mut tx, key.0).await? {
            return Ok(Err(Refusal::new(Code::Unknown, format!("no node {} here", key.0))));
        }
        let before = message::find(&mut tx, key).await?;
        if let Some(answer) = before.as_ref().filter(|before| before.is_final).and_then(|before| before.answer.as_ref())
        {
            return Ok(Ok(Some(serde_json::from_slice(answer)?)));
        }
        let content = sm3(&[body.to_string().as_bytes()]).to_vec();
        let answer = before.filter(is_accepted).and_then(|before| before.answer);
        let message = StoredMessage { content, answer, is_final: false };
        message::put(&mut tx, key, payload, &message, now_ns).await?;
        tx.commit().await?;
        Ok(Ok(None))
    }
}

/// Waits for an answer. A listener that fell behind looks for itself.
async fn heard(answers: &mut broadcast::Receiver<Answered>, wanted: &Answered) {
    loop {
        match answers.recv().await {
            Ok(answered) if answered != *wanted => {}
            // The sender lives as long as the link; without a link there is nothing to wait for.
            _ => return,
        }
    }
}
