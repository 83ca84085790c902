//! What the site sells, as it wrote it: products, and the templates that give them what they do not say themselves. Read and
//! checked once, with the configuration; how many units are free is `stock.rs`.

use hufu_trade::{if2::segment_ok, resource::Resource, tariff::Tariff};
use serde::Deserialize;

use crate::{
    disk::Disk,
    gpu_config::{self, GpuConfig},
};

/// Longest name and note, characters: a catalogue travels in one message.
const TEXT_CHARS_MAX: usize = 200;
/// A response time above this is no promise: 30 days, seconds.
const RESPONSE_S_MAX: u32 = 30 * 86_400;

/// A product or a template: a template's `id` is what products call it by, and every other key stands for the product's own.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawProduct {
    id: Option<String>,
    template: Option<String>,
    class: Option<String>,
    name: Option<String>,
    cpu_millicores: Option<u64>,
    memory_bytes: Option<u64>,
    disk: Option<Disk>,
    gpu: Option<String>,
    gpus: Option<u32>,
    term_max_s: Option<u64>,
    sla: Option<Sla>,
    delivery: Option<Delivery>,
    requires: Option<Requires>,
    listed: Option<bool>,
    tariff: Option<toml::Table>,
}

/// What the site promises of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sla {
    /// Share of the term in which it serves, basis points: 9990 are 99.90 %.
    pub(crate) availability_bp: u32,
    /// Longest wait for a person's answer, seconds.
    pub(crate) response_s: Option<u32>,
}

/// How the buyer gets a product.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Delivery {
    /// By which means.
    pub(crate) by: Means,
    /// What a person must know to use it.
    pub(crate) note: Option<String>,
}

/// By which means a product reaches its buyer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Means {
    /// An address to log in at, given with the deal.
    Address,
    /// An account of a platform or of software.
    Account,
    /// A programming interface.
    Api,
    /// The result itself: jobs that run and end.
    Result,
}

impl Means {
    /// The word of the configuration and of the product report.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Account => "account",
            Self::Api => "api",
            Self::Result => "result",
        }
    }
}

/// What a product needs of this server, as `hufu capacity --benchmark` measures it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Requires {
    /// Bytes a second written in a row and made durable.
    pub(crate) disk_write_bytes_s: Option<u64>,
    /// Random reads of 4 KiB a second.
    pub(crate) disk_read_ops_s: Option<u64>,
    /// Bytes a second copied in memory.
    pub(crate) memory_bytes_s: Option<u64>,
    /// Bytes a second that one core hashes with SM3.
    pub(crate) sm3_bytes_s: Option<u64>,
}

/// A product as the site configured it.
#[derive(Clone, Debug)]
pub(crate) struct ProductConfig {
    /// Id, a topic-safe segment.
    pub(crate) id: String,
    /// `IaaS`, `PaaS` or `SaaS`.
    pub(crate) class: String,
    /// For a person.
    pub(crate) name: String,
    /// Thousandths of a core one unit holds.
    pub(crate) cpu_millicores: u64,
    /// Bytes of memory one unit holds.
    pub(crate) memory_bytes: u64,
    /// What one unit holds of the disks.
    pub(crate) disk: Disk,
    /// Devices one unit holds.
    pub(crate) gpu: Option<GpuConfig>,
    /// Longest term, ns.
    pub(crate) term_max_ns: u64,
    /// What the site promises of it.
    pub(crate) sla: Option<Sla>,
    /// How the buyer gets it.
    pub(crate) delivery: Option<Delivery>,
    /// What it needs of the server.
    pub(crate) requires: Requires,
    /// On sale (上架); false: in no catalogue, and no offer is made of it. What was sold goes on.
    pub(crate) is_listed: bool,
    /// Price terms.
    pub(crate) tariff: Tariff,
}

fn month_s() -> u64 {
    31 * 86_400
}

