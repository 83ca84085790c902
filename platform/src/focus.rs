//! Bills as rows of the FinOps Open Cost and Usage Specification (FOCUS): the mandatory columns of 1.2, those that later versions put in
//! place of two of them, and of the conditional ones those that a bill can fill. Pure; which bills there are is `cmd/focus.rs`.
//! A null is an empty field, times are UTC to the second, amounts plain decimals.

use hufu_trade::{
    bill::{Bill, Line},
    correction::Correction,
    money::Money,
    octets::Digest,
    resource::{Kind, Resource},
};

use crate::error::Error;

/// The columns, in the order of the file. What begins with `x_` is ours.
pub(crate) const COLUMNS: [&str; 43] = [
    "BilledCost",
    "BillingAccountId",
    "BillingAccountName",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ChargePeriodEnd",
    "ChargePeriodStart",
    "ConsumedQuantity",
    "ConsumedUnit",
    "ContractedCost",
    "ContractedUnitPrice",
    "EffectiveCost",
    "HostProviderName",
    "InvoiceId",
    "InvoiceIssuerName",
    "ListCost",
    "ListUnitPrice",
    "PricingCategory",
    "PricingQuantity",
    "PricingUnit",
    "ProviderName",
    "PublisherName",
    "RegionId",
    "ResourceId",
    "ResourceName",
    "ResourceType",
    "ServiceCategory",
    "ServiceName",
    "ServiceProviderName",
    "SkuId",
    "SkuPriceId",
    "Tags",
    "x_BillHash",
    "x_BillNumber",
    "x_ContractNumber",
    "x_CorrectionNumber",
    "x_Node",
    "x_State",
    "x_Tier",
];

/// A bill and what belongs to it.
#[derive(Clone, Debug)]
pub(crate) struct Billed {
    /// Hash of its entry.
    pub(crate) hash: Digest,
    /// As signed.
    pub(crate) bill: Bill,
    /// Its accepted corrections, in their order.
    pub(crate) corrections: Vec<Correction>,
    /// The product that its offer names.
    pub(crate) product: String,
    /// As lists show it.
    pub(crate) state: &'static str,
    /// What is due by the database: the rows add up to it.
    pub(crate) due: Money,
    /// The invoice it is on.
    pub(crate) invoice: Option<String>,
    /// Start and end of the billing period it falls into, ns since 1970-01-01Z.
    pub(crate) period: (i64, i64),
}

/// One row: a value for each column.
type Row = Vec<(&'static str, String)>;

/// The first line of the file; lines are ended as RFC 4180 says.
pub(crate) fn heading() -> String {
    COLUMNS.join(",") + "\r\n"
}

/// The lines of a bill: one for each of its lines, gaps, rounding and corrections.
///
/// # Errors
/// [`Error::Damaged`] when they do not add up to what is due for it.
pub(crate) fn lines(bill: &Billed) -> Result<String, Error> {
    let mut text = String::new();
    for row in rows(bill)? {
        let cells = COLUMNS.map(|column| {
            row.iter().rev().find(|(name, _)| *name == column).map(|(_, value)| cell(value)).unwrap_or_default()
        });
        text.push_str(&cells.join(","));
        text.push_str("\r\n");
    }
    Ok(text)
}

/// A field; control characters, which nodes may have written, are replaced.
fn cell(value: &str) -> String {
    let value: String = value.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if value.contains([',', '"']) { format!("\"{}\"", value.replace('"', "\"\"")) } else { value }
}

/// UTC to the second, as FOCUS wants it; a fraction is cut, so that what adjoins still does.
fn time(ns: i64) -> String {
    hufu_trade::octets::rfc3339(ns.div_euclid(1_000_000_000).saturating_mul(1_000_000_000))
}

/// A plain decimal: without the zeros at its end.
fn decimal(text: &str) -> String {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text.to_owned() }
}

fn rows(billed: &Billed) -> Result<Vec<Row>, Error> {
    let bill = &billed.bill;
    let mut rows = Vec::new();
    let mut sum = Money(0);
    let mut add = |amount: Money, own: Row| -> Result<(), Error> {
        sum = sum.plus(amount)?;
        let mut row = common(billed, amount);
        row.extend(own);
        rows.push(row);
        Ok(())
    };
    for line in &bill.lines {
        add(line.amount, of_line(billed, line)?)?;
    }
    for gap in &bill.gaps {
        let own = vec![
            ("ChargeCategory", "Usage".to_owned()),
            ("ChargeDescription", format!("not measured, rated {}", gap.rule)),
            ("ChargePeriodStart", time(gap.start)),
            ("ChargePeriodEnd", time(gap.end)),
            ("PricingCategory", "Standard".to_owned()),
        ];
        add(gap.amount, own)?;
    }
    for (amount, what) in
        [(Some(bill.rounding), "rounding (抹零)"), (bill.over_ceiling, "above the ceiling, not charged")]
    {
        if let Some(amount) = amount.filter(|amount| *amount != Money(0)) {
            add(amount, adjustment(what.to_owned(), ""))?;
        }
    }
    for correction in &billed.corrections {
        for line in &correction.adjustments {
            let what = if line.resource.is_empty() { "bill" } else { line.resource.as_str() };
            let mut own = adjustment(format!("correction of {what}: {}", line.why), "Correction");
            own.push(("x_CorrectionNumber", correction.number.clone()));
            add(line.amount, own)?;
        }
    }
    if sum == billed.due { Ok(rows) } else { Err(Error::Damaged("bill does not add up to what is due")) }
}

