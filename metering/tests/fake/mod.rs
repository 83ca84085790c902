//! Builds `fake_nvml.c` into a library that says what a test tells it to, for every test that loads one.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// A library built with `defines`, in a directory that goes with it.
pub(crate) struct Fake(tempfile::TempDir);

impl Fake {
    /// The C compiler is the one that links Rust programs.
    pub(crate) fn build(defines: &[&str]) -> Self {
        let fake = Self(tempfile::tempdir().unwrap());
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake_nvml.c");
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-w"]).args(defines.iter().map(|define| format!("-D{define}")));
        let output = cc.arg("-o").arg(fake.path()).arg(source).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fake
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("libnvidia-ml.so.1")
    }
}

/// True where the program under test cannot open libraries at all.
pub(crate) fn is_static() -> bool {
    cfg!(target_feature = "crt-static")
}
