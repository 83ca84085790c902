//! A week of windows in which nothing new is sold: the memory of core and ledger stands still. That of the sampler is
//! `metering/tests/real.rs`.

use hufu_ledger::Log;
use hufu_metering::WindowDraft;
use hufu_trade::usage::Reason;

use super::market::{Market, QUALITY, SECOND};
use crate::node::Event;

const ORDERS: u8 = 10;
const DAY_WINDOWS: u32 = 24 * 60;
const WINDOW_NS: u64 = 60 * SECOND;
/// What the lows and the highs of two days may differ by: pieces of the heap that did not go back yet.
const SPREAD_KIB: u64 = 256;
/// Set in the process of its own in which the week is lived.
const ALONE: &str = "HUFU_TEST_WEEK";

/// Memory of this process that is no file, KiB.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn memory_is_flat_over_a_week_of_windows() {
    if std::env::var_os(ALONE).is_some() {
        return live();
    }
    // The other tests of this program would be measured, too.
    let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
    alone.args(["--exact", "trial::week::memory_is_flat_over_a_week_of_windows", "--nocapture"]).env(ALONE, "1");
    // As the unit has it.
    alone.env("MALLOC_ARENA_MAX", "1").env("MALLOC_TRIM_THRESHOLD_", "65536").env("MALLOC_TOP_PAD_", "16384");
    let out = alone.output().unwrap();
    println!("{}", String::from_utf8_lossy(&out.stdout));
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

fn live() {
    let mut market = Market::with_segments(hufu_trade::rules::DEFAULT, 1 << 20);
    market.core.shop.capacity.cpu_millicores = 1000 * u64::from(ORDERS);
    market.core.shop.capacity.memory_bytes = 1 << 40;
    market.core.shop.products[0].term_max_ns = 30 * 86_400 * SECOND;
    market.event(Event::Linked);
    let orders: Vec<_> = (1..=ORDERS).map(|nonce| market.deal(nonce, 20 * 86_400).0).collect();
    for no in &orders {
        market.event(Event::Provisioned { contract: *no, outcome: Ok(None) });
    }
    let (mut lows, mut highs) = (Vec::new(), Vec::new());
    for day in 0..7_u32 {
        let (mut low, mut high) = (u64::MAX, 0);
        for window in 0..DAY_WINDOWS {
            let from = market.now();
            market.elapsed_ns += WINDOW_NS;
            let total = u128::from(day * DAY_WINDOWS + window + 1) * 1_000_000;
            let drafts = orders.iter().map(|no| {
                let draft = market.draft(*no, Reason::Continue, total);
                hufu_metering::OrderDraft { start_real_ns: from.real_ns, elapsed_ns: WINDOW_NS, ..draft }
            });
            let draft = WindowDraft {
                start_real_ns: from.real_ns,
                end_real_ns: market.now().real_ns,
                elapsed_ns: WINDOW_NS,
                samples_due: 60,
                samples_taken: 60,
                boot_id: [1; 16],
                orders: drafts.collect(),
                totals: Vec::new(),
            };
            market.event(Event::Window { draft, quality: QUALITY });
            if window % 60 == 0 {
                market.receipt(Log::Trade);
                market.receipt(Log::Finance);
            }
            market.published.clear();
            market.appended.clear();
            let now_kib = resident_kib();
            (low, high) = (low.min(now_kib), high.max(now_kib));
        }
        lows.push(low);
        highs.push(high);
    }
    println!("memory of each day, KiB: lowest {lows:?}, highest {highs:?}; {} blocks", market.ledger.size(Log::Trade));
    assert!(market.ledger.size(Log::Trade) > 7 * u64::from(DAY_WINDOWS), "every window was signed");
    for days in [lows, highs] {
        let [_, second, .., last] = days[..] else { panic!("days are missing") };
        assert!(last <= second + SPREAD_KIB, "{days:?}");
    }
}
