//! What was lost comes again, also where nothing new happens that would bring it; and nothing is asked again without a pause.

use hufu_gm::Signed;
use hufu_trade::if2::{
    Said, Told, Topic,
    peers::{Ask, Headers},
};

use super::{
    market::START_NS,
    peers::{previous_of, signed_by, witnesses},
    site::{NAMES, Site, three},
};
use crate::peers::Event;

#[test]
fn a_word_that_was_lost_comes_again_though_the_log_does_not_grow() {
    let (mut site, _) = three(23, 0);
    site.hears = |from, to| (from, to) != (1, 0);
    site.write(0, 1);
    site.pass(12);
    assert_eq!(witnesses(&site, 0), [NAMES[2]], "the word of b is lost");
    site.hears = |_, _| true;
    // Ten checkpoints would have been made meanwhile.
    site.pass(125);
    assert_eq!(witnesses(&site, 0), [NAMES[1], NAMES[2]]);
}

/// What b asked and nobody has answered yet: from which height.
fn asked_by_b(site: &Site) -> Vec<u64> {
    let is_ask = |topic: &Topic| matches!(topic, Topic::LedgerTo { said: Said::Ask, .. });
    let asks = site.queue.iter().filter(|(from, topic, _)| *from == 1 && is_ask(topic));
    asks.map(|(.., payload)| Ask::from_bytes(payload).unwrap().from).collect()
}

#[test]
fn an_answer_that_leads_nowhere_is_not_followed_by_the_same_question_at_once() {
    let (mut site, _) = three(29, 0);
    for round in 0..10 {
        site.write(0, round);
    }
    site.pass(12);
    // a came back with six blocks and went on in a new epoch, of which b hears nothing but a checkpoint.
    let head = previous_of(&site, 6);
    (site.nodes[0].epoch, site.nodes[0].size, site.nodes[0].head) = (1, 6, head);
    let headers: Vec<Signed> = (0..10).map(|round| site.nodes[0].header(50 + round)).collect();
    for header in &headers {
        site.event(0, Event::Written { headers: vec![header.clone()], public: Vec::new() });
    }
    site.queue.clear();
    let payload = signed_by(&site.nodes[0].party, 16, [5; 32], START_NS);
    let topic = Topic::Ledger { pool: NAMES[0].to_owned(), told: Told::Checkpoint(0) };
    site.event(1, Event::Message { topic, payload });
    assert_eq!(asked_by_b(&site), [10]);
    // The blocks that it asks for do not follow those it holds: it looks further below, once.
    let answer = Headers::new(NAMES[0], 0, 10, headers[4..].to_vec()).to_bytes().unwrap();
    let topic = Topic::LedgerTo { pool: NAMES[0].to_owned(), to: NAMES[1].to_owned(), said: Said::Answer };
    for _ in 0..30 {
        site.event(1, Event::Message { topic: topic.clone(), payload: answer.clone() });
    }
    assert_eq!(asked_by_b(&site), [10, 0]);
    // What it finds there leads on, and nothing was lost.
    site.pass(30);
    let shown = site.nodes[1].peers.shown();
    let (size, cosigned) = (&shown.peers[0].trade, &shown.peers[0].cosigned[0]);
    assert_eq!((size.as_str(), cosigned.as_str()), ("16", "16"), "{:?}", site.nodes[1].alarms);
    assert!(site.nodes[1].forks().is_empty());
}
