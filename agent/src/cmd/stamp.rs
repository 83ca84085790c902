//! `hufu stamp`: time-stamps of RFC 3161 on files, with SM3. Their form and what makes one good are `gm`'s; here are the question to
//! a service over HTTP (RFC 3161 3.4) and a small authority for sites without one.

use std::{path::Path, path::PathBuf, time::Duration};

use clap::Subcommand;
use hufu_audit::{Exit, Failure};
use hufu_gm::{
    random,
    sm3::sm3,
    time_stamp::{self, Answer, Authority, QUERY_TYPE, Request, Said, Unusable},
};
use hufu_trade::octets::rfc3339;
use serde_json::{Value, json};

use crate::{
    clock,
    cmd::{
        Context, Outcome, bug, file,
        key::lines,
        trust::{TrustArgs, certificate_and_along, judged, not_made, shown},
    },
    text::Text,
};

const SECOND_NS: i64 = 1_000_000_000;
/// Longest wait for a service.
const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Subcommand)]
pub(super) enum Command {
    /// Have a time-stamping service confirm that a file exists now
    Get {
        /// The file
        #[arg(long = "in", value_name = "F")]
        input: PathBuf,
        /// Address of the service
        #[arg(long, value_name = "URL")]
        tsa: String,
        /// Policy that the service shall stamp under, an object identifier; default its own
        #[arg(long, value_name = "OID")]
        policy: Option<String>,
        /// File to make
        #[arg(short, long, value_name = "F")]
        out: PathBuf,
    },
    /// Check a time-stamp over a file
    Verify {
        /// The file
        #[arg(long = "in", value_name = "F")]
        input: PathBuf,
        /// The time-stamp: a token, or the whole answer of a service (DER)
        #[arg(long, value_name = "T")]
        stamp: PathBuf,
        #[command(flatten)]
        trust: TrustArgs,
        /// Certificates that a time-stamp leaves out (PEM); may be given several times
        #[arg(long, value_name = "C")]
        cert: Vec<PathBuf>,
    },
    /// Answer a request as a time-stamping authority, by the clock of this machine
    Answer {
        /// The request (DER)
        #[arg(long = "in", value_name = "Q")]
        input: PathBuf,
        /// Secret key file of the authority
        #[arg(long, value_name = "K")]
        key: PathBuf,
        /// Certificate of that key (PEM), issued for time-stamping alone
        #[arg(long, value_name = "C")]
        cert: PathBuf,
        /// Policy of the authority, an object identifier
        #[arg(long, value_name = "OID")]
        policy: String,
        /// Number of this time-stamp, which no other of the authority has
        #[arg(long, value_name = "N")]
        number: u64,
        /// File to make
        #[arg(short, long, value_name = "F")]
        out: PathBuf,
    },
}

pub(super) fn run(command: &Command, context: &Context) -> Outcome {
    match command {
        Command::Get { input, tsa, policy, out } => get(input, tsa, policy.clone(), out, context),
        Command::Verify { input, stamp, trust, cert } => verify(input, stamp, trust, cert, context),
        Command::Answer { input, key, cert, policy, number, out } => {
            let (key, certificate) = (file::read_key(key)?, certificate_and_along(cert)?.0);
            let authority = Authority { key: &key, certificate: &certificate, policy };
            let at_s = clock::now().real_ns.div_euclid(SECOND_NS);
            let made = time_stamp::respond(&file::read(input)?, &authority, *number, at_s);
            let made = made.map_err(|e| match e {
                hufu_gm::Error::Der(_) => wrong_policy(policy),
                other => not_made(input, &other),
            })?;
            file::replace(out, &made)?;
            let answer = Answer::from_der(&made).map_err(|e| bug(&e))?;
            let refused = match &answer {
                Answer::Granted(_) => None,
                Answer::Refused { why, .. } => Some(why.clone()),
            };
            let path = out.display().to_string();
            context.show(&json!({ "file": path, "refused": refused }), || {
                Text::FileMade { path: path.clone() }.render(context.lang)
            })?;
            Ok(if refused.is_none() { Exit::Done } else { Exit::No })
        }
    }
}

