//! Strict DER by hand for what is read member by member: messages, seals, directories. Every error names the member. What the
//! members mean is not known here; certificates and evidence are read by derive.

use der::{
    Decode, Encode,
    asn1::{BitStringRef, GeneralizedTime, ObjectIdentifier, UtcTime},
};

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTETS: u8 = 0x04;
pub(crate) const NULL: u8 = 0x05;
pub(crate) const OID: u8 = 0x06;
pub(crate) const UTF8: u8 = 0x0c;
pub(crate) const PRINTABLE: u8 = 0x13;
pub(crate) const IA5: u8 = 0x16;
pub(crate) const UTC_TIME: u8 = 0x17;
pub(crate) const GENERAL_TIME: u8 = 0x18;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;

/// The tag `[number]` of a constructed value (explicit, or implicit over SEQUENCE and SET).
pub(crate) const fn constructed(number: u8) -> u8 {
    0xa0 | number
}

/// The tag `[number]` of a primitive value (implicit over OCTET STRING).
pub(crate) const fn primitive(number: u8) -> u8 {
    0x80 | number
}

/// Bytes that are not of the form they should have: which part of it, and what is wrong there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{part}: {why}")]
pub struct Malformed {
    /// The member, as the standard's ASN.1 calls it.
    pub part: &'static str,
    /// What was found or expected.
    pub why: String,
}

impl Malformed {
    pub(crate) fn new(part: &'static str, why: impl Into<String>) -> Self {
        Self { part, why: why.into() }
    }
}

/// One value: its content, and all of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Value<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    pub(crate) whole: &'a [u8],
}

