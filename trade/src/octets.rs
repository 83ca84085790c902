//! Fixed-size octet strings of the evidence and the integers that JSON shows as strings. Nothing here has a meaning of its own.

use der::{DecodeValue, EncodeValue, FixedTag, Header, Length, Reader, Tag, Writer, asn1::OctetStringRef};
use serde::{Serialize, Serializer};

/// `OCTET STRING (SIZE (N))`; shown as lower-case hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Octets<const N: usize>(pub [u8; N]);

/// An SM3 digest inside a signed structure.
pub type Digest = Octets<32>;
/// A contract number: the first 16 bytes of SM3 over `ContractNoInput`.
pub type ContractNo = Octets<16>;

impl<const N: usize> Octets<N> {
    /// Reads `2 * N` hexadecimal digits; anything else gives `None`.
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; N];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }
}

impl<const N: usize> std::fmt::Display for Octets<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}
impl<const N: usize> std::fmt::Debug for Octets<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}
impl<const N: usize> Serialize for Octets<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, const N: usize> serde::Deserialize<'de> for Octets<N> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::from_hex(&text).ok_or_else(|| serde::de::Error::custom(format!("{N} bytes of hexadecimal expected")))
    }
}
impl<const N: usize> FixedTag for Octets<N> {
    const TAG: Tag = Tag::OctetString;
}
impl<const N: usize> EncodeValue for Octets<N> {
    fn value_len(&self) -> der::Result<Length> {
        Length::try_from(N)
    }
    fn encode_value(&self, writer: &mut impl Writer) -> der::Result<()> {
        writer.write(&self.0)
    }
}
impl<'a, const N: usize> DecodeValue<'a> for Octets<N> {
    type Error = der::Error;
    fn decode_value<R: Reader<'a>>(reader: &mut R, header: Header) -> der::Result<Self> {
        let octets = <&OctetStringRef>::decode_value(reader, header)?;
        let bytes = octets.as_bytes().try_into().map_err(|_| Tag::OctetString.length_error())?;
        Ok(Self(bytes))
    }
}

/// `serde(with)` for quantities: decimal strings, because JSON numbers lose 64-bit integers in many readers.
pub mod text {
    use serde::Serializer;
    /// Writes the value's decimal digits as a string.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<T: std::fmt::Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }
}

/// `serde(with)` for an optional quantity: a decimal string or `null`.
pub mod text_option {
    use serde::Serializer;
    /// Writes the digits as a string, or null.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<T: std::fmt::Display, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.collect_str(value),
            None => serializer.serialize_none(),
        }
    }
}

/// `serde(with)` for nanoseconds since 1970-01-01Z: RFC 3339 in UTC.
pub mod time {
    use serde::Serializer;
    /// Writes the instant as RFC 3339 UTC.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(value: &i64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&super::rfc3339(*value))
    }
}

/// Reads what [`rfc3339`] writes, and no other spelling of a time: `2026-01-01T00:00:00Z`, with at most nine digits of a second.
pub fn from_rfc3339(text: &str) -> Option<i64> {
    let (seconds, fraction) = text.strip_suffix('Z')?.split_once('.').unwrap_or((text.get(..text.len() - 1)?, "0"));
    let form = |(at, byte): (usize, u8)| match at {
        4 | 7 => byte == b'-',
        10 => byte == b'T',
        13 | 16 => byte == b':',
        _ => byte.is_ascii_digit(),
    };
    let plain = seconds.len() == 19 && seconds.bytes().enumerate().all(form) && !seconds.ends_with("60");
    let digits = (1..=9).contains(&fraction.len()) && fraction.bytes().all(|byte| byte.is_ascii_digit());
    if !plain || !digits {
        return None;
    }
    i64::try_from(text.parse::<jiff::Timestamp>().ok()?.as_nanosecond()).ok()
}

/// RFC 3339 UTC text of an instant in nanoseconds since 1970-01-01Z.
pub fn rfc3339(time_ns: i64) -> String {
    match jiff::Timestamp::from_nanosecond(i128::from(time_ns)) {
        Ok(time) => time.to_string(),
        Err(_) => format!("{time_ns}ns"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_one_spelling() {
        for time in [0, 1, 1_767_225_600_000_000_000, 1_767_225_600_500_000_000, -1, i64::MAX] {
            assert_eq!(from_rfc3339(&rfc3339(time)), Some(time), "{time}");
        }
        for (text, want) in [
            ("2026-01-01T00:00:00Z", Some(1_767_225_600_000_000_000)),
            ("2026-01-01T00:00:00.000Z", Some(1_767_225_600_000_000_000)),
            ("2026-01-01T00:00:00.Z", None),
            ("2026-01-01T00:00:00.0000000000Z", None),
            ("2026-01-01T00:00:60Z", None),
            ("2026-02-30T00:00:00Z", None),
            ("2026-01-01T00:00:00", None),
            ("2026-01-01T00:00:00z", None),
            ("2026-01-01 00:00:00Z", None),
            ("2026-01-01T08:00:00+08:00", None),
            ("2026-01-01T00:00Z", None),
            ("9999-01-01T00:00:00Z", None),
            ("Z", None),
            ("", None),
            ("年", None),
        ] {
            assert_eq!(from_rfc3339(text), want, "{text}");
        }
    }
}
