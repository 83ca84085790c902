//! A node whose disk was lost or put back hears from its peers how far it signed, and gets its headers back.

use hufu_trade::if2::{Told, Topic};

use super::{
    peers::{previous_of, signed_by},
    site::{Site, three},
};
use crate::peers::{Event, Word, Words};

fn words(site: &Site, place: usize) -> Words {
    site.nodes[place].words.expect("it was heard")
}

#[test]
fn who_lost_nothing_hears_so() {
    let (mut site, root) = three(31, 0);
    site.pass(3);
    assert_eq!(words(&site, 0), Words { is_all: true, ..Words::default() });
    for round in 0..5 {
        site.write(0, round);
    }
    site.pass(15);
    site.nodes[0].words = None;
    site.nodes[0].again(&root);
    site.link(0);
    site.pass(3);
    assert_eq!(words(&site, 0).logs[0], Word { epoch: 0, size: 5 });
    assert!(words(&site, 0).is_all && site.nodes.iter().all(|node| node.alarms.is_empty()));
}

#[test]
fn a_lost_disk_gets_its_headers_back_over_a_bad_line_and_goes_on_in_a_new_epoch() {
    for (seed, loss) in [(1, 0), (2, 20), (3, 40)] {
        let (mut site, root) = three(seed, loss);
        for round in 0..250 {
            site.write(0, u8::try_from(round % 250).unwrap());
        }
        site.pass(600);
        let held = |site: &Site| site.nodes[1].peers.shown().peers[0].trade.clone();
        assert_eq!(held(&site), "250", "{seed}");
        // Nothing of it is left: neither ledger nor copies.
        site.nodes[0].disks = crate::trial::memory::Disks::default();
        site.nodes[0].words = None;
        site.nodes[0].again(&root);
        site.nodes[0].peers.ledger_holds([Word { epoch: 0, size: 0 }, Word::default()]);
        site.link(0);
        site.pass(600);
        let heard = words(&site, 0);
        assert_eq!((heard.logs[0], heard.is_all), (Word { epoch: 0, size: 250 }, true), "{seed}");
        assert_eq!(site.nodes[0].peers.own_sizes()[0], 250, "{seed}: its headers came back");
        // Of what it has lost it promises nothing, also after the next start.
        site.nodes[0].again(&root);
        site.nodes[0].peers.ledger_holds([Word { epoch: 0, size: 0 }, Word::default()]);
        site.nodes[0].words = None;
        site.event(0, Event::Tick);
        assert_eq!(words(&site, 0).logs[0].size, 250, "{seed}");
        // The platform had the first hundred; the others are lost, and a new epoch says so.
        let head = previous_of(&site, 100);
        let node = &mut site.nodes[0];
        (node.epoch, node.size, node.head) = (1, 100, head);
        site.link(0);
        for round in 0..20 {
            site.write(0, 60 + round);
            site.pass(15);
        }
        site.pass(600);
        for place in [1, 2] {
            let shown = site.nodes[place].peers.shown();
            assert_eq!((shown.peers[0].trade.as_str(), shown.peers[0].has_forked), ("120", false), "{seed}");
            assert!(site.nodes[place].forks().is_empty(), "{seed}");
        }
    }
}

#[test]
fn a_checkpoint_that_only_the_broker_or_a_follower_without_its_headers_has_is_heard() {
    for is_at_follower in [false, true] {
        let (mut site, root) = three(41, 0);
        for round in 0..5 {
            site.write(0, round);
        }
        site.pass(12);
        // Five more: their headers reach nobody. Their checkpoint stays at the broker, or at followers that ask in vain.
        for round in 5..10 {
            site.nodes[0].header(round);
        }
        let whole = signed_by(&site.nodes[0].party, 10, [5; 32], site.now().real_ns);
        let topic = Topic::Ledger { pool: "s1/a".to_owned(), told: Told::Checkpoint(0) };
        site.hears = |from, _| from != 0;
        if is_at_follower {
            site.event(1, Event::Message { topic, payload: whole });
        } else {
            site.event(0, Event::Message { topic, payload: whole });
            assert_eq!(words(&site, 0).logs[0], Word { epoch: 0, size: 10 });
        }
        site.queue.clear();
        site.hears = |_, _| true;
        if is_at_follower {
            site.nodes[0].words = None;
            site.nodes[0].again(&root);
            site.nodes[0].peers.ledger_holds([Word { epoch: 0, size: 5 }, Word::default()]);
            site.link(0);
            site.pass(5);
            assert_eq!(words(&site, 0).logs[0], Word { epoch: 0, size: 10 });
        }
    }
}

#[test]
fn headers_of_an_epoch_that_was_left_and_other_peoples_words_count_for_nothing() {
    let (mut site, root) = three(37, 0);
    for round in 0..10 {
        site.write(0, round);
    }
    site.pass(12);
    // c sleeps; a loses four blocks and goes on in a new epoch with one.
    site.hears = |from, to| from != 2 && to != 2;
    let head = previous_of(&site, 6);
    let node = &mut site.nodes[0];
    (node.epoch, node.size, node.head) = (1, 6, head);
    site.write(0, 77);
    site.pass(15);
    // After its next start c, which has slept through it, tells of ten blocks of the old one.
    site.hears = |from, to| from == 2 || to == 2;
    site.nodes[0].words = None;
    site.nodes[0].again(&root);
    site.nodes[0].peers.ledger_holds([Word { epoch: 1, size: 7 }, Word::default()]);
    site.queue.clear();
    site.event(0, Event::Linked);
    site.pass(1);
    let heard = site.nodes[0].words.map(|words| words.logs[0]);
    assert!(heard.is_none_or(|word| word == Word { epoch: 1, size: 7 }), "{heard:?}");
}
