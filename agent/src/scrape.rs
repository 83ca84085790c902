//! Serving `/metrics` over HTTP, in the network's own runtime. Whoever asks is a stranger: few connections, short requests, a
//! time limit for each, and the writer is asked at most once a second, however many ask.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, mpsc::SyncSender},
    time::Duration,
};

use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderMap},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Mutex, Semaphore, oneshot},
};

use crate::{clock, metrics::Show, writer::Input};

/// Connections at a time; who comes later waits in the kernel's queue.
const CONNECTIONS_MAX: usize = 4;
/// From the connection to the last byte of the answer.
const TIME_MAX: Duration = Duration::from_secs(5);
/// Longest wait for the writer: it may be syncing a disk.
const WRITER_MAX: Duration = Duration::from_secs(3);
/// Longest head of a request, bytes: the least that the library takes.
const HEAD_BYTES_MAX: usize = 8192;
/// An answer is given again for this long, ns of CLOCK_MONOTONIC.
const FRESH_NS: u64 = 1_000_000_000;
/// Pause after a connection could not be taken: no file may be free.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";

/// `[metrics]` of the configuration.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Raw {
    listen: String,
    expose: bool,
    orders: bool,
}

impl Default for Raw {
    fn default() -> Self {
        Self { listen: "127.0.0.1:29470".to_owned(), expose: false, orders: false }
    }
}

/// The same, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    /// Where monitoring systems ask; `None`: nowhere.
    pub(crate) listen: Option<SocketAddr>,
    /// Of what they are told.
    pub(crate) show: Show,
}

impl Raw {
    /// The checked configuration.
    ///
    /// # Errors
    /// Names the key and what would be right: no address, or one that other machines reach and nobody said that they may.
    pub(crate) fn checked(&self) -> Result<Offer, String> {
        let show = if self.orders { Show::Orders } else { Show::Site };
        if self.listen.is_empty() {
            return Ok(Offer { listen: None, show });
        }
        let wrong = |what: &str| Err(format!("metrics.listen = {:?}: {what}", self.listen));
        let Ok(address) = self.listen.parse::<SocketAddr>() else {
            return wrong("an address and a port such as 127.0.0.1:29470 expected, or nothing");
        };
        if address.port() == 0 {
            return wrong("a port from 1 to 65535 expected");
        }
        if !address.ip().to_canonical().is_loopback() && !self.expose {
            return wrong(
                "other machines could read what this node sells and earns; say so with metrics.expose = true, or use \
                 127.0.0.1",
            );
        }
        Ok(Offer { listen: Some(address), show })
    }
}

/// The last answer of the writer, and the only way to it: who holds the lock asks, the others wait and have the same.
struct Source {
    writer: SyncSender<Input>,
    last: Mutex<Option<(u64, String)>>,
}

impl Source {
    /// Every series in the OpenMetrics format; `None` when the writer has no time.
    async fn text(&self) -> Option<String> {
        let mut last = self.last.lock().await;
        let fresh = |at_ns: u64| clock::now().mono_ns.saturating_sub(at_ns) < FRESH_NS;
        if let Some((_, text)) = last.as_ref().filter(|(at_ns, _)| fresh(*at_ns)) {
            return Some(text.clone());
        }
        let (answer, answered) = oneshot::channel();
        self.writer.try_send(Input::Metrics(answer)).ok()?;
        let text = tokio::time::timeout(WRITER_MAX, answered).await.ok()?.ok()?;
        *last = Some((clock::now().mono_ns, text.clone()));
        Some(text)
    }
}