fn wrong_policy(policy: &str) -> Failure<Text> {
    let (argument, expected) = ("--policy".to_owned(), "an object identifier such as 1.2.156.1".to_owned());
    Failure::new(Exit::Usage, Text::ArgumentValue { argument, value: policy.to_owned(), expected })
}

fn get(input: &Path, tsa: &str, policy: Option<String>, out: &Path, context: &Context) -> Outcome {
    if !tsa.starts_with("http://") {
        let (argument, expected) = ("--tsa".to_owned(), "http://HOST[:PORT][/PATH]".to_owned());
        return Err(Failure::new(Exit::Usage, Text::ArgumentValue { argument, value: tsa.to_owned(), expected }));
    }
    let mut nonce = [0; 16];
    random::fill(&mut nonce).map_err(|e| bug(&e))?;
    let request = Request { policy, ..Request::new(sm3(&[&file::read(input)?]), nonce) };
    let asked = request.to_der().map_err(|_| wrong_policy(request.policy.as_deref().unwrap_or_default()))?;
    let (token, said) = request.token(&ask(tsa, &asked)?).map_err(|unusable| match unusable {
        Unusable::Refused { status, why } => {
            let status = status.to_string();
            Failure::new(Exit::No, Text::StampRefused { tsa: tsa.to_owned(), status, why })
        }
        other => Failure::new(Exit::Malformed, Text::Malformed { path: tsa.to_owned(), why: other.to_string() }),
    })?;
    file::replace(out, &token)?;
    let (path, at) = (out.display().to_string(), rfc3339(said.time_ns));
    let view = json!({ "file": path, "stamp": describe(&said) });
    context.show(&view, || Text::StampGot { path: path.clone(), at: at.clone() }.render(context.lang))?;
    Ok(Exit::Done)
}

/// One POST; the answer is bounded.
fn ask(tsa: &str, asked: &[u8]) -> Result<Vec<u8>, Failure<Text>> {
    let unreachable = |why: String| Failure::new(Exit::Unavailable, Text::Unreachable { what: tsa.to_owned(), why });
    let config = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).http_status_as_error(false).build();
    let agent: ureq::Agent = config.into();
    let sent = agent.post(tsa).header("Content-Type", QUERY_TYPE).send(asked);
    let mut response = sent.map_err(|e| unreachable(e.to_string()))?;
    if !response.status().is_success() {
        return Err(unreachable(format!("HTTP {}", response.status())));
    }
    let limit = u64::try_from(time_stamp::BYTES_MAX).unwrap_or(u64::MAX);
    response.body_mut().with_config().limit(limit).read_to_vec().map_err(|e| unreachable(e.to_string()))
}

fn verify(input: &Path, stamp: &Path, trust: &TrustArgs, known: &[PathBuf], context: &Context) -> Outcome {
    let trusted = trust.read(known)?;
    let bytes = file::read(stamp)?;
    let token = match Answer::from_der(&bytes) {
        Ok(Answer::Granted(token)) => token,
        Ok(Answer::Refused { why, .. }) => return super::trust::refuse(stamp, &why, context),
        Err(_) => bytes,
    };
    let judgement = time_stamp::verify(&token, &sm3(&[&file::read(input)?]), &trusted.trust());
    let found = match judged(stamp, judgement, context)? {
        Ok(found) => found,
        Err(exit) => return Ok(exit),
    };
    let view = json!({
        "file": stamp.display().to_string(),
        "result": "valid",
        "stamp": describe(&found.said),
        "authority": shown(&found.authority),
    });
    context.show(&view, || lines(&view))?;
    Ok(Exit::Done)
}

fn describe(said: &Said) -> Value {
    json!({
        "at": rfc3339(said.time_ns),
        "accuracy_ns": said.accuracy_ns.map(|ns| ns.to_string()),
        "serial": said.serial,
        "policy": said.policy,
    })
}
