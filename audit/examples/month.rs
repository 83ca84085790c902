//! A month of one-minute records of five resources as a pack: its size, and how long building and verifying take.
//! `cargo run --release -p hufu-audit --example month [-- PACK.zip TRUST.pem]` also writes the pack and its trust anchor.

#[path = "../tests/all/parties.rs"]
mod parties;
#[path = "../tests/all/synthetic.rs"]
mod synthetic;

use std::io::Cursor;

use hufu_audit::{Options, pack::build, verify};
use parties::parties;
use synthetic::{Made, Plan, play};

#[allow(clippy::disallowed_methods, reason = "a measurement is about real time")]
fn main() -> Made<()> {
    let now = std::time::Instant::now;
    let dir = std::env::temp_dir().join(format!("hufu-month-{}", std::process::id()));
    let plan = Plan { records: 43_200, ..Plan::default() };
    let parties = parties(plan.names)?;
    let begun = now();
    let input = play(&dir, &parties, &plan);
    std::fs::remove_dir_all(&dir)?;
    let input = input?;
    println!("ledger of {} records made and read in {:?}", plan.records, begun.elapsed());
    let begun = now();
    let mut pack = Cursor::new(Vec::new());
    build(&input, &mut pack)?;
    println!("pack of {} bytes built in {:?}", pack.get_ref().len(), begun.elapsed());
    let begun = now();
    let verdicts = verify(Cursor::new(pack.get_ref()), std::slice::from_ref(&parties.root), Options::default())?;
    println!("verified in {:?}", begun.elapsed());
    print!("{}", verdicts.to_text(hufu_audit::Lang::En));
    let mut arguments = std::env::args().skip(1);
    if let (Some(file), Some(trust)) = (arguments.next(), arguments.next()) {
        std::fs::write(file, pack.into_inner())?;
        std::fs::write(trust, parties.root.to_pem())?;
    }
    Ok(())
}
