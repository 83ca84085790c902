//! Which cgroup hierarchies are mounted, from `/proc/self/mountinfo`. Reading one cgroup is `cgroup.rs`.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::{Error, file};

/// Which generations of cgroups are mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Only version 1.
    V1,
    /// Only version 2.
    V2,
    /// Version 1 controllers beside a version 2 tree.
    Hybrid,
    /// None.
    None,
}

impl Mode {
    /// The source name that meter identities carry.
    pub fn source(self) -> &'static str {
        match self {
            Mode::V1 => "cgroup-v1",
            Mode::V2 => "cgroup-v2",
            Mode::Hybrid => "cgroup-hybrid",
            Mode::None => "none",
        }
    }
}

/// A mounted version 1 hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
struct V1 {
    controllers: Vec<String>,
    mount: PathBuf,
}

/// The mounted hierarchies below a root directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchies {
    root: PathBuf,
    v1: Vec<V1>,
    v2: Option<PathBuf>,
}

impl Hierarchies {
    /// Reads `proc/self/mountinfo` below `root` (`/` on a real host).
    ///
    /// # Errors
    /// [`Error::Unreadable`] when there is no `/proc`.
    pub fn detect(root: &Path) -> Result<Self, Error> {
        let text = file::read_once(&root.join("proc/self/mountinfo"))?;
        let mut found = Self { root: root.to_owned(), v1: Vec::new(), v2: None };
        for line in file::lines(&text) {
            found.add(&String::from_utf8_lossy(line));
        }
        Ok(found)
    }

    /// Takes one mountinfo line: `id parent major:minor root mount options [tags] - type source super-options`.
    fn add(&mut self, line: &str) {
        let Some((before, after)) = line.split_once(" - ") else { return };
        let Some(mount) = before.split(' ').nth(4).map(unescape) else { return };
        let mut after = after.split(' ');
        let (kind, options) = (after.next(), after.nth(1));
        let mount = PathBuf::from(mount);
        match (kind, options) {
            (Some("cgroup2"), _) if self.v2.is_none() => self.v2 = Some(mount),
            (Some("cgroup"), Some(options)) => {
                let controllers =
                    options.split(',').filter(|word| !matches!(*word, "rw" | "ro") && !word.contains('='));
                let controllers: Vec<String> = controllers.map(str::to_owned).collect();
                if !controllers.is_empty() && self.v1.iter().all(|known| known.controllers != controllers) {
                    self.v1.push(V1 { controllers, mount });
                }
            }
            _ => {}
        }
    }

    /// Which generations are mounted.
    pub fn mode(&self) -> Mode {
        match (self.v1.is_empty(), self.v2.is_some()) {
            (true, true) => Mode::V2,
            (false, false) => Mode::V1,
            (false, true) => Mode::Hybrid,
            (true, false) => Mode::None,
        }
    }

    /// The directory of the version 1 hierarchy of `controller`, below the root.
    pub(crate) fn v1(&self, controller: &str) -> Option<PathBuf> {
        let found = self.v1.iter().find(|mount| mount.controllers.iter().any(|name| name == controller))?;
        Some(file::below(&self.root, &found.mount))
    }

    /// The directory of the version 2 hierarchy, below the root.
    pub(crate) fn v2(&self) -> Option<PathBuf> {
        self.v2.as_ref().map(|mount| file::below(&self.root, mount))
    }

    /// The full directory of a cgroup in the version 2 hierarchy, also beside version 1; `None` where it has none there.
    pub fn unified(&self, path: &str) -> Option<PathBuf> {
        let path = path.trim_matches('/');
        let directory = self.v2().filter(|_| !path.split('/').any(|part| part == ".."))?.join(path);
        directory.is_dir().then_some(directory)
    }

    /// The root everything is read under.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The path below its hierarchy of a cgroup that a person named either that way or by its full directory.
    pub fn relative(&self, named: &str) -> String {
        let full = Path::new(named);
        let mounts = self.v1.iter().map(|mount| &mount.mount).chain(&self.v2);
        let below = mounts.filter_map(|mount| full.strip_prefix(mount).ok()).min_by_key(|rest| rest.as_os_str().len());
        let text = below.map_or_else(|| named.to_owned(), |rest| rest.to_string_lossy().into_owned());
        text.trim_matches('/').to_owned()
    }
}

/// mountinfo writes blanks and backslashes as `\040`.
pub(crate) fn unescape(field: &str) -> String {
    let mut out = Vec::with_capacity(field.len());
    let mut bytes = field.bytes().peekable();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let digits: Vec<u8> =
            std::iter::from_fn(|| bytes.next_if(|digit| (b'0'..=b'7').contains(digit))).take(3).collect();
        let value = digits.iter().try_fold(0_u8, |value, digit| value.checked_mul(8)?.checked_add(digit - b'0'));
        match value {
            Some(value) if digits.len() == 3 => out.push(value),
            _ => {
                out.push(b'\\');
                out.extend(digits);
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_of_mountinfo_are_undone() {
        for (field, want) in [
            ("/a\\040b", "/a b"),
            ("/plain", "/plain"),
            ("/x\\", "/x\\"),
            ("/\\134n", "/\\n"),
            ("/\\999", "/\\999"),
            ("/\\777", "/\\777"),
        ] {
            assert_eq!(unescape(field), want, "{field}");
        }
    }
}
