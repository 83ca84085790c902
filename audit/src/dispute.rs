//! Two packs of one contract held against each other: the first point, in the order of the logs, at which they cannot both be
//! right. What a pack is worth by itself is `verdict.rs`.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Seek},
};

use hufu_gm::{Certificate, Hash};
use hufu_ledger::{BlockHeader, Checkpoint, Entry, entry_hash};
use hufu_trade::{
    bill::Bill,
    entry::{EntryKind, Receipt},
    octets::ContractNo,
    usage::UsageRecord,
};

use crate::{
    Error, Exit, Lang,
    fields::{self, Fields},
    findings::Verdict,
    layout::{self, Place},
    open::Members,
    records::{self, Piece},
    signed::Kind,
    text::Text,
    verdict::{
        Options, Verdicts, judge,
        signatures::{self, Authentic},
    },
};

/// Problems of each pack that a person is shown; `hufu verify` lists them all.
const PROBLEMS_SHOWN: usize = 5;

/// What two packs say of each other.
#[derive(Clone, Debug)]
pub struct Dispute {
    /// The contract of both.
    pub contract_no: ContractNo,
    /// Where they part; `None` when they do not.
    pub first: Option<Point>,
    /// The four verdicts over each pack. Without anchors the first does not ask who vouches for certificates.
    pub verdicts: [Verdicts; 2],
    /// Whether trust anchors were given: without them nobody vouches for the certificates.
    pub trusted: bool,
}

/// A point at which two packs part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// Log and height of the block.
    pub block: (u8, u64),
    /// Index and kind of the entry; `None` when it is the block's header, or a root of the log.
    pub entry: Option<(u32, String)>,
    /// The file inside each pack, behind `#` the field; `-` where a pack has nothing.
    pub places: [String; 2],
    /// The field; `-` when it is the whole.
    pub field: String,
    /// What each pack says there, at most 200 characters.
    pub values: [String; 2],
    /// Why that cannot be.
    pub why: Text,
}

/// Holds two packs against each other. Without `anchors` signatures are checked, but nobody vouches for the certificates.
///
/// # Errors
/// Those of [`crate::verify`] for either pack, and [`Error::OtherContract`].
pub fn dispute(first: impl Read + Seek, second: impl Read + Seek, anchors: &[Certificate]) -> Result<Dispute, Error> {
    let members = [Members::open(first)?, Members::open(second)?];
    let [one, two] = &members;
    let pieces = [records::pieces(one, &mut Verdict::default())?, records::pieces(two, &mut Verdict::default())?];
    let [one_pieces, two_pieces] = &pieces;
    let sides = [Side::read(one, one_pieces, anchors)?, Side::read(two, two_pieces, anchors)?];
    let [one, two] = &sides;
    if one.bill.contract_no != two.bill.contract_no {
        let (first, second) = (one.bill.contract_no.to_string(), two.bill.contract_no.to_string());
        return Err(Error::OtherContract { first, second });
    }
    let mut points: Vec<((u8, u64, u64), Point)> = Vec::new();
    entries(&sides, &mut points);
    headers(&sides, &mut points);
    roots(&sides, &mut points);
    attachments(&sides, &mut points);
    let first = points.into_iter().min_by_key(|(at, _)| *at).map(|(_, point)| point);
    let contract_no = one.bill.contract_no;
    let verdicts = sides.map(|side| side.verdicts);
    Ok(Dispute { contract_no, first, verdicts, trusted: !anchors.is_empty() })
}

/// What an entry is to its contract, wherever it stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Slot {
    /// One of the papers that a contract has once.
    Paper(&'static str),
    Record(u64),
    Bill(String),
}

struct Held<'a> {
    piece: &'a Piece<'a>,
    place: Place,
    kind: &'a str,
    hash: Hash,
}

type Bytes<'a> = BTreeMap<(u8, u64), (String, &'a [u8])>;

/// One pack, by place and by what its entries are.
struct Side<'a> {
    members: &'a Members,
    bill: Bill,
    places: BTreeMap<Place, Held<'a>>,
    slots: BTreeMap<Slot, Place>,
    headers: Bytes<'a>,
    /// Signed roots by log and size.
    roots: BTreeMap<(Kind, u8, u64), (String, &'a [u8])>,
    authentic: Authentic,
    verdicts: Verdicts,
}

