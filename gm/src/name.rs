//! Distinguished names and DNS names as text. Nothing here is public.

use std::str::FromStr;

use der::asn1::{Ia5String, ObjectIdentifier, PrintableString};
use x509_cert::{
    ext::pkix::{SubjectAltName, name::GeneralName},
    name::Name,
};

use crate::Error;

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

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

/// The one common name in a name, if it is text.
pub(crate) fn common_name(name: &Name) -> Option<String> {
    let mut found = name.iter().filter(|part| part.oid == COMMON_NAME);
    let (one, more) = (found.next()?, found.next());
    if more.is_some() {
        return None;
    }
    let printable = || one.value.decode_as::<PrintableString>().map(|text| text.as_str().to_owned());
    one.value.decode_as::<String>().or_else(|_| printable()).ok()
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
