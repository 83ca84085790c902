//! Who the node talks to: the broker, the root helper, and the daemon itself, each asked once and with a time limit.

use std::{
    net::{TcpStream, ToSocketAddrs},
    os::unix::net::UnixStream,
    sync::mpsc::sync_channel,
    time::Duration,
};

use hufu_gm::directory::DirectoryError;
use hufu_provision::{Request, Verb};
use serde_json::Value;

use super::{Check, Patient, State, or_fail};
use crate::{
    cmd::node::ask,
    link::{self, Answered},
    local::Question,
    provision::Means,
    setup,
    text::Text,
};

/// Longest wait for a peer.
const WAIT: Duration = Duration::from_secs(5);

/// The daemon, as its socket shows it.
pub(super) struct Daemon {
    pub(super) pid: Option<u32>,
    status: Result<Value, String>,
}

/// Asks the daemon's socket.
pub(super) fn daemon(patient: &Patient<'_>) -> Daemon {
    let socket = &patient.config.socket;
    let pid = UnixStream::connect(socket).ok().and_then(|stream| {
        let peer = rustix::net::sockopt::socket_peercred(&stream).ok()?;
        u32::try_from(peer.pid.as_raw_nonzero().get()).ok()
    });
    let status = ask(socket, &Question::Status).map_err(|failure| failure.text.render(patient.lang));
    Daemon { pid, status }
}

pub(super) fn checks(patient: &Patient<'_>, daemon: &Daemon) -> Vec<Check> {
    let mut checks = vec![broker(patient)];
    checks.extend(helper(patient));
    checks.extend(directory(patient, daemon));
    checks.extend(agent(patient, daemon));
    checks
}

/// Connects as somebody else than the daemon, so that the broker does not send that one away.
fn broker(patient: &Patient<'_>) -> Check {
    let config = patient.config;
    let name = format!("{}:{}", config.broker.host, config.broker.port);
    let text = Text::DoctorBroker { broker: name.clone() };
    let (answer, answered) = sync_channel(1);
    let (access, pool) = (config.broker.clone(), config.pool());
    // Names are resolved without a time limit: on a thread that may be left behind.
    let asking = std::thread::Builder::new().spawn(move || {
        let reached = reach(&access.host, access.port);
        let found = reached.map(|()| link::probe(&access, &format!("hufu-doctor-{}", pool.replace('/', "-")), WAIT));
        answer.send(found).ok();
    });
    let judged = match asking.map(|_| answered.recv_timeout(WAIT * 3)) {
        Ok(Ok(Ok(Answered::Welcome))) => (State::Ok, name),
        // The broker may know its nodes by name, and this is none of them.
        Ok(Ok(Ok(Answered::Refused(why)))) => (State::Warn, format!("{name}: {why}")),
        Ok(Ok(Ok(Answered::Nothing(why)) | Err(why))) => (State::Fail, format!("{name}: {why}")),
        Ok(Err(error)) => (State::Fail, format!("{name}: {error}")),
        Err(error) => (State::Fail, error.to_string()),
    };
    patient.check("broker", judged, &text)
}

/// Asks the directory as the daemon does, without its cache; what the daemon has in there is told by the daemon.
fn directory(patient: &Patient<'_>, daemon: &Daemon) -> Option<Check> {
    let setting = patient.config.directory.as_ref()?;
    let url = setting.address.to_string();
    let asked = setting.without_cache();
    let anchors = patient.config.trust.iter().filter_map(|path| setup::certificates(path).ok()).flatten();
    let now_s = patient.now.real_ns / 1_000_000_000;
    let mut failed = None;
    for anchor in anchors {
        match asked.crl(&anchor, now_s) {
            Ok(_) | Err(DirectoryError::NotFound) => {}
            Err(error) => failed = failed.or(Some(format!("{url}: {}: {error}", anchor.subject()))),
        }
    }
    let lists = daemon.status.as_ref().ok().and_then(|status| status["directory"]["lists"].as_array().cloned());
    let ages = lists.iter().flatten().filter_map(|list| list["age_s"].as_str()?.parse::<u64>().ok());
    let kept = ages.max().map(|age_s| format!("the agent's oldest list was fetched {age_s} s ago"));
    let judged = match (failed, kept) {
        (None, kept) => (State::Ok, kept.map_or(url.clone(), |kept| format!("{url}; {kept}"))),
        (Some(why), Some(kept)) => (State::Warn, format!("{why}; {kept}")),
        (Some(why), None) => (State::Fail, why),
    };
    Some(patient.check("directory", judged, &Text::DoctorDirectory { url }))
}

fn reach(host: &str, port: u16) -> Result<(), String> {
    let addresses = (host, port).to_socket_addrs().map_err(|e| e.to_string())?;
    let mut last = "no address".to_owned();
    for address in addresses {
        match TcpStream::connect_timeout(&address, WAIT) {
            Ok(_) => return Ok(()),
            Err(error) => last = error.to_string(),
        }
    }
    Err(last)
}

/// The helper is asked for something that it refuses to everybody: whoever refuses answers, and nothing is done.
fn helper(patient: &Patient<'_>) -> Option<Check> {
    let Means::Helper(socket) = &patient.config.provision else { return None };
    let (id, text) = ("provision_helper", Text::DoctorHelper { socket: socket.display().to_string() });
    let nothing = Request {
        verb: Verb::Stop,
        contract_no: String::new(),
        slice: None,
        storage: None,
        procs_files: Vec::new(),
        quantity: 0,
        reserves: std::collections::BTreeMap::new(),
        gpus: Vec::new(),
        service_end: String::new(),
    };
    Some(match hufu_provision::ask(socket, &nothing, WAIT) {
        Err(hufu_provision::Error::Refused(why)) if why.contains("contract_no") => {
            patient.check(id, (State::Ok, why), &text)
        }
        Err(hufu_provision::Error::Socket { source, .. })
            if source.kind() == std::io::ErrorKind::PermissionDenied && !patient.is_root =>
        {
            patient.skipped(id, &Text::DoctorNotRoot { path: socket.display().to_string() }, &text)
        }
        other => patient.check(id, or_fail(other.map(|answer| format!("{answer:?}"))), &text),
    })
}

fn agent(patient: &Patient<'_>, daemon: &Daemon) -> Vec<Check> {
    let text = Text::DoctorAgent {};
    let status = match &daemon.status {
        Ok(status) => status,
        // Without a daemon there is nothing to ask; one that holds its socket and says nothing is stuck.
        Err(why) if daemon.pid.is_some() => return vec![patient.check("agent", (State::Fail, why.clone()), &text)],
        Err(_) => return vec![patient.skipped("agent", &Text::DoctorNotRunning {}, &text)],
    };
    let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let (state, actual) = match (&status["waits_for"], status["linked"] == true) {
        (Value::String(what), _) => (State::Warn, what.clone()),
        (_, false) => (State::Warn, "not linked".to_owned()),
        _ => (State::Ok, format!("pid {}", daemon.pid.unwrap_or(0))),
    };
    let mut alarms: Vec<String> =
        status["alarms"].as_array().into_iter().flatten().map(|alarm| word(&alarm["what"])).collect();
    alarms.sort();
    alarms.dedup();
    let (alarm_state, said) = match alarms.is_empty() {
        true => (State::Ok, "0".to_owned()),
        false => (State::Warn, format!("{}: {}", word(&status["alarm_count"]), alarms.join(", "))),
    };
    vec![
        patient.check("agent", (state, actual), &text),
        patient.check("alarms", (alarm_state, said), &Text::DoctorAlarms {}),
    ]
}
