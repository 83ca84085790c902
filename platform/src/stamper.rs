//! Has a time-stamping service (RFC 3161) say when receipts existed: for each log the newest, at most once in a while. A token is kept
//! and goes into packs; a service that is away costs nothing but the token. Judging tokens is `hufu_audit`'s business.

use std::time::Duration;

use hufu_gm::{
    Signed, random,
    sm3::sm3,
    time_stamp::{BYTES_MAX, QUERY_TYPE, Request},
};
use tokio::sync::watch;

use crate::{
    blocking::blocking,
    error::Error,
    limit::Limit,
    link::stopped,
    store::{
        Store,
        stamp::{self, Unstamped},
    },
    worker::Worker,
};

/// Longest wait for the service.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Between two looks into the database.
const LOOK: Duration = Duration::from_secs(10);
/// One line in so many ns says that the service gives nothing.
const SAID_NS: i64 = 600_000_000_000;

/// What asks.
#[derive(Debug)]
pub(crate) struct Stamper {
    /// Where receipts and tokens are.
    pub(crate) store: Store,
    /// The service, `http://..`.
    pub(crate) url: String,
    /// Least time between two time-stamps of one log.
    pub(crate) every: Duration,
    /// Beside others it asks for its own nodes.
    pub(crate) worker: Option<Worker>,
    /// The clock.
    pub(crate) now: fn() -> i64,
}

impl Stamper {
    /// Works until `stop` is true.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut lines = Limit::new(1, SAID_NS);
        let config = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).http_status_as_error(false).build();
        let http: ureq::Agent = config.into();
        loop {
            let round = async {
                let why = match self.round(&http).await {
                    Ok(None) => None,
                    Ok(Some(why)) => Some(why),
                    Err(error) => Some(error.to_string()),
                };
                if let Some(why) = why.filter(|_| lines.allow((self.now)())) {
                    tracing::warn!(tsa = self.url, why, "no time-stamp");
                }
                tokio::time::sleep(LOOK.min(self.every)).await;
            };
            tokio::select! {
                () = round => {}
                () = stopped(&mut stop) => return,
            }
        }
    }

    /// Stamps what is due; why the service gave nothing, if it did not: the rest waits for the next round.
    async fn round(&self, http: &ureq::Agent) -> Result<Option<String>, Error> {
        let every_ns = i64::try_from(self.every.as_nanos()).unwrap_or(i64::MAX);
        let mut tx = self.store.read().await?;
        let mut due = stamp::due(&mut tx, (self.now)().saturating_sub(every_ns)).await?;
        drop(tx);
        due.retain(|one| self.worker.as_ref().is_none_or(|worker| worker.holds(&one.pool)));
        for one in due {
            match self.ask(http, &one).await? {
                Ok(token) => {
                    let mut tx = self.store.write().await?;
                    stamp::add(&mut tx, &one, &token, (self.now)()).await?;
                    tx.commit().await?;
                }
                Err(why) => return Ok(Some(why)),
            }
        }
        Ok(None)
    }

    /// One question; the token over a receipt's signature, or why there is none.
    async fn ask(&self, http: &ureq::Agent, of: &Unstamped) -> Result<Result<Vec<u8>, String>, Error> {
        let mut nonce = [0; 16];
        random::fill(&mut nonce)?;
        let request = Request::new(sm3(&[Signed::from_bytes(&of.bytes)?.signature()]), nonce);
        let (http, url, asked) = (http.clone(), self.url.clone(), request.to_der()?);
        let answered = blocking("tsa", move || post(&http, &url, &asked)).await;
        Ok(answered.and_then(|answer| request.token(&answer).map(|(token, _)| token).map_err(|e| e.to_string())))
    }
}

fn post(http: &ureq::Agent, url: &str, asked: &[u8]) -> Result<Vec<u8>, String> {
    let mut response = http.post(url).header("Content-Type", QUERY_TYPE).send(asked).map_err(|e| e.to_string())?;
    if !response.status().is_success() {
        return Err(format!("HTTP {}", response.status()));
    }
    let limit = u64::try_from(BYTES_MAX).unwrap_or(u64::MAX);
    response.body_mut().with_config().limit(limit).read_to_vec().map_err(|e| e.to_string())
}
