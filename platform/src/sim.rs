//! A platform for the simulation (ADR 0015): the inbox, the judgement and the database of `serve` without its threads, sockets
//! and clock. Who drives it hands it messages and takes the answers. Nothing of the program itself uses this.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use hufu_gm::{Certificate, Hash, sm2::SecretKey};
use hufu_ledger::Log;
use hufu_trade::{
    if2::{Answer, Interface, Topic},
    money::Money,
    octets::ContractNo,
};
use serde_json::Value;

use crate::{
    cmd::{notice as notices, pay, refund},
    courier,
    error::Error,
    identity::Identity,
    inbox::{Inbox, is_final},
    relay::{Asked, Question, Relay},
    store::{Create, FILE, Store, bill, fork, held, message, node, notice, tree},
};

/// Why the platform could not do something: its database. Never to be expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken(pub String);

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Self(error.to_string())
    }
}

impl From<std::io::Error> for Broken {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

/// A message to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where.
    pub topic: Topic,
    /// What.
    pub payload: Vec<u8>,
}

/// What became of somebody's request to a node.
#[derive(Clone, Debug)]
pub enum Request {
    /// It is kept under an id, and this message asks the node.
    Send(String, Message),
    /// It was answered for good before.
    Answered(Value),
    /// The platform refuses it, for this code.
    Refused(String),
}

/// A bill as the platform holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldBill {
    /// Entry hash.
    pub hash: Vec<u8>,
    /// Number.
    pub number: String,
    /// As signed, decimal CNY.
    pub total: String,
    /// After its corrections, decimal CNY.
    pub due: String,
    /// Whether it may be paid.
    pub is_payable: bool,
}

/// What the operator did, or why not.
pub type Done = Result<(), String>;

/// A platform.
pub struct Platform {
    runtime: tokio::runtime::Runtime,
    dir: PathBuf,
    identity: Arc<Identity>,
    store: Store,
    inbox: Inbox,
    relay: Relay,
    now: fn() -> i64,
}

