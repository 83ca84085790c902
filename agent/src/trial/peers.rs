//! Nodes that keep each other honest, in one thread, with a broker that drops, doubles and reorders: copies, cosignatures, late comers, and a
//! node that shows two pasts.

use std::sync::Arc;

use hufu_gm::Signed;
use hufu_ledger::{Checkpoint, ForkProof, Log, Parted, WitnessedCheckpoint, block::VERSION, storage::Storage};
use hufu_trade::if2::{
    Said, Told, Topic,
    peers::{Ask, Headers, Witnessing},
};

use super::{
    market::{Party, START_NS, party},
    site::{NAMES, Node, Random, Site, me, terms, three},
};
use crate::{
    clock::Clock,
    peers::{Event, queue, thread},
    writer::Input,
};

/// Witnesses of the newest checkpoint of a node's trade log.
pub(super) fn witnesses(site: &Site, place: usize) -> Vec<String> {
    let shown = site.nodes[place].peers.shown();
    shown.cosigned[0].last().map(|newest| newest.witnesses.clone()).unwrap_or_default()
}

#[test]
fn copies_follow_and_checkpoints_are_cosigned_over_a_bad_line() {
    for (seed, loss) in [(1, 0), (2, 20), (3, 40)] {
        let (mut site, root) = three(seed, loss);
        for round in 0..20 {
            site.write(0, round);
            site.pass(3);
        }
        // What was lost on the way is asked for; the last word of a witness may need another checkpoint.
        for _ in 0..20 {
            site.write(0, 99);
            site.pass(15);
        }
        for place in [1, 2] {
            let shown = site.nodes[place].peers.shown();
            let own = shown.peers.iter().find(|peer| peer.node == NAMES[0]).unwrap();
            assert!(own.is_known && !own.has_forked, "{seed}: {own:?}");
            assert!(own.trade.parse::<u64>().unwrap() >= 30, "{seed}: {own:?}");
        }
        let seen = site.nodes[0].peers.shown().cosigned[0].iter().map(|one| one.witnesses.len()).max();
        assert_eq!(seen, Some(2), "{seed}");
        for node in &site.nodes {
            assert!(node.alarms.is_empty(), "{seed}, {}: {:?}", node.pool, node.alarms);
        }
        // A node that is started anew holds what it promised.
        let before = site.nodes[1].peers.shown().peers[0].cosigned.clone();
        site.nodes[1].again(&root);
        assert_eq!(site.nodes[1].peers.shown().peers[0].cosigned, before, "{seed}");
        if loss == 0 {
            assert_eq!(witnesses(&site, 0), ["s1/b", "s1/c"]);
            let shown = site.nodes[0].peers.shown();
            assert_eq!(shown.to_json([0, 0])["trade"]["confirmed"], "40");
        }
    }
}

#[test]
fn a_late_comer_begins_at_a_checkpoint_and_one_that_was_away_catches_up() {
    let (mut site, root) = three(7, 0);
    for round in 0..40 {
        for _ in 0..50 {
            site.write(0, round);
        }
        site.pass(1);
    }
    site.pass(15);
    let mut late = Node::open("s1/d", 20, &NAMES, &root);
    late.follow = NAMES.map(str::to_owned).to_vec();
    site.nodes.push(late);
    site.link(3);
    let before = site.bytes;
    site.pass(20);
    let shown = site.nodes[3].peers.shown();
    assert_eq!((shown.peers[0].trade.as_str(), shown.peers[0].cosigned[0].as_str()), ("2000", "2000"));
    assert!(site.bytes - before < 20_000, "a beginning and not two thousand headers: {}", site.bytes - before);
    // Away for some hundred blocks, it asks for what it lacks.
    site.event(3, Event::Unlinked);
    site.nodes[3].follow.clear();
    for round in 0..30 {
        for _ in 0..20 {
            site.write(0, round);
        }
        site.pass(1);
    }
    site.nodes[3].follow = NAMES.map(str::to_owned).to_vec();
    site.link(3);
    site.pass(30);
    let shown = site.nodes[3].peers.shown();
    assert_eq!(shown.peers[0].cosigned[0], "2600");
    assert!(site.nodes.iter().all(|node| node.alarms.is_empty()));
}

