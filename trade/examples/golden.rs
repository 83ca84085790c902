//! Writes the golden files: `cargo run -p hufu-trade --example golden -- trade/testdata/golden`. Only when asked: tests
//! compare bytes and never write. After writing, run the commands of `trade/testdata/README.md` before committing.

#[path = "../tests/all/golden.rs"]
mod golden;
#[path = "../tests/all/golden_after.rs"]
mod golden_after;
#[path = "../tests/all/golden_kinds.rs"]
mod golden_kinds;
#[path = "../tests/all/golden_parts.rs"]
mod golden_parts;
#[path = "../tests/all/golden_peers.rs"]
mod golden_peers;
#[path = "../tests/all/parties.rs"]
mod parties;
#[path = "../tests/all/usage.rs"]
mod usage;
#[path = "../tests/all/wire.rs"]
mod wire;

fn main() -> golden::Outcome<()> {
    let folder = std::env::args().nth(1).ok_or("usage: golden FOLDER")?;
    let folder = std::path::Path::new(&folder);
    std::fs::create_dir_all(folder)?;
    let files = golden::files()?;
    for (name, bytes) in &files.0 {
        std::fs::write(folder.join(name), bytes)?;
    }
    std::fs::write(folder.join("hashes.txt"), golden::hashes(&files))?;
    println!("{} files", files.0.len() + 1);
    Ok(())
}
