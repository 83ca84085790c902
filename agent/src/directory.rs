//! The directory of certificates and revocation lists as the daemon uses it: asked by a thread of its own, when the node starts, at
//! intervals, and when a buyer's chain lacks an issuer. The core judges with what was found and never waits. How a directory is
//! asked, and its cache, are `hufu_gm::directory`; `hufu cert check` asks one by itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::mpsc::SyncSender,
    time::Duration,
};

use hufu_gm::{
    Certificate, ChainError, Crl, Hash, Usage,
    directory::{Address, Directory, DirectoryError, Patience},
    verify_chain,
};
use hufu_trade::{
    if2::{Problem, Sealed},
    octets::rfc3339,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    act::problem,
    clock,
    node::{Core, Effect},
    writer::{Input, Writer, WriterError},
};

/// For one answer of the directory.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Issuers that the directory gave and that are kept: more than any real CA has.
const ISSUERS_MAX: usize = 64;
/// Names of issuers that wait to be asked for; strangers send them.
const WANTED_MAX: usize = 8;
/// A name that the directory did not know is asked for again after this, s.
const AGAIN_S: i64 = 300;
/// Names remembered that it did not know.
const UNKNOWN_MAX: usize = 256;

/// `[directory]` of the configuration.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Raw {
    url: Option<String>,
    cache: Option<PathBuf>,
    refresh_s: Option<u64>,
    max_age_s: Option<u64>,
}

/// Which directory, and how old its word may be.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    /// Where it is.
    pub(crate) address: Address,
    /// Where what was found is kept.
    pub(crate) cache: PathBuf,
    /// Pause between two looks, s.
    refresh_s: u32,
    /// A list that was fetched longer ago is not believed any more, s.
    max_age_s: u32,
}

impl Raw {
    /// Checked; `None` without an address. The cache lies beside the ledger unless it is named, `dir` being where names begin.
    pub(crate) fn checked(self, dir: &Path, ledger: &Path) -> Result<Option<Setting>, String> {
        let seconds = |value: Option<u64>, default: u32, name: &str| {
            let value = value.unwrap_or(u64::from(default));
            let fits = u32::try_from(value).ok().filter(|value| (10..=31_622_400).contains(value));
            fits.ok_or_else(|| format!("directory.{name}: 10 to 31622400 expected"))
        };
        let (refresh_s, max_age_s) =
            (seconds(self.refresh_s, 3600, "refresh_s")?, seconds(self.max_age_s, 604_800, "max_age_s")?);
        let Some(url) = self.url else { return Ok(None) };
        let address = Address::parse(&url).map_err(|error| format!("directory.url {error}"))?;
        let mut beside = ledger.as_os_str().to_owned();
        beside.push(".directory");
        let cache = self.cache.map_or_else(|| beside.into(), |cache| dir.join(cache));
        Ok(Some(Setting { address, cache, refresh_s, max_age_s }))
    }
}

impl Setting {
    /// The directory, to be asked now.
    pub(crate) fn open(&self) -> Directory {
        let patience = Patience { limit: ANSWER_LIMIT, mono_ns: || clock::now().mono_ns };
        Directory::new(self.address.clone(), Some(self.cache.clone()), patience)
    }

    /// The directory and nothing that is remembered of it.
    pub(crate) fn without_cache(&self) -> Directory {
        let patience = Patience { limit: ANSWER_LIMIT, mono_ns: || clock::now().mono_ns };
        Directory::new(self.address.clone(), None, patience)
    }
}

/// What is known of one issuer's list.
#[derive(Clone, Debug)]
pub(crate) struct List {
    /// Absent where the directory says that there is none.
    crl: Option<Crl>,
    /// When the directory said so, Unix seconds.
    pub(crate) fetched_at_s: i64,
    /// Why it comes from the cache, if it does.
    pub(crate) cached_because: Option<String>,
    subject: String,
}

/// What a look found.
#[derive(Debug)]
pub(crate) struct Found {
    at_s: i64,
    /// Authorities that lead to an anchor.
    issuers: Vec<Certificate>,
    /// Names that it does not know.
    unknown: Vec<String>,
    lists: BTreeMap<Hash, List>,
    /// What could not be had, for a person.
    trouble: Vec<String>,
}

/// What a thread is to look for.
struct Wanted {
    anchors: Vec<Certificate>,
    issuers: Vec<Certificate>,
    names: Vec<String>,
}

