//! `hufu-provision`: makes, suspends and removes the place of one order, as root, for an agent that may do none of it.
//!
//! systemd starts it for each connection of its socket, with the connection as standard input and output (`Accept=yes`): it
//! reads one request, does it, answers, ends. Between requests no root process of ours exists. What may be asked is closed
//! ([`hufu_provision::Request::check`]); what runs besides is what root wrote into the settings (`settings.rs`), never what
//! the agent says.

mod cgroupfs;
mod counters;
mod directory;
mod io_limit;
mod nvidia;
mod place;
mod settings;
mod systemd;

use std::{
    io::{BufRead, BufReader, Read},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    process::ExitCode,
};

use hufu_provision::{Answer, Request, Verb};

use crate::settings::Settings;

/// Where root says what runs, unless the first argument names another file.
const SETTINGS: &str = "/etc/hufu/provision.toml";
/// Locks, one for each order: two requests for one order take turns. The second argument names another directory.
const LOCKS: &str = "/run/hufu-provision";
/// Longest request, bytes.
const REQUEST_BYTES_MAX: u64 = 16 * 1024;

/// Exit statuses of the command contract.
const USAGE: u8 = 2;
const IO: u8 = 74;
const CONFIG: u8 = 78;

fn main() -> ExitCode {
    let Some(asker) = asker() else {
        eprintln!(
            "hufu-provision: standard input is no connection; systemd starts this program (hufu-provision.socket)"
        );
        return ExitCode::from(USAGE);
    };
    let mut arguments = std::env::args_os().skip(1);
    let settings = arguments.next().map_or_else(|| PathBuf::from(SETTINGS), PathBuf::from);
    let locks = arguments.next().map_or_else(|| PathBuf::from(LOCKS), PathBuf::from);
    let settings = match Settings::load(&settings) {
        Ok(settings) => settings,
        Err(why) => {
            eprintln!("hufu-provision: {why}");
            // The agent shall hear why as well; that it cannot be told is then the smaller trouble.
            say(&Answer { error: Some(why), ..Answer::default() }, None).ok();
            return ExitCode::from(CONFIG);
        }
    };
    let (answer, counters) = answer(asker, &settings, &locks).unwrap_or_else(|why| {
        eprintln!("hufu-provision: uid {asker}: {why}");
        (Answer { error: Some(why), ..Answer::default() }, None)
    });
    if say(&answer, counters).is_ok() { ExitCode::SUCCESS } else { ExitCode::from(IO) }
}

/// Who is at the other end, as the kernel says.
fn asker() -> Option<u32> {
    let peer = rustix::net::sockopt::socket_peercred(std::io::stdin()).ok()?;
    Some(peer.uid.as_raw())
}

fn say(answer: &Answer, counters: Option<OwnedFd>) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    hufu_provision::send_line(std::io::stdout(), &line, counters.as_ref().map(AsFd::as_fd))
}

fn answer(asker: u32, settings: &Settings, locks: &Path) -> Result<(Answer, Option<OwnedFd>), String> {
    if !settings.may_ask(asker) {
        return Err(format!("uid {asker} may not ask; the settings name who may"));
    }
    let mut line = String::new();
    let input = std::io::stdin().lock();
    BufReader::new(input.take(REQUEST_BYTES_MAX)).read_line(&mut line).map_err(|e| format!("no request: {e}"))?;
    let request: Request = serde_json::from_str(&line).map_err(|e| format!("malformed request: {e}"))?;
    request.check().map_err(|e| e.to_string())?;
    if request.verb == Verb::Probe {
        return Ok((Answer { network: Some(counters::probe()?), ..Answer::default() }, None));
    }
    if request.verb == Verb::Traffic {
        return Ok((Answer { traffic: counters::traffic()?, ..Answer::default() }, None));
    }
    let _turn = turn(locks, &request.contract_no)?;
    place::fulfil(&request, settings)
}

/// The order's lock, held while it lives.
fn turn(locks: &Path, order: &str) -> Result<std::fs::File, String> {
    let path = locks.join(order);
    let failed = |e: std::io::Error| format!("{}: {e}", path.display());
    std::fs::create_dir_all(locks).map_err(failed)?;
    let file = std::fs::File::create(&path).map_err(failed)?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).map_err(|e| failed(e.into()))?;
    Ok(file)
}
