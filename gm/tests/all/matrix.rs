//! The interoperability matrix: `tests/interop/matrix.tsv`, from which the table in `docs/gm.md` is made. A test that tried
//! something with another implementation says here how it went; a line that is missing or says otherwise fails it.

use std::path::Path;

const FILE: &str = "../tests/interop/matrix.tsv";
const BEGIN: &str = "<!-- matrix: made from tests/interop/matrix.tsv by a test -->\n";
const END: &str = "<!-- end of matrix -->";

fn text() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE)).unwrap()
}

/// The matrix must say that `what`, tried with `with` in this `direction`, went so.
pub(crate) fn says(what: &str, with: &str, direction: &str, result: &str) {
    let line = [what, with, direction, result].join("\t");
    assert!(text().lines().any(|found| found == line), "tests/interop/matrix.tsv must have the line:\n{line}");
}

#[test]
fn the_table_in_the_document_is_the_matrix() {
    let mut table = String::from("| what | with | direction | result |\n|---|---|---|---|\n");
    for line in text().lines().filter(|line| !line.starts_with('#')) {
        let columns: Vec<&str> = line.split('\t').collect();
        assert_eq!(columns.len(), 4, "four columns: {line}");
        table.push_str(&format!("| {} |\n", columns.join(" | ")));
    }
    let document = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/gm.md")).unwrap();
    let found =
        document.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END)).expect("the marks of the table").0;
    assert_eq!(found, table, "replace the table in docs/gm.md by:\n{table}");
}
