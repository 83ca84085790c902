//! House laws that the manifests and the sources must keep. What the documents must keep is `documents.rs`.

use std::collections::{BTreeMap, BTreeSet};

use hufu_tests::tree::{self, Manifest};

/// Who may depend on whom, in any kind of dependency; nothing else is allowed.
const DIRECTIONS: &[(&str, &[&str])] = &[
    ("firmware-config", &[]),
    ("gm", &[]),
    ("trade", &["gm"]),
    ("ledger", &["gm"]),
    ("metering", &["trade"]),
    ("audit", &["trade", "ledger", "gm"]),
    ("provision", &["metering"]),
    ("agent", &["audit", "metering", "trade", "ledger", "gm", "firmware-config", "provision"]),
    ("platform", &["audit", "trade", "ledger", "gm"]),
    ("tests", &[]),
    ("tests/sim", &["agent", "platform", "trade", "ledger", "gm"]),
];

/// Outside libraries that only the named crates may use, in any kind of dependency.
const OWNED: &[(&str, &[&str])] = &[
    ("libsm", &["gm"]),
    ("sm2", &["gm"]),
    ("sm3", &["gm"]),
    ("sha2", &["gm"]),
    ("sm4", &["gm"]),
    ("ctr", &["gm"]),
    ("cbc", &["gm"]),
    ("ofb", &["gm"]),
    ("cfb-mode", &["gm"]),
    ("cfb8", &["gm"]),
    ("aes-gcm", &["gm"]),
    ("ccm", &["gm"]),
    ("pbkdf2", &["gm"]),
    ("hmac", &["gm"]),
    ("x509-cert", &["gm"]),
    ("crc32c", &["ledger"]),
    ("heapless", &["firmware-config"]),
    ("nvml-wrapper", &["metering"]),
    ("sysinfo", &["metering"]),
    ("rumqttc", &["agent", "platform"]),
    ("rumqttd", &["platform"]),
    ("sqlx", &["platform"]),
    ("axum", &["platform"]),
    ("zip", &["audit", "tests"]),
    ("clap", &["agent", "platform"]),
    ("tokio", &["agent", "platform", "provision"]),
    ("zbus", &["provision"]),
    ("tracing", &["agent", "platform"]),
    ("sled", &[]),
    ("openssl", &[]),
];

/// Every licence expression that a package of the build may carry, after a person has read it.
const LICENCES: &[&str] = &[
    "(Apache-2.0 OR MIT) AND BSD-3-Clause",
    "(MIT OR Apache-2.0) AND Unicode-3.0",
    "0BSD OR MIT OR Apache-2.0",
    "Apache-2.0",
    "Apache-2.0 / MIT",
    "Apache-2.0 AND ISC",
    "Apache-2.0 OR ISC OR MIT",
    "Apache-2.0 OR BSL-1.0",
    "Apache-2.0 OR BSL-1.0 OR MIT",
    "Apache-2.0 OR MIT",
    "Apache-2.0 WITH LLVM-exception",
    "Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT",
    "Apache-2.0/MIT",
    "BSD-2-Clause OR Apache-2.0 OR MIT",
    "BSD-3-Clause",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT AND BSD-3-Clause",
    "MIT OR Apache-2.0",
    "MIT OR Apache-2.0 OR BSD-1-Clause",
    "MIT OR Zlib OR Apache-2.0",
    "MIT/Apache-2.0",
    "Unicode-3.0",
    "Unlicense OR MIT",
    "Zlib",
    "Zlib OR Apache-2.0 OR MIT",
];

/// File names that say nothing about what lives in the file.
const NAMELESS: &[&str] =
    &["util", "utils", "helper", "helpers", "common", "misc", "types", "core", "manager", "service", "handler", "impl"];

/// The only files with unsafe code: adjtimex(2); bpf(2) and the map that the kernel writes.
const UNSAFE: [&str; 2] = ["agent/src/clock.rs", "metering/src/bpf.rs"];

const LINE_COUNT_MAX: usize = 500;

/// Fails with every broken rule at once, one a line.
fn none_broken(broken: &[String]) {
    assert!(broken.is_empty(), "{} broken:\n  {}", broken.len(), broken.join("\n  "));
}

