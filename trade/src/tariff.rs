//! Price terms: what one named unit of each priced resource costs, flat or in tiers. Applying them is `rating.rs`.

use der::{Enumerated, Sequence};
use serde::{Deserialize, Serialize};

use crate::{
    Error,
    money::UnitPrice,
    octets::{self, Digest},
    resource::Resource,
};

/// The rounding rule this version knows: one half-even division per line to 10^-8 CNY, the total cut down to the fen, the
/// difference as its own rounding line (抹零).
pub const ROUNDING: &str = "line-half-even-8,total-down-2";
/// The billing calendar where a deal names none.
pub const CALENDAR: &str = "Asia/Shanghai";

/// How tiers apply; a tiered price always says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumerated, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u32)]
pub enum Scheme {
    /// One price.
    Flat = 0,
    /// 阶梯: each part of the quantity at its own tier's price.
    Graduated = 1,
    /// 到达阶梯: the whole quantity at the price of the tier it reaches.
    Volume = 2,
}

/// One tier: the price up to and including a quantity, the last tier without bound.
#[derive(Clone, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct Tier {
    /// Upper bound of the tier in base units; absent in the last.
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    #[serde(with = "octets::text_option")]
    pub up_to: Option<u128>,
    /// Price per named unit.
    pub price: UnitPrice,
}

/// The price of one resource.
#[derive(Clone, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct Price {
    /// Resource name, for example `cpu` or `gpu:A100-80G`.
    pub resource: String,
    /// Named unit, for example `core-hour`: fixed by the resource, said for the reader.
    pub per: String,
    /// How the tiers apply.
    pub scheme: Scheme,
    /// In rising order.
    pub tiers: Vec<Tier>,
}

/// Price terms of a product; signed inside the offer.
#[derive(Clone, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct Tariff {
    /// Format version, 1.
    pub version: u8,
    /// ISO 4217, `CNY`.
    pub currency: String,
    /// [`ROUNDING`].
    pub rounding: String,
    /// IANA time zone of billing periods.
    pub calendar: String,
    /// At most one price a resource, in resource order.
    pub prices: Vec<Price>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTariff {
    #[serde(default = "cny")]
    currency: String,
    #[serde(default = "calendar")]
    calendar: String,
    #[serde(default)]
    price: Vec<RawPrice>,
}
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPrice {
    resource: String,
    #[serde(default = "flat")]
    scheme: Scheme,
    price: Option<UnitPrice>,
    #[serde(default)]
    tier: Vec<RawTier>,
}
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTier {
    up_to: Option<String>,
    price: UnitPrice,
}
fn cny() -> String {
    "CNY".to_owned()
}
fn calendar() -> String {
    CALENDAR.to_owned()
}
fn flat() -> Scheme {
    Scheme::Flat
}

