//! A node that goes on in a new epoch from further back than a follower's headers reach: the copy is fetched anew, and what was promised
//! before is still held against what comes.

use hufu_gm::Signed;
use hufu_ledger::{Checkpoint, ForkProof, Parted};
use hufu_trade::if2::{
    Said, Told, Topic,
    peers::{Ask, Headers},
};

use super::{
    market::{Party, START_NS},
    memory::storages,
    peers::{previous_of, signed_by},
    site::{NAMES, Site, me, terms, three},
};
use crate::peers::{Event, Peers, Terms};

/// Headers that b keeps.
const ROOM: u64 = 4;

/// Three nodes; a has ten blocks, which the others cosigned.
fn ten() -> (Site, Party) {
    let (mut site, root) = three(31, 0);
    let b = &mut site.nodes[1];
    let terms = Terms { headers: ROOM, ..terms(&b.follow) };
    b.peers = Peers::open(me(&b.pool, &b.party, &root), terms, &storages(&b.disks)).unwrap();
    site.link(1);
    for round in 0..10 {
        site.write(0, round);
    }
    site.pass(12);
    assert_eq!(of_a(&site).1, "10");
    (site, root)
}

/// Of a, as b shows it: size of the copy, size that was cosigned.
fn of_a(site: &Site) -> (String, String) {
    let shown = &site.nodes[1].peers.shown().peers[0];
    (shown.trade.clone(), shown.cosigned[0].clone())
}

/// So many headers of a from where it stands, which nobody is told.
fn untold(site: &mut Site, count: u8) -> Vec<Signed> {
    (0..count).map(|round| site.nodes[0].header(50 + round)).collect()
}

#[test]
fn an_epoch_from_below_the_headers_is_copied_anew() {
    for back in [3, 6, 8] {
        let (mut site, _) = ten();
        let head = previous_of(&site, back);
        (site.nodes[0].epoch, site.nodes[0].size, site.nodes[0].head) = (1, back, head);
        for round in 0..10 {
            site.write(0, 50 + round);
        }
        site.pass(60);
        let size = (back + 10).to_string();
        assert_eq!(of_a(&site), (size.clone(), size), "back to {back}: {:?}", site.nodes[1].alarms);
        let alarms = &site.nodes[1].alarms;
        let count = alarms.iter().filter(|(what, _)| *what == "peer opened an epoch").count();
        assert_eq!((count, site.nodes[1].forks().len()), (1, 0), "{alarms:?}");
    }
}

#[test]
fn an_epoch_that_was_itself_lost_takes_nothing_back() {
    let (mut site, _) = ten();
    // Epoch 2 follows block 9 of epoch 0; a block of epoch 1, which it took the place of, comes late.
    let at_9 = previous_of(&site, 9);
    let late = {
        let head = previous_of(&site, 8);
        (site.nodes[0].epoch, site.nodes[0].size, site.nodes[0].head) = (1, 8, head);
        untold(&mut site, 1)
    };
    (site.nodes[0].epoch, site.nodes[0].size, site.nodes[0].head) = (2, 9, at_9);
    for round in 0..3 {
        site.write(0, 70 + round);
    }
    site.pass(20);
    assert_eq!(of_a(&site).1, "12");
    let payload = Headers::new(NAMES[0], 0, 8, late).to_bytes().unwrap();
    let topic = Topic::Ledger { pool: NAMES[0].to_owned(), told: Told::Headers };
    site.event(1, Event::Message { topic, payload });
    assert_eq!(of_a(&site).0, "12");
    site.write(0, 80);
    site.pass(20);
    assert_eq!(of_a(&site).1, "13", "{:?}", site.nodes[1].alarms);
}