/// Source text without comment lines and without what follows the first `#[cfg(test)]`.
fn code_of(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .take_while(|(_, line)| line.trim() != "#[cfg(test)]")
        .map(|(index, line)| (index + 1, line.trim()))
        .filter(|(_, line)| !line.starts_with("//"))
}

fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|found| found == word)
}

fn uses(line: &str, library: &str) -> bool {
    line.contains(&format!("{library}::")) || line.starts_with(&format!("use {library}"))
}

/// True for sources that are tests or measurements from the first line to the last.
fn is_test(path: &str) -> bool {
    let starts = ["tests/", "benches/"].iter().any(|folder| path.starts_with(folder));
    starts || path.contains("/tests/") || path.contains("/tests.rs") || path.contains("/benches/")
}

#[test]
fn crates_depend_only_in_the_allowed_directions() {
    let manifests = tree::manifests();
    let folders: BTreeSet<&str> = manifests.iter().map(|m| m.folder.as_str()).collect();
    let known: BTreeSet<&str> = DIRECTIONS.iter().map(|(folder, _)| *folder).collect();
    assert_eq!(folders, known, "members of the workspace and the table of directions");
    let mut broken = Vec::new();
    for Manifest { folder, name, dependencies } in &manifests {
        // `tests/sim` is package `hufu-sim`.
        if *name != format!("hufu-{}", folder.rsplit('/').next().unwrap_or(folder)) {
            broken.push(format!("{folder}: package is called {name}"));
        }
        let allowed = DIRECTIONS.iter().find(|(of, _)| of == folder).map_or(&[][..], |(_, to)| to);
        for dependency in dependencies.iter().filter_map(|d| d.name.strip_prefix("hufu-")) {
            if !allowed.contains(&dependency) {
                broken.push(format!("{folder} -> {dependency}"));
            }
        }
    }
    none_broken(&broken);
}

#[test]
fn each_outside_library_has_its_owner() {
    let mut broken = Vec::new();
    for Manifest { folder, dependencies, .. } in tree::manifests() {
        for dependency in dependencies {
            let owners = OWNED.iter().find(|(library, _)| *library == dependency.name).map(|(_, owners)| *owners);
            if owners.is_some_and(|owners| !owners.contains(&folder.as_str())) {
                broken.push(format!("{folder} uses {}, which belongs to {owners:?}", dependency.name));
            }
        }
    }
    none_broken(&broken);
}

#[test]
fn the_table_of_dependencies_says_what_the_manifests_say() {
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for Manifest { folder, dependencies, .. } in tree::manifests() {
        for dependency in dependencies.into_iter().filter(|d| !d.name.starts_with("hufu-")) {
            let shown = if dependency.is_dev { format!("{folder} (tests)") } else { folder.clone() };
            used.entry(dependency.name).or_default().insert(shown);
        }
    }
    // A crate that uses a library in earnest need not say that its tests use it too.
    for users in used.values_mut() {
        let earnest: Vec<String> = users.iter().filter(|user| !user.ends_with(" (tests)")).cloned().collect();
        for user in earnest {
            users.remove(&format!("{user} (tests)"));
        }
    }
    let mut broken = Vec::new();
    let mut listed: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in tree::read("docs/dependencies.md").lines().filter(|line| line.starts_with("| `")) {
        let columns: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [library, users, reason] = columns.as_slice() else {
            broken.push(format!("not three columns: {line}"));
            continue;
        };
        if reason.len() < 10 {
            broken.push(format!("{library}: no reason"));
        }
        let users = users.split(',').map(|user| user.trim().to_owned()).collect();
        if listed.insert(library.trim_matches('`').to_owned(), users).is_some() {
            broken.push(format!("{library} stands twice"));
        }
    }
    for library in used.keys().chain(listed.keys()).collect::<BTreeSet<_>>() {
        if used.get(library) != listed.get(library) {
            broken.push(format!("{library}: listed {:?}, used {:?}", listed.get(library), used.get(library)));
        }
    }
    none_broken(&broken);
}

/// Named for a feature of another library alone.
const FOR_A_FEATURE: [(&str, &str); 1] = [("audit", "flate2")];