impl Platform {
    /// Opens the database of a directory, or makes it.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn open(
        dir: &Path,
        (key, certificate): (&SecretKey, &Certificate),
        anchors: &[Certificate],
        now: fn() -> i64,
    ) -> Result<Self, Broken> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let subject = certificate.subject();
        let identity = Arc::new(Identity {
            name: subject.strip_prefix("CN=").unwrap_or(&subject).to_owned(),
            key: key.clone(),
            cert_id: certificate.id(),
            chain: vec![certificate.clone()],
            anchors: anchors.to_vec(),
            needs_tokens: false,
            known: hufu_gm::known::KnownKeys::new(crate::identity::KNOWN_KEY_COUNT_MAX),
        });
        let store = runtime.block_on(Store::open(dir, Create::IfMissing))?;
        let (inbox, relay) = working(&store, &identity, now);
        Ok(Self { runtime, dir: dir.to_owned(), identity, store, inbox, relay, now })
    }

    /// Takes a message in, in one transaction; gives what is to be published after it.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn take(&mut self, topic: &Topic, payload: &[u8]) -> Result<Vec<Message>, Broken> {
        let taken = self.runtime.block_on(self.inbox.take((self.now)(), topic, payload))?;
        let messages = taken.outgoing.into_iter();
        Ok(messages.map(|outgoing| Message { topic: outgoing.topic, payload: outgoing.payload }).collect())
    }

    /// Keeps a request to a node, and gives the message that asks it. Asked again, it is the same message.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn ask(&self, pool: &str, interface: Interface, body: &Value) -> Result<Request, Broken> {
        let asked = self.runtime.block_on(self.relay.question(pool, interface, body))?;
        Ok(match asked {
            Ok(Asked::Send(Question { id, outgoing })) => {
                Request::Send(id, Message { topic: outgoing.topic, payload: outgoing.payload })
            }
            Ok(Asked::Answered(answer)) => Request::Answered(serde_json::to_value(answer).map_err(Error::from)?),
            Err(refusal) => Request::Refused(refusal.code.name().to_owned()),
        })
    }

    /// The node's answer to a request, as it is kept.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn answer(&self, pool: &str, interface: Interface, id: &str) -> Result<Option<Value>, Broken> {
        let found = self.runtime.block_on(async {
            let mut tx = self.store.read().await?;
            message::find(&mut tx, (pool, interface.name(), id)).await
        })?;
        let answer = found.and_then(|message| message.answer);
        Ok(answer.map(|answer| serde_json::from_slice(&answer)).transpose().map_err(Error::from)?)
    }

    /// As `hufu-platform pay`.
    ///
    /// # Errors
    /// [`Broken`]; inside, why it is refused.
    pub fn pay(&self, number: &str, amount: Money) -> Result<Done, Broken> {
        let now_ns = (self.now)();
        let reference = format!("paid {number}");
        Ok(self.runtime.block_on(async {
            let mut tx = self.store.write().await?;
            let done = pay::record(&mut tx, number, amount, &reference, now_ns).await?;
            tx.commit().await?;
            Ok::<_, Error>(done.map(drop).map_err(|text| format!("{text:?}")))
        })?)
    }

    /// As `hufu-platform refund`.
    ///
    /// # Errors
    /// [`Broken`]; inside, why it is refused.
    pub fn refund(&self, number: &str, amount: Money) -> Result<Done, Broken> {
        let now_ns = (self.now)();
        let reference = format!("back {number}");
        Ok(self.runtime.block_on(async {
            let mut tx = self.store.write().await?;
            let done = refund::record(&mut tx, number, amount, &reference, now_ns).await?;
            tx.commit().await?;
            Ok::<_, Error>(done.map(drop).map_err(|text| format!("{text:?}")))
        })?)
    }

    /// What was paid for a bill and was not paid back, as the operator recorded it.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn paid(&self, number: &str) -> Result<Option<Money>, Broken> {
        let found = self.runtime.block_on(async {
            let mut tx = self.store.read().await?;
            Ok::<_, Error>((bill::payment(&mut tx, number).await?, bill::refund(&mut tx, number).await?))
        })?;
        match found {
            (Some(paid), None) => Ok(Some(paid.amount.parse().map_err(Error::from)?)),
            _ => Ok(None),
        }
    }

    /// As `hufu-platform notice`.
    ///
    /// # Errors
    /// [`Broken`]; inside, why it is refused.
    pub fn notice(&self, no: ContractNo, act: &str, bill: Option<&str>) -> Result<Done, Broken> {
        let now_ns = (self.now)();
        Ok(self.runtime.block_on(async {
            let mut tx = self.store.write().await?;
            let done = notices::record(&mut tx, no, (act, bill, "a simulation"), now_ns).await?;
            tx.commit().await?;
            Ok::<_, Error>(done.map(drop).map_err(|text| format!("{text:?}")))
        })?)
    }

    /// One round of the courier: the messages of the operator's notices that wait; what was answered for good is kept.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn courier(&self) -> Result<Vec<Message>, Broken> {
        Ok(self.runtime.block_on(self.carry())?)
    }

    async fn carry(&self) -> Result<Vec<Message>, Error> {
        let mut tx = self.store.read().await?;
        let pending = notice::pending(&mut tx).await?;
        drop(tx);
        let mut messages = Vec::new();
        for pending in pending {
            let body = courier::order_change(&self.store, &self.identity, &pending).await?;
            // The answer that came since the last round is looked at before it is asked again.
            if let Some(answer) = self.answered(&pending.pool, &body).await?.filter(is_final) {
                courier::keep(&self.store, &pending.id, &answer).await?;
            } else if let Ok(Asked::Send(Question { outgoing, .. })) =
                self.relay.question(&pending.pool, Interface::OrderChange, &body).await?
            {
                messages.push(Message { topic: outgoing.topic, payload: outgoing.payload });
            }
        }
        Ok(messages)
    }

    async fn answered(&self, pool: &str, body: &Value) -> Result<Option<Answer<Value>>, Error> {
        let id = hufu_trade::if2::content_id(Interface::OrderChange, &serde_json::to_vec(body)?);
        let mut tx = self.store.read().await?;
        let found = message::find(&mut tx, (pool, Interface::OrderChange.name(), &id)).await?;
        let answer = found.and_then(|message| message.answer);
        Ok(answer.map(|answer| serde_json::from_slice(&answer)).transpose()?)
    }

    /// Size and root of a node's log as it is held.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn held(&self, pool: &str, log: Log) -> Result<(u64, Hash), Broken> {
        Ok(self.runtime.block_on(async {
            let mut tx = self.store.read().await?;
            let size = node::log(&mut tx, pool, log.number()).await?.size;
            let root = tree::root(&mut tx, pool, log.number(), size).await?;
            Ok::<_, Error>((size, root))
        })?)
    }

    /// Everything that was refused or contradicts what was signed before, of a node, in words.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn faults(&self, pool: &str) -> Result<Vec<String>, Broken> {
        Ok(self.runtime.block_on(async {
            let mut tx = self.store.read().await?;
            let refused = held::refused(&mut tx, pool).await?.into_iter();
            let refused =
                refused.map(|(log, height, kind, code)| format!("refused {log}-{height} kind {kind}: {code}"));
            let forks = held::forks(&mut tx, pool).await?.into_iter();
            let proofs = fork::all(&mut tx).await?.into_iter().filter(|proof| proof.node == pool);
            let proofs = proofs.map(|proof| format!("fork proof {} of the {} log", proof.number, proof.log));
            let forks = forks.map(|(log, height)| format!("fork {log}-{height}"));
            Ok::<_, Error>(refused.chain(forks).chain(proofs).collect())
        })?)
    }

    /// States of a node's contracts, by number.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn states(&self, pool: &str) -> Result<Vec<(Vec<u8>, String)>, Broken> {
        Ok(self.runtime.block_on(async {
            let mut tx = self.store.read().await?;
            held::states(&mut tx, pool).await
        })?)
    }

    /// Bills of a node.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn bills(&self, pool: &str) -> Result<Vec<HeldBill>, Broken> {
        let rows = self.runtime.block_on(async {
            let mut tx = self.store.read().await?;
            held::bills(&mut tx, pool).await
        })?;
        let bill = |(hash, number, total, due, state): (Vec<u8>, String, String, Option<String>, String)| {
            let is_payable = bill::State::of(&state, due.as_ref()) == bill::State::Payable;
            HeldBill { hash, number, due: due.unwrap_or_else(|| total.clone()), total, is_payable }
        };
        Ok(rows.into_iter().map(bill).collect())
    }

    /// Writes a backup of the database.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn back_up(&self, to: &Path) -> Result<(), Broken> {
        Ok(self.runtime.block_on(self.store.copy(to))?)
    }

    /// Ends and starts again, with a backup in place of the database where one is given.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn restart(&mut self, backup: Option<&Path>) -> Result<(), Broken> {
        self.runtime.block_on(self.inbox.leave())?;
        self.runtime.block_on(self.store.close());
        if let Some(backup) = backup {
            for beside in ["-wal", "-shm"] {
                std::fs::remove_file(self.dir.join(format!("{FILE}{beside}"))).ok();
            }
            std::fs::copy(backup, self.dir.join(FILE))?;
        }
        self.store = self.runtime.block_on(Store::open(&self.dir, Create::Never))?;
        (self.inbox, self.relay) = working(&self.store, &self.identity, self.now);
        Ok(())
    }
}

fn working(store: &Store, identity: &Arc<Identity>, now: fn() -> i64) -> (Inbox, Relay) {
    // Nobody waits at these ends: who simulates the link looks for answers himself.
    let (outgoing, _) = tokio::sync::mpsc::channel(1);
    let (answered, _) = tokio::sync::broadcast::channel(1);
    let inbox = Inbox::new(store.clone(), Arc::clone(identity));
    (inbox, Relay::new(store.clone(), Arc::clone(identity), outgoing, answered, now))
}
