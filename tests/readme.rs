//! The README's commands, run as they stand there: a newcomer who pastes them gets what the README says.
#![allow(clippy::expect_used, reason = "a panic is a failed test")]

use std::fs;

use hufu_tests::{
    broker::free_port,
    program::{self, run},
    tree,
};

/// The blocks marked `sh`, in order: one script. Only the ports are others, so that tests can run side by side.
fn script() -> String {
    let text = tree::read("README.md");
    let blocks: Vec<&str> = text.split("\n```sh\n").skip(1).filter_map(|rest| rest.split("\n```").next()).collect();
    assert!(blocks.len() >= 5, "the README shows a house by hand");
    let (http, broker) = (format!("127.0.0.1:{}", free_port()), format!("127.0.0.1:{}", free_port()));
    blocks.join("\n").replace("127.0.0.1:8480", &http).replace("127.0.0.1:1883", &broker)
}

#[test]
fn the_house_by_hand_stands_as_the_readme_says() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("by-hand.sh");
    // What a failure leaves running ends with the script.
    fs::write(&path, format!("trap 'kill $(jobs -p) 2> /dev/null || true' EXIT\n{}\n", script())).expect("a script");
    let search = format!("{}:{}", program::bin_dir().display(), std::env::var("PATH").unwrap_or_default());
    let mut shell = program::command("timeout");
    shell.args(["180", "bash", "-eu"]).arg(&path).env("PATH", search).current_dir(folder.path());
    let ran = run(&mut shell).expect(0);
    assert!(ran.stdout.contains("s1/n1"), "{}", ran.stdout);
    assert!(folder.path().join("hufu-by-hand/bill.zip").is_file());
    // The way without hufu stands in a block that is for reading; the demonstration's test runs it on a pack.
    assert!(tree::read("README.md").contains("sed '1,/paste from here/d' README.txt | sh"));
}