/// What every row of a bill has, unless it says something else itself.
fn common(billed: &Billed, amount: Money) -> Row {
    let bill = &billed.bill;
    let (site, _) = bill.computing_pool_id.split_once('/').unwrap_or_default();
    let cost = decimal(&amount.to_string());
    let mut row: Row =
        ["BilledCost", "ContractedCost", "EffectiveCost", "ListCost"].map(|name| (name, cost.clone())).to_vec();
    row.extend(
        ["HostProviderName", "InvoiceIssuerName", "ProviderName", "PublisherName", "RegionId", "ServiceProviderName"]
            .map(|name| (name, site.to_owned())),
    );
    row.extend([
        ("BillingAccountId", bill.buyer.to_string()),
        ("BillingCurrency", bill.currency.clone()),
        ("BillingPeriodStart", time(billed.period.0)),
        ("BillingPeriodEnd", time(billed.period.1)),
        ("ChargePeriodStart", time(bill.period_start)),
        ("ChargePeriodEnd", time(bill.period_end)),
        ("InvoiceId", billed.invoice.clone().unwrap_or_default()),
        ("ResourceId", bill.contract_no.to_string()),
        ("ServiceCategory", "Compute".to_owned()),
        ("ServiceName", billed.product.clone()),
        ("Tags", "{}".to_owned()),
        ("x_BillHash", billed.hash.to_string()),
        ("x_BillNumber", bill.number.clone()),
        ("x_ContractNumber", bill.contract_no.to_string()),
        ("x_Node", bill.computing_pool_id.clone()),
        ("x_State", billed.state.to_owned()),
    ]);
    row
}

fn adjustment(what: String, class: &str) -> Row {
    vec![("ChargeCategory", "Adjustment".to_owned()), ("ChargeClass", class.to_owned()), ("ChargeDescription", what)]
}

fn of_line(billed: &Billed, line: &Line) -> Result<Row, Error> {
    let resource: Resource = line.resource.parse()?;
    let (per, units) = resource.kind.priced_per();
    let price = decimal(&line.unit_price.to_string());
    let sku = format!("{}:{}", billed.product, line.resource);
    Ok(vec![
        ("ChargeCategory", "Usage".to_owned()),
        ("ChargeDescription", format!("{}, tier {}, {} CNY per {}", line.resource, line.tier, price, line.per)),
        ("ConsumedQuantity", line.quantity.to_string()),
        ("ConsumedUnit", line.unit.clone()),
        ("ContractedUnitPrice", price.clone()),
        ("ListUnitPrice", price),
        ("PricingCategory", "Standard".to_owned()),
        ("PricingQuantity", decimal(&quotient(line.quantity, units)?)),
        ("PricingUnit", per.to_owned()),
        ("ResourceType", line.resource.clone()),
        ("ServiceCategory", category(resource.kind).to_owned()),
        ("SkuPriceId", format!("{sku}:{}:{}", line.tier, line.unit_price.0)),
        ("SkuId", sku),
        ("x_Tier", line.tier.to_string()),
    ])
}

/// A quantity in named units, 12 decimals, cut. The exact one is `ConsumedQuantity`.
fn quotient(quantity: u128, units: u128) -> Result<String, Error> {
    const SCALE: u128 = 1_000_000_000_000;
    let wide = Error::Damaged("quantity beyond what can be divided");
    let (whole, rest) = (quantity.checked_div(units), quantity.checked_rem(units));
    let fraction = rest.and_then(|rest| rest.checked_mul(SCALE)).and_then(|rest| rest.checked_div(units));
    let (Some(whole), Some(fraction)) = (whole, fraction) else { return Err(wide) };
    Ok(format!("{whole}.{fraction:012}"))
}

fn category(kind: Kind) -> &'static str {
    match kind {
        Kind::Storage | Kind::DiskRead | Kind::DiskWrite | Kind::DiskReadOps | Kind::DiskWriteOps => "Storage",
        Kind::NetRx | Kind::NetTx => "Networking",
        Kind::Cpu | Kind::Memory | Kind::Gpu | Kind::GpuMemory | Kind::GpuEnergy => "Compute",
    }
}
