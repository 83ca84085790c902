//! The hardware that the node sells from: its fingerprint, what the site accepted, and what differs. Looked at when the agent
//! starts and every few minutes, each time by a thread of its own, for a driver may hang. What belongs to a server's
//! fingerprint is `hufu_metering::fingerprint`; what a change leads to is the core's (`Event::Hardware`).

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::mpsc::SyncSender,
    time::Duration,
};

use hufu_gm::{keyfile::Secret32, sm3::hmac_sm3, sm3::sm3};
use hufu_metering::{
    fingerprint::{differences, facts},
    gpu, inventory,
};
use hufu_trade::{
    if2::Problem,
    octets::{ContractNo, Digest, Octets},
};

use crate::{
    act,
    clock::Now,
    node::{Core, Effect, Event},
    writer::{Input, Writer, WriterError},
};

/// Name of the file in the ledger's directory: the salt in hexadecimal and a line feed, then the facts.
const NAME: &str = "hardware.accepted";
/// Longest such file, bytes: some ten thousand disks.
const BYTES_MAX: u64 = 1 << 20;
/// Pause between two looks, ns.
const PAUSE_NS: u64 = 300_000_000_000;
/// Longest wait for the GPU driver.
const GPU_WAIT: Duration = Duration::from_secs(20);
/// Differences, and contracts, that one alarm names.
const NAMED_MAX: usize = 16;

/// What the core knows of the hardware.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hardware {
    /// SM3 of the salt and the facts as they are now; absent before the first look.
    pub(crate) fingerprint: Option<Digest>,
    /// What differs from what the site accepted; empty: nothing, and the node sells.
    pub(crate) changed: Vec<String>,
}

/// What a look found.
#[derive(Debug)]
pub(crate) struct Found {
    facts: String,
    /// Why nobody knows the GPUs, if nobody does.
    why_no_gpus: Option<String>,
}

/// Looks at the server below `root`; at most so long as a GPU driver may take.
fn look(root: &Path) -> Found {
    // Devices are the running machine's own; a captured tree has none.
    let gpus = (root == Path::new("/")).then(|| gpu::inventory(Path::new(gpu::LIBRARY), GPU_WAIT));
    let facts = facts(&inventory::take(root), gpus.as_ref());
    Found { facts, why_no_gpus: gpus.filter(|gpus| gpus.devices.is_none()).and_then(|gpus| gpus.reason) }
}

/// Has the hardware looked at, and keeps what the site accepted.
#[derive(Debug)]
pub(crate) struct Watch {
    root: PathBuf,
    /// The ledger's directory.
    dir: PathBuf,
    salt: [u8; 16],
    /// What the site accepted, or what is the matter with the file that says so.
    accepted: Result<String, String>,
    found: Found,
    /// The core was told of the first look.
    is_told: bool,
    /// Next look, CLOCK_MONOTONIC ns; absent while one is under way.
    next_ns: Option<u64>,
    writer: SyncSender<Input>,
}

impl Watch {
    /// Looks for the first time. A ledger that never saw hardware accepts what it finds. The caller holds the ledger's lock.
    ///
    /// # Errors
    /// When what is accepted cannot be written, with the file. One that cannot be read is a change: metering goes on.
    pub(crate) fn begin(
        (root, dir): (&Path, &Path),
        salt_key: &Secret32,
        now: Now,
        writer: SyncSender<Input>,
    ) -> Result<Self, (PathBuf, std::io::Error)> {
        let (found, path) = (look(root), dir.join(NAME));
        let mut salt = [0; 16];
        // Of the secret that hides entries, so that the same server has the same fingerprint after its files are lost.
        salt.copy_from_slice(hmac_sm3(&**salt_key, &[b"hufu hardware"]).split_at(16).0);
        let accepted = match read(&path) {
            Ok(Some(text)) => parse(&text).ok_or_else(|| format!("{} does not hold a salt and facts", path.display())),
            Ok(None) => {
                remember(dir, &salt, &found.facts).map_err(|error| (path, error))?;
                tracing::info!("this hardware is accepted; from now on a change of it stops the sale");
                Ok(found.facts.clone())
            }
            Err(error) => Err(format!("{} cannot be read: {error}", path.display())),
        };
        let (root, dir) = (root.to_owned(), dir.to_owned());
        let next_ns = Some(now.mono_ns.saturating_add(PAUSE_NS));
        Ok(Self { root, dir, salt, accepted, found, is_told: false, next_ns, writer })
    }

    /// What the core is to know.
    fn hardware(&self) -> Hardware {
        let changed = match &self.accepted {
            Ok(accepted) => {
                let mut lines = differences(accepted, &self.found.facts);
                let has_lost_gpu = lines.iter().any(|line| line.starts_with("- gpu "));
                lines.extend(self.found.why_no_gpus.iter().filter(|_| has_lost_gpu).cloned());
                lines
            }
            Err(why) => vec![why.clone()],
        };
        let fingerprint = Octets(sm3(&[&self.salt, self.found.facts.as_bytes()]));
        Hardware { fingerprint: Some(fingerprint), changed }
    }