/// The products, each with what its template gives it.
///
/// # Errors
/// A line that names the product or template, the key, and what would be right.
pub(crate) fn products(raw: Vec<RawProduct>, templates: &[RawProduct]) -> Result<Vec<ProductConfig>, String> {
    for (index, template) in templates.iter().enumerate() {
        let id = template.id.as_deref().unwrap_or_default();
        if !segment_ok(id) {
            return Err(format!("template {id:?}: id: 1 to 64 of a-z 0-9 _ - expected"));
        }
        if template.template.is_some() {
            return Err(format!("template {id:?}: template: a template has none of its own"));
        }
        if templates.iter().take(index).any(|other| other.id == template.id) {
            return Err(format!("template.id = {id:?} stands twice"));
        }
    }
    let products = raw.into_iter().map(|raw| product(with_template(raw, templates)?));
    let products = products.collect::<Result<Vec<_>, _>>()?;
    for (index, product) in products.iter().enumerate() {
        if products.iter().take(index).any(|other| other.id == product.id) {
            return Err(format!("product.id = {:?} stands twice", product.id));
        }
    }
    Ok(products)
}

/// What a product says itself counts, a table of its own in whole; the rest is its template's.
fn with_template(raw: RawProduct, templates: &[RawProduct]) -> Result<RawProduct, String> {
    let Some(named) = raw.template.clone() else { return Ok(raw) };
    let Some(from) = templates.iter().find(|template| template.id.as_ref() == Some(&named)) else {
        let known: Vec<_> = templates.iter().filter_map(|template| template.id.as_deref()).collect();
        let known = if known.is_empty() { "no [[template]] at all".to_owned() } else { known.join(", ") };
        let id = raw.id.unwrap_or_default();
        return Err(format!("product {id:?}: template = {named:?} is not one of the templates: {known}"));
    };
    let from = from.clone();
    Ok(RawProduct {
        id: raw.id,
        template: None,
        class: raw.class.or(from.class),
        name: raw.name.or(from.name),
        cpu_millicores: raw.cpu_millicores.or(from.cpu_millicores),
        memory_bytes: raw.memory_bytes.or(from.memory_bytes),
        disk: raw.disk.or(from.disk),
        // Kind and count belong together.
        gpus: if raw.gpu.is_some() { raw.gpus } else { raw.gpus.or(from.gpus) },
        gpu: raw.gpu.or(from.gpu),
        term_max_s: raw.term_max_s.or(from.term_max_s),
        sla: raw.sla.or(from.sla),
        delivery: raw.delivery.or(from.delivery),
        requires: raw.requires.or(from.requires),
        listed: raw.listed.or(from.listed),
        tariff: raw.tariff.or(from.tariff),
    })
}

