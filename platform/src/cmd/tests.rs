//! The operator's commands over a database that a whole small trade has filled.
#![allow(clippy::indexing_slicing, reason = "a panic is a failed test")]

use std::{io::Cursor, path::Path};

use clap::{CommandFactory, Parser};
use hufu_audit::{Exit, Failure, Lang, Options, Outcome, verify};
use hufu_ledger::{Block, ForkProof, Log};
use hufu_trade::{
    bill::Bill,
    if2::{Catalogue, Product, ProductPrice, ShopProfile},
    octets::Octets,
};
use serde_json::Value;

use super::{
    Command, DirArgs,
    invoice::{self, Told},
    lists::{List, read, table},
    pack, pay,
};
use crate::{
    account,
    store::{alarm, delisting, fork, invoice::Act, node, notice},
    tests::{
        base,
        parties::Folder,
        world::{POOL, SECOND, START, Sold, World},
    },
    text::Text,
};

#[derive(Parser)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

/// A trade up to its bill, everything at the platform.
pub(super) async fn billed(change: fn(&mut Bill)) -> (World, Sold, Bill) {
    let mut world = World::open().await;
    let sold = world.sell();
    let bill = world.bill(&sold, change);
    world.send_all().await;
    (world, sold, bill)
}

/// The place of a world's database: its directory, or what stands in it.
pub(crate) fn place(dir: &Path) -> DirArgs {
    let file = dir.join(base::URL);
    DirArgs { dir: Some(dir.to_owned()), database: None, database_file: file.is_file().then_some(file) }
}

pub(crate) fn paying(dir: &Path, number: &str, amount: &str, reference: &str) -> pay::Args {
    let own = str::to_owned;
    pay::Args { bill_no: own(number), place: place(dir), amount: own(amount), reference: own(reference), buyer: None }
}

/// Name of a text's variant, with the exit status.
pub(crate) fn named<T: std::fmt::Debug>(result: Result<T, Failure<Text>>) -> (u8, String) {
    let failure = result.expect_err("a refusal");
    let shown = format!("{:?}", failure.text);
    (failure.exit as u8, shown.split(' ').next().unwrap_or_default().to_owned())
}

#[test]
fn the_command_table_is_well_formed() {
    Line::command().debug_assert();
    for (line, is_right) in [
        ("p bills --dir d", true),
        ("p bills", false),
        ("p pay 1-1 --dir d --amount 1.00 --reference r", true),
        ("p pay 1-1 --dir d --amount 1.00", false),
        ("p refund 1-1 --dir d --amount 1.00 --reference r", true),
        ("p refund 1-1 --dir d --reference r", false),
        ("p notice 00 revoke --dir d --why w", true),
        ("p notice 00 uphold --dir d --why w --bill 1-1", true),
        ("p notice 00 revoke --dir d", false),
        ("p pack 1-1 -o f --dir d", true),
        ("p pack 1-1 --dir d", false),
        ("p bills --focus -o f --dir d --period 2026-11", true),
        ("p bills --focus --dir d", false),
        ("p bills --focus -o f --dir d --period 2026-13", false),
        ("p bills --database postgresql://a/b", true),
        ("p bills --database postgresql://a/b --database-file f", false),
        ("p invoice issue 1-1 --dir d --number n", true),
        ("p invoice issue 1-1 --dir d", false),
    ] {
        assert_eq!(Line::try_parse_from(line.split(' ')).is_ok(), is_right, "{line}");
    }
}

