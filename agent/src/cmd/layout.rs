//! Where a node's files lie: all in one directory, or as a service of this machine does, with secrets apart so that systemd
//! hands them over (`LoadCredential=`). What is written into them is `init.rs`.

use std::path::{Path, PathBuf};

use hufu_audit::{Exit, Failure};
use hufu_provision::ids_of;

use crate::{cmd::file, key_place::CREDENTIAL, text::Text};

/// Of the service: configuration and certificates, secrets, what grows.
const CONFIG_DIR: &str = "/etc/hufu";
const SECRETS_DIR: &str = "/etc/hufu/credentials";
const STATE_DIR: &str = "/var/lib/hufu";
/// The service's user, made by the package.
const USER: &str = "hufu";

/// The places of a node's files.
pub(super) struct Layout {
    config_dir: PathBuf,
    /// Of the service: where secrets lie, where the ledger lies, whose it is.
    service: Option<Service>,
}

struct Service {
    secrets: PathBuf,
    state: PathBuf,
    owner: (u32, u32),
}

impl Layout {
    /// Everything in one directory.
    pub(super) fn directory(dir: &Path) -> Self {
        Self { config_dir: dir.to_owned(), service: None }
    }

    /// The service of this machine.
    ///
    /// # Errors
    /// Status 74 for anybody but root, or where the package's user is missing.
    pub(super) fn system() -> Result<Self, Failure<Text>> {
        let refused = |why: &str| {
            let path = CONFIG_DIR.to_owned();
            Failure::new(Exit::Io, Text::FileUnwritable { path, why: why.to_owned() })
        };
        if !rustix::process::geteuid().is_root() {
            return Err(refused("only root sets up the service of a machine; run it with sudo"));
        }
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let owner = ids_of(USER, &passwd).ok_or_else(|| {
            refused("this machine has no user hufu; install the package, or run systemd-sysusers hufu.conf")
        })?;
        let service = Service { secrets: SECRETS_DIR.into(), state: STATE_DIR.into(), owner };
        Ok(Self { config_dir: CONFIG_DIR.into(), service: Some(service) })
    }

    /// Whether this is the service of the machine.
    pub(super) fn is_system(&self) -> bool {
        self.service.is_some()
    }

    /// How the command line names this layout.
    pub(super) fn flag(&self) -> String {
        if self.is_system() { "--system".to_owned() } else { format!("--dir {}", self.config_dir.display()) }
    }

    pub(super) fn config(&self) -> PathBuf {
        self.config_dir.join("hufu.toml")
    }

    pub(super) fn certificate(&self) -> PathBuf {
        self.config_dir.join("node.pem")
    }

    pub(super) fn request(&self) -> PathBuf {
        self.config_dir.join("node.csr")
    }

    pub(super) fn trust(&self) -> PathBuf {
        self.config_dir.join("trust.pem")
    }

    pub(super) fn platform(&self) -> PathBuf {
        self.config_dir.join("platform.pem")
    }

    fn secret(&self, name: &str) -> PathBuf {
        self.service.as_ref().map_or(&self.config_dir, |service| &service.secrets).join(name)
    }

    fn secret_name(&self, name: &str) -> PathBuf {
        if self.is_system() { format!("{CREDENTIAL}{name}").into() } else { name.into() }
    }

    pub(super) fn key(&self) -> PathBuf {
        self.secret("node.key")
    }

    /// How the configuration names the key.
    pub(super) fn key_name(&self) -> PathBuf {
        self.secret_name("node.key")
    }

    pub(super) fn salt(&self) -> PathBuf {
        self.secret("salt")
    }

    /// How the configuration names the salt.
    pub(super) fn salt_name(&self) -> PathBuf {
        self.secret_name("salt")
    }

