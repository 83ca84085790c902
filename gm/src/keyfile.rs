//! Secret key files: SM2 keys as PKCS#8 PEM, plain or under a password, passwords, and raw 32-byte secrets (the salt key of a
//! ledger). Every file is refused that its group or others may touch, or that belongs to somebody else. What a key signs lives in
//! `sm2.rs`; how a password encrypts one, in `pbes2.rs`.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

use der::{
    Decode, Sequence,
    asn1::{AnyRef, BitStringRef, ObjectIdentifier, OctetStringRef},
    pem,
};
use zeroize::{Zeroize, Zeroizing};

use crate::{
    Error,
    asn1::{EC_PUBLIC_KEY, SM2_CURVE},
    pbes2::{self, Password},
    sm2::SecretKey,
    sm4,
};

const PLAIN: &str = "PRIVATE KEY";
const ENCRYPTED: &str = "ENCRYPTED PRIVATE KEY";

/// No key file is larger than this; the limit keeps a wrong path from being read into memory.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Reads an SM2 secret key: PEM of PKCS#8 (`PRIVATE KEY`) or SEC 1 (`EC PRIVATE KEY`, also behind `EC PARAMETERS`;
/// OpenSSL 3.0's `openssl ec` calls it `SM2 PRIVATE KEY`).
///
/// # Errors
/// [`Error::Io`] when the file cannot be read; [`Error::KeyFileMode`] when group or others have any access to it;
/// [`Error::KeyFileOwner`] when it is neither root's nor ours; [`Error::KeyFileEncrypted`] when it needs a password;
/// [`Error::KeyFileMalformed`] when it holds no SM2 key, more than one, or one whose stored public half is another's.
pub fn read(path: &Path) -> Result<SecretKey, Error> {
    open(path, Owner::Us, None)
}

/// Reads an SM2 secret key that is encrypted under `password` (`ENCRYPTED PRIVATE KEY`); see [`pbes2::decrypt`].
///
/// # Errors
/// As [`read`], and [`Error::KeyFilePassword`] when the password does not open it, [`Error::KeyFileClear`] when the key is not
/// encrypted, [`Error::KeyEncryption`] or [`Error::Iterations`] when it is so in another way.
pub fn read_encrypted(path: &Path, password: &Password) -> Result<SecretKey, Error> {
    open(path, Owner::Us, Some(password))
}

/// As [`read`] or [`read_encrypted`], for root who looks at a file of the service's user `uid`, too.
///
/// # Errors
/// As those.
pub fn read_of(path: &Path, uid: u32, password: Option<&Password>) -> Result<SecretKey, Error> {
    open(path, Owner::UsOr(uid), password)
}

/// Reads a password: a private file with one line, as systemd hands one over.
///
/// # Errors
/// [`Error::Io`], [`Error::KeyFileMode`], [`Error::KeyFileOwner`] as [`read`]; [`Error::Password`] for a file that holds none.
pub fn read_password(path: &Path) -> Result<Password, Error> {
    Password::new(&read_private(path, Owner::Us)?)
}

/// As [`read_password`], for root who looks at a file of the service's user `uid`, too.
///
/// # Errors
/// As [`read_password`].
pub fn read_password_of(path: &Path, uid: u32) -> Result<Password, Error> {
    Password::new(&read_private(path, Owner::UsOr(uid))?)
}

/// Whose a secret file may be; root's always.
#[derive(Clone, Copy)]
enum Owner {
    Us,
    UsOr(u32),
}

impl Owner {
    fn allows(self, uid: u32) -> bool {
        let named = matches!(self, Self::UsOr(other) if other == uid);
        uid == 0 || named || uid == rustix::process::geteuid().as_raw()
    }
}

fn open(path: &Path, owner: Owner, password: Option<&Password>) -> Result<SecretKey, Error> {
    parse_named(path, &read_private(path, owner)?, password)
}

/// Reads a secret key from the text of a key file that came some other way than through the file system.
///
/// # Errors
/// As [`read`] and [`read_encrypted`], with an empty path.
pub fn parse(text: &[u8], password: Option<&Password>) -> Result<SecretKey, Error> {
    parse_named(Path::new(""), text, password)
}

fn parse_named(path: &Path, bytes: &[u8], password: Option<&Password>) -> Result<SecretKey, Error> {
    let malformed = || Error::KeyFileMalformed { path: path.into() };
    let (label, block) = std::str::from_utf8(bytes).ok().and_then(only_key_block).ok_or_else(malformed)?;
    let (found, document) = pem::decode_vec(block.as_bytes()).map_err(|_| malformed())?;
    let document = Zeroizing::new(document);
    if found != label {
        return Err(malformed());
    }
    match (label, password) {
        (ENCRYPTED, None) => Err(Error::KeyFileEncrypted { path: path.into() }),
        (ENCRYPTED, Some(password)) => pbes2::decrypt(&document, password).map_err(|error| match error {
            Error::Decrypt => Error::KeyFilePassword { path: path.into() },
            Error::KeyEncryption | Error::Iterations => error,
            _ => malformed(),
        }),
        (_, Some(_)) => Err(Error::KeyFileClear { path: path.into() }),
        (PLAIN, None) => parse_pkcs8(&document).ok_or_else(malformed),
        (_, None) => parse_sec1(&document, false).ok_or_else(malformed),
    }
}

