//! Names inside the zip and the two tables that tie them together (DESIGN section 10). Nothing here reads or writes a zip.

use crate::{open::MEMBER_BYTES_MAX, signed::Kind};

pub(crate) const README: &str = "README.txt";
pub(crate) const BILL_JSON: &str = "bill.json";
pub(crate) const BILL: &str = "bill.der";
pub(crate) const TARIFF: &str = "tariff.der";
pub(crate) const CONTRACT: &str = "contract.toml";
/// One line a signature.
pub(crate) const SIGNATURES: &str = "signed/index.tsv";
/// One line a proven entry.
pub(crate) const PROOFS: &str = "proofs/index.tsv";
/// Time-stamps: `stamps/X.tst` is over `signed/X.sig`.
pub(crate) const STAMPS: &str = "stamps/";
/// Stands where a proof has no log part yet.
pub(crate) const NONE: &str = "-";

const TOP: [&str; 5] = [README, BILL_JSON, BILL, TARIFF, CONTRACT];
const FOLDERS: [&str; 6] = ["signed/", "entries/", "proofs/", "certs/", "crls/", STAMPS];

/// True for a name that a pack may have; everything else in a container is never looked at.
pub(crate) fn belongs(name: &str) -> bool {
    let plain = |rest: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        !rest.is_empty() && rest.len() <= 120 && !rest.starts_with('.') && rest.bytes().all(allowed)
    };
    TOP.contains(&name) || FOLDERS.iter().any(|folder| name.strip_prefix(folder).is_some_and(plain))
}

/// Where an entry stands: log, height, index.
pub(crate) type Place = (u8, u64, u32);

/// `{log}-{height}-{index}-{kind}`.
pub(crate) fn stem(place: Place, kind: &str) -> String {
    format!("{}-{}-{}-{kind}", place.0, place.1, place.2)
}

/// `entries/{log}-{height}-{index}-{kind}.der`.
pub(crate) fn entry(place: Place, kind: &str) -> String {
    format!("entries/{}.der", stem(place, kind))
}

/// The time-stamp over the signature of `signed/{stem}.tbs`.
pub(crate) fn stamp_of(tbs: &str) -> Option<String> {
    let stem = tbs.strip_prefix("signed/")?.strip_suffix(".tbs")?;
    Some(format!("{STAMPS}{stem}.tst"))
}

/// The signed bytes whose signature a time-stamp is over.
pub(crate) fn stamped(stamp: &str) -> Option<String> {
    let stem = stamp.strip_prefix(STAMPS)?.strip_suffix(".tst")?;
    Some(format!("signed/{stem}.tbs"))
}

/// The place and kind that an entry's name tells.
pub(crate) fn entry_place(name: &str) -> Option<(Place, &str)> {
    stem_place(name.strip_prefix("entries/")?.strip_suffix(".der")?)
}

/// The place and kind that a stem tells; numbers in their only form.
pub(crate) fn stem_place(stem: &str) -> Option<(Place, &str)> {
    let mut parts = stem.splitn(4, '-');
    let place = (number(parts.next()?)?, number(parts.next()?)?, number(parts.next()?)?);
    Some((place, parts.next()?))
}

fn number<T: std::str::FromStr>(digits: &str) -> Option<T> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    digits.parse().ok().filter(|_| plain)
}

/// `entries/records-{number}.der`: usage records, one after another.
pub(crate) fn records(number: u32) -> String {
    format!("entries/records-{number}.der")
}

/// `entries/records-{number}.tsv`: one line a record of the file beside it.
pub(crate) fn record_list(number: u32) -> String {
    format!("entries/records-{number}.tsv")
}

/// The number of a file of records.
pub(crate) fn records_number(name: &str) -> Option<u32> {
    number(name.strip_prefix("entries/records-")?.strip_suffix(".der")?)
}

/// The number of a list of records.
pub(crate) fn record_list_number(name: &str) -> Option<u32> {
    number(name.strip_prefix("entries/records-")?.strip_suffix(".tsv")?)
}

