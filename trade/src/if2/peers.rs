//! What nodes tell each other about their logs, as DER under `hufu/v1/{site}/{node}/ledger/..`: headers, questions for headers, words of
//! witnesses. What a header, a checkpoint or a fork proof is, is the ledger's; here they are octets and signatures.

use der::{Sequence, asn1::OctetString};
use hufu_gm::Signed;

use crate::{
    Error, encode,
    if2::segment_ok,
    octets::{Digest, Octets},
};

/// The one version there is of each.
const VERSION: u8 = 1;
/// Most headers of one message: what its octets hold.
pub const HEADERS_MAX: usize = 192;
/// Most blocks that one question asks for.
pub const ASKED_MAX: u64 = 192;
/// Peaks of a tree at most.
const PEAKS_MAX: usize = 64;

/// Where a late comer begins in place of block 0.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct Beginning {
    /// The node's checkpoint.
    pub checkpoint: Signed,
    /// Roots of the complete subtrees at its size, the largest first.
    pub peaks: Vec<OctetString>,
    /// Hash of the newest block below its size.
    pub head: Digest,
}

/// Headers of one log, as the node publishes new ones, or as whoever holds them answers a question.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct Headers {
    /// Format version, 1.
    pub version: u8,
    /// Whose log: `{site}/{node}`.
    pub node: String,
    /// 0 trade, 1 finance.
    pub log: u8,
    /// Height of the first.
    pub first: u64,
    /// `Signed` over `BlockHeader`, of consecutive heights; at most [`HEADERS_MAX`]. None: those asked for are not held.
    pub headers: Vec<Signed>,
    /// Only in the answer to a question for the beginning.
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    pub beginning: Option<Beginning>,
    /// In the same answer: a checkpoint of the node that reaches further than what is held of it here. Who asks about its own log hears from
    /// it how far it signed.
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", optional = "true")]
    pub newest: Option<Signed>,
}

/// A question for headers `from` to `until`, not included; for the beginning where both are 0.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct Ask {
    /// Format version, 1.
    pub version: u8,
    /// Whose log: `{site}/{node}`.
    pub node: String,
    /// 0 trade, 1 finance.
    pub log: u8,
    /// First height.
    pub from: u64,
    /// Height behind the last.
    pub until: u64,
}

/// A witness's word about a checkpoint that it cosigned.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct Witnessing {
    /// Format version, 1.
    pub version: u8,
    /// Whose log: `{site}/{node}`.
    pub node: String,
    /// 0 trade, 1 finance.
    pub log: u8,
    /// Of the checkpoint.
    pub size: u64,
    /// Of the checkpoint.
    pub root: Digest,
    /// DER of `Cosignature`.
    pub cosignature: OctetString,
}

/// DER of a chain, leaf first: `SEQUENCE OF OCTET STRING`.
///
/// # Errors
/// [`Error::Malformed`] when it is larger than DER lengths allow.
pub fn chain_to_bytes(chain: &[Vec<u8>]) -> Result<Vec<u8>, Error> {
    let malformed = |source: der::Error| Error::Malformed { what: "Chain", source: source.into() };
    let octets: Vec<OctetString> =
        chain.iter().map(|der| OctetString::new(der.as_slice())).collect::<Result<_, _>>().map_err(malformed)?;
    encode(&octets, "Chain")
}

/// The certificates of a chain; they are not looked into.
///
/// # Errors
/// [`Error::Malformed`].
pub fn chain_from_bytes(bytes: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
    let octets: Vec<OctetString> = crate::decode(bytes, "Chain")?;
    Ok(octets.into_iter().map(Vec::from).collect())
}

fn wrong<T>(what: &'static str, field: &'static str, why: &str) -> Result<T, Error> {
    Err(Error::Field { what, field, why: why.to_owned() })
}

fn is_node(name: &str) -> bool {
    name.split_once('/').is_some_and(|(site, node)| segment_ok(site) && segment_ok(node))
}

fn place(what: &'static str, (version, node, log): (u8, &str, u8)) -> Result<(), Error> {
    match () {
        () if version != VERSION => wrong(what, "version", "unknown, 1 expected"),
        () if !is_node(node) => wrong(what, "node", "{site}/{node} expected"),
        () if log > 1 => wrong(what, "log", "0 or 1 expected"),
        () => Ok(()),
    }
}

impl Headers {
    /// A message.
    pub fn new(node: &str, log: u8, first: u64, headers: Vec<Signed>) -> Self {
        Self { version: VERSION, node: node.to_owned(), log, first, headers, beginning: None, newest: None }
    }