#[test]
fn what_a_manifest_names_its_code_uses() {
    let files: Vec<String> = tree::files().into_iter().filter(|path| path.ends_with(".rs")).collect();
    let mut broken = Vec::new();
    for Manifest { folder, dependencies, .. } in tree::manifests() {
        let own = files.iter().filter(|path| path.starts_with(&format!("{folder}/")));
        let texts: Vec<String> = own.map(|path| tree::read(path)).collect();
        for dependency in dependencies {
            let library = dependency.name.replace('-', "_");
            // Tests count: what only they use is a dependency too.
            let mut lines = texts.iter().flat_map(|text| text.lines().map(str::trim));
            let is_used = lines.any(|line| !line.starts_with("//") && uses(line, &library));
            if !is_used && !FOR_A_FEATURE.contains(&(folder.as_str(), dependency.name.as_str())) {
                broken.push(format!("{folder}/Cargo.toml: nothing in {folder} uses {}", dependency.name));
            }
        }
    }
    none_broken(&broken);
}

/// Some of them are built with `--locked`, by nothing that `make test` runs.
#[test]
fn locks_of_the_workspaces_beside_know_what_our_crates_need() {
    let table = |path: &str| tree::read(path).parse::<toml::Table>().expect("a TOML file");
    let mut broken = Vec::new();
    let mut looked_at = 0;
    for path in tree::files().into_iter().filter(|path| path.ends_with("/Cargo.lock")) {
        let lock = table(&path);
        for package in lock["package"].as_array().expect("packages") {
            let Some(folder) = package["name"].as_str().and_then(|name| name.strip_prefix("hufu-")) else { continue };
            let manifest = format!("{folder}/Cargo.toml");
            let Some(text) = tree::read_text(&manifest) else { continue };
            looked_at += 1;
            // "name", or "name version" where there are several.
            let known = package.get("dependencies").and_then(toml::Value::as_array).into_iter().flatten();
            let known: BTreeSet<&str> = known.filter_map(|found| found.as_str()?.split_whitespace().next()).collect();
            let manifest = text.parse::<toml::Table>().expect("a manifest");
            for (name, terms) in manifest["dependencies"].as_table().expect("dependencies") {
                let optional = terms.get("optional").and_then(toml::Value::as_bool) == Some(true);
                if !optional && !known.contains(name.as_str()) {
                    broken.push(format!("{path}: {name} of {folder} is missing; run cargo metadata there"));
                }
            }
        }
    }
    assert!(looked_at >= 3, "{looked_at} of our crates in other locks");
    none_broken(&broken);
}

#[test]
fn versions_and_lints_live_in_the_workspace_only() {
    let mut broken = Vec::new();
    let root: toml::Table = tree::read("Cargo.toml").parse().expect("Cargo.toml");
    let offered = root["workspace"]["dependencies"].as_table().expect("workspace.dependencies");
    let mut used = BTreeSet::new();
    for (folder, _) in DIRECTIONS {
        let manifest: toml::Table = tree::read(&format!("{folder}/Cargo.toml")).parse().expect("manifest");
        if manifest.get("lints").and_then(|lints| lints.get("workspace")) != Some(&toml::Value::Boolean(true)) {
            broken.push(format!("{folder}: lints.workspace = true is missing"));
        }
        let sections = ["dependencies", "dev-dependencies", "build-dependencies"];
        for (name, value) in sections.iter().filter_map(|s| manifest.get(*s)?.as_table()).flatten() {
            used.insert(name.clone());
            if value.get("workspace") != Some(&toml::Value::Boolean(true)) {
                broken.push(format!("{folder}: {name} does not take its version from the workspace"));
            }
        }
    }
    let unused = offered.keys().filter(|name| !used.contains(*name));
    broken.extend(unused.map(|name| format!("Cargo.toml: workspace.dependencies.{name} is used by no crate")));
    none_broken(&broken);
}

#[test]
fn every_licence_of_the_build_is_a_known_one() {
    let metadata = tree::metadata(&["--offline", "--locked", "--filter-platform", &tree::host()]);
    let mut broken = Vec::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let licence = package["license"].as_str().unwrap_or("none");
        if !LICENCES.contains(&licence) {
            broken.push(format!("{} {}: {licence}", package["name"], package["version"]));
        }
    }
    none_broken(&broken);
}

