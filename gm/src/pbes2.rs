//! Secret keys under a password: encrypted PKCS#8 as GmSSL, BouncyCastle and Tongsuo read it (PBES2 of RFC 8018 with
//! PBKDF2-HMAC-SM3 and SM4-CBC). The plain form and the files are `keyfile.rs`.

use der::{
    Encode, Sequence,
    asn1::{Any, ObjectIdentifier, OctetString},
};
use x509_cert::spki::AlgorithmIdentifierOwned;
use zeroize::Zeroizing;

use crate::{
    Error,
    algorithm::{SM4_CBC, no_parameters, plain},
    keyfile::{parse_pkcs8, pkcs8_der},
    mode::Mode,
    signed::strict,
    sm2::SecretKey,
    sm4::{KEY_BYTES, Key},
};

/// Fewest rounds that are read. RFC 8018 names 1,000 as the least; OpenSSL and Tongsuo write 2,048 unless told otherwise, and
/// refusing such a key would not make its file safer. What we write has at least [`ITERATIONS_WRITE_MIN`].
pub const ITERATIONS_READ_MIN: u32 = 1_000;
/// Fewest rounds that are written.
pub const ITERATIONS_WRITE_MIN: u32 = 65_536;
/// Most rounds that are read or written: several seconds of work. More would be an attack on whoever opens the file.
pub const ITERATIONS_MAX: u32 = 10_000_000;
/// Longest password, bytes.
pub const PASSWORD_BYTES_MAX: usize = 1024;

const PBES2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.5.13");
const PBKDF2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.5.12");
/// Keyed SM3 of GB/T 33560: what everybody reads.
const HMAC_SM3: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.156.10197.1.401.2");
/// The same function, as OpenSSL and Tongsuo name it after GM/T 0091.
const HMAC_SM3_OTHER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.156.10197.1.401.3.1");

/// A password. Its memory is wiped when dropped; `Debug` never shows it.
#[derive(Clone)]
pub struct Password(Zeroizing<Vec<u8>>);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(..)")
    }
}

impl Terms {
    /// Fresh vectors given by `fill`, and `iterations` rounds.
    ///
    /// # Errors
    /// [`Error::Randomness`] when `fill` fails.
    pub fn generate(iterations: u32, mut fill: impl FnMut(&mut [u8]) -> Result<(), Error>) -> Result<Self, Error> {
        let (mut salt, mut iv) = ([0; 16], [0; 16]);
        fill(&mut salt)?;
        fill(&mut iv)?;
        Ok(Self { iterations, salt, iv })
    }
}

impl Password {
    /// The bytes of a password, as they came out of a file: one line end behind them does not belong to it.
    ///
    /// # Errors
    /// [`Error::Password`] for nothing, more than [`PASSWORD_BYTES_MAX`] bytes, a second line, or a zero byte.
    pub fn new(bytes: &[u8]) -> Result<Self, Error> {
        let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let fits = !line.is_empty() && line.len() <= PASSWORD_BYTES_MAX;
        if !fits || line.iter().any(|byte| matches!(byte, b'\n' | 0)) {
            return Err(Error::Password);
        }
        Ok(Self(Zeroizing::new(line.to_vec())))
    }

    fn key(&self, salt: &[u8], iterations: u32) -> Key {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        pbkdf2_hmac_sm3(&self.0, salt, iterations, &mut *bytes);
        Key::from_bytes(*bytes)
    }
}

/// PBKDF2 with HMAC-SM3 (RFC 8018 5.2): fills `out` from a password, a salt and `iterations` rounds.
pub fn pbkdf2_hmac_sm3(password: &[u8], salt: &[u8], iterations: u32, out: &mut [u8]) {
    pbkdf2::pbkdf2_hmac::<sm3::Sm3>(password, salt, iterations, out);
}

/// What makes one encrypted key unlike the next; both vectors fresh from the operating system's randomness.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Rounds: [`ITERATIONS_WRITE_MIN`]..=[`ITERATIONS_MAX`].
    pub iterations: u32,
    /// Salt of the key derivation.
    pub salt: [u8; 16],
    /// Initial vector of the cipher.
    pub iv: [u8; 16],
}

