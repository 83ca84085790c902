//! Who signed what, as rows of the page: kind, act, signer, when, how many of the signatures hold.

use std::collections::BTreeMap;

use hufu_gm::Certificate;
use hufu_trade::notice::Notice;

use super::{Sheet, chart::minute, role_text};
use crate::{
    findings::Verdict,
    layout::{self, SignatureRow},
    signed::Kind,
    text::Text,
    verdict::{Options, signatures},
};

/// Signatures of one kind by one signer.
#[derive(Default)]
struct Signings {
    count: usize,
    holding: usize,
    first: Option<i64>,
    last: Option<i64>,
}

/// Behind the kind of a notice, its act.
fn act(kind: Kind, tbs: &[u8]) -> String {
    match kind {
        Kind::Notice | Kind::PlatformNotice => hufu_trade::decode::<Notice>(tbs, "Notice")
            .map_or_else(|_| String::new(), |notice| format!(": {}", notice.act)),
        _ => String::new(),
    }
}

impl Sheet<'_> {
    /// Who signed what: one row for each kind of signature, act of a notice and signer.
    pub(super) fn signers(&mut self, anchors: &[Certificate]) {
        let authentic = signatures::check(self.members, anchors, Options::default(), &mut Verdict::default());
        let mut rows: BTreeMap<(Kind, String, String), Signings> = BTreeMap::new();
        for line in self.members.text(layout::SIGNATURES).unwrap_or_default().lines() {
            let Some(row) = SignatureRow::read(line) else { continue };
            let Some(tbs) = self.members.bytes(&row.tbs) else { continue };
            let pem = self.members.text(&row.certificate).unwrap_or_default();
            let subject = Certificate::from_pem_many(pem).ok().and_then(|found| Some(found.first()?.subject()));
            let found =
                rows.entry((row.kind, act(row.kind, tbs), subject.unwrap_or_else(|| "?".to_owned()))).or_default();
            found.count += 1;
            found.holding += usize::from(authentic.of(row.kind, tbs).is_some());
            let at = row.kind.said(tbs).map(|said| said.at);
            found.first = found.first.into_iter().chain(at).min();
            found.last = found.last.max(at);
        }
        self.heading(Text::ReportSigned {});
        self.page.raw("<table>\n");
        let head = [Text::ReportWhat {}, Text::ReportSigner {}, Text::ReportWhen {}, Text::ReportHolding {}];
        let head = head.map(|text| self.say(text));
        self.page.head(&head).raw("<tbody>\n");
        for ((kind, act, subject), found) in rows {
            let signer = format!("{} {subject}", self.say(role_text(kind.role().name())));
            let when = match (found.first, found.last) {
                (Some(first), Some(last)) if first == last => minute(first),
                (Some(first), Some(last)) => format!("{} – {}", minute(first), minute(last)),
                _ => "–".to_owned(),
            };
            let holding = format!("{} / {}", found.holding, found.count);
            self.page.row(&[&format!("{}{act}", kind.name()), &signer, &when, &holding]);
        }
        self.page.raw("</tbody></table>\n");
    }
}
