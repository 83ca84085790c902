//! What nodes make public reaches all who follow them, under the headers that they hold, and nothing else does.

use hufu_gm::Signed;
use hufu_ledger::merkle;
use hufu_trade::{
    encode,
    if2::{
        Told, Topic,
        public::{Public, PublicRecord},
    },
    octets::Octets,
};

use super::site::{NAMES, Site, three};
use crate::peers::{Event, public_record, public_records, scored};

const ENTRIES: [&[u8]; 3] = [
    include_bytes!("../../../trade/testdata/golden/Entry-offer.der"),
    include_bytes!("../../../trade/testdata/golden/Entry-deal.der"),
    include_bytes!("../../../trade/testdata/golden/Entry-score.der"),
];

/// A block of offer, deal and score of node a.
fn trade(site: &mut Site) -> Vec<PublicRecord> {
    let leaves: Vec<[u8; 32]> = ENTRIES.iter().map(|entry| merkle::leaf(entry)).collect();
    let height = site.nodes[0].size;
    let header = site.nodes[0].header_over(merkle::root(&leaves), 3);
    let records: Vec<PublicRecord> = (0..3_u32)
        .zip(ENTRIES)
        .map(|(index, entry)| {
            let path = merkle::path(&leaves, usize::try_from(index).unwrap()).unwrap();
            public_record(entry, (height, index), &path).expect("a public part")
        })
        .collect();
    site.event(0, Event::Written { headers: vec![header], public: records.clone() });
    records
}

/// What a node holds of a, as its files say.
fn held(site: &Site, place: usize) -> Vec<PublicRecord> {
    let disks = site.nodes[place].disks.lock().unwrap();
    public_records(disks.get("s1.a").unwrap())
}

#[test]
fn deals_offers_and_scores_reach_all_over_a_bad_line() {
    for (seed, loss) in [(1, 0), (2, 30)] {
        let (mut site, root) = three(seed, loss);
        let mut all = Vec::new();
        for round in 0..10 {
            all.extend(trade(&mut site));
            site.write(0, round);
            site.pass(5);
        }
        site.pass(400);
        for place in [1, 2] {
            assert_eq!(held(&site, place), all, "{seed}");
            let shown = site.nodes[place].peers.shown();
            assert_eq!((shown.peers[0].deals, shown.peers[0].scores), (10, 10), "{seed}");
            // Over a bad line a question may stay unanswered for long.
            let refused = site.nodes[place].alarms.iter().any(|(what, _)| *what == "peer refused");
            assert!(!refused, "{:?}", site.nodes[place].alarms);
        }
        assert_eq!(all.iter().filter_map(scored).count(), 10);
        let deal = all[1].deal.as_ref().expect("a deal");
        assert_eq!(Some(deal.contract_no), scored(&all[2]).map(|(no, _)| no), "the score is of this deal");
        // Who comes late has them from the broker, as far as its copy goes.
        site.nodes[1].again(&root);
        site.link(1);
        site.pass(5);
        assert_eq!(held(&site, 1), all);
    }
}

#[test]
fn what_does_not_stand_in_its_block_is_refused() {
    let (mut site, _) = three(5, 0);
    let records = trade(&mut site);
    site.pass(15);
    assert_eq!(held(&site, 1), records);
    let key = site.nodes[0].party.key.clone();
    let id = site.nodes[0].party.certificate.id();
    let stranger = super::market::party(None, NAMES[0], 66);
    let good = Public { version: 1, node: NAMES[0].to_owned(), from: 0, records: records.clone() };
    let with = |edit: fn(&mut Public)| {
        let mut other = good.clone();
        edit(&mut other);
        encode(&other, "Public").unwrap()
    };
    let sealed = |tbs: Vec<u8>| Signed::seal(tbs, &id, &key).unwrap().to_bytes().unwrap();
    let foreign = Signed::seal(with(|_| ()), &id, &stranger.key).unwrap().to_bytes().unwrap();
    for (name, payload) in [
        ("another hash", sealed(with(|public| public.records[1].hash = Octets([9; 32])))),
        ("another path", sealed(with(|public| public.records[0].path[0] = Octets([9; 32])))),
        ("another place", sealed(with(|public| public.records.truncate(1)).into_iter().chain([0]).collect())),
        ("an index beyond", sealed(with(|public| public.records[2].index = 7))),
        (
            "another score",
            sealed(with(|public| public.records[2].score = Some(der::asn1::OctetString::new(ENTRIES[1]).unwrap()))),
        ),
        ("another node", sealed(with(|public| public.node = "s1/c".to_owned()))),
        ("not its signature", foreign),
        ("nothing", vec![1, 2, 3]),
    ] {
        let before = site.nodes[1].alarms.len();
        let topic = Topic::Ledger { pool: NAMES[0].to_owned(), told: Told::Public };
        site.event(1, Event::Message { topic, payload });
        assert_eq!(site.nodes[1].alarms.len(), before + 1, "{name}: {:?}", site.nodes[1].alarms);
        assert_eq!(held(&site, 1), records, "{name}");
        site.pass(1);
    }
    // What the node itself takes back goes, and what waits for its header does not count yet.
    let topic = || Topic::Ledger { pool: NAMES[0].to_owned(), told: Told::Public };
    let ahead = sealed(with(|public| public.records[2].height = 9));
    site.event(1, Event::Message { topic: topic(), payload: ahead });
    assert_eq!(held(&site, 1), records);
    site.event(1, Event::Message { topic: topic(), payload: sealed(with(|public| public.records.clear())) });
    assert_eq!(held(&site, 1), []);
}