/// Writes `key` into a new file of mode 0600: PKCS#8 PEM with the curve and the public half inside, as every known reader
/// accepts it. File and directory are synced before this returns.
///
/// # Errors
/// [`Error::Io`] when the file exists already, or cannot be written; nothing is left behind then.
pub fn write_new(path: &Path, key: &SecretKey) -> Result<(), Error> {
    write_pem_new(path, PLAIN, &pkcs8_der(key)?)
}

/// Writes `key` under a password into a new file of mode 0600; see [`pbes2::encrypt`]. Synced like [`write_new`].
///
/// # Errors
/// As [`write_new`]; [`Error::Iterations`].
pub fn write_encrypted_new(
    path: &Path,
    key: &SecretKey,
    password: &Password,
    terms: &pbes2::Terms,
) -> Result<(), Error> {
    write_pem_new(path, ENCRYPTED, &pbes2::encrypt(key, password, terms)?)
}

fn write_pem_new(path: &Path, label: &str, document: &[u8]) -> Result<(), Error> {
    let text = pem::encode_string(label, pem::LineEnding::LF, document).map_err(|error| Error::Der(error.into()))?;
    create_private(path, Zeroizing::new(text).as_bytes())
}

/// A raw secret of 32 bytes. Its memory is wiped when dropped; `Debug` never shows it.
#[derive(Clone)]
pub struct Secret32(Zeroizing<[u8; 32]>);

impl From<[u8; 32]> for Secret32 {
    fn from(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl std::ops::Deref for Secret32 {
    type Target = [u8; 32];

    fn deref(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Debug for Secret32 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret32(..)")
    }
}

impl Secret32 {
    /// Fresh randomness given by `fill`.
    ///
    /// # Errors
    /// [`Error::Randomness`] when `fill` fails.
    pub fn generate(fill: impl FnOnce(&mut [u8]) -> Result<(), Error>) -> Result<Self, Error> {
        let mut secret = Zeroizing::new([0; 32]);
        fill(secret.as_mut())?;
        Ok(Self(secret))
    }
}

/// Reads a raw secret of exactly 32 bytes.
///
/// # Errors
/// As [`read`].
pub fn read_secret32(path: &Path) -> Result<Secret32, Error> {
    secret32(path, Owner::Us)
}

/// As [`read_secret32`], for root who looks at a file of the service's user `uid`, too.
///
/// # Errors
/// As [`read`].
pub fn read_secret32_of(path: &Path, uid: u32) -> Result<Secret32, Error> {
    secret32(path, Owner::UsOr(uid))
}

fn secret32(path: &Path, owner: Owner) -> Result<Secret32, Error> {
    let bytes = read_private(path, owner)?;
    let mut secret = Zeroizing::new([0_u8; 32]);
    if bytes.len() != secret.len() {
        return Err(Error::KeyFileMalformed { path: path.into() });
    }
    secret.copy_from_slice(&bytes);
    Ok(Secret32(secret))
}

/// Reads an SM4 key that two parties share: 16 bytes as they are, or 32 hexadecimal digits, which a line feed may end.
///
/// # Errors
/// As [`read`]; [`Error::KeyFileMalformed`] for anything else.
pub fn read_sm4_key(path: &Path) -> Result<sm4::Key, Error> {
    let bytes = read_private(path, Owner::Us)?;
    let malformed = || Error::KeyFileMalformed { path: path.into() };
    let mut key = Zeroizing::new([0_u8; sm4::KEY_BYTES]);
    if bytes.len() == key.len() {
        key.copy_from_slice(&bytes);
        return Ok(sm4::Key::from_bytes(*key));
    }
    let digits = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    if digits.len() != key.len() * 2 {
        return Err(malformed());
    }
    for (octet, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| pair.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        let value = digit(0).zip(digit(1)).map(|(high, low)| high * 16 + low);
        *octet = value.and_then(|value| u8::try_from(value).ok()).ok_or_else(malformed)?;
    }
    Ok(sm4::Key::from_bytes(*key))
}

/// Writes a raw secret of 32 bytes into a new file of mode 0600, synced like [`write_new`].
///
/// # Errors
/// As [`write_new`].
pub fn write_secret32_new(path: &Path, secret: &[u8; 32]) -> Result<(), Error> {
    create_private(path, secret)
}

fn read_private(path: &Path, owner: Owner) -> Result<Zeroizing<Vec<u8>>, Error> {
    let io = |source| Error::Io { path: path.into(), source };
    let file = File::open(path).map_err(io)?;
    // The mode of the open file, not of the path: nothing can be swapped in between.
    let metadata = file.metadata().map_err(io)?;
    let mode = metadata.permissions().mode() & 0o7777;
    if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
        return Err(Error::KeyFileMalformed { path: path.into() });
    }
    if mode & 0o077 != 0 {
        return Err(Error::KeyFileMode { path: path.into(), mode });
    }
    if !owner.allows(metadata.uid()) {
        return Err(Error::KeyFileOwner { path: path.into(), uid: metadata.uid() });
    }
    // Reserved at once, so that no reallocation leaves a copy of the secret behind.
    let size = usize::try_from(metadata.len()).unwrap_or(0);
    let mut bytes = Zeroizing::new(Vec::with_capacity(size + 1));
    file.take(metadata.len()).read_to_end(&mut bytes).map_err(io)?;
    Ok(bytes)
}

fn create_private(path: &Path, content: &[u8]) -> Result<(), Error> {
    let io = |source| Error::Io { path: path.into(), source };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io)?;
    let written = file.write_all(content).and_then(|()| file.sync_all()).and_then(|()| sync_parent(path));
    if let Err(source) = written {
        // A torn key file would stand in the way of the next try; the first error is the one worth telling.
        let _ = fs::remove_file(path);
        return Err(io(source));
    }
    Ok(())
}

