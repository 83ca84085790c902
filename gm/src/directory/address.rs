//! Where a directory is: `ldap://host[:port]/base`. Connections are made in `wire.rs`.

use super::DirectoryError;

const PORT: u16 = 389;
const ADDRESS_BYTES_MAX: usize = 1024;

/// Host, port and the entry below which to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) base: String,
}

impl Address {
    /// Reads `ldap://host[:port]/base`; host may be `[::1]`, base is percent-encoded where it must (RFC 4516). There is no
    /// `ldaps`: everything that is fetched carries its own signature.
    ///
    /// # Errors
    /// [`DirectoryError::Address`].
    pub fn parse(text: &str) -> Result<Self, DirectoryError> {
        Self::read(text).ok_or_else(|| DirectoryError::Address(text.chars().take(200).collect()))
    }

    fn read(text: &str) -> Option<Self> {
        if text.len() > ADDRESS_BYTES_MAX {
            return None;
        }
        let (place, base) = text.strip_prefix("ldap://")?.split_once('/')?;
        let (host, port) = match place.strip_prefix('[') {
            Some(rest) => {
                let (host, behind) = rest.split_once(']')?;
                (host, if behind.is_empty() { None } else { Some(behind.strip_prefix(':')?) })
            }
            None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map_or(Some(PORT), |port| port.parse().ok().filter(|port| *port > 0))?;
        let base = decoded(base)?;
        let fits = |text: &str| !text.is_empty() && !text.chars().any(char::is_control);
        (fits(host) && !host.contains(' ') && fits(&base) && !base.contains('?')).then(|| Self {
            host: host.to_owned(),
            port,
            base,
        })
    }
}

/// Percent-decoded UTF-8.
fn decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let value = digit()? * 16 + digit()?;
        out.push(u8::try_from(value).ok()?);
    }
    String::from_utf8(out).ok()
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let colon = self.host.contains(':');
        let (open, close) = if colon { ("[", "]") } else { ("", "") };
        write!(f, "ldap://{open}{}{close}:{}/{}", self.host, self.port, self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_or_refused() {
        let parts = |text: &str| Address::parse(text).ok().map(|found| (found.host, found.port, found.base));
        let some = |host: &str, port, base: &str| Some((host.to_owned(), port, base.to_owned()));
        assert_eq!(parts("ldap://h/dc=x"), some("h", 389, "dc=x"));
        assert_eq!(parts("ldap://127.0.0.1:3890/o=a%20b,c=CN"), some("127.0.0.1", 3890, "o=a b,c=CN"));
        assert_eq!(parts("ldap://[::1]:99/dc=x"), some("::1", 99, "dc=x"));
        assert_eq!(Address::parse("ldap://[::1]/dc=x").unwrap().to_string(), "ldap://[::1]:389/dc=x");
        for wrong in [
            "",
            "ldap://",
            "ldap://h",
            "ldap://h/",
            "ldap:///dc=x",
            "ldaps://h/dc=x",
            "http://h/dc=x",
            "ldap://h:0/dc=x",
            "ldap://h:99999/dc=x",
            "ldap://h:x/dc=x",
            "ldap://h/dc=x?cn",
            "ldap://h/dc=%f",
            "ldap://h/dc=%ff",
            "ldap://[::1/dc=x",
            "ldap://h/dc=%00",
        ] {
            assert_eq!(parts(wrong), None, "{wrong}");
        }
        assert_eq!(parts(&format!("ldap://h/{}", "a".repeat(2000))), None);
    }
}
