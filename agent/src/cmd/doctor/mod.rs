//! `hufu doctor`: looks at the server and the installation, with the daemon running or without, and says of each thing what is,
//! what is needed, what for, and what to do. It makes nothing and mends nothing; what it writes is one probe of its own, taken
//! away at once.

mod clock;
mod disk;
mod installation;
mod machine;
mod metered;
mod peers;

use std::path::PathBuf;

use hufu_audit::{Exit, Lang};
use serde::Serialize;
use serde_json::json;

use crate::{
    clock::Now,
    cmd::{Context, Outcome, node::ConfigArgs},
    config::Config,
    text::Text,
};

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// As it should be.
    Ok,
    /// Not looked at; `why` says why.
    Skipped,
    /// The node works, but a person should look at it.
    Warn,
    /// The node does not work, or its evidence is in danger.
    Fail,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    pub(super) id: &'static str,
    pub(super) state: State,
    /// What is; `null` when it was not looked at.
    pub(super) actual: Option<String>,
    pub(super) required: String,
    pub(super) unit: Option<&'static str>,
    pub(super) purpose: String,
    pub(super) remedy: String,
    /// Why it was not looked at.
    pub(super) why: Option<String>,
    /// Its remedy is told also where nothing is wrong: a newcomer may want what he lacks.
    #[serde(skip)]
    pub(super) advises: bool,
}

/// What every check is given.
struct Patient<'a> {
    lang: Lang,
    config: &'a Config,
    now: Now,
    /// Who the service runs as: uid and gid.
    service: (u32, u32),
    /// Whether whoever asks is root.
    is_root: bool,
}

impl Patient<'_> {
    /// A check whose text is `purpose|required|remedy`.
    fn check(&self, id: &'static str, (state, actual): (State, String), text: &Text) -> Check {
        check(self.lang, id, (state, actual), text)
    }

    fn skipped(&self, id: &'static str, why: &Text, text: &Text) -> Check {
        let why = Some(why.render(self.lang));
        Check { actual: None, why, ..self.check(id, (State::Skipped, String::new()), text) }
    }
}

/// A check whose text is `purpose|required|remedy`.
pub(super) fn check(lang: Lang, id: &'static str, (state, actual): (State, String), text: &Text) -> Check {
    let text = text.render(lang);
    let mut parts = text.splitn(3, '|').map(str::to_owned);
    let mut part = || parts.next().unwrap_or_default();
    Check {
        id,
        state,
        actual: Some(actual),
        purpose: part(),
        required: part(),
        remedy: part(),
        unit: None,
        why: None,
        advises: false,
    }
}

/// Good, or what it is instead.
fn or_fail<E: std::fmt::Display>(result: Result<String, E>) -> (State, String) {
    match result {
        Ok(actual) => (State::Ok, actual),
        Err(error) => (State::Fail, error.to_string().replace('\n', " ")),
    }
}

/// Runs the command: 0 when nothing fails, 1 when something does.
pub(super) fn run(args: &ConfigArgs, context: &Context) -> Outcome {
    let path = args.path();
    let loaded = Config::load(path);
    let shown = path.display().to_string();
    let configuration = match &loaded {
        Ok(_) => (State::Ok, shown),
        Err(failure) => (State::Fail, failure.text.render(context.lang)),
    };
    let mut checks = vec![check(context.lang, "configuration", configuration, &Text::DoctorConfiguration {})];
    match &loaded {
        Ok(config) => checks.extend(examine(config, path.clone(), context.lang)),
        Err(_) => checks.extend(machine::without_configuration(context.lang)),
    }
    let worst = checks.iter().map(|check| check.state).max().unwrap_or(State::Ok);
    let node = loaded.as_ref().ok().map(Config::pool);
    let state = if worst == State::Skipped { State::Ok } else { worst };
    context.show(&json!({ "node": node, "state": state, "checks": checks }), || table(&checks, context))?;
    Ok(if worst == State::Fail { Exit::No } else { Exit::Done })
}

fn examine(config: &Config, path: PathBuf, lang: Lang) -> Vec<Check> {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    let own = (uid.as_raw(), gid.as_raw());
    // What lies where the package's service reads it belongs to the package's user.
    let is_service = path.starts_with("/etc/hufu");
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let service = hufu_provision::ids_of("hufu", &passwd).filter(|_| is_service).unwrap_or(own);
    let patient = Patient { lang, config, now: crate::clock::now(), service, is_root: uid.is_root() };
    let daemon = peers::daemon(&patient);
    let mut checks = installation::checks(&patient);
    checks.extend(disk::checks(&patient));
    checks.extend(clock::checks(&patient));
    checks.extend(machine::checks(&patient, daemon.pid));
    checks.extend(metered::checks(&patient));
    checks.extend(peers::checks(&patient, &daemon));
    checks
}

/// The checks as a person reads them; of what is not right also what for, and what to do.
pub(super) fn table(checks: &[Check], context: &Context) -> String {
    let say = |text: Text| text.render(context.lang);
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED);
    table.set_header(say(Text::DoctorColumns {}).split('|'));
    let words = say(Text::DoctorStates {});
    let words: Vec<&str> = words.split('|').collect();
    let word = |state: State| words.get(state as usize).copied().unwrap_or_default().to_owned();
    for check in checks {
        let actual = check.actual.clone().or_else(|| check.why.clone()).unwrap_or_default();
        table.add_row([check.id.to_owned(), word(check.state), actual, check.required.clone()]);
    }
    let mut out = format!("{table}\n");
    for check in checks.iter().filter(|check| check.state >= State::Warn || check.advises) {
        let (id, purpose, remedy) = (check.id.to_owned(), check.purpose.clone(), check.remedy.clone());
        out.push_str(&format!("{}\n", say(Text::DoctorAdvice { id, state: word(check.state), purpose, remedy })));
    }
    out
}
