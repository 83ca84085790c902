//! The site's shop as it presents itself (6.3, 7.3): names, contact and qualifications, as the configuration has them. What is sold is
//! `catalogue.rs`.

use hufu_trade::{
    if2::{Qualification, ShopProfile},
    octets::Digest,
};
use serde::Deserialize;

use crate::catalogue::is_text;

/// Most qualifications: a catalogue travels in one message.
const QUALIFICATIONS_MAX: usize = 16;
/// Longest summary, characters.
const SUMMARY_CHARS_MAX: usize = 1000;

/// The table `[shop]`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Raw {
    name: String,
    summary: Option<String>,
    contact: Option<String>,
    credit_code: Option<String>,
    #[serde(default)]
    qualifications: Vec<RawQualification>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawQualification {
    name: String,
    number: Option<String>,
    digest: Option<String>,
}

/// A unified social credit code (GB 32100): 18 of digits and capitals without I, O, S, V, Z, the last a check over the others.
fn is_credit_code(text: &str) -> bool {
    const SIGNS: &[u8] = b"0123456789ABCDEFGHJKLMNPQRTUWXY";
    let values: Option<Vec<usize>> = text.bytes().map(|byte| SIGNS.iter().position(|sign| *sign == byte)).collect();
    let Some(values) = values.filter(|values| values.len() == 18) else { return false };
    // Weights are the powers of 3 modulo 31.
    let mut weight = 1;
    let mut sum = 0;
    for value in values.iter().take(17) {
        sum += value * weight;
        weight = weight * 3 % 31;
    }
    values.last() == Some(&((31 - sum % 31) % 31))
}

impl Raw {
    /// The profile.
    ///
    /// # Errors
    /// A line that names the key and what would be right.
    pub(crate) fn checked(self) -> Result<ShopProfile, String> {
        let texts = [("shop.name", Some(&self.name)), ("shop.contact", self.contact.as_ref())];
        for (key, text) in texts {
            if text.is_some_and(|text| !is_text(text)) {
                return Err(format!("{key}: 1 to 200 characters of one line expected"));
            }
        }
        let fits = |text: &String| {
            (1..=SUMMARY_CHARS_MAX).contains(&text.chars().count())
                && !text.chars().any(|found| found.is_control() && found != '\n')
        };
        if self.summary.as_ref().is_some_and(|text| !fits(text)) {
            return Err("shop.summary: 1 to 1000 characters expected".to_owned());
        }
        if self.credit_code.as_ref().is_some_and(|code| !is_credit_code(code)) {
            return Err(
                "shop.credit_code: the 18 characters of GB 32100 expected, the last one the check over the others"
                    .to_owned(),
            );
        }
        if self.qualifications.len() > QUALIFICATIONS_MAX {
            return Err("shop.qualifications: at most 16".to_owned());
        }
        let qualification = |raw: RawQualification| {
            if !is_text(&raw.name) || raw.number.as_ref().is_some_and(|number| !is_text(number)) {
                return Err("shop.qualifications: name and number are 1 to 200 characters of one line".to_owned());
            }
            let digest = raw.digest.as_deref().map(|text| {
                Digest::from_hex(text).ok_or_else(|| {
                    "shop.qualifications: digest is SM3 of the document, 64 hexadecimal digits".to_owned()
                })
            });
            Ok(Qualification { name: raw.name, number: raw.number, digest: digest.transpose()? })
        };
        Ok(ShopProfile {
            name: self.name,
            summary: self.summary,
            contact: self.contact,
            credit_code: self.credit_code,
            qualifications: self.qualifications.into_iter().map(qualification).collect::<Result<_, String>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ShopProfile, String> {
        toml::from_str::<Raw>(text).map_err(|e| e.to_string())?.checked()
    }

    #[test]
    fn a_profile_is_read_strictly() {
        let digest = "ab".repeat(32);
        let good = format!(
            "name = \"Shop\"\nsummary = \"two\\nlines\"\ncredit_code = \"91350100M000100Y43\"\n\
             qualifications = [{{ name = \"ICP\", number = \"7\", digest = \"{digest}\" }}]\n"
        );
        let profile = read(&good).unwrap();
        assert_eq!(profile.qualifications[0].digest.map(|digest| digest.to_string()), Some(digest));
        for (wrong, named) in [
            ("name = \"\"", "shop.name"),
            ("name = \"a\"\ncontact = \"a\\nb\"", "shop.contact"),
            ("name = \"a\"\nsummary = \"a\\tb\"", "shop.summary"),
            ("name = \"a\"\ncredit_code = \"91350100M000100Y44\"", "shop.credit_code"),
            ("name = \"a\"\ncredit_code = \"9135\"", "shop.credit_code"),
            ("name = \"a\"\nqualifications = [{ name = \"x\", digest = \"7\" }]", "digest is SM3"),
            ("summary = \"a\"", "name"),
            ("name = \"a\"\ncolour = 1", "colour"),
        ] {
            let why = read(wrong).unwrap_err();
            assert!(why.contains(named), "{wrong}: {why}");
        }
    }
}