/// Serves until the runtime ends. An address that cannot be had costs a warning: the node sells and meters without it.
pub(crate) async fn serve(address: SocketAddr, writer: SyncSender<Input>) {
    let listener = match TcpListener::bind(address).await {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(%address, %error, "metrics are not served");
            return;
        }
    };
    let source = Arc::new(Source { writer, last: Mutex::new(None) });
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let source = Arc::clone(&source);
                tokio::spawn(async move {
                    tokio::time::timeout(TIME_MAX, converse(stream, &source)).await.ok();
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a connection for metrics was not taken");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One request and its answer; who breaks off is gone.
async fn converse(stream: TcpStream, source: &Source) {
    let answer = service_fn(|request: Request<Incoming>| async move {
        Ok::<_, Infallible>(answer(request.method(), request.uri().path(), request.headers(), source).await)
    });
    let mut server = http1::Builder::new();
    server.keep_alive(false).max_buf_size(HEAD_BYTES_MAX);
    server.serve_connection(TokioIo::new(stream), answer).await.ok();
}

async fn answer(method: &Method, path: &str, headers: &HeaderMap, source: &Source) -> Response<String> {
    if path != "/metrics" {
        return said(StatusCode::NOT_FOUND, "only /metrics is here\n");
    }
    if method != Method::GET && method != Method::HEAD {
        let mut refused = said(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        refused.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    let Some(text) = source.text().await.filter(|text| !text.is_empty()) else {
        return said(StatusCode::SERVICE_UNAVAILABLE, "the agent is busy\n");
    };
    let (kind, text) = if wants_classic(headers) { (CLASSIC, classic(&text)) } else { (OPENMETRICS, text) };
    let mut found = Response::new(text);
    found.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    found
}

fn said(status: StatusCode, text: &str) -> Response<String> {
    let mut response = Response::new(text.to_owned());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Whether the request asks for the older format and not for OpenMetrics.
fn wants_classic(headers: &HeaderMap) -> bool {
    let named = |kind: &str| headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok()).any(|v| v.contains(kind));
    named("text/plain") && !named("application/openmetrics-text")
}

/// The same series in the Prometheus text format 0.0.4: there a family of counters carries `_total` in its own name, an info is a
/// gauge, and units and the end are not said.
fn classic(text: &str) -> String {
    let mut kinds = std::collections::BTreeMap::new();
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            kinds.insert(name, kind);
        }
    }
    let renamed = |name: &str| match kinds.get(name).copied() {
        Some("counter") => format!("{name}_total"),
        Some("info") => format!("{name}_info"),
        _ => name.to_owned(),
    };
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let told = line.strip_prefix("# ").and_then(|rest| rest.split_once(' '));
        match told.and_then(|(word, rest)| Some((word, rest.split_once(' ')?))) {
            Some(("TYPE", (name, kind))) => {
                let kind = if kind == "info" { "gauge" } else { kind };
                out.push_str(&format!("# TYPE {} {kind}\n", renamed(name)));
            }
            Some(("HELP", (name, help))) => out.push_str(&format!("# HELP {} {help}\n", renamed(name))),
            Some(("UNIT", _)) => {}
            _ if line == "# EOF" => {}
            _ => out.extend([line, "\n"]),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: &str = "# HELP a_seconds Help.\n# TYPE a_seconds counter\n# UNIT a_seconds seconds\n\
        a_seconds_total{x=\"y\"} 1.5\n# HELP b Help.\n# TYPE b info\nb_info{v=\"# TYPE\"} 1\n# HELP c_total_x Help.\n\
        # TYPE c_total_x gauge\nc_total_x 2\n# EOF\n";

    #[test]
    fn the_older_format_names_its_families_as_their_samples() {
        let want = "# HELP a_seconds_total Help.\n# TYPE a_seconds_total counter\na_seconds_total{x=\"y\"} 1.5\n\
            # HELP b_info Help.\n# TYPE b_info gauge\nb_info{v=\"# TYPE\"} 1\n# HELP c_total_x Help.\n\
            # TYPE c_total_x gauge\nc_total_x 2\n";
        assert_eq!(classic(OPEN), want);
    }

    #[test]
    fn other_machines_read_the_metrics_only_when_the_site_says_so() {
        let of = |text: &str| {
            toml::from_str::<Raw>(text).unwrap().checked().map(|offer| offer.listen.map(|at| at.to_string()))
        };
        assert_eq!(of("").unwrap().as_deref(), Some("127.0.0.1:29470"));
        assert_eq!(of("listen = \"\"").unwrap(), None);
        assert_eq!(of("listen = \"[::1]:1\"").unwrap().as_deref(), Some("[::1]:1"));
        for address in ["0.0.0.0:1", "[::]:1", "192.0.2.1:9100", "[::ffff:192.0.2.1]:1"] {
            let why = of(&format!("listen = \"{address}\"")).unwrap_err();
            assert!(why.contains("metrics.expose = true"), "{why}");
            assert!(of(&format!("listen = \"{address}\"\nexpose = true")).is_ok());
        }
        for wrong in ["29470", "localhost:1", "127.0.0.1:0", "127.0.0.1", "/run/metrics"] {
            let why = of(&format!("listen = \"{wrong}\"\nexpose = true")).unwrap_err();
            assert!(why.starts_with("metrics.listen"), "{why}");
        }
    }

    #[test]
    fn the_older_format_is_for_whoever_names_it_alone() {
        for (accept, want) in [
            (None, false),
            (Some("*/*"), false),
            (Some("text/plain;version=0.0.4;q=1,*/*;q=0.1"), true),
            (Some("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3"), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.extend(accept.map(|accept| (ACCEPT, accept.parse().unwrap())));
            assert_eq!(wants_classic(&headers), want, "{accept:?}");
        }
    }
}
