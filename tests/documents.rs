//! House laws that the documents must keep: two READMEs of one shape, links that lead somewhere, and a protocol document
//! that carries the hash of the source it describes. Laws of the sources are `tidy.rs`.

use hufu_tests::tree;

/// What both ends of a wire are written from.
const PROTOCOLS: [&str; 2] = ["docs/evidence.asn1", "docs/if2.md"];

/// A Markdown file taken apart: the level of each heading, the text of each fenced block, every relative link.
#[derive(Debug, Default, PartialEq, Eq)]
struct Markdown {
    headings: Vec<usize>,
    blocks: Vec<String>,
    links: Vec<String>,
}

fn take_apart(text: &str) -> Markdown {
    let mut found = Markdown::default();
    let mut block: Option<String> = None;
    for line in text.lines() {
        match (&mut block, line.starts_with("```")) {
            (None, true) => block = Some(format!("{line}\n")),
            (Some(_), true) => found.blocks.extend(block.take()),
            (Some(inside), false) => *inside += &format!("{line}\n"),
            (None, false) => {
                let level = line.chars().take_while(|c| *c == '#').count();
                if level > 0 && line[level..].starts_with(' ') {
                    found.headings.push(level);
                }
                for rest in line.split("](").skip(1) {
                    let target = rest.split(')').next().unwrap_or_default();
                    if !target.contains("://") && !target.starts_with('#') {
                        found.links.push(target.split('#').next().unwrap_or_default().to_owned());
                    }
                }
            }
        }
    }
    found
}

#[test]
fn twins_have_the_same_shape_and_the_same_commands() {
    for (english, chinese) in [("README.md", "README.zh-CN.md"), ("docs/operations.md", "docs/operations.zh-CN.md")] {
        let of = |path: &str| take_apart(&tree::read(path));
        let (one, other) = (of(english), of(chinese));
        assert_eq!(one.headings, other.headings, "{english}: levels of the headings");
        assert_eq!(one.blocks, other.blocks, "{english}: code blocks");
        assert!(one.blocks.len() >= 3, "{english} shows its commands");
    }
}

#[test]
fn every_alarm_of_the_agent_has_its_cause_and_remedy() {
    let mut alarms = std::collections::BTreeSet::new();
    for path in tree::files()
        .into_iter()
        .filter(|path| path.starts_with("agent/src/") && path.ends_with(".rs") && !path.contains("/trial"))
    {
        let text = tree::read(&path);
        for after in text.split("Alarm {").skip(1) {
            let named = after.trim_start().strip_prefix("what: \"").and_then(|rest| rest.split('"').next());
            alarms.extend(named.map(str::to_owned));
        }
        let said = text.split("self.alarm(\"").skip(1).filter_map(|rest| rest.split('"').next());
        alarms.extend(said.map(str::to_owned));
    }
    assert!(alarms.len() >= 13, "{alarms:?}");
    // The security document names the test that raises each.
    for document in ["docs/operations.md", "docs/operations.zh-CN.md", "docs/security.md"] {
        let text = tree::read(document);
        let missing: Vec<_> = alarms.iter().filter(|alarm| !text.contains(&format!("| `{alarm}` |"))).collect();
        assert!(missing.is_empty(), "{document} lacks {missing:?}");
    }
}

/// Documents whose claims name the tests that show them.
const CLAIMS: [&str; 2] = ["docs/security.md", "docs/compliance.md"];

/// `path :: function` in backquotes, one a claim.
fn claimed(text: &str) -> Vec<(String, String)> {
    let quoted = text.split('`').skip(1).step_by(2);
    let pairs = quoted.filter_map(|quoted| quoted.split_once(" :: "));
    pairs.map(|(path, function)| (path.trim().to_owned(), function.trim().to_owned())).collect()
}

#[test]
fn every_test_that_a_claim_names_is_there() {
    let mut broken = Vec::new();
    for document in CLAIMS {
        let claims = claimed(&tree::read(document));
        assert!(claims.len() >= 20, "{document} names {} tests", claims.len());
        for (path, function) in claims {
            let text = tree::read_text(&path).unwrap_or_default();
            // The attribute stands right above; macros of property tests carry it inside.
            let lines: Vec<&str> = text.lines().map(str::trim).collect();
            let of =
                |line: &&str| line.split_once("fn ").is_some_and(|(_, rest)| rest.starts_with(&format!("{function}(")));
            let at = lines.iter().position(of);
            let is_test = at.is_some_and(|at| {
                let above =
                    lines[..at].iter().rev().take_while(|line| line.starts_with("#[") || line.starts_with("//"));
                above.into_iter().any(|line| line.ends_with("test]") || line.contains("::test("))
            });
            if !is_test {
                broken.push(format!("{document}: {path} has no test {function}"));
            }
        }
    }
    assert!(broken.is_empty(), "{} claims without a test:\n  {}", broken.len(), broken.join("\n  "));
}

#[test]
fn every_row_of_the_security_document_names_its_test() {
    let text = tree::read("docs/security.md");
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| ") && !line.contains("| test |")).collect();
    assert!(rows.len() >= 50, "{} rows", rows.len());
    let bare: Vec<&&str> = rows.iter().filter(|row| claimed(row).len() != 1).collect();
    assert!(bare.is_empty(), "{bare:#?}");
}

#[test]
fn relative_links_lead_to_files() {
    let mut broken = Vec::new();
    for path in tree::files().into_iter().filter(|path| path.ends_with(".md")) {
        let folder = tree::root().join(&path);
        let folder = folder.parent().expect("a file is in a folder");
        let dead = take_apart(&tree::read(&path)).links.into_iter().filter(|link| !folder.join(link).exists());
        broken.extend(dead.map(|link| format!("{path}: {link}")));
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn protocol_documents_carry_the_hashes_of_the_source_they_describe() {
    for document in PROTOCOLS {
        let text = tree::read(document);
        let lines: Vec<(&str, &str)> = text
            .lines()
            .filter_map(|line| line.strip_prefix("-- source ")?.split_once(' '))
            .map(|(path, hash)| (path.trim(), hash.trim()))
            .collect();
        assert!(!lines.is_empty(), "{document} has no `-- source PATH SHA256` line");
        let changed: Vec<&str> =
            lines.iter().filter(|(path, hash)| tree::sha256(path) != *hash).map(|(path, _)| *path).collect();
        assert!(
            changed.is_empty(),
            "{changed:?} changed: bring {document} in line with it, then run scripts/doc-hash.sh"
        );
    }
}

#[test]
fn every_refusal_code_of_the_platform_stands_in_the_table_of_codes() {
    let (source, document) = (tree::read("platform/src/judge/code.rs"), tree::read("docs/if2.md"));
    let codes: Vec<&str> = source
        .lines()
        .filter_map(|line| line.trim().split_once(" = \"")?.1.split_once("\", \"").map(|(code, _)| code))
        .collect();
    assert_eq!(codes.len(), 11, "{codes:?}");
    let lost: Vec<&&str> = codes.iter().filter(|code| !document.contains(&format!("\n| `{code}` | "))).collect();
    assert!(lost.is_empty(), "{lost:?} are not in the table of docs/if2.md");
}

#[test]
fn the_architecture_can_be_read_in_one_sitting() {
    let count = tree::read("ARCHITECTURE.md").lines().count();
    assert!(count < 300, "ARCHITECTURE.md has {count} lines");
}

#[test]
fn the_licence_is_the_whole_text() {
    let text = tree::read("LICENSE");
    assert!(text.contains("Apache License") && text.contains("END OF TERMS AND CONDITIONS"));
}
