//! Speed of SM2 and SM3 beside the distribution's openssl, as ratios of one run: `cargo bench -p hufu-gm`. Medians of interleaved
//! pairs of at least half a second of CPU time each, both pinned to one core; then what a second core gains on either side. Ends
//! with status 1 when a bar is missed. What it prints are ratios only: times belong to one machine.

#![allow(clippy::float_arithmetic, reason = "ratios for a person, not amounts")]
#![allow(clippy::cast_precision_loss, reason = "nanoseconds of a few seconds")]
#![allow(
    clippy::disallowed_methods,
    clippy::panic_in_result_fn,
    reason = "a bench takes the time itself, and ends at a wrong verdict"
)]

use std::{
    hint::black_box,
    num::NonZeroUsize,
    process::{Command, ExitCode, Stdio},
    time::Instant,
};

use hufu_gm::{
    claims::{Claim, verify_many},
    known::{KnownKeys, TABLE_BYTES},
    sm2::{PublicKey, SecretKey},
    sm3::sm3,
};

type Failed = Box<dyn std::error::Error>;

const PAIRS: usize = 11;
/// CPU time of one side of a pair, at least.
const SIDE_NS: u64 = 500_000_000;
/// Length of what openssl's own `speed` signs.
const MESSAGE: [u8; 20] = [42; 20];
const PIECE_BYTES: usize = 16_384;
/// Set in the process that `taskset` has pinned.
const PINNED: &str = "HUFU_BENCH_PINNED";

/// CPU time of this thread so far, ns: the kernel's own book.
fn cpu_ns() -> Result<u64, Failed> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(text.split(' ').next().ok_or("schedstat")?.parse()?)
}

/// Operations in a second of CPU time; at least [`SIDE_NS`] of it are spent.
fn ours(mut operation: impl FnMut()) -> Result<f64, Failed> {
    let begun = cpu_ns()?;
    let mut count = 0_u32;
    loop {
        for _ in 0..100 {
            operation();
        }
        count += 100;
        let spent = cpu_ns()? - begun;
        if spent >= SIDE_NS {
            return Ok(f64::from(count) / (spent as f64 / 1e9));
        }
    }
}

/// What openssl says it did: lines such as `Doing .. for 1s: 3312 256 bits CurveSM2 signs in 0.98s`, of CPU time. On a
/// busy machine a second of the clock is less of that: it is given more, from what the last call needed on.
fn theirs(arguments: &str, wanted: &[&str], seconds: &mut u32) -> Result<Vec<f64>, Failed> {
    while *seconds <= 64 {
        let done = Command::new("openssl")
            .args(["speed", "-seconds", &seconds.to_string()])
            .args(arguments.split(' '))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .output()?;
        let text = String::from_utf8_lossy(&done.stderr);
        let mut rates = Vec::new();
        for word in wanted {
            let line = text.lines().find(|line| line.contains(word)).ok_or_else(|| format!("no {word} in {text}"))?;
            let (_, said) = line.split_once("s: ").ok_or("no count")?;
            let count: f64 = said.split(' ').next().ok_or("no count")?.parse()?;
            let spent = said.rsplit(" in ").next().ok_or("no time")?.trim().trim_end_matches('s').parse::<f64>()?;
            if spent * 1e9 >= SIDE_NS as f64 {
                rates.push(count / spent);
            }
        }
        if rates.len() == wanted.len() {
            return Ok(rates);
        }
        *seconds *= 2;
    }
    Err("openssl gets no half second of CPU time in 64 s: too much else is running".into())
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(0.0)
}

/// A ratio beside its bar; false when it is missed.
fn say(name: &str, ratio: f64, bar: f64) -> bool {
    let met = ratio >= bar;
    println!("{name:<44} {ratio:6.2}   bar {bar:.2}   {}", if met { "met" } else { "MISSED" });
    met
}