#[test]
fn a_checkpoint_costs_a_logarithm_of_reads() {
    for (size, levels) in [(64, 6), (512, 9), (4096, 12)] {
        let (mut site, _) = three(9, 0);
        for round in 0..size {
            site.write(0, u8::try_from(round % 200).unwrap());
            if round % 40 == 39 {
                site.pass(1);
            }
        }
        site.pass(30);
        site.write(0, 201);
        let reads = |site: &Site| site.nodes[1].disks.lock().unwrap().get("s1.a").unwrap().reads();
        let before = reads(&site);
        site.pass(12);
        let shown = site.nodes[1].peers.shown();
        assert_eq!(shown.peers[0].cosigned[0], (size + 1).to_string());
        // Its own root, and that of each word of another witness.
        let count = reads(&site) - before;
        assert!(count > 0 && count <= 4 * levels, "{count} reads at {size} blocks");
    }
}

#[test]
fn a_witness_that_is_gone_takes_nothing_with_it_that_the_others_see() {
    let (mut site, root) = three(8, 0);
    // Size and witnesses of what the first has kept for packs.
    let kept = |site: &Site| -> Vec<(u64, usize)> {
        let files = site.nodes[0].disks.lock().unwrap().get("s1.a").unwrap().contents();
        let read = files.iter().filter_map(|bytes| WitnessedCheckpoint::from_bytes(bytes).ok());
        let mut kept: Vec<_> = read.map(|whole| (whole.read().unwrap().size, whole.cosignatures.len())).collect();
        kept.sort_unstable();
        kept
    };
    for round in 0..5 {
        site.write(0, round);
        site.pass(15);
    }
    assert_eq!(kept(&site), [(5, 1), (5, 2)]);
    site.nodes[2].follow.clear();
    for round in 0..5 {
        site.write(0, round);
        site.pass(15);
    }
    assert_eq!(kept(&site), [(5, 2), (10, 1)]);
    site.nodes[0].again(&root);
    assert_eq!(
        site.nodes[0].peers.shown().cosigned[0].last().map(|one| (one.size, one.witnesses.len())),
        Some((10, 1))
    );
}

/// Two processes with the key of one node: b hears one of them, c the other; b and c hear each other.
fn apart(from: usize, to: usize) -> bool {
    // Places: 0 and 3 are the two pasts of a, 1 is b, 2 is c.
    !matches!((from, to), (0, 2) | (2, 0) | (3, 1) | (1, 3) | (0, 3) | (3, 0))
}

#[test]
fn two_pasts_convict_their_node_in_every_schedule() {
    let root = party(None, "root", 1);
    // Checkpoints until both hold the proof, by the loss in a hundred messages over ten.
    let mut most = [0; 4];
    for seed in 0..1000 {
        let mut random = Random(seed);
        let (common, loss) = (random.below(20), [0, 10, 30][usize::try_from(random.below(3)).unwrap()]);
        let mut nodes: Vec<Node> =
            (10..).zip(NAMES).map(|(scalar, name)| Node::open(name, scalar, &NAMES, &root)).collect();
        nodes.push(Node::open(NAMES[0], 10, &NAMES, &root));
        let mut site = Site::new(nodes, apart, (seed, loss));
        (0..4).for_each(|place| site.link(place));
        for _ in 0..common {
            site.write(0, 1);
            site.write(3, 1);
        }
        let more = 1 + random.below(6);
        for _ in 0..more {
            site.write(0, 2);
            site.write(3, 3);
            site.pass(random.below(12));
        }
        let mut forks = (Vec::new(), Vec::new());
        let mut checkpoints = 0;
        for _ in 0..200 {
            site.write(0, 2);
            site.write(3, 3);
            // One checkpoint, and the words about it.
            site.pass(11);
            checkpoints += 1;
            forks = (site.nodes[1].forks(), site.nodes[2].forks());
            if !forks.0.is_empty() && forks.0 == forks.1 {
                break;
            }
        }
        most[usize::try_from(loss / 10).unwrap()] = most[usize::try_from(loss / 10).unwrap()].max(checkpoints);
        let alarms = || (&site.nodes[1].alarms, &site.nodes[2].alarms);
        assert!(!forks.0.is_empty() && forks.0 == forks.1, "seed {seed}: {:?}", alarms());
        let headers = forks.0.iter().map(|bytes| ForkProof::from_bytes(bytes).unwrap());
        let key = site.nodes[0].party.key.public_key();
        let parted: Vec<Parted> = headers.filter_map(|proof| proof.judge(&|_| Some(key.clone())).unwrap()).collect();
        assert!(parted.contains(&Parted::Height(common)), "seed {seed}: {parted:?}");
        for place in [1, 2] {
            let shown = site.nodes[place].peers.shown();
            let forked: Vec<bool> = shown.peers.iter().map(|peer| peer.has_forked).collect();
            assert_eq!(forked, [true, false], "seed {seed}: a, and not the other witness");
            assert!(site.nodes[place].alarms.iter().any(|(what, _)| *what == "peer forked"), "seed {seed}");
        }
    }
    println!(
        "checkpoints until the proof at a loss of 0, 10 and 30 in a hundred: {}, {} and {}",
        most[0], most[1], most[3]
    );
    assert_eq!(most[0], 1, "where nothing is lost, the first checkpoint that is exchanged");
}

