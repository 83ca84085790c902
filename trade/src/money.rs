//! Money and unit prices as integers (DESIGN section 4). No floating point, no division: that is `rating.rs`.

use der::{DecodeValue, EncodeValue, FixedTag, Header, Length, Reader, Tag, Writer};
use serde::{Serialize, Serializer};

use crate::Error;

/// An amount in units of 10^-8 CNY; JSON shows a decimal string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Money(pub i128);

/// A price in units of 10^-10 CNY per named unit; JSON shows a decimal string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnitPrice(pub i128);

/// Decimal digits after the point of [`Money`].
pub const MONEY_DIGITS: u32 = 8;
/// Decimal digits after the point of [`UnitPrice`].
pub const PRICE_DIGITS: u32 = 10;
/// One fen in units of [`Money`].
pub const FEN: i128 = 1_000_000;

impl Money {
    /// Checked sum.
    ///
    /// # Errors
    /// [`Error::Overflow`].
    pub fn plus(self, other: Money) -> Result<Money, Error> {
        self.0.checked_add(other.0).map(Money).ok_or(Error::Overflow { what: "sum of money" })
    }

    /// Checked difference.
    ///
    /// # Errors
    /// [`Error::Overflow`].
    pub fn minus(self, other: Money) -> Result<Money, Error> {
        self.0.checked_sub(other.0).map(Money).ok_or(Error::Overflow { what: "difference of money" })
    }

    /// Whole fen, cut down towards zero.
    pub fn cut_to_fen(self) -> Money {
        Money(self.0 / FEN * FEN)
    }
}

fn parse(text: &str, digits: u32) -> Result<i128, Error> {
    let error = || Error::Money { text: text.chars().take(60).collect() };
    let (negative, body) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = body.split_once('.').unwrap_or((body, ""));
    let all_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let fraction_len = u32::try_from(fraction.len()).map_err(|_| error())?;
    if whole.is_empty() || whole.len() > 18 || fraction_len > digits || !all_digits(whole) || !all_digits(fraction) {
        return Err(error());
    }
    if body.ends_with('.') {
        return Err(error());
    }
    let scale = 10_i128.pow(digits);
    let whole: i128 = whole.parse().map_err(|_| error())?;
    let fraction: i128 = if fraction.is_empty() { 0 } else { fraction.parse().map_err(|_| error())? };
    let value = whole * scale + fraction * 10_i128.pow(digits - fraction_len);
    Ok(if negative { -value } else { value })
}

fn show(f: &mut std::fmt::Formatter<'_>, value: i128, digits: u32, keep: usize) -> std::fmt::Result {
    let scale = 10_u128.pow(digits);
    let magnitude = value.unsigned_abs();
    let mut fraction = format!("{:0width$}", magnitude % scale, width = digits as usize);
    while fraction.len() > keep && fraction.ends_with('0') {
        fraction.pop();
    }
    let sign = if value < 0 { "-" } else { "" };
    write!(f, "{sign}{}.{fraction}", magnitude / scale)
}

macro_rules! decimal {
    ($name:ident, $digits:ident, $keep:literal) => {
        impl std::str::FromStr for $name {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self, Error> {
                parse(text, $digits).map(Self)
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                show(f, self.0, $digits, $keep)
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
        impl FixedTag for $name {
            const TAG: Tag = Tag::Integer;
        }
        impl EncodeValue for $name {
            fn value_len(&self) -> der::Result<Length> {
                self.0.value_len()
            }
            fn encode_value(&self, writer: &mut impl Writer) -> der::Result<()> {
                self.0.encode_value(writer)
            }
        }
        impl<'a> DecodeValue<'a> for $name {
            type Error = der::Error;
            fn decode_value<R: Reader<'a>>(reader: &mut R, header: Header) -> der::Result<Self> {
                i128::decode_value(reader, header).map(Self)
            }
        }
    };
}
decimal!(Money, MONEY_DIGITS, 2);
decimal!(UnitPrice, PRICE_DIGITS, 2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_reads_and_shows_decimals() {
        for (text, want) in
            [("0", Some("0.00")), ("1.5", Some("1.50")), ("0.00000001", Some("0.00000001")), ("-2.10", Some("-2.10"))]
        {
            assert_eq!(text.parse::<Money>().ok().map(|m| m.to_string()).as_deref(), want, "{text}");
        }
        for text in ["", ".", "1.", ".5", "1e3", "0.000000001", "+1", "1,5", "１", "9999999999999999999"] {
            assert!(text.parse::<Money>().is_err(), "{text}");
        }
    }
}
