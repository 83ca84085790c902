//! The pack's README: what it is, and the commands with which a stock OpenSSL checks it. The text is `readme.txt`.

use std::fmt::Write;

use hufu_trade::bill::Bill;

use crate::pack::build::Link;

/// The README of one pack; `bill_entry` is the file of the bill's entry.
pub(crate) fn text(bill: &Bill, bill_entry: &str, links: &[Link]) -> String {
    let mut lines = String::new();
    for link in links {
        // Writing to a String cannot fail.
        let _ = match &link.issuer {
            Ok(issuer) => writeln!(lines, "link {} {issuer} {}", link.subject, link.at_s),
            Err(anchor) => writeln!(lines, "link {} \"$TRUST\" {}   # {}", link.subject, link.at_s, comment(anchor)),
        };
    }
    // A later bill's first record follows a record of the bill before, which is in the pack too; the deal does not follow it.
    let first = if bill.previous_bill.is_some() { "prev=\n" } else { "" };
    include_str!("readme.txt")
        .replace("{number}", &comment(&bill.number))
        .replace("{total}", &bill.total.to_string())
        .replace("{currency}", &comment(&bill.currency))
        .replace("{bill_entry}", bill_entry)
        .replace("{first}", first)
        .replace("{links}", &lines)
}

/// Text of others on one line of ours: nothing in it can end the line, and so start a command.
fn comment(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { ' ' } else { c }).take(120).collect()
}