fn look(setting: &Setting, wanted: Wanted, now_ns: i64) -> Found {
    let (directory, at_s) = (setting.open(), now_ns / 1_000_000_000);
    let mut found =
        Found { at_s, issuers: Vec::new(), unknown: Vec::new(), lists: BTreeMap::new(), trouble: Vec::new() };
    let mut known = wanted.issuers;
    for name in wanted.names {
        match directory.certificates_of(&name, at_s) {
            Ok(named) => {
                let is_authority =
                    |one: &Certificate| verify_chain(one, &known, &wanted.anchors, &[], now_ns, Usage::Issuing).is_ok();
                let new: Vec<Certificate> =
                    named.value.into_iter().filter(|one| !known.contains(one) && is_authority(one)).collect();
                if new.is_empty() {
                    found.unknown.push(name);
                }
                known.extend(new);
            }
            Err(DirectoryError::NotFound | DirectoryError::Unfit(_)) => found.unknown.push(name),
            Err(error) => found.trouble.push(format!("{name}: the directory {error}")),
        }
    }
    known.truncate(ISSUERS_MAX);
    for issuer in wanted.anchors.iter().chain(&known) {
        let subject = issuer.subject();
        let list = match directory.crl(issuer, at_s) {
            Ok(list) => {
                let cached_because = list.cached_because.as_ref().map(ToString::to_string);
                found.trouble.extend(cached_because.iter().map(|why| format!("{subject}: the directory {why}")));
                List { crl: Some(list.value), fetched_at_s: list.fetched_at_s, cached_because, subject }
            }
            // A CA that has no list says so.
            Err(DirectoryError::NotFound) => List { crl: None, fetched_at_s: at_s, cached_because: None, subject },
            Err(error) => {
                found.trouble.push(format!("{subject}: the directory {error}"));
                continue;
            }
        };
        found.lists.insert(issuer.id(), list);
    }
    found.issuers = known;
    found
}

/// What the core knows of the directory.
#[derive(Debug)]
pub(crate) struct Known {
    setting: Setting,
    issuers: Vec<Certificate>,
    lists: BTreeMap<Hash, List>,
    /// Names of issuers to ask for.
    wanted: BTreeSet<String>,
    /// Names that it did not know, and when, Unix seconds.
    unknown: BTreeMap<String, i64>,
    trouble: Vec<String>,
}

impl Known {
    /// Nothing yet.
    pub(crate) fn new(setting: Setting) -> Self {
        let (issuers, lists) = (Vec::new(), BTreeMap::new());
        let (wanted, unknown, trouble) = (BTreeSet::new(), BTreeMap::new(), Vec::new());
        Self { setting, issuers, lists, wanted, unknown, trouble }
    }

    /// Issuers that a chain need not bring.
    pub(crate) fn issuers(&self) -> &[Certificate] {
        &self.issuers
    }

    /// All lists.
    pub(crate) fn crls(&self) -> Vec<Crl> {
        self.lists.values().filter_map(|list| list.crl.clone()).collect()
    }

    /// Whether revocation was looked up for a path, not too long ago; the list's own word is `verify_chain`'s matter.
    pub(crate) fn speaks_for(&self, path: &[Certificate], now_ns: i64) -> Result<(), Problem> {
        for issuer in path.iter().skip(1) {
            let subject = issuer.subject();
            let Some(list) = self.lists.get(&issuer.id()) else {
                let en = format!("the revocation list of {subject} is not known to the node yet; ask again later");
                return Err(problem(
                    "busy",
                    Some("certificates"),
                    en,
                    format!("节点尚不知 {subject} 的吊销列表，请稍后重试"),
                ));
            };
            if now_ns / 1_000_000_000 - list.fetched_at_s > i64::from(self.setting.max_age_s) {
                let at = rfc3339(list.fetched_at_s.saturating_mul(1_000_000_000));
                let en = format!(
                    "the node last saw the revocation list of {subject} at {at}, too long ago; ask again later"
                );
                let zh = format!("节点最后一次获得 {subject} 的吊销列表是在 {at}，已过久，请稍后重试");
                return Err(problem("busy", Some("certificates"), en, zh));
            }
        }
        Ok(())
    }

    /// For `hufu status`.
    pub(crate) fn shown(&self, now_ns: i64) -> Value {
        let lists = self.lists.values().map(|list| {
            json!({
                "of": list.subject,
                "list": list.crl.is_some(),
                "age_s": (now_ns / 1_000_000_000).saturating_sub(list.fetched_at_s).to_string(),
                "cached_because": list.cached_because,
                "next_update": list.crl.as_ref().and_then(Crl::next_update_ns).map(rfc3339),
            })
        });
        json!({
            "url": self.setting.address.to_string(),
            "lists": lists.collect::<Vec<_>>(),
            "issuers": self.issuers.iter().map(Certificate::subject).collect::<Vec<_>>(),
            "trouble": self.trouble,
        })
    }
}

