//! What nodes cosigned of each other goes into the packs that the platform makes.

use hufu_audit::{Options, Outcome, verify};
use hufu_gm::Signed;
use hufu_ledger::{Checkpoint, Cosignature, Log, WitnessedCheckpoint, block::VERSION};
use hufu_trade::if2::{Told, Topic};

use super::{
    parties::{Party, party},
    world::{POOL, World},
};
use crate::{
    pack::{collect, zip},
    store::{node, witness},
};

impl World {
    /// The node's checkpoint over one of its logs, cosigned by these.
    fn cosigned(&self, log: Log, witnesses: &[&Party]) -> WitnessedCheckpoint {
        let (size, root) = (self.ledger.size(log), self.ledger.root(log));
        let one = Checkpoint { version: VERSION, log, node: POOL.to_owned(), epoch: 0, size, root, time: self.now };
        let signed = Signed::seal(one.to_bytes().expect("DER"), &self.node.id(), &self.node.key).expect("a signature");
        let mut whole = WitnessedCheckpoint { cosignatures: Vec::new(), checkpoint: signed.clone() };
        for witness in witnesses {
            let made = Cosignature::make(signed.tbs(), (&witness.id(), &witness.key), self.now);
            assert!(whole.add(made.expect("a signature")));
        }
        whole
    }

    async fn tell(&mut self, log: Log, whole: &WitnessedCheckpoint) {
        let topic = Topic::Ledger { pool: POOL.to_owned(), told: Told::Checkpoint(log.number()) };
        self.inbox.take(self.now, &topic, &whole.to_bytes().expect("DER")).await.expect("the database");
    }

    async fn witnesses_held(&self, log: Log) -> Option<u64> {
        let mut tx = self.store.read().await.expect("a transaction");
        witness::of_size(&mut tx, (POOL, log.number()), self.ledger.size(log)).await.expect("the database")
    }
}

#[tokio::test]
async fn packs_of_the_platform_hold_what_witnesses_that_it_knows_have_seen() {
    let mut world = World::open().await;
    let sold = world.sell();
    let bill = world.bill(&sold, |_| {});
    world.send_all().await;
    let [second, third, stranger] =
        [("s1/n2", 21), ("s1/n3", 22), ("s2/n9", 23)].map(|(name, scalar)| party(Some(&world.root), name, scalar));
    let mut tx = world.store.write().await.expect("a transaction");
    for (name, witness) in [("s1/n2", &second), ("s1/n3", &third)] {
        let chain = [witness.certificate.clone(), world.root.certificate.clone()];
        node::add_certificates(&mut tx, name, &chain, world.now).await.expect("the database");
    }
    tx.commit().await.expect("a commit");

    // Nobody's, a stranger's, its own and a forged cosignature count for nothing.
    let forged = Party { key: stranger.key.clone(), certificate: second.certificate.clone() };
    let own = Party { key: world.node.key.clone(), certificate: world.node.certificate.clone() };
    for nothing in [&[][..], &[&stranger], &[&own], &[&forged]] {
        let whole = world.cosigned(Log::Finance, nothing);
        world.tell(Log::Finance, &whole).await;
        assert_eq!(world.witnesses_held(Log::Finance).await, None);
    }
    for log in Log::ALL {
        let one = world.cosigned(log, &[&second]);
        world.tell(log, &one).await;
        assert_eq!(world.witnesses_held(log).await, Some(1));
        let both = world.cosigned(log, &[&second, &third, &stranger]);
        world.tell(log, &both).await;
        assert_eq!(world.witnesses_held(log).await, Some(2), "without the stranger");
        world.tell(log, &one).await;
        assert_eq!(world.witnesses_held(log).await, Some(2), "fewer do not take its place");
    }

    let mut tx = world.store.read().await.expect("a transaction");
    let input = collect(&mut tx, &bill.number, &[world.platform.certificate.clone()]).await.expect("the database");
    drop(tx);
    let bytes = zip(&input.expect("a pack")).expect("a pack").expect("whole");
    let anchors = std::slice::from_ref(&world.root.certificate);
    for (policy, wanted) in [("2:s1/n2,s1/n3", Outcome::Pass), ("3", Outcome::Pass), ("4", Outcome::Fail)] {
        let policy = policy.parse().expect("a policy");
        let options = Options { witnesses: Some(&policy), ..Options::default() };
        let found = verify(std::io::Cursor::new(bytes.clone()), anchors, options).expect("a pack");
        let results = [found.signatures, found.completeness, found.arithmetic].map(|verdict| verdict.result);
        let worst = if results.contains(&Outcome::Fail) { Outcome::Fail } else { Outcome::Pass };
        assert_eq!(worst, wanted, "{policy:?}: {results:?} {:?}", found.confirmed);
    }
}
