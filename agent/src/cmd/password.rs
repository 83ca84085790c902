//! Where a command finds the password of a key file: a private file, an open file descriptor, or a credential of systemd. Never the
//! command line itself, which every user of the machine can read. What a password opens is `gm`'s.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use hufu_audit::{Exit, Failure};
use hufu_gm::{
    keyfile,
    pbes2::{PASSWORD_BYTES_MAX, Password},
};

use crate::{
    cmd::file,
    key_place::{self, CREDENTIAL},
    text::Text,
};

/// The flags of every command that opens or writes a key file.
#[derive(clap::Args)]
#[group(id = "password", multiple = false)]
pub(super) struct PasswordArgs {
    /// File with the key's password in one line, mode 0600
    #[arg(long, value_name = "F")]
    password_file: Option<PathBuf>,
    /// Open file descriptor from which the key's password is read; 0 is standard input
    #[arg(long, value_name = "N")]
    password_fd: Option<u32>,
    /// Credential of systemd that holds the key's password
    #[arg(long, value_name = "NAME")]
    password_credential: Option<String>,
}

impl PasswordArgs {
    /// The password, if the command line says where it is.
    ///
    /// # Errors
    /// Status 74, 78 or 65 as for key files; 65 for something that is no password.
    pub(super) fn read(&self) -> Result<Option<Password>, Failure<Text>> {
        if let Some(path) = &self.password_file {
            return from_file(path).map(Some);
        }
        if let Some(name) = &self.password_credential {
            let is_name = !name.is_empty() && !name.contains('/') && name != "." && name != "..";
            if !is_name {
                let (argument, value) = ("--password-credential".to_owned(), name.clone());
                let expected = "the name of a credential, not a path".to_owned();
                return Err(Failure::new(Exit::Usage, Text::ArgumentValue { argument, value, expected }));
            }
            let named = PathBuf::from(format!("{CREDENTIAL}{name}"));
            return from_file(&key_place::secret(&named, Path::new("."))).map(Some);
        }
        self.password_fd.map(from_descriptor).transpose()
    }

    /// The password that the command cannot do without.
    ///
    /// # Errors
    /// Status 2 when the command line names none; then as [`Self::read`].
    pub(super) fn required(&self) -> Result<Password, Failure<Text>> {
        let missing = || Failure::new(Exit::Usage, Text::PasswordMissing {});
        self.read()?.ok_or_else(missing)
    }
}

/// The password in a private file.
pub(crate) fn from_file(path: &Path) -> Result<Password, Failure<Text>> {
    keyfile::read_password(path).map_err(|error| file::gm_failure(path, &error))
}

fn from_descriptor(number: u32) -> Result<Password, Failure<Text>> {
    let path = PathBuf::from(format!("/dev/fd/{number}"));
    let limit = u64::try_from(PASSWORD_BYTES_MAX + 3).unwrap_or(u64::MAX);
    // Enough at once, so that no reallocation leaves a copy behind.
    let mut bytes = hufu_gm::Zeroizing::new(Vec::with_capacity(PASSWORD_BYTES_MAX + 4));
    let read = if number == 0 {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(&path).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    };
    read.map_err(|error| file::unreadable(&path, &error))?;
    Password::new(&bytes).map_err(|error| file::malformed(&path, &error))
}
