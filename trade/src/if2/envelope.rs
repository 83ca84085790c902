//! The signed envelope of every JSON message of IF2: the signature covers the exact characters of `payload`, so nobody ever
//! has to agree on a canonical JSON. The bodies inside are `message.rs`.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hufu_gm::{Sign, sm2::PublicKey, sm3::sm3};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    Error,
    if2::Interface,
    octets::{Digest, rfc3339},
};

/// Greatest size of a message on the wire, bytes.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// `{ "v": 1, "payload": base64url, "cert_id": hex, "sig": base64url }`, base64url without padding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// Format version, 1.
    pub v: u8,
    /// base64url of the payload's UTF-8 JSON; exactly these characters are signed.
    pub payload: String,
    /// Certificate id of the signer, hexadecimal.
    pub cert_id: String,
    /// DER `SM2Signature` over the characters of `payload`, base64url.
    pub sig: String,
}

/// What an envelope carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Payload<T> {
    /// Facts: from content. Questions: from content and the time asked, fixed across retries.
    pub id: String,
    /// Interface name.
    pub iface: String,
    /// `{site}/{node}` or `platform`.
    pub from: String,
    /// `{site}/{node}` or `platform`.
    pub to: String,
    /// When it was made, RFC 3339 UTC.
    pub at: String,
    /// The id it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub re: Option<String>,
    /// Questions only: not to be answered after this, RFC 3339 UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// Id of the node's token (`crate::token`), 32 hexadecimal digits, once it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The interface's own part.
    pub body: T,
}

/// An envelope whose signature held, with its payload read.
#[derive(Clone, Debug)]
pub struct Opened<T> {
    /// The payload.
    pub payload: Payload<T>,
    /// The envelope's bytes as received: what is kept as evidence.
    pub received: Vec<u8>,
}

/// The id of a fact: first 16 bytes of SM3 over interface, NUL and the body's JSON, in hexadecimal.
pub fn content_id(interface: Interface, body: &[u8]) -> String {
    hex::encode(&sm3(&[interface.name().as_bytes(), &[0], body])[..16])
}

fn wrong(field: &'static str, why: impl ToString) -> Error {
    Error::Field { what: "Envelope", field, why: why.to_string() }
}

impl Envelope {
    /// Signs a message. `asked_ns` is part of the id of questions and absent for facts.
    ///
    /// # Errors
    /// [`Error::Field`] when the message exceeds [`MESSAGE_BYTES_MAX`]; [`Error::Sign`].
    #[allow(clippy::too_many_arguments, reason = "the members of the payload, one each")]
    pub fn seal<T: Serialize>(
        interface: Interface,
        from: &str,
        to: &str,
        at_ns: i64,
        re: Option<&str>,
        asked_ns: Option<i64>,
        body: &T,
        key: &dyn Sign,
        cert_id: Digest,
    ) -> Result<(String, Vec<u8>), Error> {
        Self::seal_under(None, interface, from, to, at_ns, re, asked_ns, body, key, cert_id)
    }

    /// The same, by a node that shows its token.
    ///
    /// # Errors
    /// As [`Self::seal`].
    #[allow(clippy::too_many_arguments, reason = "the members of the payload, one each")]
    pub fn seal_under<T: Serialize>(
        token: Option<&str>,
        interface: Interface,
        from: &str,
        to: &str,
        at_ns: i64,
        re: Option<&str>,
        asked_ns: Option<i64>,
        body: &T,
        key: &dyn Sign,
        cert_id: Digest,
    ) -> Result<(String, Vec<u8>), Error> {
        let json = serde_json::to_vec(body).map_err(|e| wrong("payload", e))?;
        let id = match asked_ns {
            None => content_id(interface, &json),
            Some(asked) => content_id(interface, &[&json[..], &asked.to_be_bytes()].concat()),
        };
        let payload = Payload {
            id: id.clone(),
            iface: interface.name().to_owned(),
            from: from.to_owned(),
            to: to.to_owned(),
            at: rfc3339(at_ns),
            re: re.map(str::to_owned),
            expires: None,
            token: token.map(str::to_owned),
            body,
        };
        let payload = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&payload).map_err(|e| wrong("payload", e))?);
        let sig = URL_SAFE_NO_PAD.encode(key.sign(payload.as_bytes()).map_err(Error::Sign)?);
        let bytes = serde_json::to_vec(&Envelope { v: 1, payload, cert_id: cert_id.to_string(), sig });
        let bytes = bytes.map_err(|e| wrong("payload", e))?;
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(wrong("payload", format!("{} bytes, at most {MESSAGE_BYTES_MAX}", bytes.len())));
        }
        Ok((id, bytes))
    }

    /// Reads an envelope's outer form, so that the signer can be looked up.
    ///
    /// # Errors
    /// [`Error::Field`] for anything that is not an envelope of version 1.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(wrong("payload", format!("{} bytes, at most {MESSAGE_BYTES_MAX}", bytes.len())));
        }
        let envelope: Self = serde_json::from_slice(bytes).map_err(|e| wrong("payload", e))?;
        if envelope.v != 1 {
            return Err(wrong("v", "unknown version, 1 expected"));
        }
        Ok(envelope)
    }

    /// The signer's certificate id.
    ///
    /// # Errors
    /// [`Error::Field`] when it is not 64 hexadecimal digits.
    pub fn signer(&self) -> Result<Digest, Error> {
        Digest::from_hex(&self.cert_id).ok_or_else(|| wrong("cert_id", "64 hexadecimal digits expected"))
    }

    /// Verifies under `key` and reads the payload. `received` are the bytes this envelope was parsed from.
    ///
    /// # Errors
    /// [`Error::Field`] for a wrong signature, a payload of another interface, receiver or shape.
    pub fn open<T: DeserializeOwned>(
        &self,
        key: &PublicKey,
        interface: Interface,
        to: &str,
        received: &[u8],
    ) -> Result<Opened<T>, Error> {
        let signature = URL_SAFE_NO_PAD.decode(&self.sig).map_err(|e| wrong("sig", e))?;
        if !key.verify(self.payload.as_bytes(), &signature).is_valid() {
            return Err(wrong("sig", "the signature is not the signer's"));
        }
        let json = URL_SAFE_NO_PAD.decode(&self.payload).map_err(|e| wrong("payload", e))?;
        let payload: Payload<T> = serde_json::from_slice(&json).map_err(|e| wrong("payload", e))?;
        if payload.iface != interface.name() {
            return Err(wrong("iface", format!("{} on the topic of {}", payload.iface, interface.name())));
        }
        if payload.to != to {
            return Err(wrong("to", format!("{} is not {to}", payload.to)));
        }
        Ok(Opened { payload, received: received.to_vec() })
    }
}