/// Most bytes of a member: a block has at most 40 KiB of entries, and what was signed stood in one.
pub(crate) fn bytes_max(name: &str) -> u64 {
    match name {
        README | BILL_JSON | SIGNATURES | PROOFS => 1 << 20,
        _ if name.starts_with("proofs/") => 8 << 10,
        _ if name.starts_with("crls/") => 256 << 10,
        _ if name.starts_with(STAMPS) => 32 << 10,
        _ if records_number(name).is_some() || record_list_number(name).is_some() => MEMBER_BYTES_MAX,
        _ => 64 << 10,
    }
}

/// Most members of a folder whose members are each looked at together with all others.
pub(crate) fn count_max(name: &str) -> Option<(&'static str, u64)> {
    [("certs/", 64), ("crls/", 4), (STAMPS, 8)].into_iter().find(|(folder, _)| name.starts_with(folder))
}

/// One line of `signed/index.tsv`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SignatureRow {
    pub(crate) tbs: String,
    pub(crate) signature: String,
    pub(crate) certificate: String,
    pub(crate) signed_at: i64,
    pub(crate) kind: Kind,
}

impl SignatureRow {
    pub(crate) fn line(&self) -> String {
        let at = hufu_trade::octets::rfc3339(self.signed_at);
        let (role, kind) = (self.kind.role().name(), self.kind.name());
        format!("{}\t{}\t{}\t{role}\t{at}\t{kind}\n", self.tbs, self.signature, self.certificate)
    }

    /// Reads a line without its end. The time is left 0 here: what counts is the time inside the signed bytes, with which
    /// the line must then agree.
    pub(crate) fn read(line: &str) -> Option<Self> {
        let columns: Vec<&str> = line.split('\t').collect();
        let [tbs, signature, certificate, _, _, kind] = columns.as_slice() else { return None };
        let kind = Kind::from_name(kind)?;
        let own = |text: &str| text.to_owned();
        Some(Self { tbs: own(tbs), signature: own(signature), certificate: own(certificate), signed_at: 0, kind })
    }
}

/// One line of `proofs/index.tsv`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProofRow {
    /// The entry's file.
    pub(crate) entry: String,
    /// Path from the entry's hash to the root in the header.
    pub(crate) entry_path: String,
    /// The header's signed bytes.
    pub(crate) header: String,
    /// Path from the header's hash to the log's root, and the signed bytes with that root.
    pub(crate) log: Option<(String, String)>,
}

impl ProofRow {
    pub(crate) fn line(&self) -> String {
        let (path, root) = self.log.as_ref().map_or((NONE, NONE), |(path, root)| (path, root));
        format!("{}\t{}\t{}\t{path}\t{root}\n", self.entry, self.entry_path, self.header)
    }

    pub(crate) fn read(line: &str) -> Option<Self> {
        let columns: Vec<&str> = line.split('\t').collect();
        let [entry, entry_path, header, log_path, root] = columns.as_slice() else { return None };
        let log = match (*log_path, *root) {
            (NONE, NONE) => None,
            (path, root) => Some((path.to_owned(), root.to_owned())),
        };
        Some(Self { entry: (*entry).into(), entry_path: (*entry_path).into(), header: (*header).into(), log })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_layout_belong() {
        for (name, want) in [
            ("bill.der", true),
            ("entries/0-1-2-usage.der", true),
            ("signed/index.tsv", true),
            ("../bill.der", false),
            ("entries/../bill.der", false),
            ("entries/.hidden", false),
            ("/etc/passwd", false),
            ("entries/a/b.der", false),
            ("entries/", false),
            ("readme.txt", false),
            ("certs\\x.pem", false),
        ] {
            assert_eq!(belongs(name), want, "{name}");
        }
    }

    #[test]
    fn places_have_one_spelling() {
        assert_eq!(entry_place("entries/0-12-3-order_status.der"), Some(((0, 12, 3), "order_status")));
        for name in ["entries/0-012-3-usage.der", "entries/0-12-usage.der", "entries/0-+1-3-usage.der", "x/0-1-2-a.der"]
        {
            assert_eq!(entry_place(name), None, "{name}");
        }
        for (name, want) in
            [("entries/records-1.der", Some(1)), ("entries/records-01.der", None), ("entries/records-.der", None)]
        {
            assert_eq!(records_number(name), want, "{name}");
        }
    }
}
