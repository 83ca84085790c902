//! How the buyer reaches a node: through the platform's HTTP API, or by files with no network at all. Nothing here signs or
//! judges. TLS ends in front of the platform; everything that must hold is signed.

use std::{path::PathBuf, time::Duration};

use hufu_audit::{Exit, Failure, Lang};
use hufu_trade::if2::{Answer, Interface, Problem};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{cmd::file, text::Text};

/// Longest wait for an answer: the platform itself waits for the node.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Largest answer: a pack of a month.
const ANSWER_BYTES_MAX: u64 = 256 << 20;

/// A way to the node.
pub(super) enum Channel {
    /// Through the platform.
    Platform(Platform),
    /// The request goes into this file.
    Request(PathBuf),
    /// The answer is in this file.
    Answer(PathBuf, Lang),
}

/// What came of a request.
pub(super) enum Reply<T> {
    /// The node's answer.
    Answer(T),
    /// It was written to a file.
    Written,
}

/// The file a request travels in.
#[derive(Serialize)]
struct RequestFile<'a, T> {
    v: u8,
    iface: &'a str,
    to: &'a str,
    body: &'a T,
}

/// The file an answer travels in: `{"ok": ..}`, `{"error": ..}`, or the answer itself.
#[derive(Deserialize)]
#[serde(untagged)]
enum AnswerFile<T> {
    Wrapped(Answer<T>),
    Bare(T),
}

impl Channel {
    /// The platform at `url`.
    pub(super) fn platform(url: &str, lang: Lang) -> Result<Self, Failure<Text>> {
        Platform::at(url, lang).map(Channel::Platform)
    }

    /// Sends a request to the node of `pool` and reads the answer.
    pub(super) fn ask<Q: Serialize, A: DeserializeOwned>(
        &self,
        interface: Interface,
        pool: &str,
        request: &Q,
    ) -> Result<Reply<A>, Failure<Text>> {
        match self {
            Channel::Platform(platform) => {
                platform.post(&format!("/v1/nodes/{pool}/{}", interface.name()), request).map(Reply::Answer)
            }
            Channel::Request(path) => {
                let content = RequestFile { v: 1, iface: interface.name(), to: pool, body: request };
                let bytes = serde_json::to_vec_pretty(&content).map_err(|e| crate::cmd::bug(&e))?;
                file::replace(path, &bytes)?;
                Ok(Reply::Written)
            }
            Channel::Answer(path, lang) => match file::read_json::<AnswerFile<A>>(path)? {
                AnswerFile::Wrapped(Answer::Ok(answer)) | AnswerFile::Bare(answer) => Ok(Reply::Answer(answer)),
                AnswerFile::Wrapped(Answer::Error(problem)) => Err(refusal(&problem, *lang)),
            },
        }
    }
}

/// The platform's HTTP API.
pub(in crate::cmd) struct Platform {
    agent: ureq::Agent,
    url: String,
    lang: Lang,
}

impl Platform {
    /// The platform at `url`.
    pub(in crate::cmd) fn at(url: &str, lang: Lang) -> Result<Self, Failure<Text>> {
        if !url.starts_with("http://") {
            let argument = "--platform".to_owned();
            let expected = "http://HOST:PORT".to_owned();
            return Err(Failure::new(Exit::Usage, Text::ArgumentValue { argument, value: url.to_owned(), expected }));
        }
        let config = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).http_status_as_error(false).build();
        Ok(Self { agent: config.into(), url: url.trim_end_matches('/').to_owned(), lang })
    }

    /// GET, JSON.
    pub(super) fn get<A: DeserializeOwned>(&self, path: &str) -> Result<A, Failure<Text>> {
        let bytes = self.read(self.agent.get(format!("{}{path}", self.url)).call())?;
        self.json(&bytes)
    }

    /// POST, JSON both ways.
    pub(in crate::cmd) fn post<Q: Serialize, A: DeserializeOwned>(
        &self,
        path: &str,
        body: &Q,
    ) -> Result<A, Failure<Text>> {
        let bytes = self.post_for_bytes(path, body)?;
        self.json(&bytes)
    }

    /// POST of JSON, any answer.
    pub(super) fn post_for_bytes<Q: Serialize>(&self, path: &str, body: &Q) -> Result<Vec<u8>, Failure<Text>> {
        self.read(self.agent.post(format!("{}{path}", self.url)).send_json(body))
    }

    fn read(&self, sent: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Vec<u8>, Failure<Text>> {
        let unreachable = |e: ureq::Error| {
            Failure::new(Exit::Unavailable, Text::Unreachable { what: self.url.clone(), why: e.to_string() })
        };
        let mut response = sent.map_err(unreachable)?;
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec().map_err(unreachable)?;
        if response.status().is_success() {
            return Ok(body);
        }
        Err(match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => refusal(&problem, self.lang),
            Err(_) => {
                let why = format!("HTTP {}", response.status());
                Failure::new(Exit::Unavailable, Text::Unreachable { what: self.url.clone(), why })
            }
        })
    }

    fn json<A: DeserializeOwned>(&self, bytes: &[u8]) -> Result<A, Failure<Text>> {
        serde_json::from_slice(bytes)
            .map_err(|e| Failure::new(Exit::Malformed, Text::Malformed { path: self.url.clone(), why: e.to_string() }))
    }
}

/// A refusal by node or platform: `busy` means ask again, everything else is a no.
pub(in crate::cmd) fn refusal(problem: &Problem, lang: Lang) -> Failure<Text> {
    let exit = if problem.code == "busy" { Exit::Unavailable } else { Exit::No };
    let field = problem.field.as_ref().map(|field| format!(" {field}")).unwrap_or_default();
    let remedy = match lang {
        Lang::En => problem.remedy.en.clone(),
        Lang::Zh => problem.remedy.zh.clone(),
    };
    Failure::new(exit, Text::Refused { code: format!("{}{field}", problem.code), remedy })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hufu_trade::if2::Remedy;

    #[test]
    fn only_busy_is_asked_again() {
        for (code, want) in [("busy", Exit::Unavailable), ("stock", Exit::No), ("signature", Exit::No)] {
            let remedy = Remedy { en: "do this".to_owned(), zh: "这样做".to_owned() };
            let problem = Problem { code: code.to_owned(), field: None, remedy };
            for (lang, said) in [(Lang::En, "do this"), (Lang::Zh, "这样做")] {
                let failure = refusal(&problem, lang);
                assert_eq!(failure.exit, want, "{code}");
                assert!(failure.text.render(lang).contains(said), "{code}");
            }
        }
    }
}
