//! TLS to the broker: whom this platform believes there, and what it shows. As in the agent, which shares no crate with this one. Files are read anew for each connection, so that a
//! renewed certificate needs no restart. Everything that must hold is signed; TLS keeps what is personal from the line.

use std::{
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::identity::PEM_BYTES_MAX;

/// Files of a connection under TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tls {
    /// Who may vouch for the broker (PEM).
    pub(crate) ca: PathBuf,
    /// The platform's certificate chain, leaf first, and its key (PEM), where the broker asks for them.
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
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
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
    read(path)
}

fn read(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let file = std::fs::File::open(path).map(|file| file.take(PEM_BYTES_MAX));
    file.and_then(|mut file| file.read_to_string(&mut text)).map_err(|e| wrong(path, &e))?;
    Ok(text)
}