#[derive(Sequence)]
struct Encrypted {
    algorithm: AlgorithmIdentifierOwned,
    data: OctetString,
}

#[derive(Sequence)]
struct Pbes2Parameters {
    derivation: AlgorithmIdentifierOwned,
    cipher: AlgorithmIdentifierOwned,
}

#[derive(Sequence)]
struct Pbkdf2Parameters {
    salt: OctetString,
    iterations: u32,
    key_bytes: Option<u16>,
    // RFC 8018's default is HMAC-SHA1, so an absent one is none of ours.
    prf: Option<AlgorithmIdentifierOwned>,
}

/// DER of an `EncryptedPrivateKeyInfo` with `key` in it.
///
/// # Errors
/// [`Error::Iterations`] for too few or too many rounds.
pub fn encrypt(key: &SecretKey, password: &Password, terms: &Terms) -> Result<Vec<u8>, Error> {
    if !(ITERATIONS_WRITE_MIN..=ITERATIONS_MAX).contains(&terms.iterations) {
        return Err(Error::Iterations);
    }
    let mode = Mode::Cbc { iv: terms.iv };
    let document = pkcs8_der(key)?;
    let data = mode.encrypt(&password.key(&terms.salt, terms.iterations), &document, &[])?;
    let derivation = Pbkdf2Parameters {
        salt: OctetString::new(terms.salt)?,
        iterations: terms.iterations,
        key_bytes: Some(16),
        prf: Some(plain(HMAC_SM3, None)),
    };
    let parameters =
        Pbes2Parameters { derivation: plain(PBKDF2, Some(Any::encode_from(&derivation)?)), cipher: mode.algorithm()? };
    let algorithm = plain(PBES2, Some(Any::encode_from(&parameters)?));
    Ok(Encrypted { algorithm, data: OctetString::new(data)? }.to_der()?)
}

/// Opens an `EncryptedPrivateKeyInfo`. The national PRF is read under both of its names.
///
/// # Errors
/// [`Error::Der`] or [`Error::NotCanonical`] for bytes that are not one; [`Error::KeyEncryption`] for other algorithms or
/// parameters; [`Error::Iterations`] for fewer than [`ITERATIONS_READ_MIN`] rounds or more than [`ITERATIONS_MAX`];
/// [`Error::Decrypt`] for a wrong password, changed bytes, or something that is not an SM2 key: the same for all.
pub fn decrypt(der: &[u8], password: &Password) -> Result<SecretKey, Error> {
    let document: Encrypted = strict(der)?;
    let parameters: Pbes2Parameters = inner(&document.algorithm, PBES2)?;
    let derivation: Pbkdf2Parameters = inner(&parameters.derivation, PBKDF2)?;
    let known = |prf: &AlgorithmIdentifierOwned| matches!(prf.oid, HMAC_SM3 | HMAC_SM3_OTHER) && no_parameters(prf);
    let salt = derivation.salt.as_bytes();
    if !derivation.prf.as_ref().is_some_and(known)
        || derivation.key_bytes.is_some_and(|count| count != 16)
        || !(8..=64).contains(&salt.len())
        || parameters.cipher.oid != SM4_CBC
    {
        return Err(Error::KeyEncryption);
    }
    if !(ITERATIONS_READ_MIN..=ITERATIONS_MAX).contains(&derivation.iterations) {
        return Err(Error::Iterations);
    }
    let mode = Mode::from_algorithm(&parameters.cipher).map_err(|_| Error::KeyEncryption)?;
    let opened = mode.decrypt(&password.key(salt, derivation.iterations), document.data.as_bytes(), &[])?;
    parse_pkcs8(&opened).ok_or(Error::Decrypt)
}

/// The parameters of the algorithm that must be `oid`.
fn inner<'a, T>(algorithm: &'a AlgorithmIdentifierOwned, oid: ObjectIdentifier) -> Result<T, Error>
where
    T: der::DecodeValue<'a, Error = der::Error> + der::FixedTag + 'a,
{
    let parameters = algorithm.parameters.as_ref().filter(|_| algorithm.oid == oid).ok_or(Error::KeyEncryption)?;
    parameters.decode_as().map_err(|_| Error::KeyEncryption)
}
