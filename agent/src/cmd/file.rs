//! Reading and writing the small files that commands are given: keys, certificates, texts; every failure with its status and
//! its path. Nothing here knows what a command wants.

use std::{
    fs::OpenOptions,
    io::{Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

use hufu_audit::{Exit, Failure};
use hufu_gm::{Error as GmError, cert::Certificate, pbes2::Password, sm2::SecretKey};

use crate::{
    key_place::KeyPlace,
    signer::{Far, NodeKey},
    text::Text,
};

/// No file that a command reads whole is larger.
const FILE_BYTES_MAX: u64 = 64 << 20;

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Status 74: `path` could not be read.
pub(crate) fn unreadable(path: &Path, why: &dyn std::fmt::Display) -> Failure<Text> {
    Failure::new(Exit::Io, Text::FileUnreadable { path: shown(path), why: why.to_string() })
}

/// Status 74: `path` could not be written.
pub(crate) fn unwritable(path: &Path, why: &dyn std::fmt::Display) -> Failure<Text> {
    Failure::new(Exit::Io, Text::FileUnwritable { path: shown(path), why: why.to_string() })
}

/// Status 65: `path` holds something else.
pub(crate) fn malformed(path: &Path, why: &dyn std::fmt::Display) -> Failure<Text> {
    Failure::new(Exit::Malformed, Text::Malformed { path: shown(path), why: why.to_string() })
}

/// What `gm` says about a file, with the status it deserves.
pub(crate) fn gm_failure(path: &Path, error: &GmError) -> Failure<Text> {
    match error {
        GmError::Io { source, .. } => unreadable(path, source),
        GmError::KeyFileMode { mode, .. } => {
            Failure::new(Exit::Config, Text::KeyFileMode { path: shown(path), mode: format!("{mode:04o}") })
        }
        GmError::KeyFileMalformed { .. } => malformed(path, &"no SM2 secret key in it"),
        GmError::KeyFileOwner { uid, .. } => {
            Failure::new(Exit::Config, Text::KeyFileOwner { path: shown(path), uid: uid.to_string() })
        }
        GmError::KeyFileEncrypted { .. } => Failure::new(Exit::Config, Text::KeyFileEncrypted { path: shown(path) }),
        GmError::KeyFileClear { .. } => Failure::new(Exit::Config, Text::KeyFileClear { path: shown(path) }),
        GmError::KeyFilePassword { .. } => Failure::new(Exit::Config, Text::KeyFilePassword { path: shown(path) }),
        other => malformed(path, other),
    }
}

/// As [`gm_failure`], of a file that holds a symmetric key.
pub(crate) fn secret_failure(path: &Path, error: &GmError) -> Failure<Text> {
    match error {
        GmError::KeyFileMalformed { .. } => {
            malformed(path, &"16 bytes or 32 hexadecimal digits of an SM4 key expected")
        }
        other => gm_failure(path, other),
    }
}

/// Reads a whole file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Failure<Text>> {
    let file = std::fs::File::open(path).map_err(|e| unreadable(path, &e))?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|e| unreadable(path, &e))?;
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if size > FILE_BYTES_MAX { Err(malformed(path, &"larger than 64 MiB")) } else { Ok(bytes) }
}

/// Reads a text file.
pub(crate) fn read_text(path: &Path) -> Result<String, Failure<Text>> {
    String::from_utf8(read(path)?).map_err(|_| malformed(path, &"not UTF-8 text"))
}

/// Reads a JSON file.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Failure<Text>> {
    serde_json::from_slice(&read(path)?).map_err(|e| malformed(path, &e))
}

/// Reads a secret key file.
pub(crate) fn read_key(path: &Path) -> Result<SecretKey, Failure<Text>> {
    hufu_gm::keyfile::read(path).map_err(|e| gm_failure(path, &e))
}

