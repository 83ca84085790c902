//! Callbacks (7.4): the operator's own system is told over HTTP when an order or a bill changed, at least once, with the state that it has
//! then, signed. A receiver that is away costs nothing: what changed waits in the database.

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hufu_trade::octets::{ContractNo, rfc3339};
use serde_json::{Value, json};
use sqlx::AnyConnection;
use tokio::sync::watch;

use crate::{
    blocking::blocking,
    error::Error,
    identity::Identity,
    limit::Limit,
    link::stopped,
    store::{
        Store,
        change::{self, Change},
        invoice, list,
    },
    worker::Worker,
};

/// Longest wait for the receiver.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Between two looks into the database.
const LOOK: Duration = Duration::from_secs(1);
/// Longest pause after a failure.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Changes read at a time.
const PAGE: i64 = 64;
/// One line in so many ns says that the receiver takes nothing.
const SAID_NS: i64 = 600_000_000_000;

/// What tells.
#[derive(Debug)]
pub(crate) struct Teller {
    /// Where the changes wait.
    pub(crate) store: Store,
    /// Who signs.
    pub(crate) identity: Arc<Identity>,
    /// The receiver, `http://..`.
    pub(crate) url: String,
    /// Beside others one of them tells.
    pub(crate) worker: Option<Worker>,
    /// The clock.
    pub(crate) now: fn() -> i64,
}

/// Says in the database who is told from now on.
///
/// # Errors
/// [`Error`] from the database.
pub(crate) async fn tell(store: &Store, url: Option<&str>) -> Result<(), Error> {
    let mut tx = store.write().await?;
    change::tell(&mut tx, url).await?;
    tx.commit().await?;
    Ok(())
}

impl Teller {
    /// Works until `stop` is true.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut lines = Limit::new(1, SAID_NS);
        let config = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).http_status_as_error(false).build();
        let http: ureq::Agent = config.into();
        let mut pause = LOOK;
        loop {
            let round = async {
                let told =
                    if self.worker.as_ref().is_none_or(Worker::is_first) { self.round(&http).await } else { Ok(None) };
                match told.unwrap_or_else(|error| Some(error.to_string())) {
                    None => pause = LOOK,
                    Some(why) => {
                        pause = (pause * 2).min(PAUSE_MAX);
                        if lines.allow((self.now)()) {
                            tracing::warn!(url = self.url, why, "callback not taken");
                        }
                    }
                }
                tokio::time::sleep(pause).await;
            };
            tokio::select! {
                () = round => {}
                () = stopped(&mut stop) => return,
            }
        }
    }

    /// Tells what waits; why the receiver took something not, if it did not: that and the rest wait for the next round.
    async fn round(&self, http: &ureq::Agent) -> Result<Option<String>, Error> {
        let mut after = (String::new(), String::new());
        loop {
            let mut tx = self.store.read().await?;
            let page = change::waiting(&mut tx, (&after.0, &after.1), PAGE).await?;
            let mut messages = Vec::new();
            for one in &page {
                messages.push(self.message(&mut tx, one).await?);
            }
            drop(tx);
            let Some(last) = page.last() else { return Ok(None) };
            after = (last.kind.clone(), last.name.clone());
            for (one, message) in page.iter().zip(messages) {
                if let Some(message) = message
                    && let Err(why) = self.post(http, message).await
                {
                    return Ok(Some(why));
                }
                let mut tx = self.store.write().await?;
                change::told(&mut tx, one).await?;
                tx.commit().await?;
            }
        }
    }

    /// The signed message of a change; `None` where what changed is gone (lost, and not fetched back).
    async fn message(&self, db: &mut AnyConnection, change: &Change) -> Result<Option<Vec<u8>>, Error> {
        let shown: Option<Value> = match change.kind.as_str() {
            "order" => match ContractNo::from_hex(&change.name) {
                Some(no) => list::order(db, no).await?.map(|row| json!({ "order": row })),
                None => None,
            },
            _ => match list::bill(&mut *db, &change.name).await? {
                Some((row, hash)) => {
                    let last = invoice::last(db, &hash).await?;
                    Some(json!({ "bill": row, "invoice": last.map(|last| last.act.state()) }))
                }
                None => None,
            },
        };
        let Some(mut body) = shown else { return Ok(None) };
        body["event"] = change.kind.as_str().into();
        body["id"] = format!("{}:{}:{}", change.kind, change.name, change.turn).into();
        body["at"] = rfc3339((self.now)()).into();
        let payload = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&body)?);
        let sig = URL_SAFE_NO_PAD.encode(self.identity.key.sign(payload.as_bytes())?);
        let message = json!({ "v": 1, "payload": payload, "cert_id": self.identity.digest(), "sig": sig });
        Ok(Some(serde_json::to_vec(&message)?))
    }

    async fn post(&self, http: &ureq::Agent, message: Vec<u8>) -> Result<(), String> {
        let (http, url) = (http.clone(), self.url.clone());
        blocking("callback", move || {
            let sent = http.post(&url).header("Content-Type", "application/json").send(&message[..]);
            let status = sent.map_err(|e| e.to_string())?.status();
            if status.is_success() { Ok(()) } else { Err(format!("HTTP {status}")) }
        })
        .await
    }
}
