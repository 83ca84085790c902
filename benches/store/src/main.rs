//! The ledger's journal beside a plain file, SQLite, redb and sled, on the same records: 600 bytes, one or a hundred a
//! commit, durable on return. What a commit takes is ready before: signed and framed ours, made the others'. Each job is a
//! process of its own, so that memory is its own; rounds take turns, and ratios are to the plain file of the same round.
//! Then random kill -9, and every acknowledged record compared.
//!
//! `hufu-bench-store [--smoke]`: smoke is one short round and two kills of each, to see that all of it still works.

mod stores;

use std::{
    error::Error,
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use stores::{Kind, Store, record};

type Outcome<T> = Result<T, Box<dyn Error>>;

struct Size {
    rounds: usize,
    one: u64,
    many: u64,
    kills: u64,
}

const FULL: Size = Size { rounds: 5, one: 500, many: 20_000, kills: 30 };
/// Commits of ours for one of SQLite's, at least.
const BAR: f64 = 0.95;
const SMOKE: Size = Size { rounds: 1, one: 30, many: 1_000, kills: 2 };

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["fill", kind, batch, count, dir] => fill(Kind::named(kind)?, batch.parse()?, count.parse()?, Path::new(dir)),
        ["duel", batch, count, dir] => duel(batch.parse()?, count.parse()?, Path::new(dir)),
        ["grow", kind, count, dir] => grow(Kind::named(kind)?, count.parse()?, Path::new(dir)),
        ["reopen", kind, dir] => reopen(Kind::named(kind)?, Path::new(dir)),
        ["forever", kind, dir] => forever(Kind::named(kind)?, Path::new(dir)),
        [] => compare(&FULL),
        ["--smoke"] => compare(&SMOKE),
        _ => Err("hufu-bench-store [--smoke]".into()),
    }
}

fn kib(name: &str) -> Outcome<u64> {
    let text = fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such line in /proc/self/status")?;
    Ok(line.trim_matches(|c: char| !c.is_ascii_digit()).parse()?)
}

/// Prints seconds and CPU seconds. Making and signing the records is not the store's work, and done before: a process that
/// has just computed much waits longer for its turn.
fn fill(kind: Kind, batch: u64, count: u64, dir: &Path) -> Outcome<()> {
    let mut store = Store::create(kind, dir)?;
    let ready = store.prepare(0, batch, count)?;
    let (start, start_cpu) = (Instant::now(), cpu_seconds()?);
    for batch in ready {
        store.commit(batch)?;
    }
    println!("{} {}", start.elapsed().as_secs_f64(), cpu_seconds()? - start_cpu);
    Ok(())
}

/// Prints the seconds of ours and of SQLite, commit by commit in turns: whatever else the disk does meets both.
fn duel(batch: u64, count: u64, dir: &Path) -> Outcome<()> {
    let kinds = [Kind::Ours, Kind::Sqlite];
    let mut sides = Vec::new();
    for kind in kinds {
        let store = Store::create(kind, &dir.join(kind.name()))?;
        let ready = store.prepare(0, batch, count)?.into_iter();
        sides.push((store, ready, Duration::ZERO));
    }
    for _ in (0..count).step_by(usize::try_from(batch)?) {
        for (store, ready, spent) in &mut sides {
            let batch = ready.next().ok_or("a batch too few")?;
            let start = Instant::now();
            store.commit(batch)?;
            *spent += start.elapsed();
        }
    }
    let seconds: Vec<String> = sides.iter().map(|(.., spent)| spent.as_secs_f64().to_string()).collect();
    println!("{}", seconds.join(" "));
    Ok(())
}

/// Prints KiB of memory grown, with one batch in hand at a time.
fn grow(kind: Kind, count: u64, dir: &Path) -> Outcome<()> {
    fs::write("/proc/self/clear_refs", "5")?;
    let before = kib("VmRSS:")?;
    let mut store = Store::create(kind, dir)?;
    for from in (0..count).step_by(100) {
        for batch in store.prepare(from, 100, 100)? {
            store.commit(batch)?;
        }
    }
    println!("{}", kib("VmHWM:")?.saturating_sub(before));
    Ok(())
}

fn cpu_seconds() -> Outcome<f64> {
    // The kernel writes its book when the thread gives way.
    std::thread::yield_now();
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(text.split(' ').next().unwrap_or("0").parse::<f64>()? / 1e9)
}

/// Prints milliseconds until the newest record is there.
fn reopen(kind: Kind, dir: &Path) -> Outcome<()> {
    let start = Instant::now();
    let store = Store::open(kind, dir)?;
    let count = store.count()?;
    store.check(count - 1)?;
    println!("{}", start.elapsed().as_secs_f64() * 1e3);
    Ok(())
}

fn forever(kind: Kind, dir: &Path) -> Outcome<()> {
    let mut store = if dir.exists() { Store::open(kind, dir)? } else { Store::create(kind, dir)? };
    let mut out = std::io::stdout();
    for from in store.count()?.. {
        for record in store.prepare(from, 1, 1)? {
            store.commit(record)?;
        }
        writeln!(out, "{}", from + 1)?;
    }
    Ok(())
}