/// Reads a secret key file, encrypted if a password is given.
pub(crate) fn read_key_with(path: &Path, password: Option<&Password>) -> Result<SecretKey, Failure<Text>> {
    let read = match password {
        Some(password) => hufu_gm::keyfile::read_encrypted(path, password),
        None => hufu_gm::keyfile::read(path),
    };
    read.map_err(|e| gm_failure(path, &e))
}

/// The node's key from where its configuration says; a signer is asked which key it holds.
///
/// # Errors
/// Those of [`read_key`]; status 69 or 78 for a signer that is not there or somebody else's.
pub(crate) fn node_key(place: &KeyPlace) -> Result<NodeKey, Failure<Text>> {
    match place {
        KeyPlace::File { key, password } => {
            let password = password.as_deref().map(super::password::from_file).transpose()?;
            read_key_with(key, password.as_ref()).map(NodeKey::File)
        }
        KeyPlace::Signer(address) => {
            let found = Far::find(address.clone()).map_err(|fault| crate::setup::signer_failure(address, &fault))?;
            Ok(NodeKey::Far(found))
        }
    }
}

/// Reads the certificates of a PEM file, at least one.
pub(crate) fn read_certificates(path: &Path) -> Result<Vec<Certificate>, Failure<Text>> {
    Certificate::from_pem_many(&read_text(path)?).map_err(|e| gm_failure(path, &e))
}

/// Reads the certificates of several PEM files.
pub(crate) fn read_anchors(paths: &[std::path::PathBuf]) -> Result<Vec<Certificate>, Failure<Text>> {
    let mut found = Vec::new();
    for path in paths {
        found.extend(read_certificates(path)?);
    }
    Ok(found)
}

/// The number of a user that the command line names.
///
/// # Errors
/// Status 2 when this machine has no such user.
pub(crate) fn user(user: &str, argument: &str) -> Result<u32, Failure<Text>> {
    let (argument, value) = (argument.to_owned(), user.to_owned());
    let expected = "a user of this machine, or a number".to_owned();
    crate::key_place::user_id(user)
        .ok_or_else(|| Failure::new(Exit::Usage, Text::ArgumentValue { argument, value, expected }))
}

/// Makes a new secret key in a new file of mode 0600.
pub(crate) fn new_key(path: &Path) -> Result<SecretKey, Failure<Text>> {
    let key = SecretKey::generate(hufu_gm::random::fill).map_err(|e| super::bug(&e))?;
    hufu_gm::keyfile::write_new(path, &key).map_err(|e| match &e {
        GmError::Io { source, .. } => unwritable(path, source),
        other => super::bug(other),
    })?;
    Ok(key)
}

/// Writes a new file and refuses to touch one that is there.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure<Text>> {
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o644).open(path).map_err(|e| unwritable(path, &e))?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.map_err(|e| {
        let _ = std::fs::remove_file(path);
        unwritable(path, &e)
    })
}

/// Writes or replaces a file; readers see the old content or the new, nothing between.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), Failure<Text>> {
    replace_as(path, bytes, 0o644)
}

/// As [`replace`], for nobody's eyes but the owner's.
pub(crate) fn replace_private(path: &Path, bytes: &[u8]) -> Result<(), Failure<Text>> {
    replace_as(path, bytes, 0o600)
}

fn replace_as(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure<Text>> {
    // A device or a pipe is written to; a file in its place would be a surprise to everybody else who uses it.
    if std::fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
        let written = OpenOptions::new().write(true).open(path).and_then(|mut file| file.write_all(bytes));
        return written.map_err(|e| unwritable(path, &e));
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = Path::new(&beside);
    let mut open = OpenOptions::new();
    let file = open.write(true).create(true).truncate(true).mode(mode).open(beside);
    let written = file.and_then(|mut file| {
        // One that was left behind may have had another mode.
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(beside, path)
    });
    written.map_err(|e| {
        let _ = std::fs::remove_file(beside);
        unwritable(path, &e)
    })
}

/// Makes a directory and its parents, mode 0700; one that is there is fine.
pub(crate) fn make_dir(path: &Path) -> Result<(), Failure<Text>> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| unwritable(path, &e))
}
