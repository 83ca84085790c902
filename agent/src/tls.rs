//! TLS to the broker: whom this node believes there, and what it shows. Files are read anew for each connection, so that a
//! renewed certificate needs no restart. Everything that must hold is signed; TLS keeps what is personal from the line.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::bounded;

/// Files of a connection under TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tls {
    /// Who may vouch for the broker (PEM).
    pub(crate) ca: PathBuf,
    /// The node's certificate chain, leaf first, and its key (PEM), where the broker asks for them.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
}

impl Tls {
    /// What a connection needs, TLS 1.2 or 1.3.
    ///
    /// # Errors
    /// The file, and what is wrong with it.
    pub(crate) fn config(&self) -> Result<Arc<ClientConfig>, String> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.ca)? {
            roots.add(certificate).map_err(|e| wrong(&self.ca, &e))?;
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .with_root_certificates(roots);
        let config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let secret = private(key)?;
                let pem = PrivateKeyDer::from_pem_slice(secret.as_bytes()).map_err(|e| wrong(key, &e))?;
                builder.with_client_auth_cert(certificates(chain)?, pem).map_err(|e| wrong(chain, &e))?
            }
        };
        Ok(Arc::new(config))
    }
}

fn wrong(path: &Path, why: &dyn std::fmt::Display) -> String {
    format!("{}: {why}", path.display())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = bounded::read(path, bounded::TEXT_BYTES_MAX).map_err(|e| wrong(path, &e))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(wrong(path, &"no certificate in PEM")),
        Err(error) => Err(wrong(path, &error)),
    }
}

/// The text of a secret file that nobody else can read.
///
/// # Errors
/// The file, and why not.
pub(crate) fn private(path: &Path) -> Result<String, String> {
    let mode = std::fs::metadata(path).map_err(|e| wrong(path, &e))?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(wrong(path, &format!("mode {mode:04o}, others can read it; chmod 600")));
    }
    bounded::read_text(path).map_err(|e| wrong(path, &e))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_no_certificate_or_can_be_read_by_others_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str, text: &str, mode: u32| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let (text, open, closed) = (at("text", "hello", 0o644), at("open", "x", 0o640), at("closed", "x", 0o600));
        for (tls, why) in [
            (Tls { ca: dir.path().join("none"), identity: None }, "none: No such file"),
            (Tls { ca: text.clone(), identity: None }, "text: no certificate in PEM"),
        ] {
            let error = tls.config().unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        assert!(private(&open).unwrap_err().contains("mode 0640"));
        assert_eq!(private(&closed).unwrap(), "x");
    }
}