    /// Has a thread look when it is time.
    fn look_when_due(&mut self, now: Now) {
        if self.next_ns.is_none_or(|at| now.mono_ns < at) {
            return;
        }
        self.next_ns = None;
        let (root, writer) = (self.root.clone(), self.writer.clone());
        let looking = std::thread::Builder::new().name("hardware".to_owned()).stack_size(256 * 1024);
        let begun = looking.spawn(move || writer.send(Input::Hardware(look(&root))).ok());
        if let Err(error) = begun {
            tracing::warn!(%error, "no thread to look at the hardware on");
            self.next_ns = Some(now.mono_ns.saturating_add(PAUSE_NS));
        }
    }

    fn take(&mut self, found: Found, now: Now) -> Hardware {
        self.next_ns = Some(now.mono_ns.saturating_add(PAUSE_NS));
        self.found = found;
        self.hardware()
    }

    fn accept(&mut self) -> std::io::Result<Hardware> {
        remember(&self.dir, &self.salt, &self.found.facts)?;
        self.accepted = Ok(self.found.facts.clone());
        Ok(self.hardware())
    }
}

/// The facts in a file's text.
fn parse(text: &str) -> Option<String> {
    let (salt, facts) = text.split_once('\n')?;
    (Octets::<16>::from_hex(salt).is_some() && facts.ends_with('\n')).then(|| facts.to_owned())
}

/// The file's text; none where there is no file. Text that is too long or not UTF-8 is no text of ours.
fn read(path: &Path) -> std::io::Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(Some(String::from_utf8(bytes).unwrap_or_default()))
}

