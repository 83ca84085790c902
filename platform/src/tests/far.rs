//! The far end of a relay: a node that answers everything alike, in signed envelopes through the inbox, as over MQTT.

use std::sync::Arc;

use hufu_gm::{
    Hash,
    sm2::{PublicKey, SecretKey},
};
use hufu_trade::{
    if2::{Answer, Envelope, PLATFORM, Topic},
    octets::Octets,
};
use serde_json::Value;
use tokio::sync::{broadcast, mpsc};

use super::world::{POOL, START, World};
use crate::{
    inbox::{Answered, Inbox, Outgoing},
    judge::Code,
    relay::Relay,
};

/// A node that answers.
struct Node {
    key: SecretKey,
    id: Hash,
    platform: PublicKey,
    inbox: Inbox,
    answer: Answer<Value>,
}

impl Node {
    async fn run(mut self, mut sent: mpsc::Receiver<Outgoing>, answered: broadcast::Sender<Answered>) {
        while let Some(Outgoing { topic, payload }) = sent.recv().await {
            let Topic::Call { pool, interface, answer: false } = topic else { panic!("{topic}") };
            let envelope = Envelope::parse(&payload).expect("an envelope");
            let asked = envelope.open::<Value>(&self.platform, interface, POOL, &payload).expect("the platform's");
            let id = Some(asked.payload.id.as_str());
            let (key, cert) = (&self.key, Octets(self.id));
            let sealed = Envelope::seal(interface, POOL, PLATFORM, START, id, None, &self.answer, key, cert);
            let topic = Topic::Call { pool, interface, answer: true };
            let taken = self.inbox.take(START, &topic, &sealed.expect("an answer").1).await.expect("the database");
            taken.answered.and_then(|found| answered.send(found).ok());
        }
    }
}

/// What a node says that cannot answer now.
pub(crate) fn busy() -> Answer<Value> {
    Answer::Error(Code::Busy.problem(None, "the node starts"))
}

/// A relay and, behind it, a node that answers everything with `answer`. The node ends when the relay does.
pub(crate) fn relay(world: &World, now: fn() -> i64, answer: Answer<Value>) -> Relay {
    let (outgoing, sent) = mpsc::channel(8);
    let (answered, _) = broadcast::channel(8);
    let (store, identity) = (world.store.clone(), Arc::clone(&world.identity));
    let relay = Relay::new(store.clone(), Arc::clone(&identity), outgoing, answered.clone(), now);
    let node = Node {
        key: world.node.key.clone(),
        id: world.node.id(),
        platform: identity.key.public_key(),
        inbox: Inbox::new(store, identity),
        answer,
    };
    tokio::spawn(node.run(sent, answered));
    relay
}