fn on_one_core() -> Result<bool, Failed> {
    let key = SecretKey::from_scalar(&[7; 32])?;
    let public = key.public_key();
    let known = public.with_table();
    let signature = key.sign(&MESSAGE)?;
    let piece = vec![1; PIECE_BYTES];
    let mut ratios = [const { Vec::new() }; 4];
    let mut seconds = 1;
    for _ in 0..PAIRS {
        let sm2 = theirs("sm2", &["CurveSM2 signs in", "CurveSM2 verify in"], &mut seconds)?;
        let [sign, verify] = sm2.as_slice() else { return Err("two rates expected".into()) };
        let hash = theirs(&format!("-bytes {PIECE_BYTES} -evp sm3"), &["sm3's in"], &mut seconds)?;
        let rates = [
            (ours(|| drop(black_box(key.sign(black_box(&MESSAGE)))))?, *sign),
            (ours(|| assert!(public.verify(black_box(&MESSAGE), &signature).is_valid()))?, *verify),
            (ours(|| assert!(known.verify(black_box(&MESSAGE), &signature).is_valid()))?, *verify),
            (ours(|| _ = black_box(sm3(&[black_box(&piece)])))?, hash.first().copied().unwrap_or(f64::INFINITY)),
        ];
        for (all, (ours, theirs)) in ratios.iter_mut().zip(rates) {
            all.push(ours / theirs);
        }
    }
    let [sign, verify, of_known, hash] = ratios.map(median);
    let making = {
        let begun = cpu_ns()?;
        (0..20).for_each(|_| drop(black_box(public.with_table())));
        let made = (cpu_ns()? - begun) as f64 / 20.0;
        made / (1e9 / ours(|| assert!(public.verify(black_box(&MESSAGE), &signature).is_valid()))?)
    };
    println!("medians of {PAIRS} pairs, one core, openssl = 1:");
    let met = [
        say("SM2 sign", sign, 2.5),
        say("SM2 verify", verify, 1.0),
        say("SM2 verify, known key", of_known, 2.0),
        say("SM3, 16 KiB", hash, 1.0),
    ];
    println!("a known key takes {} KiB and its table as long as {making:.1} checks without one", TABLE_BYTES / 1024);
    Ok(met.iter().all(|met| *met))
}

/// Verifications a second by the clock on the wall.
fn throughput(claims: &[Claim<'_>], threads: usize) -> Result<f64, Failed> {
    let threads = NonZeroUsize::new(threads).ok_or("threads")?;
    // Plain checks on both sides: no key comes often enough for a table.
    let begun = Instant::now();
    let mut count = 0_u32;
    while begun.elapsed().as_millis() < 1000 {
        for verdict in verify_many(claims, threads, &KnownKeys::new(1)) {
            assert!(verdict.is_valid());
            count += 1;
        }
    }
    Ok(f64::from(count) / begun.elapsed().as_secs_f64())
}

fn openssl_throughput(processes: usize) -> Result<f64, Failed> {
    let done = Command::new("openssl")
        .args(["speed", "-mr", "-elapsed", "-multi", &processes.to_string(), "-seconds", "1", "sm2"])
        .stderr(Stdio::null())
        .output()?;
    let text = String::from_utf8_lossy(&done.stdout);
    let line = text.lines().rfind(|line| line.starts_with("+F")).ok_or("no figures from openssl speed -multi")?;
    Ok(line.rsplit(':').next().ok_or("no figure")?.trim().parse()?)
}

fn on_two_cores() -> Result<bool, Failed> {
    // Many keys, each seen once in a call, so that tables do not come in.
    let keys = (1..=128_u8).map(|fill| SecretKey::from_scalar(&[fill; 32])).collect::<Result<Vec<_>, _>>()?;
    let publics: Vec<PublicKey> = keys.iter().map(SecretKey::public_key).collect();
    let signatures = keys.iter().map(|key| key.sign(&MESSAGE)).collect::<Result<Vec<_>, _>>()?;
    let claims: Vec<Claim<'_>> =
        publics.iter().zip(&signatures).map(|(key, signature)| Claim { key, message: &MESSAGE, signature }).collect();
    let mut ratios = Vec::new();
    for _ in 0..PAIRS {
        let gain = throughput(&claims, 2)? / throughput(&claims, 1)?;
        let theirs = openssl_throughput(2)? / openssl_throughput(1)?;
        ratios.push(gain / theirs);
    }
    println!("median of {PAIRS} pairs, gain of a second core, openssl's = 1:");
    Ok(say("SM2 verify, many signatures, 2 threads", median(ratios), 0.9))
}

fn main() -> Result<ExitCode, Failed> {
    if std::env::var_os(PINNED).is_some() {
        return Ok(if on_one_core()? { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    // The child's openssl inherits the core.
    let child = Command::new("taskset").args(["-c", "0"]).arg(std::env::current_exe()?).env(PINNED, "1").status()?;
    let two = std::thread::available_parallelism()?.get() < 2 || on_two_cores()?;
    Ok(if child.success() && two { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
