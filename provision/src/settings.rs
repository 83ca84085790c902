//! What root lets the helper do: `/etc/hufu/provision.toml`. Every key has a default, the file may be absent.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use hufu_provision::ids_of;
use serde::Deserialize;

/// What becomes of an order's files when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum After {
    /// They stay, with their quota, until the site takes them away: nothing of a buyer's is destroyed by a mistake.
    Keep,
    /// They are removed when the workload ended and the last reading was taken.
    Remove,
}

/// The settings.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// The user whose requests are heard, besides root.
    user: String,
    /// The site's own command that starts, suspends and stops workloads, run as root; empty for none.
    pub(crate) command: Vec<String>,
    /// Its time limit, seconds.
    pub(crate) timeout_s: u64,
    /// Most tasks (processes and threads) of an order.
    pub(crate) tasks_max: u64,
    /// Parent cgroup of the places where there is no systemd.
    pub(crate) parent: String,
    /// Directory, root's alone, in which orders that reserve storage get theirs.
    pub(crate) storage: PathBuf,
    /// What becomes of an order's directory when it ends.
    pub(crate) storage_after: After,
    /// Block devices, or files on them, to which reserved rates of block IO apply; empty: the device below `storage`.
    pub(crate) io_devices: Vec<PathBuf>,
    /// The uid of `user`, where this machine has one.
    #[serde(skip)]
    uid: Option<u32>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            user: "hufu".to_owned(),
            command: Vec::new(),
            timeout_s: 30,
            tasks_max: 4096,
            parent: "hufu-orders".to_owned(),
            storage: "/var/lib/hufu-orders".into(),
            storage_after: After::Keep,
            io_devices: Vec::new(),
            uid: None,
        }
    }
}

impl Settings {
    /// Reads the file; without one the defaults hold.
    ///
    /// # Errors
    /// Why it is refused: unreadable, not root's alone, unknown keys, values out of range.
    pub(crate) fn load(path: &Path) -> Result<Self, String> {
        let failed = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
        let text = match std::fs::metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(failed(&error)),
            // Whoever can write it, runs as root.
            Ok(found) if found.uid() != 0 || found.mode() & 0o022 != 0 => {
                return Err(failed(&"must belong to root and be writable by nobody else; chown root, chmod go-w"));
            }
            Ok(_) => std::fs::read_to_string(path).map_err(|e| failed(&e))?,
        };
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        Self::from_toml(&text, &passwd).map_err(|e| failed(&e))
    }

    fn from_toml(text: &str, passwd: &str) -> Result<Self, String> {
        let mut found: Self = toml::from_str(text).map_err(|e| e.to_string().trim_end().to_owned())?;
        if !(1..=600).contains(&found.timeout_s) {
            return Err("timeout_s: 1 to 600 expected".to_owned());
        }
        if !(1..=4_194_304).contains(&found.tasks_max) {
            return Err("tasks_max: 1 to 4194304 expected".to_owned());
        }
        if found.command.first().is_some_and(|program| !program.starts_with('/')) {
            return Err("command: the full path of a program expected".to_owned());
        }
        let is_plain = |path: &Path| path.is_absolute() && path.parent().is_some() && !path.as_os_str().is_empty();
        let climbs = |path: &Path| path.components().any(|part| part == std::path::Component::ParentDir);
        if !is_plain(&found.storage) || climbs(&found.storage) {
            return Err("storage: the full path of a directory expected, not the root".to_owned());
        }
        if found.io_devices.len() > 16 || !found.io_devices.iter().all(|path| path.is_absolute() && !climbs(path)) {
            return Err("io_devices: at most 16 full paths of devices, or of files on them, expected".to_owned());
        }
        found.uid = ids_of(&found.user, passwd).map(|(uid, _)| uid);
        Ok(found)
    }

    /// Whether requests of this user are heard.
    pub(crate) fn may_ask(&self, uid: u32) -> bool {
        uid == 0 || self.uid == Some(uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nhufu:x:990:990::/var/lib/hufu:/usr/sbin/nologin\n";

    #[test]
    fn only_root_and_the_agent_are_heard() {
        let found = Settings::from_toml("", PASSWD).unwrap();
        assert!(found.may_ask(0) && found.may_ask(990) && !found.may_ask(1000));
        let other = Settings::from_toml("user = \"nobody-here\"", PASSWD).unwrap();
        assert!(other.may_ask(0) && !other.may_ask(990));
    }

    #[test]
    fn wrong_settings_say_which() {
        for (text, word) in [
            ("timeout_s = 0", "timeout_s"),
            ("tasks_max = 0", "tasks_max"),
            ("command = [\"sh\"]", "command"),
            ("comand = []", "comand"),
            ("storage = \"orders\"", "storage"),
            ("storage = \"/\"", "storage"),
            ("storage = \"/srv/../etc\"", "storage"),
            ("storage_after = \"delete\"", "storage_after"),
            ("io_devices = [\"vda\"]", "io_devices"),
            ("= x", "TOML"),
        ] {
            let why = Settings::from_toml(text, PASSWD).unwrap_err();
            assert!(why.contains(word), "{text}: {why}");
        }
        let absent = Settings::load(Path::new("/nowhere/provision.toml")).unwrap();
        assert_eq!((absent.timeout_s, absent.tasks_max), (30, 4096));
    }

    #[test]
    fn settings_that_others_can_write_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("provision.toml");
        std::fs::write(&path, "").unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        std::fs::set_permissions(&path, open).unwrap();
        assert!(Settings::load(&path).unwrap_err().contains("go-w"));
    }
}
