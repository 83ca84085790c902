//! Distinguished names and DNS names as text. Nothing here is public.

use std::str::FromStr;

use der::asn1::Ia5String;
use x509_cert::{
    ext::pkix::{SubjectAltName, name::GeneralName},
    name::Name,
};

use crate::Error;

/// Longest text of a distinguished name; a limit, so that no certificate grows without one.
const NAME_BYTES_MAX: usize = 1024;

/// Reads `CN=node-1,O=site,C=CN` (RFC 4514: the most specific part first).
pub(crate) fn parse(text: &str) -> Result<Name, Error> {
    if text.trim().is_empty() || text.len() > NAME_BYTES_MAX {
        return Err(Error::Name);
    }
    let name = Name::from_str(text).map_err(|_| Error::Name)?;
    let complete = !name.is_empty() && name.iter().all(|part| !part.value.value().is_empty());
    if complete { Ok(name) } else { Err(Error::Name) }
}

/// The subjectAltName of `dns_names`.
pub(crate) fn alternative(dns_names: &[&str]) -> Result<SubjectAltName, Error> {
    let one = |name: &&str| {
        let fits = !name.is_empty() && name.len() <= 253 && name.bytes().all(|byte| byte.is_ascii_graphic());
        let text = Ia5String::new(name).map_err(|_| Error::DnsName)?;
        if fits { Ok(GeneralName::DnsName(text)) } else { Err(Error::DnsName) }
    };
    Ok(SubjectAltName(dns_names.iter().map(one).collect::<Result<_, _>>()?))
}
