//! Bills as FOCUS: every mandatory column, and rows that add up to what is due; and their invoices. Tests only.
#![allow(clippy::indexing_slicing, reason = "a panic is a failed test")]

use std::{collections::BTreeMap, path::Path};

use hufu_audit::Lang;
use hufu_trade::money::Money;

use super::{
    bills::{Args, run},
    disputes::dispute,
    invoice::{Told, settle},
    tests::{billed, named, place},
};
use crate::{cli::Context, store::invoice::Act, tests::world::START};

/// Mandatory in 1.2, and what later versions put in place of two of them.
const NOT_NULL: [&str; 18] = [
    "BilledCost",
    "BillingAccountId",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "ChargeCategory",
    "ChargePeriodEnd",
    "ChargePeriodStart",
    "ContractedCost",
    "EffectiveCost",
    "HostProviderName",
    "InvoiceIssuerName",
    "ListCost",
    "ProviderName",
    "PublisherName",
    "ServiceCategory",
    "ServiceName",
    "ServiceProviderName",
];
/// Mandatory, and null where there is nothing to say.
const NULLABLE: [&str; 5] =
    ["BillingAccountName", "ChargeClass", "ChargeDescription", "PricingQuantity", "PricingUnit"];

/// A line of RFC 4180 without line ends in its fields.
fn fields(line: &str) -> Vec<String> {
    let (mut all, mut field, mut is_quoted) = (Vec::new(), String::new(), false);
    let mut chars = line.chars().peekable();
    while let Some(found) = chars.next() {
        match found {
            '"' if is_quoted && chars.peek() == Some(&'"') => field.push(chars.next().expect("a quote")),
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => all.push(std::mem::take(&mut field)),
            other => field.push(other),
        }
    }
    all.push(field);
    all
}

async fn written(dir: &Path, period: Option<&str>) -> Vec<BTreeMap<String, String>> {
    let output = dir.join("focus.csv");
    let args = Args { place: place(dir), focus: true, period: period.map(str::to_owned), output: Some(output.clone()) };
    run(&args, &Context { json: true, lang: Lang::En }).await.expect("a file");
    let text = std::fs::read_to_string(output).expect("a file");
    let mut lines = text.split_terminator("\r\n").map(fields);
    let heading = lines.next().expect("a heading");
    for name in NOT_NULL.iter().chain(&NULLABLE) {
        assert!(heading.iter().any(|found| found == name), "{name}");
    }
    let row = |line: Vec<String>| {
        assert_eq!(line.len(), heading.len());
        heading.iter().cloned().zip(line).collect::<BTreeMap<_, _>>()
    };
    let rows: Vec<_> = lines.map(row).collect();
    for row in &rows {
        for name in NOT_NULL {
            assert!(!row[name].is_empty(), "{name} is null: {row:?}");
        }
        for name in ["BillingPeriodStart", "BillingPeriodEnd", "ChargePeriodStart", "ChargePeriodEnd"] {
            assert!(row[name].len() == 20 && row[name].ends_with('Z'), "{name}: {}", row[name]);
        }
        assert!(["Usage", "Adjustment"].contains(&row["ChargeCategory"].as_str()));
    }
    rows
}

fn sum(rows: &[BTreeMap<String, String>], column: &str) -> Money {
    rows.iter().map(|row| row[column].parse::<Money>().expect("money")).try_fold(Money(0), Money::plus).expect("a sum")
}

