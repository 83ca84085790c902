//! The usage records of a pack lie together: `entries/records-N.der` holds entries one after another, `records-N.tsv` tells
//! which they are. A month of one order has 43,200 of them, and a member of its own costs each 130 bytes. Whether the
//! entries are right is `evidence.rs` and `verdict/`.
//!
//! A line is `{log}-{height}-{index}-{kind}`, a tab, and the entry's length in bytes; the last line is `sm3`, a tab, and the
//! SM3 of the lines above it: the place of a record is signed nowhere, so damage to it would else go unseen.

use hufu_gm::sm3::sm3;
use hufu_trade::octets::Octets;

use crate::{
    Error,
    findings::Verdict,
    layout::{self, Place},
    open::Members,
    text::Text,
};

/// Entries that a pack may hold: a year of one-minute records, and room.
pub const ENTRIES_MAX: usize = 600_000;
/// A file of records is full with so many bytes.
const FILE_BYTES: usize = 1 << 20;
/// Begins the last line of a list.
const SUM: &str = "sm3\t";

/// The records of a pack that is being made, in the order of the log.
#[derive(Default)]
pub(crate) struct Together {
    files: Vec<(Vec<u8>, String)>,
}

impl Together {
    pub(crate) fn push(&mut self, place: Place, kind: &str, entry: &[u8]) {
        if self.files.last().is_none_or(|(bytes, _)| bytes.len().saturating_add(entry.len()) > FILE_BYTES) {
            self.files.push(Default::default());
        }
        if let Some((bytes, list)) = self.files.last_mut() {
            bytes.extend_from_slice(entry);
            *list += &format!("{}\t{}\n", layout::stem(place, kind), entry.len());
        }
    }

    /// Names and contents of the members.
    pub(crate) fn members(self) -> impl Iterator<Item = (String, Vec<u8>)> {
        (1_u32..).zip(self.files).flat_map(|(number, (bytes, list))| {
            let list = format!("{list}{SUM}{}\n", Octets(sm3(&[list.as_bytes()])));
            [(layout::records(number), bytes), (layout::record_list(number), list.into_bytes())]
        })
    }
}

/// An entry of a pack, not decoded yet.
pub(crate) struct Piece<'a> {
    /// How problems name it: its file, and in a file of records its place as well.
    pub(crate) name: String,
    /// Where it stands and what it is, as its name tells.
    pub(crate) told: Option<(Place, &'a str)>,
    pub(crate) bytes: &'a [u8],
}

/// Every entry of the pack.
///
/// # Errors
/// [`Error::TooLarge`] beyond [`ENTRIES_MAX`].
pub(crate) fn pieces<'a>(members: &'a Members, out: &mut Verdict) -> Result<Vec<Piece<'a>>, Error> {
    let mut pieces = Vec::new();
    for (name, bytes) in members.below("entries/") {
        match (layout::records_number(name), layout::record_list_number(name)) {
            (Some(number), _) => {
                let list = layout::record_list(number);
                match members.bytes(&list) {
                    Some(lines) => split((name, bytes), (&list, lines), &mut pieces, out),
                    None => out.fail(list.as_str(), Text::FileMissing { file: list.clone() }),
                }
            }
            (None, Some(number)) => {
                let file = layout::records(number);
                if members.bytes(&file).is_none() {
                    out.fail(file.as_str(), Text::FileMissing { file: file.clone() });
                }
            }
            (None, None) => pieces.push(Piece { name: name.to_owned(), told: layout::entry_place(name), bytes }),
        }
        if pieces.len() > ENTRIES_MAX {
            return Err(Error::TooLarge { what: "the number of entries", limit: ENTRIES_MAX as u64 });
        }
    }
    Ok(pieces)
}

fn split<'a>(
    (file, bytes): (&str, &'a [u8]),
    (list, lines): (&str, &'a [u8]),
    pieces: &mut Vec<Piece<'a>>,
    out: &mut Verdict,
) {
    let lines = std::str::from_utf8(lines).unwrap_or_default();
    let Some((body, sum)) = lines.rfind(SUM).and_then(|at| lines.split_at_checked(at)) else {
        return out.fail(list, Text::ListSum {});
    };
    out.check(sum == format!("{SUM}{}\n", Octets(sm3(&[body.as_bytes()]))), list, || Text::ListSum {});
    let mut rest = bytes;
    for (number, line) in (1_u32..).zip(body.lines()) {
        let piece = record_line(line).and_then(|(stem, told, length)| {
            let (bytes, after) = rest.split_at_checked(length)?;
            rest = after;
            Some(Piece { name: format!("{file}:{stem}"), told: Some(told), bytes })
        });
        let Some(piece) = piece else { return out.fail(format!("{list}:{number}"), Text::IndexLine {}) };
        pieces.push(piece);
        if pieces.len() > ENTRIES_MAX {
            return;
        }
    }
    out.check(rest.is_empty(), file, || Text::ListShort { count: rest.len().to_string() });
}

/// `{stem}\t{length}`, in its only form.
fn record_line(line: &str) -> Option<(&str, (Place, &str), usize)> {
    let (stem, digits) = line.split_once('\t')?;
    let told = layout::stem_place(stem).filter(|(_, kind)| matches!(*kind, "usage" | "gap"))?;
    let length: usize = digits.parse().ok()?;
    (length > 0 && !digits.starts_with(['0', '+'])).then_some((stem, told, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_one_spelling() {
        for (line, want) in [
            ("0-12-3-usage\t255", Some(255)),
            ("0-12-3-gap\t1", Some(1)),
            ("0-12-3-deal\t255", None),
            ("0-012-3-usage\t255", None),
            ("0-12-3-usage\t0", None),
            ("0-12-3-usage\t0255", None),
            ("0-12-3-usage\t+255", None),
            ("0-12-3-usage\t255\r", None),
            ("0-12-3-usage\t99999999999999999999999", None),
            ("0-12-3-usage 255", None),
            ("", None),
        ] {
            assert_eq!(record_line(line).map(|(_, _, length)| length), want, "{line:?}");
        }
    }

    #[test]
    fn what_lies_together_is_told_apart_again() {
        let mut together = Together::default();
        let entries: Vec<Vec<u8>> = (1_u8..=3).map(|byte| vec![byte; FILE_BYTES / 2]).collect();
        for (height, entry) in (7..).zip(&entries) {
            together.push((0, height, 0), "usage", entry);
        }
        let members = Members::of(together.members());
        let mut out = Verdict::default();
        let pieces = pieces(&members, &mut out).unwrap_or_default();
        let found: Vec<(&str, &[u8])> = pieces.iter().map(|piece| (piece.name.as_str(), piece.bytes)).collect();
        let want =
            ["1.der:0-7-0-usage", "1.der:0-8-0-usage", "2.der:0-9-0-usage"].map(|end| format!("entries/records-{end}"));
        let want: Vec<(&str, &[u8])> = want.iter().map(String::as_str).zip(entries.iter().map(Vec::as_slice)).collect();
        assert!(found == want && out.problems.is_empty());
    }
}
