//! Where the node's secrets are, as the configuration names them: files, files that systemd hands over, or a signer. Reading and
//! asking is done elsewhere.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use crate::signer::Address;

/// Before the name of a secret that systemd hands over (`LoadCredential=`); anybody else finds it in `credentials/` beside the
/// configuration.
pub(crate) const CREDENTIAL: &str = "credential:";

/// The directory in which systemd hands them over.
pub(crate) const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// Where the key is when nothing says where.
const NODE_KEY: &str = "node.key";

/// Where the node's key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeyPlace {
    /// In a secret key file.
    File {
        /// The file.
        key: PathBuf,
        /// The file of its password, where it is encrypted.
        password: Option<PathBuf>,
    },
    /// With a signer that shows it to nobody.
    Signer(Address),
}

/// How the configuration names the key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Named<'a> {
    pub(crate) key: Option<&'a Path>,
    pub(crate) key_password: Option<&'a Path>,
    pub(crate) signer: Option<&'a Path>,
    pub(crate) signer_user: Option<&'a str>,
    pub(crate) signer_timeout_ms: u64,
}

/// Where the key is: a file, or a signer.
pub(crate) fn find(named: &Named<'_>, dir: &Path) -> Result<KeyPlace, String> {
    if !(100..=20_000).contains(&named.signer_timeout_ms) {
        return Err("node.signer_timeout_ms: 100 to 20000 expected".to_owned());
    }
    let Some(socket) = named.signer else {
        return match named.signer_user {
            None => Ok(KeyPlace::File {
                key: secret(named.key.unwrap_or(Path::new(NODE_KEY)), dir),
                password: named.key_password.map(|named| secret(named, dir)),
            }),
            Some(_) => Err("node.signer_user says whose signer it is; node.signer is missing".to_owned()),
        };
    };
    if named.key_password.is_some() {
        return Err("node.key_password opens a key file; with node.signer there is none".to_owned());
    }
    if named.key.is_some() {
        return Err("node.key and node.signer exclude each other: the key is in a file or with a signer".to_owned());
    }
    let uid = named.signer_user.map(|user| {
        user_id(user)
            .ok_or_else(|| format!("node.signer_user = {user:?}: a user of this machine, or a number, expected"))
    });
    let limit = Duration::from_millis(named.signer_timeout_ms);
    Ok(KeyPlace::Signer(Address { socket: dir.join(socket), uid: uid.transpose()?, limit }))
}

/// The number of a user of this machine, by name or as it stands.
pub(crate) fn user_id(user: &str) -> Option<u32> {
    let named = || hufu_provision::ids_of(user, &std::fs::read_to_string("/etc/passwd").ok()?);
    user.parse().ok().or_else(|| named().map(|(uid, _)| uid))
}

/// The file of a secret. The service gets a copy of its own from systemd; commands that root runs read the original.
pub(crate) fn secret(named: &Path, dir: &Path) -> PathBuf {
    match named.to_str().and_then(|named| named.strip_prefix(CREDENTIAL)) {
        Some(name) => {
            let handed = std::env::var_os(CREDENTIALS_DIRECTORY).map(PathBuf::from);
            handed.unwrap_or_else(|| dir.join("credentials")).join(name)
        }
        None => dir.join(named),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_in_a_file_or_with_a_signer() {
        let nothing = Named { key: None, key_password: None, signer: None, signer_user: None, signer_timeout_ms: 5000 };
        let (signer, key) = (Some(Path::new("s")), Some(Path::new("k")));
        let at = |socket: &str, uid, ms| {
            Ok(KeyPlace::Signer(Address { socket: socket.into(), uid, limit: Duration::from_millis(ms) }))
        };
        let in_d = |named: Named<'_>| find(&named, Path::new("/d"));
        let file = |password| Ok(KeyPlace::File { key: "/d/node.key".into(), password });
        assert_eq!(in_d(nothing), file(None));
        let under_password = Named { key_password: Some(Path::new("p")), ..nothing };
        assert_eq!(in_d(under_password), file(Some("/d/p".into())));
        let handed = Named { key_password: Some(Path::new("credential:node.password")), ..nothing };
        assert_eq!(in_d(handed), file(Some("/d/credentials/node.password".into())));
        assert_eq!(in_d(Named { signer: Some(Path::new("/run/s.sock")), ..nothing }), at("/run/s.sock", None, 5000));
        let all = Named { signer, signer_user: Some("root"), signer_timeout_ms: 100, ..nothing };
        assert_eq!(in_d(all), at("/d/s", Some(0), 100));
        for (name, named, said) in [
            ("both", Named { signer, key, ..nothing }, "exclude each other"),
            ("a password for a signer", Named { signer, key_password: key, ..nothing }, "opens a key file"),
            ("a user and no signer", Named { signer_user: Some("root"), ..nothing }, "node.signer is missing"),
            ("nobody of that name", Named { signer, signer_user: Some("no-such-user"), ..nothing }, "no-such-user"),
            ("too short", Named { signer_timeout_ms: 99, ..nothing }, "100 to 20000"),
        ] {
            assert!(in_d(named).is_err_and(|why| why.contains(said)), "{name}");
        }
    }

    #[test]
    fn a_credential_lies_beside_the_configuration_for_whoever_is_not_the_service() {
        let named = secret(Path::new("credential:node.key"), Path::new("/etc/hufu"));
        assert_eq!(named, Path::new("/etc/hufu/credentials/node.key"));
        assert_eq!(secret(Path::new("node.key"), Path::new("/d")), Path::new("/d/node.key"));
    }
}