fn product(raw: RawProduct) -> Result<ProductConfig, String> {
    let id = raw.id.unwrap_or_default();
    let wrong = |what: &str| format!("product {id:?}: {what}");
    if !segment_ok(&id) {
        return Err(wrong("id: 1 to 64 of a-z 0-9 _ - expected"));
    }
    let class = raw.class.unwrap_or_else(|| "IaaS".to_owned());
    if !["IaaS", "PaaS", "SaaS"].contains(&class.as_str()) {
        return Err(wrong("class: IaaS, PaaS or SaaS expected"));
    }
    let name = raw.name.ok_or_else(|| wrong("name: missing, here and in its template"))?;
    if !is_text(&name) {
        return Err(wrong("name: 1 to 200 characters of one line expected"));
    }
    let (cpu_millicores, memory_bytes) = (raw.cpu_millicores.unwrap_or(0), raw.memory_bytes.unwrap_or(0));
    let gpu = GpuConfig::of(raw.gpu.as_deref(), raw.gpus).map_err(|why| wrong(&why))?;
    if cpu_millicores == 0 && memory_bytes == 0 && gpu.is_none() {
        return Err(wrong("cpu_millicores, memory_bytes or gpus must be above zero"));
    }
    let term_max_s = raw.term_max_s.unwrap_or_else(month_s);
    if !(1..=10 * 365 * 86_400).contains(&term_max_s) {
        return Err(wrong("term_max_s: 1 second to ten years expected"));
    }
    if raw.sla.is_some_and(|sla| !(1..=10_000).contains(&sla.availability_bp)) {
        return Err(wrong("sla.availability_bp: 1 to 10000 basis points expected, 9990 for 99.90 %"));
    }
    if raw.sla.and_then(|sla| sla.response_s).is_some_and(|response_s| !(1..=RESPONSE_S_MAX).contains(&response_s)) {
        return Err(wrong("sla.response_s: 1 second to 30 days expected"));
    }
    if raw.delivery.as_ref().and_then(|delivery| delivery.note.as_ref()).is_some_and(|note| !is_text(note)) {
        return Err(wrong("delivery.note: 1 to 200 characters of one line expected"));
    }
    let requires = raw.requires.unwrap_or_default();
    if requires.each().into_iter().any(|(_, required)| required == Some(0)) {
        return Err(wrong("requires: numbers above zero expected; leave out what is not required"));
    }
    let tariff = raw.tariff.ok_or_else(|| wrong("tariff: missing, here and in its template"))?;
    let text = toml::to_string(&tariff).map_err(|e| wrong(&e.to_string()))?;
    let tariff = Tariff::from_toml(&text).map_err(|e| wrong(&e.to_string()))?;
    for price in &tariff.prices {
        let resource = price.resource.parse::<Resource>().map_err(|e| wrong(&e.to_string()))?;
        gpu_config::check_price(&resource, gpu.as_ref()).map_err(|why| wrong(&why))?;
    }
    Ok(ProductConfig {
        class,
        name,
        cpu_millicores,
        memory_bytes,
        disk: raw.disk.unwrap_or_default(),
        gpu,
        term_max_ns: term_max_s * 1_000_000_000,
        sla: raw.sla,
        delivery: raw.delivery,
        requires,
        is_listed: raw.listed.unwrap_or(true),
        tariff,
        id,
    })
}

/// One line of 1 to [`TEXT_CHARS_MAX`] characters.
pub(crate) fn is_text(text: &str) -> bool {
    (1..=TEXT_CHARS_MAX).contains(&text.chars().count()) && !text.contains(char::is_control)
}