impl<'a> Side<'a> {
    fn read(members: &'a Members, pieces: &'a [Piece<'a>], anchors: &[Certificate]) -> Result<Self, Error> {
        let authentic = signatures::check(members, anchors, Options::default(), &mut Verdict::default());
        let mut verdicts = judge(members, anchors, Options::default())?;
        if anchors.is_empty() {
            let unvouched =
                |what: &Text| matches!(what, Text::NoTrust { .. } | Text::CrlStray {} | Text::CertificateStray {});
            verdicts.signatures.forget(unvouched);
        }
        let bill = members.bytes(layout::BILL).and_then(|bytes| hufu_trade::decode(bytes, "Bill").ok());
        let (mut places, mut slots, mut other_bill) = (BTreeMap::new(), BTreeMap::new(), None);
        for piece in pieces {
            let Some((place, kind)) = piece.told else { continue };
            if let Some(slot) = slot(piece.bytes, &mut other_bill) {
                slots.insert(slot, place);
            }
            places.insert(place, Held { piece, place, kind, hash: entry_hash(piece.bytes) });
        }
        let bill = bill.or(other_bill).ok_or(Error::NoBill)?;
        let (mut headers, mut roots) = (Bytes::new(), BTreeMap::new());
        for (name, bytes) in members.below("signed/").filter(|(name, _)| name.ends_with(".tbs")) {
            if let Ok(header) = BlockHeader::from_bytes(bytes) {
                headers.entry((header.log.number(), header.height)).or_insert((name.to_owned(), bytes));
            } else if let Some(receipt) = receipt(bytes) {
                roots.entry((Kind::Receipt, receipt.log, receipt.size)).or_insert((name.to_owned(), bytes));
            } else if let Ok(found) = Checkpoint::from_bytes(bytes) {
                let key = (Kind::Checkpoint, found.log.number(), found.size);
                roots.entry(key).or_insert((name.to_owned(), bytes));
            }
        }
        Ok(Self { members, bill, places, slots, headers, roots, authentic, verdicts })
    }

    fn held(&self, slot: &Slot) -> Option<&Held<'a>> {
        self.places.get(self.slots.get(slot)?)
    }

    /// True when the pack's bill rests on it.
    fn rests_on(&self, slot: &Slot) -> bool {
        match slot {
            Slot::Paper(_) => true,
            Slot::Record(seq) => (self.bill.first_seq..=self.bill.last_seq).contains(seq),
            Slot::Bill(number) => *number == self.bill.number,
        }
    }
}

fn receipt(bytes: &[u8]) -> Option<Receipt> {
    hufu_trade::decode(bytes, "Receipt").ok()
}

fn slot(entry: &[u8], bill: &mut Option<Bill>) -> Option<Slot> {
    let entry = Entry::from_bytes(entry).ok()?;
    Some(match EntryKind::from_number(entry.kind)? {
        kind @ (EntryKind::Browse | EntryKind::Offer | EntryKind::Order | EntryKind::Deal) => Slot::Paper(kind.name()),
        EntryKind::Usage | EntryKind::Gap => {
            Slot::Record(hufu_trade::decode::<UsageRecord>(&entry.body, "UsageRecord").ok()?.order_seq)
        }
        EntryKind::Bill => {
            let found: Bill = hufu_trade::decode(&entry.body, "Bill").ok()?;
            let number = found.number.clone();
            *bill = Some(found);
            Slot::Bill(number)
        }
        _ => return None,
    })
}

type Points = Vec<((u8, u64, u64), Point)>;

/// Behind every entry of a block stands its header, behind that what is signed over it.
const HEADER: u64 = u64::MAX - 2;
const ROOT: u64 = u64::MAX - 1;