fn sync_parent(path: &Path) -> std::io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

/// `PrivateKeyInfo` of an SM2 key has one length and one layout (GM/T 0009 7.1, RFC 5915, RFC 5208), so it is a template.
/// `[0] parameters` and `[1] publicKey` are there because some readers refuse keys without them.
const PKCS8_HEAD: [u8; 36] = [
    0x30, 0x81, 0x93, 0x02, 0x01, 0x00, // PrivateKeyInfo, version 0
    0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, // id-ecPublicKey
    0x06, 0x08, 0x2a, 0x81, 0x1c, 0xcf, 0x55, 0x01, 0x82, 0x2d, // SM2 curve
    0x04, 0x79, 0x30, 0x77, 0x02, 0x01, 0x01, 0x04, 0x20, // ECPrivateKey, version 1, 32 bytes follow
];
const PKCS8_MIDDLE: [u8; 17] = [
    0xa0, 0x0a, 0x06, 0x08, 0x2a, 0x81, 0x1c, 0xcf, 0x55, 0x01, 0x82, 0x2d, // [0] the curve again
    0xa1, 0x44, 0x03, 0x42, 0x00, // [1] BIT STRING of the point
];

pub(crate) fn pkcs8_der(key: &SecretKey) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut scalar = key.inner().to_bytes();
    let mut out = Zeroizing::new(Vec::with_capacity(150));
    out.extend_from_slice(&PKCS8_HEAD);
    out.extend_from_slice(&scalar);
    scalar.as_mut_slice().zeroize();
    out.extend_from_slice(&PKCS8_MIDDLE);
    out.extend_from_slice(&key.public_key().to_sec1());
    if out.len() == 150 { Ok(out) } else { Err(Error::SecretKeyRange) }
}

#[derive(Sequence)]
struct Algorithm<'a> {
    oid: ObjectIdentifier,
    parameters: Option<AnyRef<'a>>,
}

#[derive(Sequence)]
struct Pkcs8<'a> {
    version: u8,
    algorithm: Algorithm<'a>,
    private_key: &'a OctetStringRef,
}

#[derive(Sequence)]
struct EcPrivateKey<'a> {
    version: u8,
    private_key: &'a OctetStringRef,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    parameters: Option<ObjectIdentifier>,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    public_key: Option<BitStringRef<'a>>,
}

/// The one PEM block with a key label; blocks with other labels and text around them are passed over.
fn only_key_block(text: &str) -> Option<(&'static str, &str)> {
    let mut found = None;
    for label in [PLAIN, ENCRYPTED, "EC PRIVATE KEY", "SM2 PRIVATE KEY"] {
        let begin = format!("-----BEGIN {label}-----");
        let end = format!("-----END {label}-----");
        for (start, _) in text.match_indices(&begin) {
            let tail = text.get(start..)?;
            let stop = tail.find(&end)? + end.len();
            if found.replace((label, tail.get(..stop)?)).is_some() {
                return None;
            }
        }
    }
    found
}

pub(crate) fn parse_pkcs8(document: &[u8]) -> Option<SecretKey> {
    let info = Pkcs8::from_der(document).ok()?;
    let curve = info.algorithm.parameters?.decode_as::<ObjectIdentifier>().ok()?;
    if info.version != 0 || info.algorithm.oid != EC_PUBLIC_KEY || curve != SM2_CURVE {
        return None;
    }
    parse_sec1(info.private_key.as_bytes(), true)
}

/// `curve_known`: the envelope has named the curve; otherwise the key itself must.
fn parse_sec1(document: &[u8], curve_known: bool) -> Option<SecretKey> {
    let key = EcPrivateKey::from_der(document).ok()?;
    let curve_named = key.parameters == Some(SM2_CURVE) || (key.parameters.is_none() && curve_known);
    if key.version != 1 || !curve_named {
        return None;
    }
    let secret = SecretKey::from_scalar(key.private_key.as_bytes()).ok()?;
    match key.public_key {
        Some(point) if point.as_bytes()? != secret.public_key().to_sec1() => None,
        _ => Some(secret),
    }
}