#[tokio::test]
async fn a_payment_is_recorded_once_and_only_when_it_is_right() {
    let (world, _, bill) = billed(|_| {}).await;
    let (dir, number, total) = (world.folder.path(), bill.number.as_str(), bill.total.to_string());
    for (name, args, want) in [
        ("another bill", paying(dir, "ab-1", &total, "t1"), (1, "UnknownBill")),
        ("too little", paying(dir, number, "0.01", "t1"), (1, "WrongAmount")),
        ("no number", paying(dir, number, "1e3", "t1"), (2, "NotMoney")),
        ("below zero", paying(dir, number, "-1", "t1"), (2, "NotMoney")),
        ("no reference", paying(dir, number, &total, " "), (2, "Usage")),
        ("a line end in it", paying(dir, number, &total, "a\nb"), (2, "Usage")),
        ("a long reference", paying(dir, number, &total, &"r".repeat(201)), (2, "Usage")),
        ("no database", paying(&dir.join("other"), number, &total, "t1"), (74, "NoDatabase")),
    ] {
        let (exit, text) = named(pay::settle(&args, START).await);
        assert_eq!((exit, text.as_str()), want, "{name}");
    }
    let paid = pay::settle(&paying(dir, number, &total, "t1"), START).await.expect("a payment");
    assert_eq!((paid.amount.as_str(), paid.reference.as_str(), paid.at_ns), (total.as_str(), "t1", START));
    // The same amount written otherwise is the same amount.
    let again = paying(dir, number, &format!("{total}0"), " t1 ");
    assert_eq!(pay::settle(&again, START + 1).await.expect("the same payment"), paid);
    let other = named(pay::settle(&paying(dir, number, &total, "t2"), START).await);
    assert_eq!(other, (1, "PaidOtherwise".to_owned()));
}

#[tokio::test]
async fn a_refused_bill_cannot_be_paid() {
    let (world, _, bill) = billed(|bill| bill.total.0 += hufu_trade::money::FEN).await;
    let args = paying(world.folder.path(), &bill.number, &bill.total.to_string(), "t1");
    assert_eq!(named(pay::settle(&args, START).await), (1, "BillRefused".to_owned()));
}

fn verdicts(world: &World, path: &Path) -> [Outcome; 4] {
    let bytes = std::fs::read(path).expect("a pack");
    let anchors = std::slice::from_ref(&world.root.certificate);
    let found = verify(Cursor::new(bytes), anchors, Options::default()).expect("a readable pack");
    println!("{:#}", found.to_json(Lang::En));
    [found.signatures.result, found.completeness.result, found.data_quality.result, found.arithmetic.result]
}

#[tokio::test]
async fn a_pack_from_the_database_holds_in_all_four_verdicts() {
    let mut world = World::open().await;
    let sold = world.sell();
    let bill = world.bill(&sold, |_| {});
    world.send_all().await;
    let output = world.folder.path().join("bill.zip");
    let dir = world.folder.path().to_owned();
    let asked = |number: &str| pack::Args { bill_no: number.to_owned(), output: output.clone(), place: place(&dir) };
    let args = asked(&bill.number);
    assert_eq!(named(pack::write(&asked("ab-1")).await), (1, "UnknownBill".to_owned()));
    assert!(!output.exists(), "nothing is written for an unknown bill");
    pack::write(&args).await.expect("a pack");
    assert_eq!(verdicts(&world, &output), [Outcome::Pass; 4]);
    let first = std::fs::read(&output).expect("a pack");
    pack::write(&args).await.expect("a pack");
    assert_eq!(std::fs::read(&output).expect("a pack"), first, "the same question, the same bytes");

    // What comes later belongs to the pack too, under a later receipt.
    world.now += 3600 * SECOND;
    world.log_score(&sold, 95);
    world.send_all().await;
    pack::write(&args).await.expect("a pack");
    assert_eq!(verdicts(&world, &output), [Outcome::Pass; 4]);
    assert!(std::fs::read(&output).expect("a pack").len() > first.len(), "the score is in it");
    let names: Vec<_> = std::fs::read_dir(world.folder.path()).expect("a folder").flatten().collect();
    assert!(!names.iter().any(|entry| entry.file_name().to_string_lossy().ends_with(".new")), "nothing is left beside");
}

#[tokio::test]
async fn the_pack_of_a_refused_bill_says_so() {
    let (world, _, bill) = billed(|bill| bill.total.0 += hufu_trade::money::FEN).await;
    let output = world.folder.path().join("bill.zip");
    let args = pack::Args { bill_no: bill.number, output: output.clone(), place: place(world.folder.path()) };
    pack::write(&args).await.expect("a pack");
    let [_, completeness, _, arithmetic] = verdicts(&world, &output);
    assert_eq!((completeness, arithmetic), (Outcome::Warn, Outcome::Fail));
}

