//! Takes the notices that an operator made with `hufu-platform notice`, and users' accounts, to their nodes: signs each once, sends it
//! until the node's answer stands for good, keeps the answer. Buyers' notices go by `relay.rs` alone.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use hufu_gm::Signed;
use hufu_trade::if2::{AccountTold, Answer, Interface, OrderChange, Sealed, content_id};
use serde_json::Value;
use tokio::{sync::watch, task::JoinSet};

use crate::{
    account as accounts,
    error::Error,
    identity::Identity,
    inbox::is_final,
    link::stopped,
    relay::Relay,
    store::{
        Store,
        account::{self, Untold},
        message,
        notice::{self, Pending},
        operation,
    },
    worker::Worker,
};

/// Between two looks into the database.
const PAUSE: Duration = Duration::from_secs(2);
/// Notices under way at once: nodes that are away must not take the places of buyers' requests.
const AT_ONCE: usize = 8;
/// Accounts that wait for nodes and are looked at in a round.
const UNTOLD_MAX: i64 = 4096;
/// An account is told again after so many rounds.
const ROUNDS_BETWEEN: u32 = 15;

/// What was told, and how many rounds ago.
pub(crate) type Sent = BTreeMap<Untold, u32>;

/// What a courier works with.
#[derive(Clone, Debug)]
pub(crate) struct Courier {
    /// Where notices and answers are kept.
    pub(crate) store: Store,
    /// Signs them.
    pub(crate) identity: Arc<Identity>,
    /// The way to the nodes.
    pub(crate) relay: Relay,
    /// Beside others it carries the notices of its own nodes.
    pub(crate) worker: Option<Worker>,
}

impl Courier {
    /// Works until `stop` is true.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut sent = Sent::new();
        loop {
            let round = async {
                // Notices wait for their nodes; accounts go on meanwhile.
                let notices = async {
                    if let Err(error) = self.round().await {
                        tracing::error!(%error, "notices not sent");
                    }
                    tokio::time::sleep(PAUSE).await;
                };
                let mut beside = Box::pin(notices);
                loop {
                    if let Err(error) = self.accounts(&mut sent).await {
                        tracing::error!(%error, "accounts not told");
                    }
                    if tokio::time::timeout(PAUSE, &mut beside).await.is_ok() {
                        return;
                    }
                }
            };
            tokio::select! {
                () = round => {}
                () = stopped(&mut stop) => return,
            }
        }
    }

    /// Takes every notice that waits to its node once.
    ///
    /// # Errors
    /// [`Error`] from the database; the next round tries again.
    pub(crate) async fn round(&self) -> Result<(), Error> {
        let mut tx = self.store.read().await?;
        let mut pending = notice::pending(&mut tx).await?;
        drop(tx);
        pending.retain(|pending| self.worker.as_ref().is_none_or(|worker| worker.holds(&pending.pool)));
        for some in pending.chunks(AT_ONCE) {
            let mut under_way = JoinSet::new();
            for pending in some.iter().cloned() {
                under_way.spawn(self.clone().take(pending));
            }
            while let Some(taken) = under_way.join_next().await {
                taken.unwrap_or(Err(Error::Damaged("a notice cannot be sent")))?;
            }
        }
        Ok(())
    }

    /// Signs what operators did, and takes the accounts that nodes lack to them. It waits for nobody: what was answered is looked for in
    /// the next round.
    ///
    /// # Errors
    /// [`Error`] from the database; the next round tries again.
    pub(crate) async fn accounts(&self, sent: &mut Sent) -> Result<(), Error> {
        let mut tx = self.store.read().await?;
        let is_due = !operation::unsigned(&mut tx, 1).await?.is_empty();
        drop(tx);
        if is_due {
            let mut tx = self.store.write().await?;
            accounts::seal(&mut tx, &self.identity).await?;
            tx.commit().await?;
        }
        let mut tx = self.store.read().await?;
        let mut untold = account::untold(&mut tx, UNTOLD_MAX).await?;
        untold.retain(|untold| self.worker.as_ref().is_none_or(|worker| worker.holds(&untold.pool)));
        let mut answered = Vec::new();
        for one in &untold {
            let id = content_id(Interface::Account, &serde_json::to_vec(&told(one)?)?);
            let found = message::find(&mut tx, (&one.pool, Interface::Account.name(), &id)).await?;
            if let Some(answer) = found.and_then(|message| message.answer) {
                answered.push((one.clone(), serde_json::from_slice::<Answer<Value>>(&answer)?));
            }
        }
        drop(tx);
        answered.retain(|(_, answer)| is_final(answer));
        if !answered.is_empty() {
            let mut tx = self.store.write().await?;
            for (one, answer) in &answered {
                let refused = match answer {
                    Answer::Ok(_) => None,
                    Answer::Error(problem) => Some(problem.code.as_str()),
                };
                account::told(&mut tx, one, refused).await?;
            }
            tx.commit().await?;
        }
        untold.retain(|one| answered.iter().all(|(other, _)| other != one));
        sent.retain(|one, _| untold.contains(one));
        for one in untold {
            let rounds = sent.entry(one.clone()).or_insert(0);
            if *rounds == 0 {
                self.relay.tell(&one.pool, Interface::Account, told(&one)?).await?;
            }
            *rounds = (*rounds + 1) % ROUNDS_BETWEEN;
        }
        Ok(())
    }

    async fn take(self, pending: Pending) -> Result<(), Error> {
        let body = order_change(&self.store, &self.identity, &pending).await?;
        // A node that is away or busy is asked again in the next round.
        let Ok(answer) = self.relay.ask(&pending.pool, Interface::OrderChange, body).await? else { return Ok(()) };
        if is_final(&answer) {
            keep(&self.store, &pending.id, &answer).await?;
        }
        Ok(())
    }
}

/// What a node is sent of a notice: signed once, and kept before it goes.
///
/// # Errors
/// [`Error`] from the database or the key.
pub(crate) async fn order_change(store: &Store, identity: &Identity, pending: &Pending) -> Result<Value, Error> {
    let signed = match &pending.signed {
        Some(signed) => signed.clone(),
        None => {
            let signed = Signed::seal(pending.tbs.clone(), &identity.cert_id, &identity.key)?.to_bytes()?;
            let mut tx = store.write().await?;
            notice::sign(&mut tx, &pending.id, &signed).await?;
            tx.commit().await?;
            signed
        }
    };
    Ok(serde_json::to_value(OrderChange { notice: Sealed(signed) })?)
}

/// Keeps the answer to a notice that stands for good.
///
/// # Errors
/// [`Error`] from the database.
pub(crate) async fn keep(store: &Store, id: &[u8], answer: &Answer<Value>) -> Result<(), Error> {
    let mut tx = store.write().await?;
    notice::answer(&mut tx, id, &serde_json::to_string(answer)?).await?;
    Ok(tx.commit().await?)
}

/// What a node is sent of an account.
pub(crate) fn told(untold: &Untold) -> Result<Value, Error> {
    Ok(serde_json::to_value(AccountTold { account: Sealed(untold.signed.clone()) })?)
}
