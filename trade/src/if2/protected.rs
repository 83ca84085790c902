//! Members of IF2 messages that only the platform reads: a value as `SignedAndEnvelopedData` of GM/T 0010 to the platform's
//! encryption certificate. The envelope around the whole message is `envelope.rs`; which members are protected is the
//! interface's own question.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hufu_gm::{
    Certificate, SecretKey, Trust,
    message::{self, Signer, Signing},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Error, if2::Interface};

/// Longest value, bytes of its JSON: a message has to stay below its own limit.
pub const VALUE_BYTES_MAX: usize = 8 * 1024;

/// What is signed and encrypted. It names its place, so that it cannot be cut out and put into another message.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Inside<T> {
    iface: String,
    about: String,
    value: T,
}

/// Signs `value` and encrypts it to `recipient`; the result is base64url of the message. `about` is what the IF2 message is
/// about, for example the number of its bill or contract. `fill` gives fresh randomness.
///
/// # Errors
/// [`Error::Field`] for a value that is too long or cannot be written, a recipient whose certificate takes no keys, and
/// whatever else `gm` refuses.
pub fn protect<T: Serialize>(
    interface: Interface,
    about: &str,
    value: &T,
    signing: &Signing<'_>,
    recipient: &Certificate,
    fill: impl FnMut(&mut [u8]) -> Result<(), hufu_gm::Error>,
) -> Result<String, Error> {
    let inside = Inside { iface: interface.name().to_owned(), about: about.to_owned(), value };
    let json = serde_json::to_vec(&inside).map_err(|error| wrong(&error))?;
    if json.len() > VALUE_BYTES_MAX {
        return Err(wrong(&format!("longer than {VALUE_BYTES_MAX} bytes")));
    }
    let made = message::sign_and_envelop(&json, signing, std::slice::from_ref(recipient), fill);
    Ok(URL_SAFE_NO_PAD.encode(made.map_err(|error| wrong(&error))?))
}

/// Opens what [`protect`] made for the holder of `certificate` and `key`: the value, and who signed it, trusted by `trust`.
///
/// # Errors
/// [`Error::Field`]: not base64url, not a message, not valid (whatever the key decides is one reason), or protected for another
/// interface or another matter.
pub fn reveal<T: DeserializeOwned>(
    interface: Interface,
    about: &str,
    text: &str,
    certificate: &Certificate,
    key: &SecretKey,
    trust: &Trust<'_>,
) -> Result<(T, Signer), Error> {
    // Certificates and signatures besides the value; what is longer was not made here.
    if text.len() > 64 * 1024 {
        return Err(wrong(&"too long"));
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| wrong(&"not base64url"))?;
    let opened = message::open_signed(&bytes, certificate, key, trust).valid();
    let (content, signers) = opened.map_err(|error| wrong(&error))?;
    // What serde says would show parts of the value.
    let inside: Inside<T> = serde_json::from_slice(&content).map_err(|_| wrong(&"the value is of another form"))?;
    if inside.iface != interface.name() || inside.about != about {
        return Err(wrong(&"protected for another message"));
    }
    match <[Signer; 1]>::try_from(signers) {
        Ok([signer]) => Ok((inside.value, signer)),
        Err(_) => Err(wrong(&"one signer expected")),
    }
}

fn wrong(why: &dyn std::fmt::Display) -> Error {
    Error::Field { what: "SignedAndEnvelopedData", field: "protected", why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use hufu_gm::{
        ca::{self, Role, Terms},
        message::{Algorithm, Attributes},
        random,
    };

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Payer {
        name: String,
        account: String,
    }

    #[test]
    fn only_the_platform_reads_a_protected_member_and_only_in_its_place() {
        let key = |fill: u8| SecretKey::from_scalar(&[fill; 32]).unwrap();
        let terms = Terms { serial: &[5; 16], not_before_s: 1_700_000_000, not_after_s: 1_710_000_000, dns_names: &[] };
        let root = ca::root(&key(1), "CN=root", None, &terms).unwrap();
        let issue = |role, name: &str, fill: u8, serial: &[u8]| {
            ca::issue(&root, &key(1), role, name, &key(fill).public_key(), &Terms { serial, ..terms }).unwrap()
        };
        let node = issue(Role::Signer, "CN=site/node", 2, &[6; 16]);
        let platform = issue(Role::Recipient, "CN=platform", 3, &[7; 16]);
        let (node_key, platform_key) = (key(2), key(3));
        let payer = || Payer { name: "张三".into(), account: "6222 0000".into() };
        let signing = Signing {
            key: &node_key,
            certificate: &node,
            along: &[],
            algorithm: Algorithm::Sm2,
            attributes: Attributes::None,
        };
        let make =
            || protect(Interface::PaymentConfirm, "bill-1", &payer(), &signing, &platform, random::fill).unwrap();
        let text = make();
        assert_ne!(text, make(), "fresh keys every time");
        assert!(
            text.len() < 2500 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)),
            "{}",
            text.len()
        );
        let anchors = [root.clone()];
        let trust = Trust { anchors: &anchors, known: &[], crls: &[], at_ns: 1_705_000_000_000_000_000 };
        let open = |interface, about: &str, text: &str, key: &SecretKey, trust: &Trust<'_>| {
            reveal::<Payer>(interface, about, text, &platform, key, trust)
        };
        let (found, signer) = open(Interface::PaymentConfirm, "bill-1", &text, &platform_key, &trust).unwrap();
        assert_eq!((found, signer.certificate), (payer(), node.clone()));
        let nobody = Trust { anchors: &[], ..trust };
        let mut changed = text.clone().into_bytes();
        let last = changed.len() - 30;
        changed[last] = if changed[last] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        for (name, found, why) in [
            (
                "another bill",
                open(Interface::PaymentConfirm, "bill-2", &text, &platform_key, &trust),
                "another message",
            ),
            (
                "another interface",
                open(Interface::SendOrder, "bill-1", &text, &platform_key, &trust),
                "another message",
            ),
            ("another key", open(Interface::PaymentConfirm, "bill-1", &text, &node_key, &trust), "cannot be opened"),
            ("nobody trusted", open(Interface::PaymentConfirm, "bill-1", &text, &platform_key, &nobody), "no path"),
            ("a change", open(Interface::PaymentConfirm, "bill-1", &changed, &platform_key, &trust), ""),
            ("no base64url", open(Interface::PaymentConfirm, "bill-1", "+", &platform_key, &trust), "not base64url"),
        ] {
            let error = found.unwrap_err().to_string();
            assert!(error.contains(why) && !error.contains("张三") && !error.contains("6222"), "{name}: {error}");
        }
        let long = protect(Interface::PaymentConfirm, "b", &"x".repeat(9000), &signing, &platform, random::fill);
        assert!(long.is_err());
        let to_signer = protect(Interface::PaymentConfirm, "b", &payer(), &signing, &node, random::fill);
        assert!(to_signer.is_err_and(|error| error.to_string().contains("keyUsage")));
    }
}