impl Core {
    /// A buyer's chain was not trusted. Where an issuer is missing the directory is asked, and the buyer told to come again.
    pub(crate) fn look_up(&mut self, chain: &[Sealed], now_ns: i64) -> Option<Problem> {
        let known = self.directory.as_mut()?;
        let chain: Vec<Certificate> =
            chain.iter().map(|der| Certificate::from_der(&der.0)).collect::<Result<_, _>>().ok()?;
        let (leaf, rest) = chain.split_first()?;
        let rest = [rest, &known.issuers].concat();
        let judged = verify_chain(leaf, &rest, &self.identity.anchors, &[], now_ns, Usage::Signing);
        let Err(ChainError::NoAnchor { issuer, .. }) = judged else { return None };
        let now_s = now_ns / 1_000_000_000;
        let is_unknown = known.unknown.get(&issuer).is_some_and(|at_s| now_s.saturating_sub(*at_s) < AGAIN_S);
        if is_unknown {
            return None;
        }
        if known.wanted.len() < WANTED_MAX {
            known.wanted.insert(issuer.clone());
        }
        let en = format!("the node asks the directory for {issuer}; ask again in a moment");
        Some(problem("busy", Some("certificates"), en, format!("节点正在目录中查询 {issuer}，请稍后重试")))
    }

    /// A look was taken. What it could not get stays as it was known before.
    pub(crate) fn directory_looked(&mut self, found: Found) -> Vec<Effect> {
        let Some(known) = &mut self.directory else { return Vec::new() };
        known.issuers = found.issuers;
        known.lists.extend(found.lists);
        if known.unknown.len().saturating_add(found.unknown.len()) > UNKNOWN_MAX {
            known.unknown.clear();
        }
        known.unknown.extend(found.unknown.into_iter().map(|name| (name, found.at_s)));
        let before = std::mem::replace(&mut known.trouble, found.trouble);
        if known.trouble.is_empty() || known.trouble == before {
            return Vec::new();
        }
        vec![Effect::Alarm { what: "directory", detail: known.trouble.join("; ") }]
    }
}

/// Has the directory asked.
#[derive(Debug)]
pub(crate) struct Asking {
    writer: SyncSender<Input>,
    /// Next look, CLOCK_MONOTONIC ns; absent while one is under way.
    next_ns: Option<u64>,
}

impl Asking {
    /// Asks at once.
    pub(crate) fn new(writer: SyncSender<Input>) -> Self {
        Self { writer, next_ns: Some(0) }
    }
}

impl Writer {
    /// Has a thread ask the directory when it is time, or when an issuer is missing.
    pub(crate) fn watch_directory(&mut self) {
        let now = (self.clock.now)();
        let (Some(known), Some(asking)) = (&mut self.core.directory, &mut self.directory) else { return };
        if asking.next_ns.is_none_or(|at_ns| now.mono_ns < at_ns && known.wanted.is_empty()) {
            return;
        }
        asking.next_ns = None;
        let (setting, writer) = (known.setting.clone(), asking.writer.clone());
        let names = std::mem::take(&mut known.wanted).into_iter().collect();
        let (anchors, issuers) = (self.core.identity.anchors.clone(), known.issuers.clone());
        let wanted = Wanted { anchors, issuers, names };
        let asked = std::thread::Builder::new().name("directory".to_owned()).stack_size(512 * 1024);
        let begun = asked.spawn(move || writer.send(Input::Directory(look(&setting, wanted, now.real_ns))).ok());
        if let Err(error) = begun {
            tracing::warn!(%error, "no thread to ask the directory on");
            asking.next_ns = Some(now.mono_ns.saturating_add(60_000_000_000));
        }
    }

    /// The directory was asked while nothing is traded.
    pub(crate) fn note_directory(&mut self, found: Found) {
        if let Err(error) = self.take_directory(found) {
            tracing::warn!(%error, "directory");
        }
    }

    /// The directory was asked.
    ///
    /// # Errors
    /// [`WriterError`].
    pub(crate) fn take_directory(&mut self, found: Found) -> Result<(), WriterError> {
        let now = (self.clock.now)();
        if let (Some(known), Some(asking)) = (&self.core.directory, &mut self.directory) {
            // What could not be had is asked for sooner.
            let pause_s =
                if found.trouble.is_empty() { known.setting.refresh_s } else { known.setting.refresh_s.min(60) };
            asking.next_ns = Some(now.mono_ns.saturating_add(u64::from(pause_s).saturating_mul(1_000_000_000)));
        }
        for effect in self.core.directory_looked(found) {
            self.execute(effect)?;
        }
        Ok(())
    }
}
