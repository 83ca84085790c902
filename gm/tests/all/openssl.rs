//! Runs the real `openssl` program in a directory of its own. The SM2 user id is always given: without it OpenSSL before
//! 4.0 takes an empty one and agrees with nobody.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

pub(crate) const DISTID: &str = "distid:1234567812345678";

/// A directory that goes away with the test, and commands run in it.
pub(crate) struct Bench {
    directory: tempfile::TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    pub(crate) fn read_text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// Runs `openssl` with the words of `command`; true when it exits with 0.
    pub(crate) fn try_openssl(&self, command: &str) -> (bool, String) {
        run(self.directory.path(), &command.split_whitespace().collect::<Vec<_>>())
    }

    /// Runs `openssl` and insists on success; returns what it printed.
    pub(crate) fn openssl(&self, command: &str) -> String {
        let (success, output) = self.try_openssl(command);
        assert!(success, "openssl {command}: {output}");
        output
    }

    /// A fresh SM2 key of OpenSSL's own making in `name`, mode 0600.
    pub(crate) fn openssl_key(&self, name: &str) -> hufu_gm::sm2::SecretKey {
        self.openssl(&format!(
            "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:SM2 -pkeyopt ec_param_enc:named_curve -out {name}"
        ));
        set_mode(&self.path(name), 0o600);
        hufu_gm::keyfile::read(&self.path(name)).unwrap()
    }
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn run(directory: &Path, words: &[&str]) -> (bool, String) {
    let output = Command::new("openssl").args(words).current_dir(directory).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}