#[test]
fn every_source_file_says_first_what_lives_in_it() {
    let broken: Vec<String> = tree::files()
        .into_iter()
        .filter(|path| path.ends_with(".rs"))
        .filter(|path| !tree::read(path).starts_with("//! "))
        .collect();
    none_broken(&broken);
}

#[test]
fn files_stay_short_and_have_names_that_say_something() {
    let mut broken = Vec::new();
    for path in tree::files().iter().filter(|path| path.ends_with(".rs")) {
        let stem = path.rsplit('/').next().unwrap_or(path).trim_end_matches(".rs");
        if NAMELESS.contains(&stem) && !is_test(path) {
            broken.push(format!("{path}: a name that says nothing"));
        }
        let count = tree::read(path).lines().count();
        if count > LINE_COUNT_MAX && !is_test(path) {
            broken.push(format!("{path}: {count} lines"));
        }
    }
    none_broken(&broken);
}

#[test]
fn only_the_named_files_do_the_named_things() {
    let only = |path: &str, names: &[&str]| names.contains(&path);
    let mut broken = Vec::new();
    for path in tree::files().iter().filter(|path| path.ends_with(".rs") && !is_test(path)) {
        let name = path.rsplit('/').next().unwrap_or(path);
        let text = tree::read(path);
        for (number, line) in code_of(&text) {
            let at = |what: &str| format!("{path}:{number}: {what}");
            if has_word(line, "unsafe") && !only(path, &UNSAFE) {
                broken.push(at("unsafe outside the files that may"));
            }
            let clock = line.contains("SystemTime::now") || line.contains("Instant::now");
            if clock && name != "clock.rs" && !path.contains("/examples/") {
                broken.push(at("reads a clock outside clock.rs"));
            }
            let link = only(path, &["agent/src/link.rs", "platform/src/link.rs"]);
            if uses(line, "rumqttc") && !link {
                broken.push(at("MQTT outside link.rs"));
            }
            if uses(line, "libsm") && path != "gm/src/second_opinion.rs" {
                broken.push(at("libsm outside gm/src/second_opinion.rs"));
            }
            if line.contains("unbounded") && line.contains("channel") {
                broken.push(at("an unbounded channel"));
            }
            if line.starts_with("pub use") && line.ends_with("::*;") {
                broken.push(at("a glob export"));
            }
        }
    }
    none_broken(&broken);
}

#[test]
fn nothing_is_left_undone_or_switched_off() {
    // Put together here, so that this file does not hold what it looks for.
    let words = [["todo", "!("], ["unimplemented", "!("], ["FIX", "ME"], ["#[igno", "re"], ["#[should", "_panic"]];
    let words: Vec<String> = words.iter().map(|halves| halves.concat()).collect();
    let mut broken = Vec::new();
    for path in tree::files().iter().filter(|path| path.ends_with(".rs")) {
        for (index, line) in tree::read(path).lines().enumerate() {
            broken
                .extend(words.iter().filter(|word| line.contains(*word)).map(|w| format!("{path}:{}: {w}", index + 1)));
        }
    }
    none_broken(&broken);
}

#[test]
fn no_file_names_a_place_on_somebodys_machine() {
    let places = [["/wo", "rk/"], ["/ro", "ot/"], ["/ho", "me/"], ["/Us", "ers/"]].map(|halves| halves.concat());
    let mut broken = Vec::new();
    for path in tree::files() {
        // Captured kernel files keep what the kernel wrote.
        let Some(text) = tree::read_text(&path).filter(|_| !path.contains("/testdata/")) else { continue };
        for (index, line) in text.lines().enumerate() {
            broken.extend(places.iter().filter(|p| line.contains(*p)).map(|p| format!("{path}:{}: {p}", index + 1)));
        }
    }
    none_broken(&broken);
}