/// The values that lie one behind the other in some bytes.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The values inside `content`.
    pub(crate) fn of(content: &'a [u8]) -> Self {
        Self { rest: content }
    }

    /// The members of the one SEQUENCE that `bytes` are.
    pub(crate) fn of_sequence(bytes: &'a [u8], part: &'static str) -> Result<Self, Malformed> {
        let mut outer = Self::of(bytes);
        let value = outer.take(SEQUENCE, part)?;
        outer.finish(part)?;
        Ok(Self::of(value.content))
    }

    /// The next value, which must have this tag.
    pub(crate) fn take(&mut self, tag: u8, part: &'static str) -> Result<Value<'a>, Malformed> {
        let value = self.any(part)?;
        if value.tag == tag {
            return Ok(value);
        }
        Err(Malformed::new(part, format!("tag {tag:02x} expected, {:02x} found", value.tag)))
    }

    /// The next value if it has this tag.
    pub(crate) fn optional(&mut self, tag: u8, part: &'static str) -> Result<Option<Value<'a>>, Malformed> {
        if self.rest.first() == Some(&tag) { self.take(tag, part).map(Some) } else { Ok(None) }
    }

    /// The next value, whatever it is.
    pub(crate) fn any(&mut self, part: &'static str) -> Result<Value<'a>, Malformed> {
        let all = self.rest;
        let (tag, header, length) = header(all).map_err(|why| Malformed::new(part, why))?;
        let end = header.checked_add(length).ok_or_else(|| Malformed::new(part, "a length beyond all bounds"))?;
        let cut = || Malformed::new(part, "cut short");
        let value =
            Value { tag, content: all.get(header..end).ok_or_else(cut)?, whole: all.get(..end).ok_or_else(cut)? };
        self.rest = all.get(end..).unwrap_or(&[]);
        Ok(value)
    }

    /// Nothing may be left.
    pub(crate) fn finish(self, part: &'static str) -> Result<(), Malformed> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(Malformed::new(part, format!("{} bytes too many", self.rest.len())))
    }

    /// True when no value is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// All values that are left, at most `limit`, each of this tag.
    pub(crate) fn all(mut self, tag: u8, limit: usize, part: &'static str) -> Result<Vec<Value<'a>>, Malformed> {
        let mut found = Vec::new();
        while !self.is_empty() {
            if found.len() == limit {
                return Err(Malformed::new(part, format!("more than {limit}")));
            }
            found.push(self.take(tag, part)?);
        }
        Ok(found)
    }

    /// An INTEGER that must be one of small numbers.
    pub(crate) fn number(&mut self, part: &'static str) -> Result<u32, Malformed> {
        let value = self.take(INTEGER, part)?;
        u32::from_der(value.whole).map_err(|_| Malformed::new(part, "not a number from 0 to 4294967295"))
    }

    /// An INTEGER of any length that is not negative: its octets, without leading zeros.
    pub(crate) fn natural(&mut self, part: &'static str) -> Result<&'a [u8], Malformed> {
        let value = self.take(INTEGER, part)?;
        let (first, second) = (value.content.first(), value.content.get(1));
        match (first, second) {
            (Some(0), Some(second)) if *second < 0x80 => Err(Malformed::new(part, "not the shortest form of a number")),
            (Some(0), _) => Ok(value.content.get(1..).unwrap_or(&[])),
            (Some(first), _) if *first < 0x80 => Ok(value.content),
            _ => Err(Malformed::new(part, "not a number from 0 on")),
        }
    }

    /// The version, which must be `wanted`.
    pub(crate) fn version(&mut self, wanted: u32, part: &'static str) -> Result<(), Malformed> {
        let found = self.number(part)?;
        if found == wanted { Ok(()) } else { Err(Malformed::new(part, format!("{wanted} expected, {found} found"))) }
    }

    /// An OBJECT IDENTIFIER.
    pub(crate) fn oid(&mut self, part: &'static str) -> Result<ObjectIdentifier, Malformed> {
        let value = self.take(OID, part)?;
        ObjectIdentifier::from_der(value.whole).map_err(|_| Malformed::new(part, "not an object identifier"))
    }

    /// A BIT STRING of whole octets.
    pub(crate) fn bits(&mut self, part: &'static str) -> Result<&'a [u8], Malformed> {
        let value = self.take(BIT_STRING, part)?;
        let found = BitStringRef::from_der(value.whole).ok().and_then(|bits| bits.as_bytes());
        found.ok_or_else(|| Malformed::new(part, "not a bit string of whole octets"))
    }

    /// Text of one of ASN.1's string types, at most `limit` bytes and printable.
    pub(crate) fn text(&mut self, tag: u8, limit: usize, part: &'static str) -> Result<&'a str, Malformed> {
        let value = self.take(tag, part)?;
        let text = std::str::from_utf8(value.content).map_err(|_| Malformed::new(part, "not text"))?;
        let fits = text.len() <= limit && !text.chars().any(char::is_control) && (tag == UTF8 || text.is_ascii());
        if fits { Ok(text) } else { Err(Malformed::new(part, format!("not printable text of at most {limit} bytes"))) }
    }

    /// A UTCTime or GeneralizedTime in its only DER form; Unix seconds.
    pub(crate) fn time_s(&mut self, part: &'static str) -> Result<i64, Malformed> {
        let value = self.any(part)?;
        let seconds = match value.tag {
            GENERAL_TIME => GeneralizedTime::from_der(value.whole).map(|time| time.to_unix_duration().as_secs()),
            UTC_TIME => UtcTime::from_der(value.whole).map(|time| time.to_unix_duration().as_secs()),
            _ => return Err(Malformed::new(part, "no time")),
        };
        let seconds = seconds.ok().and_then(|seconds| i64::try_from(seconds).ok());
        seconds.ok_or_else(|| Malformed::new(part, "not a time of the form YYYYMMDDHHMMSSZ"))
    }
}

/// Tag, length of the header and length of the content. One octet of tag, the shortest length, at most four octets of it.
fn header(bytes: &[u8]) -> Result<(u8, usize, usize), &'static str> {
    const CUT: &str = "cut short";
    let tag = *bytes.first().ok_or(CUT)?;
    if tag & 0x1f == 0x1f {
        return Err("a tag of several octets");
    }
    let first = *bytes.get(1).ok_or(CUT)?;
    if first < 0x80 {
        return Ok((tag, 2, usize::from(first)));
    }
    let octets = usize::from(first & 0x7f);
    if octets == 0 {
        return Err("an indefinite length: BER, not DER");
    }
    if octets > 4 {
        return Err("a length beyond all bounds");
    }
    let stated = bytes.get(2..2 + octets).ok_or(CUT)?;
    let length = stated.iter().fold(0_usize, |sum, octet| (sum << 8) | usize::from(*octet));
    if length < 0x80 || stated.first() == Some(&0) {
        return Err("a length that is not the shortest: BER, not DER");
    }
    Ok((tag, 2 + octets, length))
}

/// One value of `tag` around the concatenation of `parts`.
pub(crate) fn value(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(length + 6);
    out.push(tag);
    if length < 0x80 {
        out.push(u8::try_from(length).unwrap_or(0));
    } else {
        let octets = length.to_be_bytes();
        let significant: Vec<u8> = octets.iter().copied().skip_while(|octet| *octet == 0).collect();
        out.push(0x80 | u8::try_from(significant.len()).unwrap_or(0));
        out.extend_from_slice(&significant);
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

/// A SEQUENCE of finished members.
pub(crate) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    value(SEQUENCE, parts)
}

/// A value of `tag` that holds a set: its members in DER's order.
pub(crate) fn set_of(tag: u8, mut members: Vec<Vec<u8>>) -> Vec<u8> {
    members.sort();
    value(tag, &members.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

/// An OCTET STRING.
pub(crate) fn octets(bytes: &[u8]) -> Vec<u8> {
    value(OCTETS, &[bytes])
}

/// A BIT STRING of whole octets.
pub(crate) fn bits(bytes: &[u8]) -> Vec<u8> {
    value(BIT_STRING, &[&[0], bytes])
}

/// An INTEGER.
pub(crate) fn number(value: u32) -> Result<Vec<u8>, der::Error> {
    value.to_der()
}

/// An INTEGER of the octets of a number that is not negative.
pub(crate) fn natural(octets: &[u8]) -> Vec<u8> {
    let octets = crate::cert::significant(octets);
    let sign: &[u8] = if octets.first().is_none_or(|first| *first >= 0x80) { &[0] } else { &[] };
    value(INTEGER, &[sign, octets])
}

/// A GeneralizedTime, `YYYYMMDDHHMMSSZ`; `None` outside the years 1970 to 9999.
pub(crate) fn general_time(unix_s: i64) -> Option<Vec<u8>> {
    let since = std::time::Duration::from_secs(u64::try_from(unix_s).ok()?);
    GeneralizedTime::from_unix_duration(since).ok()?.to_der().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_shortest_header_is_read_and_it_is_the_one_that_is_written() {
        for length in [0_usize, 1, 127, 128, 255, 256, 65_535, 65_536] {
            let content = vec![7; length];
            let bytes = octets(&content);
            let mut fields = Fields::of(&bytes);
            assert_eq!(fields.take(OCTETS, "x").unwrap().content, content, "{length}");
            fields.finish("x").unwrap();
        }
        for (bytes, why) in [
            (&[][..], "cut short"),
            (&[4], "cut short"),
            (&[4, 1], "cut short"),
            (&[4, 0x81], "cut short"),
            (&[4, 0x82, 1], "cut short"),
            (&[4, 0x81, 127], "not the shortest"),
            (&[4, 0x82, 0, 200], "not the shortest"),
            (&[4, 0x80, 0, 0], "indefinite"),
            (&[4, 0x85, 1, 0, 0, 0, 0], "beyond all bounds"),
            (&[4, 0x84, 0xff, 0xff, 0xff, 0xff], "cut short"),
            (&[0x1f, 0x81, 1, 0], "several octets"),
        ] {
            let error = Fields::of(bytes).any("x").unwrap_err();
            assert!(error.why.contains(why), "{bytes:x?}: {error}");
        }
    }

    #[test]
    fn members_are_what_they_say() {
        let integer = |bytes: &[u8]| Fields::of(bytes).number("n").ok();
        assert_eq!(integer(&[2, 1, 5]), Some(5));
        assert_eq!(integer(&[2, 2, 0, 5]), None, "not the shortest");
        assert_eq!(integer(&[2, 1, 0xff]), None, "negative");
        assert_eq!(integer(&[2, 0]), None);
        for number in [&[][..], &[5], &[0x80], &[1, 0]] {
            assert_eq!(Fields::of(&natural(number)).natural("n").unwrap(), number);
        }
        assert_eq!(natural(&[0, 0, 5]), [2, 1, 5]);
        for wrong in [&[2, 2, 0, 5][..], &[2, 1, 0xff], &[2, 0]] {
            assert!(Fields::of(wrong).natural("n").is_err(), "{wrong:x?}");
        }
        let time = |text: &[u8]| Fields::of(&value(GENERAL_TIME, &[text])).time_s("t").ok();
        assert_eq!(time(b"20261129170000Z"), Some(1_795_971_600));
        for wrong in
            [&b"20261129170000"[..], b"20261129170000.5Z", b"20261129170000+0800", b"202611291700Z", b"20261329170000Z"]
        {
            assert_eq!(time(wrong), None, "{wrong:?}");
        }
        assert_eq!(general_time(1_795_971_600).unwrap(), value(GENERAL_TIME, &[b"20261129170000Z"]));
        assert_eq!(general_time(-1), None);
        assert!(Fields::of(&value(BIT_STRING, &[&[1, 0xfe]])).bits("b").is_err(), "seven bits");
        assert!(Fields::of(&value(IA5, &[b"a\nb"])).text(IA5, 9, "t").is_err());
        assert!(Fields::of(&value(IA5, &["章".as_bytes()])).text(IA5, 9, "t").is_err());
        assert_eq!(Fields::of(&value(UTF8, &["章".as_bytes()])).text(UTF8, 9, "t").unwrap(), "章");
        assert_eq!(set_of(SET, vec![vec![5, 0], vec![2, 1, 1]]), [0x31, 5, 2, 1, 1, 5, 0]);
    }
}