#[test]
fn an_epoch_after_an_honest_loss_is_no_fork() {
    let (mut site, _) = three(11, 0);
    for round in 0..10 {
        site.write(0, round);
    }
    site.pass(12);
    // The disk came back as it was after six blocks; a new epoch takes the place of the other four.
    assert_eq!(site.nodes[0].peers.own_sizes()[0], 10);
    let head = previous_of(&site, 6);
    let node = &mut site.nodes[0];
    (node.epoch, node.size, node.head) = (1, 6, head);
    for round in 0..3 {
        site.write(0, 50 + round);
    }
    site.pass(30);
    for place in [1, 2] {
        let shown = site.nodes[place].peers.shown();
        assert_eq!(
            (shown.peers[0].trade.as_str(), shown.peers[0].has_forked),
            ("9", false),
            "{:?}",
            site.nodes[place].alarms
        );
        assert!(site.nodes[place].alarms.iter().any(|(what, _)| *what == "peer opened an epoch"));
        assert!(site.nodes[place].forks().is_empty());
    }
}

/// Hash of the block below a height, as another node holds it.
pub(super) fn previous_of(site: &Site, height: u64) -> [u8; 32] {
    let disks = site.nodes[2].disks.lock().unwrap();
    let storage: Arc<dyn Storage> = Arc::new(disks.get("s1.a").unwrap().clone());
    let copy = hufu_ledger::LogCopy::open(storage, "s1/a", Log::Trade, 4096).unwrap();
    hufu_ledger::block_hash(copy.headers(height - 1, 1).unwrap()[0].tbs())
}

/// A checkpoint of a's trade log with this signature.
pub(super) fn signed_by(party: &Party, size: u64, root: [u8; 32], time: i64) -> Vec<u8> {
    let node = NAMES[0].to_owned();
    let one = Checkpoint { version: VERSION, log: Log::Trade, node, epoch: 0, size, root, time };
    let signed = Signed::seal(one.to_bytes().unwrap(), &party.certificate.id(), &party.key).unwrap();
    WitnessedCheckpoint { checkpoint: signed, cosignatures: Vec::new() }.to_bytes().unwrap()
}

#[test]
fn liars_floods_and_strangers_move_nothing() {
    let (mut site, _) = three(13, 0);
    for round in 0..5 {
        site.write(0, round);
    }
    site.pass(12);
    let before = site.nodes[1].peers.shown();
    let a = &site.nodes[0].party;
    let stranger = party(None, "s1/a", 66);
    let told = |told: Told| Topic::Ledger { pool: "s1/a".to_owned(), told };
    let said = |said: Said| Topic::LedgerTo { pool: "s1/a".to_owned(), to: "s1/b".to_owned(), said };
    let future = START_NS + 1_000_000_000_000_000;
    let mut messages = vec![
        (told(Told::Checkpoint(0)), signed_by(&stranger, 9, [1; 32], START_NS)),
        (told(Told::Checkpoint(0)), signed_by(a, 9, [1; 32], future)),
        (told(Told::Checkpoint(1)), signed_by(a, 9, [1; 32], START_NS)),
        (told(Told::Checkpoint(0)), vec![0x30, 0]),
        (
            told(Told::Certificates),
            hufu_trade::if2::peers::chain_to_bytes(&[stranger.certificate.der().to_vec()]).unwrap(),
        ),
        (told(Told::Certificates), vec![1]),
        (told(Told::Headers), vec![2; 70_000]),
        (told(Told::Headers), Headers::new("s1/c", 0, 0, Vec::new()).to_bytes().unwrap()),
        (said(Said::Answer), Headers::new("s1/a", 0, 77, Vec::new()).to_bytes().unwrap()),
        (said(Said::Ask), vec![3]),
        (told(Told::Cosignature), Witnessing::new("s1/b", 0, (1, [9; 32]), vec![1]).unwrap().to_bytes().unwrap()),
        (told(Told::Fork("0123456789abcdef".to_owned())), vec![4; 100]),
    ];
    for _ in 0..2000 {
        messages.push((said(Said::Ask), Ask::new("s1/b", 0, 0, 1).to_bytes().unwrap()));
    }
    let (sent, from) = (site.queue.len(), site.bytes);
    for (topic, payload) in messages {
        site.event(1, Event::Message { topic, payload });
    }
    assert!(site.queue.len() - sent <= 64, "a flood is answered so often in a second: {}", site.queue.len() - sent);
    assert!(site.bytes - from < 64 * 1024);
    let after = site.nodes[1].peers.shown();
    assert_eq!((&after.peers, &after.forks), (&before.peers, &before.forks));
    // And goes on as before.
    site.queue.clear();
    site.pass(2);
    site.write(0, 7);
    site.pass(15);
    assert_eq!(site.nodes[1].peers.shown().peers[0].cosigned[0], "6");
}