impl Tariff {
    /// Reads price terms a person wrote:
    ///
    /// ```
    /// let text = r#"
    /// [[price]]
    /// resource = "cpu"          # per core-hour
    /// price = "0.12"
    /// [[price]]
    /// resource = "memory"       # per GiB-hour
    /// scheme = "graduated"
    /// tier = [{ up_to = "3865470566400", price = "0.02" }, { price = "0.015" }]
    /// "#;
    /// let tariff = hufu_trade::tariff::Tariff::from_toml(text)?;
    /// assert_eq!(tariff.prices[0].per, "core-hour");
    /// # Ok::<(), hufu_trade::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Text`] naming the key that is unknown or missing, [`Error::UnknownResource`], [`Error::Money`], or what
    /// [`Tariff::check`] finds.
    pub fn from_toml(text: &str) -> Result<Self, Error> {
        let raw: RawTariff = toml::from_str(text)
            .map_err(|e| Error::Text { what: "tariff", why: e.to_string().trim_end().to_owned() })?;
        let mut prices = Vec::with_capacity(raw.price.len());
        for entry in raw.price {
            let wrong =
                |why: String| Error::Text { what: "tariff", why: format!("price of {}: {why}", entry.resource) };
            let resource: Resource = entry.resource.parse()?;
            let tiers = match (entry.price, entry.tier.is_empty(), entry.scheme) {
                (Some(price), true, Scheme::Flat) => vec![Tier { up_to: None, price }],
                (None, false, Scheme::Graduated | Scheme::Volume) => entry
                    .tier
                    .iter()
                    .map(|tier| {
                        let up_to = tier.up_to.as_ref().map(|t| t.parse::<u128>()).transpose();
                        let up_to = up_to.map_err(|_| wrong("up_to must be an integer in base units".to_owned()))?;
                        Ok(Tier { up_to, price: tier.price })
                    })
                    .collect::<Result<_, Error>>()?,
                _ => return Err(wrong("give `price`, or `scheme = graduated|volume` with `tier`".to_owned())),
            };
            let per = resource.kind.priced_per().0.to_owned();
            prices.push((resource.clone(), Price { resource: resource.to_string(), per, scheme: entry.scheme, tiers }));
        }
        prices.sort_by(|a, b| a.0.cmp(&b.0));
        let tariff = Self {
            version: 1,
            currency: raw.currency,
            rounding: ROUNDING.to_owned(),
            calendar: raw.calendar,
            prices: prices.into_iter().map(|(_, price)| price).collect(),
        };
        tariff.check()?;
        Ok(tariff)
    }

    /// Whether the terms can be rated: version, currency, rounding and calendar known, resources distinct and in order,
    /// tiers rising with an open last one, no negative price.
    ///
    /// # Errors
    /// [`Error::Field`] naming the first violation.
    pub fn check(&self) -> Result<(), Error> {
        let field = |field: &'static str, why: String| Error::Field { what: "Tariff", field, why };
        if self.version != 1 {
            return Err(field("version", format!("{} is unknown, 1 expected", self.version)));
        }
        if self.currency != "CNY" {
            return Err(field("currency", format!("{} is not supported, CNY expected", self.currency)));
        }
        if self.rounding != ROUNDING {
            return Err(field("rounding", format!("{} is unknown, {ROUNDING} expected", self.rounding)));
        }
        if jiff::tz::TimeZone::get(&self.calendar).is_err() {
            return Err(field("calendar", format!("{} is not an IANA time zone", self.calendar)));
        }
        let mut last: Option<Resource> = None;
        for price in &self.prices {
            let resource: Resource = price.resource.parse()?;
            let bad = |why: &str| Err(field("prices", format!("{}: {why}", price.resource)));
            if last.as_ref().is_some_and(|last| *last >= resource) {
                return bad("resources must be distinct and in order");
            }
            if price.per != resource.kind.priced_per().0 {
                return bad("the unit does not belong to the resource");
            }
            let Some((open, bounded)) = price.tiers.split_last() else { return bad("no tier") };
            let rising = bounded.windows(2).all(|pair| pair[0].up_to < pair[1].up_to);
            if open.up_to.is_some() || bounded.iter().any(|tier| tier.up_to.is_none_or(|q| q == 0)) || !rising {
                return bad("tiers must rise and the last must be open");
            }
            if price.tiers.iter().any(|tier| tier.price.0 < 0) {
                return bad("a price is negative");
            }
            if (price.scheme == Scheme::Flat) != (price.tiers.len() == 1) {
                return bad("flat has one tier, graduated and volume have several");
            }
            last = Some(resource);
        }
        Ok(())
    }

    /// SM3 of the terms' DER: what a buyer's statement names.
    ///
    /// # Errors
    /// [`Error::Malformed`] when the terms do not fit DER.
    pub fn hash(&self) -> Result<Digest, Error> {
        Ok(octets::Octets(hufu_gm::sm3::sm3(&[&crate::encode(self, "Tariff")?])))
    }
}