#[test]
fn what_holds_a_key_leaves_no_core() {
    let mut broken = Vec::new();
    for unit in ["hufu", "hufu-signer", "hufu-platform"] {
        let text = tree::read(&format!("systemd/{unit}.service"));
        if !text.lines().any(|line| line == "LimitCORE=0") {
            broken.push(format!("systemd/{unit}.service has no LimitCORE=0"));
        }
    }
    for file in ["agent/src/cmd/node.rs", "agent/src/cmd/signer.rs"] {
        if !code_of(&tree::read(file)).any(|(_, line)| line.contains("keep_memory_private();")) {
            broken.push(format!("{file}: its memory can be dumped"));
        }
    }
    none_broken(&broken);
}

/// `deny.toml` as far as it can be kept without a network: the ways in which a library may come into the build.
#[test]
fn a_denied_library_comes_in_only_through_those_who_may_bring_it() {
    let deny: toml::Table = tree::read("deny.toml").parse().expect("deny.toml");
    let lock: toml::Table = tree::read("Cargo.lock").parse().expect("Cargo.lock");
    let packages: Vec<(&str, Vec<&str>)> = lock["package"]
        .as_array()
        .expect("packages")
        .iter()
        .map(|package| {
            let needs = package.get("dependencies").and_then(toml::Value::as_array).into_iter().flatten();
            // A version stands behind the name where there are two.
            let needs = needs.filter_map(|need| need.as_str()?.split(' ').next());
            (package["name"].as_str().expect("a name"), needs.collect())
        })
        .collect();
    let mut broken = Vec::new();
    let bans = deny["bans"]["deny"].as_array().expect("bans.deny");
    assert!(bans.len() >= 10, "{} bans", bans.len());
    for ban in bans {
        let name = ban["crate"].as_str().expect("a crate");
        let wrappers: Vec<&str> = ban
            .get("wrappers")
            .and_then(toml::Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(toml::Value::as_str)
            .collect();
        if ban.get("reason").and_then(toml::Value::as_str).is_none_or(str::is_empty) {
            broken.push(format!("{name}: no reason"));
        }
        for (by, _) in packages.iter().filter(|(_, needs)| needs.contains(&name)) {
            if !wrappers.contains(by) {
                broken.push(format!("{by} uses {name}; only {wrappers:?} may"));
            }
        }
        // A wrapper that is gone, or does not use it any more, is a hole nobody looks at.
        for wrapper in wrappers {
            if !packages.iter().any(|(by, needs)| *by == wrapper && needs.contains(&name)) {
                broken.push(format!("{wrapper} does not use {name}: take it out of deny.toml"));
            }
        }
    }
    // Every owner of the table above that is not shared stands there, too.
    for (library, owners) in OWNED {
        let ban = bans.iter().find(|ban| ban["crate"].as_str() == Some(library));
        let Some(ban) = ban else {
            broken.push(format!("{library} belongs to {owners:?} here and is not in deny.toml"));
            continue;
        };
        let wrappers: BTreeSet<&str> = ban
            .get("wrappers")
            .and_then(toml::Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(toml::Value::as_str)
            .collect();
        for owner in wrappers.iter().filter_map(|wrapper| wrapper.strip_prefix("hufu-")) {
            if !owners.contains(&owner) {
                broken.push(format!("deny.toml lets {owner} use {library}, which belongs to {owners:?}"));
            }
        }
    }
    let licences: BTreeSet<&str> =
        deny["licenses"]["allow"].as_array().expect("licenses.allow").iter().filter_map(toml::Value::as_str).collect();
    let words = |expression: &'static str| {
        expression.split([' ', '/', '(', ')']).filter(|word| !word.is_empty() && !["AND", "OR", "WITH"].contains(word))
    };
    for licence in &licences {
        let known =
            LICENCES.iter().any(|expression| words(expression).any(|word| licence.split(' ').any(|part| part == word)));
        if !known {
            broken.push(format!("deny.toml allows {licence}, which no library here has"));
        }
    }
    let ignored = deny["advisories"]["ignore"].as_array().expect("advisories.ignore");
    for advisory in ignored {
        let (id, reason) = (&advisory["id"], advisory["reason"].as_str().unwrap_or_default());
        if reason.len() < 40 {
            broken.push(format!("{id}: why it may be ignored"));
        }
    }
    none_broken(&broken);
}