#[tokio::test]
async fn an_invoice_is_requested_issued_and_reversed_in_this_order() {
    let (world, _, bill) = billed(|_| {}).await;
    let at = place(world.folder.path());
    let done = async |act, words: &str, number: &str| {
        let done = settle(&at, number, Told { act, words }, START).await;
        done.map(|done| (done.act.state(), done.invoice, done.amount)).map_err(|failure| named(Err::<(), _>(failure)))
    };
    let number = bill.number.as_str();
    let total = bill.total.to_string();
    let refused = |exit: u8, text: &str| Err((exit, text.to_owned()));
    assert_eq!(done(Act::Issue, "F-1", number).await, refused(1, "InvoiceAct"));
    assert_eq!(done(Act::Request, "a company", "ab-1").await, refused(1, "UnknownBill"));
    assert_eq!(done(Act::Request, " ", number).await, refused(2, "Usage"));
    let requested = Ok(("requested", None, total.clone()));
    assert_eq!(done(Act::Request, "a company", number).await, requested);
    assert_eq!(done(Act::Request, "a company", number).await, requested, "the same again");
    assert_eq!(done(Act::Request, "another", number).await, refused(1, "InvoiceAct"));
    assert_eq!(done(Act::Issue, "F-1", number).await, Ok(("issued", Some("F-1".to_owned()), total.clone())));
    let rows = written(world.folder.path(), None).await;
    assert!(rows.iter().all(|row| row["InvoiceId"] == "F-1"));
    assert_eq!(done(Act::Reverse, "wrong name", number).await, Ok(("reversed", Some("F-1".to_owned()), total.clone())));
    assert!(written(world.folder.path(), None).await.iter().all(|row| row["InvoiceId"].is_empty()));
    assert_eq!(done(Act::Request, "another", number).await, Ok(("requested", None, total.clone())));
    assert_eq!(done(Act::Issue, "F-1", number).await, refused(1, "InvoiceTaken"));
    assert_eq!(done(Act::Issue, "F-2", number).await, Ok(("issued", Some("F-2".to_owned()), total)));
}

#[tokio::test]
async fn a_refused_bill_has_no_invoice() {
    let (world, _, bill) = billed(|bill| bill.total.0 += hufu_trade::money::FEN).await;
    let told = Told { act: Act::Request, words: "a company" };
    let refused = settle(&place(world.folder.path()), &bill.number, told, START).await;
    assert_eq!(named(refused), (1, "BillRefused".to_owned()));
}

#[tokio::test]
async fn rows_have_the_mandatory_columns_and_add_up_to_what_is_due() {
    let (mut world, sold, bill) = billed(|_| {}).await;
    let dir = world.folder.path().to_owned();
    let rows = written(&dir, None).await;
    let lines = bill.lines.len() + bill.gaps.len() + usize::from(bill.rounding != Money(0));
    assert_eq!((rows.len(), sum(&rows, "BilledCost")), (lines, bill.total));
    let cpu = rows.iter().find(|row| row["ResourceType"] == "cpu").expect("a line");
    assert_eq!((cpu["PricingUnit"].as_str(), cpu["ContractedUnitPrice"].as_str()), ("core-hour", "36"));
    assert_eq!((cpu["ServiceName"].as_str(), cpu["x_BillNumber"].as_str()), ("small", bill.number.as_str()));

    dispute(&mut world, &sold).await;
    world.correct(&sold, "0.50", |correction| {
        correction.adjustments[0].why = "counted twice, \"sorry\"\nfor that".to_owned();
    });
    world.send_all().await;
    let rows = written(&dir, None).await;
    let due = bill.total.minus("0.50".parse().expect("money")).expect("less");
    assert_eq!((rows.len(), sum(&rows, "BilledCost")), (lines + 1, due));
    let last = rows.last().expect("the correction");
    assert_eq!((last["ChargeClass"].as_str(), last["BilledCost"].as_str()), ("Correction", "-0.5"));
    assert!(last["ChargeDescription"].contains("counted twice, \"sorry\""), "{last:?}");
    let month = &rows[0]["BillingPeriodEnd"];
    assert_eq!(month.as_str(), "2026-09-30T16:00:00Z", "midnight in Shanghai");
    assert_eq!(written(&dir, Some("2026-09")).await.len(), rows.len());
    assert_eq!(written(&dir, Some("2026-10")).await.len(), 0);
}
