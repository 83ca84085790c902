//! The commands of the format documents, run as they stand there: each `sh` block in one bash with all blocks before it, in
//! the folder of the golden files; the `text` block after it is what it prints.

use std::process::Command;

use crate::golden_test::folder;

/// The `sh` blocks of a Markdown text, each with the `text` block that follows it at once, if one does.
fn blocks(text: &str) -> Vec<(String, Option<String>)> {
    let mut found: Vec<(String, Option<String>)> = Vec::new();
    // Whether nothing but blank lines came since the last `sh` block.
    let mut near = false;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let mut block = || lines.by_ref().take_while(|line| *line != "```").map(|line| format!("{line}\n")).collect();
        match line {
            "```sh" => {
                found.push((block(), None));
                near = true;
            }
            "```text" => {
                let said: String = block();
                if let Some((_, output)) = found.last_mut().filter(|_| near) {
                    *output = Some(said);
                }
                near = false;
            }
            line if line.starts_with("```") => {
                let _: String = block();
                near = false;
            }
            "" => {}
            _ => near = false,
        }
    }
    found
}

fn run(document: &str) {
    let path = folder().join("../../../docs").join(document);
    let text = std::fs::read_to_string(&path).unwrap();
    let blocks = blocks(&text);
    assert!(blocks.len() > 2, "{document} has no commands");
    let directory = tempfile::tempdir().unwrap();
    let mut before = String::new();
    for (commands, want) in blocks {
        let script = format!("set -euo pipefail\n{{\n{before}:\n}} > /dev/null 2>&1\n{commands}");
        let mut bash = Command::new("bash");
        let output = bash.arg("-c").arg(script).env("TMPDIR", directory.path()).current_dir(folder()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{document}: {commands}{said}{errors}");
        assert_eq!(said, want.unwrap_or_default(), "{document}: {commands}{errors}");
        before += &commands;
    }
}

#[test]
fn commands_of_the_evidence_document_print_what_it_says() {
    run("evidence.md");
}

#[test]
fn commands_of_the_if2_document_print_what_it_says() {
    run("if2.md");
}