#[test]
fn a_new_epoch_is_no_way_around_what_was_promised() {
    let (mut site, _) = ten();
    let told = |told: Told| Topic::Ledger { pool: NAMES[0].to_owned(), told };
    // A block of a later epoch that follows nothing which b holds makes it forget its headers ..
    (site.nodes[0].epoch, site.nodes[0].size, site.nodes[0].head) = (1, 10, [9; 32]);
    let lure = untold(&mut site, 1);
    site.hears = |from, to| (from, to) != (0, 1);
    let payload = Headers::new(NAMES[0], 0, 10, lure).to_bytes().unwrap();
    site.event(1, Event::Message { topic: told(Told::Headers), payload });
    site.queue.clear();
    // (.. once it has looked for what lies below ..)
    let looked: Vec<Signed> = {
        (site.nodes[0].epoch, site.nodes[0].size, site.nodes[0].head) = (1, 6, [8; 32]);
        untold(&mut site, 4)
    };
    let answer =
        |first: u64, headers: &[Signed]| Headers::new(NAMES[0], 0, first, headers.to_vec()).to_bytes().unwrap();
    let said = Topic::LedgerTo { pool: NAMES[0].to_owned(), to: NAMES[1].to_owned(), said: Said::Answer };
    site.pass(1);
    site.event(1, Event::Message { topic: said.clone(), payload: answer(6, &looked) });
    assert_eq!(of_a(&site), ("0".to_owned(), "10".to_owned()), "{:?}", site.nodes[1].alarms);
    // Whoever asks how far a signed hears what b promised, all the same.
    let topic = Topic::LedgerTo { pool: NAMES[2].to_owned(), to: NAMES[1].to_owned(), said: Said::Ask };
    site.queue.clear();
    site.event(1, Event::Message { topic, payload: Ask::new(NAMES[0], 0, 0, 0).to_bytes().unwrap() });
    let is_answer = |topic: &Topic| matches!(topic, Topic::LedgerTo { said: Said::Answer, .. });
    let (.., payload) = site.queue.iter().find(|(_, topic, _)| is_answer(topic)).unwrap();
    let newest = Headers::from_bytes(payload).unwrap().newest.unwrap();
    assert_eq!(Checkpoint::from_bytes(newest.tbs()).unwrap().size, 10);
    // .. and then a shows another past of the old epoch, with a checkpoint over it.
    (site.nodes[0].epoch, site.nodes[0].size, site.nodes[0].head) = (0, 0, [0; 32]);
    let other = untold(&mut site, 12);
    let mut tree = hufu_ledger::merkle::Frontier::default();
    for header in &other {
        tree.push(hufu_ledger::merkle::leaf(&hufu_ledger::block_hash(header.tbs())));
    }
    let checkpoint = signed_by(&site.nodes[0].party, 12, tree.root(), START_NS);
    site.queue.clear();
    site.event(1, Event::Message { topic: told(Told::Checkpoint(0)), payload: checkpoint });
    let is_ask = |topic: &Topic| matches!(topic, Topic::LedgerTo { said: Said::Ask, .. });
    let asks: Vec<Ask> = site
        .queue
        .iter()
        .filter(|(_, topic, _)| is_ask(topic))
        .map(|(.., payload)| Ask::from_bytes(payload).unwrap())
        .collect();
    assert!(matches!(&asks[..], [ask] if ask.from == 0 && ask.until == 12), "{asks:?}");
    site.event(1, Event::Message { topic: said, payload: answer(0, &other) });
    // Nothing is signed for it, and the two checkpoints convict.
    assert!(site.queue.iter().all(|(_, topic, _)| !matches!(topic, Topic::Ledger { told: Told::Cosignature, .. })));
    let forks = site.nodes[1].forks();
    assert_eq!(forks.len(), 1, "{:?}", site.nodes[1].alarms);
    let proof = ForkProof::from_bytes(&forks[0]).unwrap();
    let key = site.nodes[0].party.key.public_key();
    assert!(matches!(proof.judge(&|_| Some(key.clone())), Ok(Some(Parted::Size(_)))));
}
