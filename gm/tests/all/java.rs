//! One Java process with BouncyCastle that answers questions line by line: a program of `tests/interop`, compiled for the test.
//! What is asked, and what the answers mean, is the tests' business.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use crate::openssl::Bench;

/// The process; it ends with this value.
pub(crate) struct Java {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Java {
    /// Compiles `tests/interop/{program}.java` into the bench and starts it.
    pub(crate) fn start(bench: &Bench, program: &str) -> Self {
        let jars = ["bcprov", "bcpkix", "bcutil"].map(|name| format!("/usr/share/java/{name}.jar")).join(":");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../tests/interop/{program}.java"));
        let classes = bench.path("classes");
        let compiled =
            Command::new("javac").args(["-nowarn", "-cp", &jars, "-d"]).arg(&classes).arg(&source).output().unwrap();
        assert!(compiled.status.success(), "javac: {}", String::from_utf8_lossy(&compiled.stderr));
        let mut child = Command::new("java")
            .args(["-XX:TieredStopAtLevel=1", "-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8", "-cp"])
            .arg(format!("{}:{jars}", classes.display()))
            .arg(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, to, from }
    }

    /// The answer to a question whose words with a dot are files of the bench; object identifiers stay as they are.
    pub(crate) fn ask(&mut self, bench: &Bench, words: &[&str]) -> Result<String, String> {
        let is_file = |word: &str| word.contains('.') && !word.starts_with("1.");
        let word =
            |word: &&str| if is_file(word) { bench.path(word).display().to_string() } else { (*word).to_owned() };
        writeln!(self.to, "{}", words.iter().map(word).collect::<Vec<_>>().join("\t")).unwrap();
        let mut answer = String::new();
        self.from.read_line(&mut answer).unwrap();
        match answer.trim_end().strip_prefix("ok") {
            Some(rest) => Ok(rest.trim_start().to_owned()),
            None => Err(format!("{}: {answer}", words.join(" "))),
        }
    }
}

impl Drop for Java {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
