//! A day of one-minute records with gaps, missing and estimated readings and a hostile text as a pack, to look at its report.
//! `cargo run -p hufu-audit --example gaps -- PACK.zip TRUST.pem`

#[path = "../tests/all/parties.rs"]
mod parties;
#[path = "../tests/all/synthetic.rs"]
mod synthetic;

use std::io::Cursor;

use hufu_audit::pack::build;
use hufu_trade::usage::{Reason, Status, UsageRecord};
use parties::parties;
use synthetic::{Made, Plan, play};

/// One outage of two hours, many short ones.
fn is_gap(seq: u64) -> bool {
    (300..420).contains(&seq) || (900..1_000).contains(&seq) && seq.is_multiple_of(7)
}

/// One resource was never read, one not for a while.
fn is_missing(seq: u64, code: u8) -> bool {
    code == 2 || code == 3 && (600..800).contains(&seq)
}

fn spoil(record: &mut UsageRecord) {
    let seq = record.order_seq;
    if is_gap(seq) {
        record.reason = Reason::Gap;
        record.why = Some("agent was down <script>alert('x')</script>".to_owned());
        record.readings.clear();
        return;
    }
    for reading in &mut record.readings {
        let code = reading.code;
        // The story's own totals know of no gap: told anew, from what was measured.
        let part = |seq: u64| u128::from(seq % 97) * 101;
        let base = reading.delta.unwrap_or(0).saturating_sub(part(seq));
        let measured = (0..=seq).filter(|seq| !is_gap(*seq) && !is_missing(*seq, code));
        let total = measured.map(|seq| base + part(seq)).sum::<u128>();
        reading.total = Some(total).filter(|total| *total > 0);
        if is_missing(seq, code) {
            (reading.status, reading.delta) = (Status::Missing, None);
            reading.why = Some("controller absent".to_owned());
        } else if code == 7 && seq.is_multiple_of(100) {
            reading.status = Status::Estimated;
            reading.why = Some("a lost tail, bounded".to_owned());
        }
    }
}

fn main() -> Made<()> {
    let mut arguments = std::env::args().skip(1);
    let (file, trust) = (arguments.next().ok_or("PACK.zip")?, arguments.next().ok_or("TRUST.pem")?);
    let dir = std::env::temp_dir().join(format!("hufu-gaps-{}", std::process::id()));
    let plan = Plan { records: 1_440, record: spoil, ..Plan::default() };
    let parties = parties(plan.names)?;
    let input = play(&dir, &parties, &plan);
    std::fs::remove_dir_all(&dir)?;
    let mut pack = Cursor::new(Vec::new());
    build(&input?, &mut pack)?;
    std::fs::write(file, pack.into_inner())?;
    std::fs::write(trust, parties.root.to_pem())?;
    Ok(())
}