fn entries([one, two]: &[Side<'_>; 2], points: &mut Points) {
    for (place, here) in &one.places {
        if let Some(there) = two.places.get(place).filter(|there| there.hash != here.hash) {
            points.push(differs(one, two, Some(here), Some(there)));
        }
    }
    let slots: BTreeSet<&Slot> = one.slots.keys().chain(two.slots.keys()).collect();
    for slot in slots {
        let (here, there) = (one.held(slot), two.held(slot));
        let both = here.is_some() && there.is_some();
        let moved = here.map(|held| held.place) != there.map(|held| held.place);
        if moved && (both || (one.rests_on(slot) && two.rests_on(slot))) {
            points.push(differs(one, two, here, there));
        }
    }
}

/// Two entries that should be one, or one that a pack lacks.
fn differs(
    one: &Side<'_>,
    two: &Side<'_>,
    here: Option<&Held<'_>>,
    there: Option<&Held<'_>>,
) -> ((u8, u64, u64), Point) {
    let held = [here, there];
    let place = held.iter().flatten().map(|held| held.place).min().unwrap_or_default();
    let first = held.into_iter().flatten().find(|held| held.place == place);
    let block = (place.0, place.1);
    let read = |held: Option<&Held<'_>>| held.map(|held| fields::of_entry(held.piece.bytes)).unwrap_or_default();
    let (field, values) = match held {
        [Some(one), Some(two)] if one.hash == two.hash => ("-".to_owned(), [spot(one.place), spot(two.place)]),
        [Some(_), Some(_)] => parting(&read(here), &read(there)),
        _ => ("-".to_owned(), held.map(|held| held.map_or("-".to_owned(), |held| hex::encode(held.hash)))),
    };
    let why = match held {
        [Some(one), Some(two)] if one.hash == two.hash => Text::DisputePlace {},
        [Some(_), Some(_)] => forked(one, two, block).unwrap_or(Text::DisputeEntry {}),
        [Some(_), None] => Text::DisputeMissing { side: "A".to_owned() },
        _ => Text::DisputeMissing { side: "B".to_owned() },
    };
    let named = |held: Option<&Held<'_>>| held.map_or("-".to_owned(), |held| format!("{}#{field}", held.piece.name));
    let entry = first.map(|held| (held.place.2, held.kind.to_owned()));
    let places = held.map(named).map(|name| name.trim_end_matches("#-").to_owned());
    ((place.0, place.1, u64::from(place.2)), Point { block, entry, places, field, values, why })
}

fn spot((log, height, index): Place) -> String {
    format!("{log}-{height}-{index}")
}

/// The first field in which two differ, and what each says. Of a log's root nothing else matters, and what hides an entry is
/// worth a word only where nothing else differs.
fn parting(here: &Fields, there: &Fields) -> (String, [String; 2]) {
    let names: BTreeSet<&String> = here.keys().chain(there.keys()).collect();
    let differing = names.into_iter().filter(|name| here.get(*name) != there.get(*name));
    let name = differing.min_by_key(|name| match name.as_str() {
        "root" => 0,
        fields::SALT => 2,
        _ => 1,
    });
    let shown = |fields: &Fields| {
        let value = name.and_then(|name| fields.get(name)).map_or("-", String::as_str);
        value.chars().take(200).collect()
    };
    (name.map_or_else(|| "-".to_owned(), Clone::clone), [shown(here), shown(there)])
}

/// What two headers of one block mean; `None` when there are not two.
fn forked(one: &Side<'_>, two: &Side<'_>, block: (u8, u64)) -> Option<Text> {
    let ((_, here), (_, there)) = (one.headers.get(&block)?, two.headers.get(&block)?);
    let signed = |side: &Side<'_>, tbs: &[u8]| side.authentic.of(Kind::Block, tbs).is_some();
    (here != there).then(|| match (signed(one, here), signed(two, there)) {
        (true, true) => Text::DisputeFork {},
        (false, true) => Text::DisputeUnsigned { side: "A".to_owned() },
        (true, false) => Text::DisputeUnsigned { side: "B".to_owned() },
        (false, false) => Text::DisputeUnsigned { side: "A, B".to_owned() },
    })
}

fn headers([one, two]: &[Side<'_>; 2], points: &mut Points) {
    for (block, (name, here)) in &one.headers {
        let (Some((other, there)), Some(why)) = (two.headers.get(block), forked(one, two, *block)) else { continue };
        let (field, values) = parting(&fields::of_header(here), &fields::of_header(there));
        let places = [name, other].map(|name| format!("{name}#{field}"));
        points.push(((block.0, block.1, HEADER), Point { block: *block, entry: None, places, field, values, why }));
    }
}

/// Two signed roots of one size; or other bytes where a signature does not hold, so that somebody changed them.
fn roots([one, two]: &[Side<'_>; 2], points: &mut Points) {
    for (key, (name, here)) in &one.roots {
        let Some((other, there)) = two.roots.get(key).filter(|(_, there)| there != here) else { continue };
        let (kind, log, size) = *key;
        let read = |bytes: &[u8]| fields::of_root(bytes);
        let (here_fields, there_fields) = (read(here), read(there));
        let holds = one.authentic.of(kind, here).is_some() && two.authentic.of(kind, there).is_some();
        let same_root = here_fields.get("root") == there_fields.get("root");
        // A receipt given again later says the same of the log.
        if holds && same_root {
            continue;
        }
        let why = if holds { Text::DisputeRoot { size: size.to_string() } } else { Text::DisputeReceipt {} };
        let (field, values) = parting(&here_fields, &there_fields);
        let places = [name, other].map(|name| format!("{name}#{field}"));
        let block = (log, size.saturating_sub(1));
        points.push(((log, block.1, ROOT), Point { block, entry: None, places, field, values, why }));
    }
}

/// `bill.der` of one bill, the price terms and the rule table: what stands in no block by itself comes last.
fn attachments([one, two]: &[Side<'_>; 2], points: &mut Points) {
    for (order, name) in (0..).zip([layout::TARIFF, layout::CONTRACT, layout::BILL]) {
        let (Some(here), Some(there)) = (one.members.bytes(name), two.members.bytes(name)) else { continue };
        let other_bill = name == layout::BILL && one.bill.number != two.bill.number;
        if here == there || other_bill {
            continue;
        }
        let (field, values) = parting(&fields::of_member(name, here), &fields::of_member(name, there));
        let places = [(); 2].map(|()| format!("{name}#{field}"));
        let block = (u8::MAX, u64::MAX);
        let point = Point { block, entry: None, places, field, values, why: Text::DisputeMember {} };
        points.push(((u8::MAX, u64::MAX, order), point));
    }
}

impl Dispute {
    /// 0 when the packs agree, 1 when they do not.
    pub fn exit(&self) -> Exit {
        if self.first.is_none() { Exit::Done } else { Exit::No }
    }

    /// The command contract's JSON.
    pub fn to_json(&self, lang: Lang) -> serde_json::Value {
        let first = self.first.as_ref().map(|point| {
            let in_block = point.block.0 != u8::MAX;
            serde_json::json!({
                "log": in_block.then_some(point.block.0),
                "height": in_block.then_some(point.block.1),
                "index": point.entry.as_ref().map(|(index, _)| index),
                "kind": point.entry.as_ref().map(|(_, kind)| kind),
                "field": point.field,
                "where": point.places,
                "values": point.values,
                "why": point.why.render(lang),
            })
        });
        let [one, two] = &self.verdicts;
        serde_json::json!({
            "contract_no": self.contract_no,
            "same": self.first.is_none(),
            "first": first,
            "trusted": self.trusted,
            "packs": [one.to_json(lang), two.to_json(lang)],
        })
    }

    /// What a person reads.
    pub fn to_text(&self, lang: Lang) -> String {
        let mut lines = vec![Text::DisputeContract { number: self.contract_no.to_string() }.render(lang)];
        for (side, verdict) in ["A", "B"].iter().zip(&self.verdicts) {
            let side = (*side).to_owned();
            let signatures = &verdict.signatures;
            let holds = match (signatures.holds(), self.trusted) {
                (true, true) => Text::DisputeHolds { side },
                (true, false) => Text::DisputeHoldsAlone { side },
                (false, _) => Text::DisputeFails { side, count: signatures.problems.len().to_string() },
            };
            lines.push(holds.render(lang));
            let failing = verdict.each().into_iter().filter(|(_, verdict)| !verdict.holds());
            for problem in failing.flat_map(|(_, verdict)| &verdict.problems).take(PROBLEMS_SHOWN) {
                lines.push(format!("    {}: {}", problem.place, problem.what.render(lang)));
            }
        }
        let Some(point) = &self.first else {
            lines.push(Text::DisputeNone {}.render(lang));
            return lines.join("\n") + "\n";
        };
        let field = point.field.clone();
        let height = point.block.1.to_string();
        let block = if point.block.0 == 0 { Text::DisputeTrade { height } } else { Text::DisputeFinance { height } };
        let block = block.render(lang);
        let head = match &point.entry {
            Some((index, kind)) => Text::DisputeAt { block, entry: format!("{index} ({kind})"), field },
            None if point.block.0 == u8::MAX => Text::DisputeFile { field },
            None => Text::DisputeBlock { block, field },
        };
        lines.push(head.render(lang));
        for ((side, place), value) in ["A", "B"].iter().zip(&point.places).zip(&point.values) {
            lines.push(format!("    {side} {place}: {value}"));
        }
        lines.push(format!("    {}", point.why.render(lang)));
        lines.join("\n") + "\n"
    }
}
