//! A flood in a node's name, by mosquitto's own clients: what the node once told of its log, again and again, as it was, mangled, in places
//! where it does not belong, and longer than a message may be. Whoever may write to the broker in a node's name can do no more without its key.

use std::{collections::BTreeMap, fs, process::Command, thread::JoinHandle};

use crate::{
    broker::Given,
    house::House,
    program::{Daemon, run},
    wait,
};

/// Times that each message is sent.
const TIMES: usize = 100;
/// One octet more than a receiver takes.
const TOO_LONG: usize = 65_537;
/// Clients at once.
const CLIENTS: usize = 2;

/// Messages by topic, as they were heard: octets.
pub type Heard = BTreeMap<String, Vec<u8>>;

/// A mosquitto_sub that writes down what a node tells of its log from now on.
#[derive(Debug)]
pub struct Listener(Daemon);

impl Listener {
    /// Listens.
    pub fn new(house: &House, broker: &Given, node: &str) -> Self {
        let mut program = broker.client("mosquitto_sub");
        let ready = format!("ready/{node}");
        program.args(["-t", &format!("hufu/v1/{node}/ledger/#"), "-t", &ready, "-F", "%t %x"]);
        let listener = Daemon::start(&mut program, &house.at("heard"));
        wait::until_true("the listener hears", 60, || {
            run(broker.client("mosquitto_pub").args(["-t", &ready, "-m", "now"]));
            listener.said().contains(&format!("{ready} "))
        });
        Self(listener)
    }

    /// The newest of each topic.
    pub fn heard(&self) -> Heard {
        let said = self.0.said();
        let told = said.lines().filter_map(|line| line.split_once(' ')).filter(|(topic, _)| topic.starts_with("hufu/"));
        told.filter_map(|(topic, text)| Some((topic.to_owned(), octets(text)?))).collect()
    }
}

fn octets(text: &str) -> Option<Vec<u8>> {
    (0..text.len() / 2).map(|at| u8::from_str_radix(text.get(at * 2..at * 2 + 2)?, 16).ok()).collect()
}

/// A message, and what becomes of it in a liar's hands.
fn variants(octets: &[u8]) -> Vec<Vec<u8>> {
    let changed = |at: usize| {
        let mut other = octets.to_vec();
        if let Some(octet) = other.get_mut(at) {
            *octet ^= 1;
        }
        other
    };
    let half = octets.len() / 2;
    let long = octets.iter().copied().cycle().take(TOO_LONG).collect();
    vec![octets.to_vec(), changed(half), changed(octets.len().saturating_sub(1)), octets[..half].to_vec(), long]
}

/// It goes on beside the test until it is through.
#[derive(Debug)]
pub struct Flood(Vec<JoinHandle<usize>>);

impl Flood {
    /// Begins: what `node` told, at its own place and at every other of its topics.
    pub fn start(house: &House, broker: &Given, node: &str, heard: &Heard) -> Self {
        let folder = house.at("flood");
        fs::create_dir(&folder).expect("a folder");
        let mut parts: Vec<Vec<Command>> = (0..CLIENTS).map(|_| Vec::new()).collect();
        let mut number = 0;
        let mut add = |topic: &str, octets: &[u8]| {
            let file = folder.join(number.to_string());
            fs::write(&file, octets).expect("a file");
            let mut client = broker.client("mosquitto_pub");
            client.args(["-t", topic, "--repeat", &TIMES.to_string(), "-f"]).arg(&file);
            parts[number % CLIENTS].push(client);
            number += 1;
        };
        for (topic, message) in heard {
            for octets in variants(message) {
                add(topic, &octets);
            }
            for elsewhere in heard.keys().filter(|other| *other != topic) {
                add(elsewhere, message);
            }
            add(&format!("hufu/v1/{node}/ledger/fork-0123456789abcdef"), message);
        }
        Self(parts.into_iter().map(|part| std::thread::spawn(|| part.into_iter().map(send).sum())).collect())
    }

    /// Whether it is through.
    pub fn is_over(&self) -> bool {
        self.0.iter().all(JoinHandle::is_finished)
    }

    /// Waits until it is through; how many messages the broker took.
    pub fn end(self) -> usize {
        self.0.into_iter().map(|part| part.join().expect("the clients ran")).sum()
    }
}

/// Sends one message so often; a broker that was killed meanwhile has another in its place.
fn send(mut client: Command) -> usize {
    wait::until("a client is through", 120, || (run(&mut client).code == 0).then_some(TIMES))
}
