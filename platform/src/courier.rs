//! Takes the notices that an operator made with `hufu-platform notice` to their nodes: signs each once, sends it until the
//! node's answer stands for good, keeps the answer. Buyers' notices go by `relay.rs` alone.

use std::{sync::Arc, time::Duration};

use hufu_gm::Signed;
use hufu_trade::if2::{Answer, Interface, OrderChange, Sealed};
use serde_json::Value;
use tokio::{sync::watch, task::JoinSet};

use crate::{
    error::Error,
    identity::Identity,
    inbox::is_final,
    link::stopped,
    relay::Relay,
    store::{
        Store,
        notice::{self, Pending},
    },
    worker::Worker,
};

/// Between two looks into the database.
const PAUSE: Duration = Duration::from_secs(2);
/// Notices under way at once: nodes that are away must not take the places of buyers' requests.
const AT_ONCE: usize = 8;

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
        loop {
            let round = async {
                if let Err(error) = self.round().await {
                    tracing::error!(%error, "notices not sent");
                }
                tokio::time::sleep(PAUSE).await;
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
