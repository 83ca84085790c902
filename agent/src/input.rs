//! What reaches the one writer: everything that happens to the node comes to it by one bounded queue.

use hufu_metering::{Plan, counters::Counters};
use hufu_trade::{if2::Topic, octets::ContractNo};

use crate::{directory, hardware::Found, link::Stub, local::Correct, node::Event, peers, personal::Operation};

/// What reaches the writer.
#[derive(Debug)]
pub(crate) enum Input {
    /// Something happened.
    Event(Event),
    /// A message of the broker; its acknowledgement goes out when it is dealt with.
    Message { topic: Topic, payload: Vec<u8>, stub: Stub },
    /// An order's place is there, or not.
    Place { contract: ContractNo, outcome: Result<(Plan, Option<String>), String> },
    /// The helper attached the traffic counters of the cgroup at this path; before its order's [`Input::Place`].
    Counters { path: String, counters: Counters },
    /// The sampler's state, to be kept for a restart.
    MeterState(Vec<u8>),
    /// The site corrects a bill; what is due then, or why not.
    Correct { order: Correct, answer: tokio::sync::oneshot::Sender<String> },
    /// Personal data of these contracts is to be read or written out; whether that stands in the ledger.
    Reading { operation: Operation, contracts: Vec<ContractNo>, answer: tokio::sync::oneshot::Sender<String> },
    /// Personal data of a contract is to be erased; whether it was.
    Erase { operation: Operation, contract: ContractNo, answer: tokio::sync::oneshot::Sender<String> },
    /// Somebody asks how things are.
    Status(tokio::sync::oneshot::Sender<String>),
    /// Which accounts the platform told?
    Accounts(tokio::sync::oneshot::Sender<String>),
    /// The hardware was looked at.
    Hardware(Found),
    /// The directory was asked.
    Directory(directory::Found),
    /// The site accepts it as it is.
    Accept(tokio::sync::oneshot::Sender<String>),
    /// The next key is to sign from now on.
    Rotate(tokio::sync::oneshot::Sender<String>),
    /// A monitoring system asks for every series.
    Metrics(tokio::sync::oneshot::Sender<String>),
    /// Somebody beside the writer has something that a person must know.
    Alarm { what: &'static str, detail: String },
    /// How far this node signed, as its peers know.
    Words(peers::Words),
    /// How the peers stand.
    Peers(Box<peers::Shown>),
    /// End.
    Stop,
}