fn child(arguments: &[&str]) -> Outcome<Vec<f64>> {
    let output = Command::new(std::env::current_exe()?).args(arguments).output()?;
    if !output.status.success() {
        return Err(format!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let text = String::from_utf8(output.stdout)?;
    Ok(text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?)
}

fn size_of(path: &Path) -> Outcome<u64> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_dir() {
        return Ok(metadata.len());
    }
    let mut sum = 0;
    for item in fs::read_dir(path)? {
        sum += size_of(&item?.path())?;
    }
    Ok(sum)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn compare(size: &Size) -> Outcome<()> {
    // Beside the program, so that a disk is measured and not a file system in memory.
    let program = std::env::current_exe()?;
    let root = tempfile::tempdir_in(program.parent().ok_or("no folder")?)?;
    println!("| store | rec/s at 1 | at 100 | CPU us/rec at 100 | memory MiB | disk/records | reopen ms | kill -9 |");
    println!("|---|---|---|---|---|---|---|---|");
    let mut found: Vec<[Vec<f64>; 6]> = Kind::ALL.map(|_| Default::default()).into();
    for round in 0..size.rounds {
        for (place, kind) in Kind::ALL.into_iter().enumerate() {
            for (column, batch, count) in [(0, 1, size.one), (1, 100, size.many)] {
                let dir = root.path().join(format!("{}-{batch}-{round}", kind.name()));
                let place_text = dir.to_str().ok_or("a folder that is no text")?;
                let (batch, many) = (batch.to_string(), count.to_string());
                let filled = child(&["fill", kind.name(), &batch, &many, place_text])?;
                found[place][column].push(count as f64 / filled[0]);
                if column == 1 {
                    found[place][2].push(filled[1] * 1e6 / count as f64);
                    let grown = dir.with_extension("grow");
                    let text = grown.to_str().ok_or("a folder that is no text")?;
                    found[place][3].push(child(&["grow", kind.name(), &many, text])?[0] / 1024.0);
                    fs::remove_dir_all(&grown)?;
                    found[place][4].push(size_of(&dir)? as f64 / (count * record(0).len() as u64) as f64);
                    found[place][5].push(child(&["reopen", kind.name(), place_text])?[0]);
                }
                fs::remove_dir_all(&dir)?;
            }
        }
    }
    let plain = found[0].clone();
    for (kind, figures) in Kind::ALL.into_iter().zip(found) {
        let ratio = |column: usize| {
            let ratios = figures[column].iter().zip(&plain[column]).map(|(ours, plain)| ours / plain).collect();
            format!("{:.0} ({:.2})", median(figures[column].clone()), median(ratios))
        };
        let [_, _, cpu, memory, disk, reopen] = figures.clone().map(median);
        let clean = kills(kind, &root.path().join(format!("{}-kill", kind.name())), size.kills)?;
        println!(
            "| {} | {} | {} | {cpu:.1} | {memory:.1} | {disk:.2} | {reopen:.1} | {clean}/{} |",
            kind.name(),
            ratio(0),
            ratio(1),
            size.kills
        );
    }
    let mut missed = 0;
    for (batch, count) in [(1, size.one), (100, size.many)] {
        let mut ratios = Vec::new();
        for round in 0..size.rounds {
            let dir = root.path().join(format!("duel-{batch}-{round}"));
            let text = dir.to_str().ok_or("a folder that is no text")?;
            let seconds = child(&["duel", &batch.to_string(), &count.to_string(), text])?;
            ratios.push(seconds[1] / seconds[0]);
            fs::remove_dir_all(&dir)?;
        }
        let ratio = median(ratios);
        println!("ours / SQLite, {batch} a commit, taking turns: {ratio:.2}   bar >= {BAR}");
        missed += usize::from(ratio < BAR);
    }
    // One short round says nothing of speed.
    if missed > 0 && size.rounds > 1 { Err("slower than SQLite".into()) } else { Ok(()) }
}

/// How many of so many kills left every acknowledged record as it was.
fn kills(kind: Kind, dir: &Path, count: u64) -> Outcome<u64> {
    let (mut clean, mut acked) = (0, 0_u64);
    for number in 0..count {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["forever", kind.name()])
            .arg(dir)
            .stdout(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines().map_while(Result::ok);
        if let Some(line) = lines.by_ref().nth(usize::try_from(number * 7 % 23)?) {
            acked = line.parse()?;
        }
        std::thread::sleep(Duration::from_micros(number * 531 % 4000));
        child.kill()?;
        if let Some(line) = lines.last() {
            acked = line.parse()?;
        }
        child.wait()?;
        let whole = Store::open(kind, dir).and_then(|store| (0..acked).try_for_each(|record| store.check(record)));
        match whole {
            Ok(()) => clean += 1,
            Err(error) => eprintln!("{} kill {number}: {error}", kind.name()),
        }
    }
    Ok(clean)
}