impl Requires {
    /// Each key with its value.
    pub(crate) fn each(&self) -> [(&'static str, Option<u64>); 4] {
        [
            ("disk_write_bytes_s", self.disk_write_bytes_s),
            ("disk_read_ops_s", self.disk_read_ops_s),
            ("memory_bytes_s", self.memory_bytes_s),
            ("sm3_bytes_s", self.sm3_bytes_s),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Written {
        #[serde(default)]
        template: Vec<RawProduct>,
        product: Vec<RawProduct>,
    }

    fn read(text: &str) -> Result<Vec<ProductConfig>, String> {
        let written: Written = toml::from_str(text).map_err(|e| e.to_string())?;
        products(written.product, &written.template)
    }

    const TEMPLATE: &str = "[[template]]\nid = \"vm\"\nclass = \"PaaS\"\nname = \"A machine\"\ncpu_millicores = 2000\n\
        memory_bytes = 1024\nterm_max_s = 60\nsla = { availability_bp = 9990, response_s = 900 }\n\
        delivery = { by = \"address\", note = \"ssh\" }\nrequires = { sm3_bytes_s = 7 }\n\
        tariff = { price = [{ resource = \"cpu\", price = \"0.12\" }] }\n";

    #[test]
    fn what_a_product_does_not_say_its_template_does() {
        let text = format!(
            "{TEMPLATE}[[product]]\nid = \"a\"\ntemplate = \"vm\"\n[[product]]\nid = \"b\"\ntemplate = \"vm\"\n\
             name = \"Another\"\ncpu_millicores = 500\nsla = {{ availability_bp = 9000 }}\n\
             tariff = {{ price = [{{ resource = \"memory\", price = \"0.01\" }}] }}\n"
        );
        let [a, b]: [ProductConfig; 2] = read(&text).unwrap().try_into().unwrap();
        assert_eq!(
            (a.class.as_str(), a.name.as_str(), a.cpu_millicores, a.memory_bytes),
            ("PaaS", "A machine", 2000, 1024)
        );
        assert_eq!((a.term_max_ns, a.sla.and_then(|sla| sla.response_s)), (60_000_000_000, Some(900)));
        let note = a.delivery.map(|delivery| (delivery.by, delivery.note));
        assert_eq!(note, Some((Means::Address, Some("ssh".to_owned()))));
        assert_eq!((a.requires.sm3_bytes_s, a.tariff.prices[0].resource.as_str()), (Some(7), "cpu"));
        assert_eq!(
            (b.class.as_str(), b.name.as_str(), b.cpu_millicores, b.memory_bytes),
            ("PaaS", "Another", 500, 1024)
        );
        // A table of the product's own takes the template's place in whole.
        assert_eq!(b.sla, Some(Sla { availability_bp: 9000, response_s: None }));
        assert_eq!((b.tariff.prices.len(), b.tariff.prices[0].resource.as_str()), (1, "memory"));
    }

    #[test]
    fn what_is_wrong_is_named_with_product_key_and_what_would_be_right() {
        let plain = |key: &str| {
            format!("[[product]]\nid = \"a\"\nname = \"A\"\ncpu_millicores = 1\n{key}\ntariff = {{ price = [] }}\n")
        };
        for (text, named) in [
            (
                plain("template = \"vm\""),
                "product \"a\": template = \"vm\" is not one of the templates: no [[template]] at all",
            ),
            (format!("{TEMPLATE}{}", plain("template = \"other\"")), "is not one of the templates: vm"),
            (format!("{TEMPLATE}{TEMPLATE}{}", plain("")), "template.id = \"vm\" stands twice"),
            (
                format!("[[template]]\nid = \"x\"\ntemplate = \"y\"\n{}", plain("")),
                "template \"x\": template: a template has none of its own",
            ),
            (format!("[[template]]\nname = \"x\"\n{}", plain("")), "template \"\": id: 1 to 64"),
            (format!("{}{}", plain(""), plain("")), "product.id = \"a\" stands twice"),
            (plain("class = \"Iaas\""), "product \"a\": class: IaaS, PaaS or SaaS expected"),
            (plain("sla = { availability_bp = 10001 }"), "product \"a\": sla.availability_bp: 1 to 10000"),
            (plain("sla = { availability_bp = 1, response_s = 0 }"), "product \"a\": sla.response_s: 1 second"),
            (plain("delivery = { by = \"pigeon\" }"), "expected one of `address`, `account`, `api`, `result`"),
            (plain("delivery = { by = \"api\", note = \"a\\nb\" }"), "product \"a\": delivery.note: 1 to 200"),
            (plain("requires = { sm3_bytes_s = 0 }"), "product \"a\": requires: numbers above zero"),
            (plain("requires = { disk = 1 }"), "unknown field `disk`"),
            (plain("term_max_s = 0"), "product \"a\": term_max_s"),
            (plain("colour = 1"), "unknown field `colour`"),
            (
                "[[product]]\nid = \"a\"\nname = \"A\"\ncpu_millicores = 1\n".to_owned(),
                "product \"a\": tariff: missing",
            ),
            ("[[product]]\nid = \"a\"\ncpu_millicores = 1\n".to_owned(), "product \"a\": name: missing"),
            ("[[product]]\nname = \"A\"\n".to_owned(), "product \"\": id: 1 to 64"),
        ] {
            let why = read(&text).map(|found| found.len()).unwrap_err();
            assert!(why.contains(named), "{text}\n{why}");
        }
    }
}
