//! The tree under test, seen from outside: its files, its manifests, hashes of files. No rule is judged here.

use std::{path::PathBuf, process::Command};

use serde_json::Value;

/// A member of the workspace.
#[derive(Debug)]
pub struct Manifest {
    /// Its folder, relative to the root.
    pub folder: String,
    /// Its package name.
    pub name: String,
    /// What it depends on, of every kind and on every platform.
    pub dependencies: Vec<Dependency>,
}

/// One dependency of a member.
#[derive(Debug)]
pub struct Dependency {
    /// The package's name, whatever it is renamed to.
    pub name: String,
    /// Used by tests only.
    pub is_dev: bool,
}

/// The root of the tree.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the root of the tree")
}

/// Every file that belongs to the tree, relative to the root: tracked, or new and not ignored.
pub fn files() -> Vec<String> {
    let arguments = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let out = Command::new("git").args(arguments).current_dir(root()).output().expect("git");
    assert!(out.status.success(), "git ls-files: {}", String::from_utf8_lossy(&out.stderr));
    let names = String::from_utf8(out.stdout).expect("file names are UTF-8");
    let mut names: Vec<String> = names.split_terminator('\0').map(str::to_owned).collect();
    names.retain(|name| root().join(name).is_file());
    names.sort();
    names.dedup();
    names
}

/// A file's text; the file must be there.
pub fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A file's text, or nothing for a file that is not text.
pub fn read_text(path: &str) -> Option<String> {
    String::from_utf8(std::fs::read(root().join(path)).ok()?).ok()
}

/// SHA-256 of a file, lower-case hex.
pub fn sha256(path: &str) -> String {
    let out = Command::new("sha256sum").arg(root().join(path)).output().expect("sha256sum");
    String::from_utf8_lossy(&out.stdout).split_whitespace().next().unwrap_or("absent").to_owned()
}

/// `cargo metadata`, never from the network.
pub fn metadata(arguments: &[&str]) -> Value {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["metadata", "--format-version", "1"]).args(arguments).current_dir(root());
    let out = cargo.output().expect("cargo");
    assert!(out.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).expect("cargo metadata is JSON")
}

/// The platform these tests run on, as rustc calls it.
pub fn host() -> String {
    let out = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())).arg("-vV").output();
    let said = String::from_utf8(out.expect("rustc").stdout).expect("rustc speaks UTF-8");
    said.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host").to_owned()
}

/// The members of the workspace.
pub fn manifests() -> Vec<Manifest> {
    let metadata = metadata(&["--no-deps", "--offline"]);
    let packages = metadata["packages"].as_array().expect("packages");
    packages.iter().map(manifest).collect()
}

fn manifest(package: &Value) -> Manifest {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let path = PathBuf::from(text(&package["manifest_path"]));
    let folder = path.parent().and_then(|folder| folder.strip_prefix(root()).ok()).expect("a manifest is in the tree");
    let dependencies = package["dependencies"].as_array().expect("dependencies").iter();
    Manifest {
        folder: folder.display().to_string(),
        name: text(&package["name"]),
        dependencies: dependencies
            .map(|d| Dependency { name: text(&d["name"]), is_dev: d["kind"].as_str() == Some("dev") })
            .collect(),
    }
}