#[test]
fn a_node_that_does_not_serve_what_it_signed_is_an_alarm() {
    let (mut site, _) = three(17, 0);
    site.write(0, 1);
    site.pass(12);
    site.queue.clear();
    // Its blocks are told to nobody, its checkpoint is, and it answers nothing.
    for round in 0..5 {
        site.nodes[0].header(round);
    }
    let forged = signed_by(&site.nodes[0].party, 6, [5; 32], START_NS);
    site.hears = |from, _| from != 0;
    let topic = Topic::Ledger { pool: "s1/a".to_owned(), told: Told::Checkpoint(0) };
    site.event(1, Event::Message { topic, payload: forged });
    site.pass(200);
    let alarms: Vec<&str> = site.nodes[1].alarms.iter().map(|(what, _)| *what).collect();
    assert_eq!(alarms, ["peer does not serve"], "{:?}", site.nodes[1].alarms);
    assert_eq!(site.nodes[1].peers.shown().peers[0].cosigned[0], "1", "and nothing is cosigned");
}

#[test]
fn nothing_is_promised_that_is_not_on_the_disk() {
    let (mut site, root) = three(19, 0);
    site.write(0, 1);
    site.pass(12);
    let held = site.nodes[1].peers.shown().peers[0].cosigned.clone();
    assert_eq!(held[0], "1");
    site.nodes[1].disks.lock().unwrap().get("s1.a").unwrap().fail(true);
    site.hears = |from, to| (from, to) == (0, 1);
    site.write(0, 2);
    // What b hears is handed to it by hand: its disk takes nothing any more.
    let mut outcomes = Vec::new();
    for (from, topic, payload) in std::mem::take(&mut site.queue) {
        if from == 0 {
            let now = site.now();
            outcomes.push(site.nodes[1].peers.handle(now, Event::Message { topic, payload }));
        }
    }
    assert!(outcomes.iter().any(Result::is_err), "{outcomes:?}");
    assert!(outcomes.iter().flatten().all(Vec::is_empty), "nothing was cosigned: {outcomes:?}");
    site.nodes[1].disks.lock().unwrap().get("s1.a").unwrap().fail(false);
    site.nodes[1].again(&root);
    assert_eq!(site.nodes[1].peers.shown().peers[0].cosigned, held);
}

#[test]
fn a_disk_that_fails_ends_following_with_an_alarm() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = dir.path().join("ledger");
    std::fs::write(thread::dir_of(&ledger), b"no directory").unwrap();
    let root = party(None, "root", 1);
    let (_to_peers, inbox) = queue();
    let (writer, inputs) = std::sync::mpsc::sync_channel(1);
    let (link, _out) = tokio::sync::mpsc::channel(1);
    let me = me(NAMES[0], &party(Some(&root), NAMES[0], 10), &root);
    let terms = terms(&NAMES.map(str::to_owned));
    let clock = Clock::SYSTEM;
    let link = link.downgrade();
    thread::run(thread::Start { me, terms, ledger, inbox, link, writer, clock });
    let Input::Alarm { what, detail } = inputs.recv().unwrap() else { panic!("an alarm") };
    assert_eq!(what, "peers not followed");
    assert!(detail.contains("ledger.peers"), "it says where: {detail}");
}