    /// What the configuration says of places that are not below its own directory.
    pub(super) fn places(&self) -> String {
        let Some(service) = &self.service else { return String::new() };
        format!(
            "[ledger]\ndir = \"{}/ledger\"\n\n[local]\nsocket = \"/run/hufu/hufu.sock\"\n\n\
             # Root makes the places of orders; /etc/hufu/provision.toml says what it starts in them.\n\
             [provision]\nsocket = \"/run/hufu-provision.sock\"\n\n",
            service.state.display()
        )
    }

    /// Makes the directories that are missing.
    pub(super) fn make_directories(&self) -> Result<(), Failure<Text>> {
        let Some(service) = &self.service else { return file::make_dir(&self.config_dir) };
        file::make_dir(&service.secrets)?;
        file::make_dir(&service.state)?;
        // The service reads its configuration; nobody else needs to.
        mode(&self.config_dir, 0o750)?;
        chown(&self.config_dir, (0, service.owner.1))?;
        chown(&service.state, service.owner)
    }

    /// Gives the ledger, and the keys beside it, to the service's user.
    pub(super) fn hand_over(&self, ledger: &Path) -> Result<(), Failure<Text>> {
        let Some(service) = &self.service else { return Ok(()) };
        for name in std::fs::read_dir(&service.state).map_err(|e| file::unreadable(&service.state, &e))? {
            let name = name.map_err(|e| file::unreadable(&service.state, &e))?.path();
            // The ledger and what carries its name: `ledger`, `ledger.keys`.
            if name.to_string_lossy().starts_with(&*ledger.to_string_lossy()) {
                chown_all(&name, service.owner)?;
            }
        }
        Ok(())
    }
}

fn mode(path: &Path, mode: u32) -> Result<(), Failure<Text>> {
    let wanted = std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(path, wanted).map_err(|e| file::unwritable(path, &e))
}

fn chown(path: &Path, (uid, gid): (u32, u32)) -> Result<(), Failure<Text>> {
    std::os::unix::fs::lchown(path, Some(uid), Some(gid)).map_err(|e| file::unwritable(path, &e))
}

fn chown_all(path: &Path, owner: (u32, u32)) -> Result<(), Failure<Text>> {
    if path.is_dir() && !path.is_symlink() {
        for found in std::fs::read_dir(path).map_err(|e| file::unreadable(path, &e))? {
            chown_all(&found.map_err(|e| file::unreadable(path, &e))?.path(), owner)?;
        }
    }
    chown(path, owner)
}

/// Files made so far; what is still listed when it is dropped is removed again.
#[derive(Default)]
pub(super) struct Made {
    paths: Vec<PathBuf>,
}

impl Made {
    /// A file about to be made; one that is there already is refused, and stays.
    pub(super) fn plan(&mut self, path: PathBuf) -> Result<PathBuf, Failure<Text>> {
        if path.exists() {
            return Err(Failure::new(Exit::Io, Text::NodeThere { path: path.display().to_string() }));
        }
        self.paths.push(path.clone());
        Ok(path)
    }

    /// Everything went well: all of it stays.
    pub(super) fn keep(mut self) {
        self.paths.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for path in &self.paths {
            std::fs::remove_file(path).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_keeps_its_secrets_apart() {
        let service = Service { secrets: "/s".into(), state: "/v".into(), owner: (1, 1) };
        let layout = Layout { config_dir: "/c".into(), service: Some(service) };
        assert_eq!((layout.key(), layout.key_name()), ("/s/node.key".into(), "credential:node.key".into()));
        assert_eq!(layout.config(), Path::new("/c/hufu.toml"));
        let places: toml::Table = layout.places().parse().unwrap();
        assert_eq!(places["ledger"]["dir"].as_str(), Some("/v/ledger"));
        let here = Layout::directory(Path::new("d"));
        assert_eq!((here.key(), here.key_name()), ("d/node.key".into(), "node.key".into()));
        assert_eq!((here.places(), here.flag()), (String::new(), "--dir d".to_owned()));
    }
}