/// Durable before it returns: what the site accepted is not asked again after a power cut.
fn remember(dir: &Path, salt: &[u8; 16], facts: &str) -> std::io::Result<()> {
    let beside = dir.join(format!("{NAME}.new"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    write!(file, "{}\n{facts}", Octets(*salt))?;
    file.sync_all()?;
    std::fs::rename(&beside, dir.join(NAME))?;
    File::open(dir)?.sync_all()
}

impl Writer {
    /// Tells the core of the first look, and has later ones taken when they are due.
    ///
    /// # Errors
    /// [`WriterError`].
    pub(crate) fn watch_hardware(&mut self) -> Result<(), WriterError> {
        let now = (self.clock.now)();
        let Some(watch) = &mut self.hardware else { return Ok(()) };
        watch.look_when_due(now);
        if std::mem::replace(&mut watch.is_told, true) {
            return Ok(());
        }
        let hardware = watch.hardware();
        self.event(Event::Hardware(hardware))
    }

    /// A look was taken while nothing is traded: the core is told when it trades again.
    pub(crate) fn note_hardware(&mut self, found: Found) {
        let now = (self.clock.now)();
        if let Some(watch) = &mut self.hardware {
            watch.take(found, now);
            watch.is_told = false;
        }
    }

    /// A look was taken.
    ///
    /// # Errors
    /// [`WriterError`].
    pub(crate) fn take_hardware(&mut self, found: Found) -> Result<(), WriterError> {
        let now = (self.clock.now)();
        let Some(hardware) = self.hardware.as_mut().map(|watch| watch.take(found, now)) else { return Ok(()) };
        self.event(Event::Hardware(hardware))
    }

    /// The site accepts the hardware as it was found last.
    ///
    /// # Errors
    /// [`WriterError`]; a file that cannot be written is told to whoever asked, and nothing is accepted.
    pub(crate) fn accept_hardware(&mut self) -> Result<String, WriterError> {
        let Some(watch) = &mut self.hardware else { return Ok(refusal(act::own_fault("it watches no hardware"))) };
        let changed = watch.hardware().changed;
        match watch.accept() {
            Err(error) => Ok(refusal(act::own_fault(error))),
            Ok(hardware) => {
                let said = serde_json::json!({ "ok": { "fingerprint": hardware.fingerprint, "accepted": changed } });
                tracing::info!(?changed, "the site accepted this hardware");
                self.event(Event::Hardware(hardware))?;
                Ok(said.to_string())
            }
        }
    }
}

fn refusal(problem: Problem) -> String {
    serde_json::json!({ "error": problem }).to_string()
}

impl Core {
    /// The hardware as it is now: a change withdraws all stock, is told to the platform and raises an alarm that names the
    /// contracts whose capacity is in doubt.
    pub(crate) fn hardware(&mut self, hardware: Hardware) -> Vec<Effect> {
        let before = std::mem::replace(&mut self.shop.hardware, hardware);
        let now = &self.shop.hardware;
        if before == *now {
            return Vec::new();
        }
        self.told_revision = None;
        if now.changed.is_empty() || now.changed == before.changed {
            return Vec::new();
        }
        let held: Vec<String> = self.open_contracts().map(|no| no.to_string()).collect();
        let detail = format!("{}; nothing is sold; open contracts: {}", listed(&now.changed), listed(&held));
        vec![Effect::Alarm { what: "hardware", detail }]
    }

    /// Contracts that hold capacity.
    fn open_contracts(&self) -> impl Iterator<Item = ContractNo> {
        let contracts = self.book.contracts.values();
        let open = contracts.filter(|contract| {
            self.book.table_of(Some(contract)).is_some_and(|(.., table)| table.is_holding(&contract.state))
        });
        open.map(|contract| contract.no)
    }
}

/// The first of some things, and how many more there are.
fn listed(things: &[String]) -> String {
    let shown: Vec<&str> = things.iter().take(NAMED_MAX).map(String::as_str).collect();
    match things.len().saturating_sub(shown.len()) {
        0 if shown.is_empty() => "none".to_owned(),
        0 => shown.join(", "),
        more => format!("{}, and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    fn tree(root: &Path, disk: &str) {
        for (path, text) in [
            ("proc/cpuinfo", "processor\t: 0\nmodel name\t: X\n"),
            ("proc/meminfo", "MemTotal: 1000000 kB\n"),
            ("sys/block/vda/device/vendor", "0x1af4\n"),
            ("sys/block/vda/size", "2048\n"),
            ("sys/block/vda/serial", disk),
        ] {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
    }

    fn begin(root: &Path, dir: &Path) -> Watch {
        let (now, (writer, _)) = (Now { real_ns: 0, boot_ns: 0, mono_ns: 7 }, sync_channel(1));
        Watch::begin((root, dir), &[3; 32].into(), now, writer).unwrap()
    }

    #[test]
    fn the_first_hardware_is_accepted_and_a_change_until_it_is_mended_or_accepted() {
        let (root, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        tree(root.path(), "A1\n");
        let first = begin(root.path(), dir.path()).hardware();
        assert!(first.changed.is_empty() && first.fingerprint.is_some());
        tree(root.path(), "B2\n");
        let mut watch = begin(root.path(), dir.path());
        let changed = watch.hardware();
        assert_eq!(changed.changed, ["- disk virtual 1048576 A1", "+ disk virtual 1048576 B2"]);
        assert_ne!(changed.fingerprint, first.fingerprint);
        // The same disk is back.
        tree(root.path(), "A1\n");
        let now = Now { real_ns: 0, boot_ns: 0, mono_ns: 9 };
        assert_eq!(watch.take(look(root.path()), now), first);
        tree(root.path(), "B2\n");
        watch.take(look(root.path()), now);
        let accepted = watch.accept().unwrap();
        assert_eq!((accepted.fingerprint, accepted.changed.len()), (changed.fingerprint, 0));
        assert!(begin(root.path(), dir.path()).hardware().changed.is_empty(), "after a restart, too");
        let text = std::fs::read_to_string(dir.path().join(NAME)).unwrap();
        let (salt, facts) = text.split_once('\n').unwrap();
        let opened = sm3(&[&Octets::<16>::from_hex(salt).unwrap().0, facts.as_bytes()]);
        assert_eq!(accepted.fingerprint, Some(Octets(opened)), "whoever has the file recomputes the fingerprint");
    }

    #[test]
    fn a_file_that_says_nothing_is_a_change_and_not_a_new_beginning() {
        let (root, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        tree(root.path(), "A1\n");
        for text in [&b""[..], b"hufu hardware 1\n", b"\xff\n", b"00\nx\n", b"00112233445566778899aabbccddeeff\nhalf"] {
            std::fs::write(dir.path().join(NAME), text).unwrap();
            let mut watch = begin(root.path(), dir.path());
            assert!(watch.hardware().changed[0].contains("does not hold a salt and facts"), "{text:?}");
            assert_eq!(std::fs::read(dir.path().join(NAME)).unwrap(), text);
            assert!(watch.accept().unwrap().changed.is_empty());
        }
    }

    #[test]
    fn a_look_is_taken_when_it_is_due_and_never_twice_at_once() {
        let (root, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        tree(root.path(), "A1\n");
        let (writer, looks) = sync_channel(2);
        let at = |mono_ns| Now { real_ns: 0, boot_ns: 0, mono_ns };
        let mut watch = Watch::begin((root.path(), dir.path()), &[3; 32].into(), at(0), writer).unwrap();
        watch.look_when_due(at(PAUSE_NS - 1));
        assert!(watch.next_ns.is_some());
        watch.look_when_due(at(PAUSE_NS));
        watch.look_when_due(at(3 * PAUSE_NS));
        let Ok(Input::Hardware(found)) = looks.recv_timeout(Duration::from_secs(10)) else { panic!("no look") };
        assert!(looks.try_recv().is_err(), "one look at a time");
        assert!(watch.take(found, at(3 * PAUSE_NS)).changed.is_empty());
        assert_eq!(watch.next_ns, Some(4 * PAUSE_NS));
    }
}