#[tokio::test]
async fn a_place_that_cannot_be_written_is_74() {
    let (world, _, bill) = billed(|_| {}).await;
    let output = world.folder.path().join("missing/bill.zip");
    let args = pack::Args { bill_no: bill.number, output, place: place(world.folder.path()) };
    assert_eq!(named(pack::write(&args).await), (74, "FileUnwritable".to_owned()));
}

#[tokio::test]
async fn every_list_shows_what_its_columns_name() {
    let (world, sold, bill) = billed(|_| {}).await;
    let dir = world.folder.path();
    pay::settle(&paying(dir, &bill.number, &bill.total.to_string(), "t1"), START).await.expect("a payment");
    let price = ProductPrice {
        resource: "cpu".to_owned(),
        per: "core-hour".to_owned(),
        scheme: "flat".to_owned(),
        price: "36.00".to_owned(),
    };
    let product = Product {
        id: "small".to_owned(),
        class: "IaaS".to_owned(),
        name: "a bell\u{7} in a name".to_owned(),
        spec: [("cpu".to_owned(), "1000".to_owned())].into(),
        stock: 2,
        prices: vec![price],
        sla: None,
        delivery: None,
    };
    let shop = ShopProfile {
        name: "a site".to_owned(),
        summary: None,
        contact: None,
        credit_code: None,
        qualifications: Vec::new(),
    };
    let catalogue = Catalogue {
        revision: 1,
        fingerprint: None,
        certificates: Vec::new(),
        products: vec![product],
        shop: Some(shop),
    };
    let held = Block::from_bytes(&world.ledger.block(Log::Trade, 0).expect("a block")).expect("a block");
    let other = Block::from_bytes(&world.other_first_block(&world.node.key)).expect("a block");
    let proof = ForkProof::of_headers(held.signed(), other.signed(), &[]).expect("a proof");
    let body = serde_json::to_string(&catalogue).expect("JSON");
    let mut tx = world.store.write().await.expect("a transaction");
    node::set_catalogue(&mut tx, POOL, 1, &body, START).await.expect("a catalogue");
    notice::add(&mut tx, &world.notice(&sold, "uphold")).await.expect("a notice");
    alarm::raise(&mut tx, POOL, "fork", "a second past", START).await.expect("an alarm");
    delisting::add(&mut tx, (POOL, "small"), "no licence", START).await.expect("a delisting");
    let met = account::meet(&mut tx, &world.identity, (Octets(world.buyer.id()), POOL), START).await;
    met.expect("the database").expect("an account");
    fork::add(&mut tx, ("0123456789abcdef", &proof), &proof.to_bytes().expect("DER"), START).await.expect("a proof");
    tx.commit().await.expect("a commit");
    let told = Told { act: Act::Request, words: "a company" };
    invoice::settle(&place(dir), &bill.number, told, START).await.expect("a request");
    for list in List::ALL {
        let rows = read(list, &place(dir)).await.expect("a list");
        let json = serde_json::to_value(&rows).expect("JSON");
        let first = json[0].as_object().unwrap_or_else(|| panic!("{list:?} is empty: {json}"));
        for (field, ..) in list.columns() {
            assert!(first.contains_key(*field), "{list:?} has no {field}: {json}");
        }
        for lang in [Lang::En, Lang::Zh] {
            let shown = table(list.columns(), &rows, lang).expect("a table");
            assert!(
                shown.contains(POOL) || [List::Products, List::Invoices, List::Accounts].contains(&list),
                "{list:?}: {shown}"
            );
            assert!(!shown.contains('\u{7}'), "a control character reaches the terminal");
        }
    }
    let bills = serde_json::to_value(read(List::Bills, &place(dir)).await.expect("a list")).expect("JSON");
    let total = bill.total.to_string();
    let expected: Value = serde_json::json!([{
        "bill_no": bill.number, "contract_no": bill.contract_no, "node": POOL, "total_cny": total, "due_cny": total,
        "state": "paid", "paid_at": hufu_trade::octets::rfc3339(START), "reference": "t1", "refunded_cny": null,
        "refunded_at": null,
    }]);
    assert_eq!(bills, expected);
}

#[tokio::test]
async fn a_directory_without_a_database_is_74_and_stays_empty() {
    let folder = Folder::new();
    assert_eq!(named(read(List::Bills, &place(folder.path())).await), (Exit::Io as u8, "NoDatabase".to_owned()));
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
}