    /// Reads strict DER within the limits; no signature is checked.
    ///
    /// # Errors
    /// [`Error::Malformed`], [`Error::Field`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let read: Self = crate::decode(bytes, "Headers")?;
        place("Headers", (read.version, &read.node, read.log))?;
        if read.headers.len() > HEADERS_MAX {
            return wrong("Headers", "headers", "at most 192");
        }
        let peaks = read.beginning.iter().flat_map(|beginning| &beginning.peaks);
        if read.beginning.as_ref().is_some_and(|beginning| beginning.peaks.len() > PEAKS_MAX)
            || peaks.into_iter().any(|peak| peak.as_bytes().len() != 32)
        {
            return wrong("Headers", "beginning", "at most 64 peaks of 32 octets");
        }
        let checkpoints = read.beginning.iter().map(|beginning| &beginning.checkpoint).chain(&read.newest);
        let each = read.headers.iter().chain(checkpoints);
        for signed in each {
            // Once more through its own decoder, which asks for more than the derived one.
            let again = signed.to_bytes().and_then(|der| Signed::from_bytes(&der));
            again.map_err(|source| Error::Malformed { what: "Headers", source })?;
        }
        Ok(read)
    }

    /// The DER.
    ///
    /// # Errors
    /// [`Error::Malformed`] when it is larger than DER lengths allow.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        encode(self, "Headers")
    }
}

impl Ask {
    /// A question.
    pub fn new(node: &str, log: u8, from: u64, until: u64) -> Self {
        Self { version: VERSION, node: node.to_owned(), log, from, until }
    }

    /// Reads strict DER within the limits.
    ///
    /// # Errors
    /// [`Error::Malformed`], [`Error::Field`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let read: Self = crate::decode(bytes, "Ask")?;
        place("Ask", (read.version, &read.node, read.log))?;
        let count = read.until.checked_sub(read.from);
        if count.is_none_or(|count| count > ASKED_MAX) {
            return wrong("Ask", "until", "not below from, and at most 192 above it");
        }
        Ok(read)
    }

    /// Whether it asks where to begin.
    pub fn is_for_beginning(&self) -> bool {
        self.until == 0
    }

    /// The DER.
    ///
    /// # Errors
    /// [`Error::Malformed`] when it is larger than DER lengths allow.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        encode(self, "Ask")
    }
}

impl Witnessing {
    /// A word of a witness.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a cosignature larger than DER lengths allow.
    pub fn new(node: &str, log: u8, (size, root): (u64, [u8; 32]), cosignature: Vec<u8>) -> Result<Self, Error> {
        let malformed = |source: der::Error| Error::Malformed { what: "Witnessing", source: source.into() };
        let cosignature = OctetString::new(cosignature).map_err(malformed)?;
        Ok(Self { version: VERSION, node: node.to_owned(), log, size, root: Octets(root), cosignature })
    }

    /// Reads strict DER within the limits; no signature is checked.
    ///
    /// # Errors
    /// [`Error::Malformed`], [`Error::Field`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let read: Self = crate::decode(bytes, "Witnessing")?;
        place("Witnessing", (read.version, &read.node, read.log))?;
        if read.cosignature.as_bytes().len() > 256 {
            return wrong("Witnessing", "cosignature", "longer than one is");
        }
        Ok(read)
    }

    /// The DER.
    ///
    /// # Errors
    /// [`Error::Malformed`] when it is larger than DER lengths allow.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        encode(self, "Witnessing")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_back_and_bounded() {
        let signed = Signed::from_parts(vec![1], &[2; 32], vec![3]).unwrap();
        let mut headers = Headers::new("s1/n1", 0, 7, vec![signed.clone(); HEADERS_MAX]);
        assert_eq!(Headers::from_bytes(&headers.to_bytes().unwrap()).unwrap(), headers);
        headers.headers.push(signed.clone());
        Headers::from_bytes(&headers.to_bytes().unwrap()).unwrap_err();
        let peak = OctetString::new(vec![0; 31]).unwrap();
        let beginning = Beginning { checkpoint: signed, peaks: vec![peak], head: Octets([0; 32]) };
        let short = Headers { headers: Vec::new(), beginning: Some(beginning), ..headers };
        Headers::from_bytes(&short.to_bytes().unwrap()).unwrap_err();
        for (from, until, good) in [(0, 0, true), (5, 5, true), (5, 197, true), (5, 198, false), (6, 5, false)] {
            let ask = Ask::new("s1/n1", 1, from, until);
            assert_eq!(Ask::from_bytes(&ask.to_bytes().unwrap()).is_ok(), good, "{from} {until}");
        }
        for (node, log) in [("s1", 0), ("s1/n1/x", 0), ("S/n", 0), ("s1/n1", 2)] {
            let ask = Ask::new(node, log, 0, 1);
            Ask::from_bytes(&ask.to_bytes().unwrap()).unwrap_err();
        }
        let word = Witnessing::new("s1/n1", 0, (3, [4; 32]), vec![5; 100]).unwrap();
        assert_eq!(Witnessing::from_bytes(&word.to_bytes().unwrap()).unwrap(), word);
        let long = Witnessing::new("s1/n1", 0, (3, [4; 32]), vec![5; 257]).unwrap();
        Witnessing::from_bytes(&long.to_bytes().unwrap()).unwrap_err();
    }
}
