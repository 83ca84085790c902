//! What a simulated node is made of, and its two beginnings: `hufu init` and the start of the daemon.

use std::{
    path::PathBuf,
    sync::{Arc, mpsc::sync_channel},
};

use hufu_gm::{cert::Certificate, sm2::SecretKey};
use hufu_ledger::{Ledger, Options, StateFile, storage::Storage};
use hufu_trade::{octets::Octets, resource::Resource, tariff::Tariff};

use super::{CHANNEL_COUNT_MAX, CORE_STATE_BYTES_MAX, Clock, Halt, METER_STATE_BYTES_MAX, Node};
use crate::{
    catalogue::{ProductConfig, Requires},
    hardware::Hardware,
    heard::Heard,
    metrics::{Metrics, Shared, Show},
    node::{Core, Identity},
    peers::{Me, Terms, queue},
    places::Places,
    rotation::Keys,
    sampler::{self, Setting, Thread},
    setup::{self, First},
    signer::NodeKey,
    status::Alarms,
    stock::{Capacity, NO_GPU_SOLD, Shop},
    unsigned::Unsigned,
    writer::Writer,
};

/// Headers that are kept of each log.
const HEADERS_KEPT: u64 = 4096;

/// A product of a simulated node.
#[derive(Clone, Debug)]
pub struct Product {
    /// Id.
    pub id: String,
    /// Thousandths of a core one unit holds.
    pub cpu_millicores: u64,
    /// Bytes of memory one unit holds.
    pub memory_bytes: u64,
    /// Longest term, ns.
    pub term_max_ns: u64,
    /// Price terms.
    pub tariff: Tariff,
}

/// Opens the directory of what is held of a node, by its name.
pub type OpensDisk = dyn Fn(&str) -> Arc<dyn Storage> + Send + Sync;

/// The directories of what is held of nodes.
#[derive(Clone)]
pub struct PeersDisks(pub Arc<OpensDisk>);

impl std::fmt::Debug for PeersDisks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PeersDisks")
    }
}

/// Everything a node is made of.
#[derive(Clone, Debug)]
pub struct Setup {
    /// `{site}/{node}`.
    pub pool: String,
    /// The node's key.
    pub key: SecretKey,
    /// Its certificate.
    pub certificate: Certificate,
    /// 32 bytes the entries' salts come from.
    pub salt_key: [u8; 32],
    /// Who may issue buyers' certificates.
    pub anchors: Vec<Certificate>,
    /// The platform's certificate.
    pub platform: Certificate,
    /// Text of the rule table.
    pub rules: String,
    /// What is sold.
    pub products: Vec<Product>,
    /// Thousandths of a core that can be sold.
    pub cpu_millicores: u64,
    /// Bytes of memory that can be sold.
    pub memory_bytes: u64,
    /// Used resources with a trusted source.
    pub metered: Vec<Resource>,
    /// Length of a usage window, ns.
    pub window_ns: u64,
    /// Time between samples, ns.
    pub sample_ns: u64,
    /// Where `/proc` and `/sys` of the simulated host lie.
    pub root: PathBuf,
    /// The meters' state file.
    pub meter_state: PathBuf,
    /// The core's state file.
    pub core_state: PathBuf,
    /// It is written after so many blocks.
    pub state_blocks: u64,
    /// The ledger's directory.
    pub storage: Arc<dyn Storage>,
    /// The directory of its keys.
    pub keys: Arc<dyn Storage>,
    /// Where those keys come from.
    pub random: fn(&mut [u8]) -> Result<(), hufu_gm::Error>,
    /// Bytes of a segment.
    pub segment_size: u64,
    /// How long the first signature after a start waits for the platform's word, ns.
    pub compare_ns: u64,
    /// The nodes that it follows; none: it takes no part.
    pub follow: Vec<String>,
    /// Where their copies lie.
    pub peers: PeersDisks,
    /// Between two checkpoints, ns.
    pub checkpoint_ns: u64,
    /// How long the first signature after a start waits for the word of those that it follows, ns.
    pub hear_ns: u64,
    /// The host's clocks.
    pub clock: Clock,
}

impl Setup {
    fn options(&self) -> Options {
        Options { segment_size: self.segment_size, random: self.random, ..Options::new(&self.pool) }
    }

    fn identity(&self) -> Identity {
        Identity {
            pool: self.pool.clone(),
            key: NodeKey::File(self.key.clone()),
            cert_id: Octets(self.certificate.id()),
            salt_key: self.salt_key.into(),
            anchors: self.anchors.clone(),
            platform: self.platform.clone(),
        }
    }

    fn me(&self) -> Me {
        Me {
            pool: self.pool.clone(),
            key: NodeKey::File(self.key.clone()),
            cert_id: self.certificate.id(),
            certificates: vec![self.certificate.der().to_vec()],
            anchors: self.anchors.clone(),
        }
    }

    fn shop(&self) -> Shop {
        let products = self.products.iter().map(|product| ProductConfig {
            id: product.id.clone(),
            class: "IaaS".to_owned(),
            name: product.id.clone(),
            cpu_millicores: product.cpu_millicores,
            memory_bytes: product.memory_bytes,
            disk: crate::disk::Disk::default(),
            gpu: None,
            term_max_ns: product.term_max_ns,
            sla: None,
            delivery: None,
            requires: Requires::default(),
            is_listed: true,
            tariff: product.tariff.clone(),
        });
        let sources = self.metered.iter().map(|resource| (resource.clone(), Ok("process-tree".to_owned())));
        let capacity = Capacity {
            cpu_millicores: self.cpu_millicores,
            memory_bytes: self.memory_bytes,
            storage_bytes: 0,
            sources: sources.collect(),
            gpus: Err(NO_GPU_SOLD.to_owned()),
        };
        let certificates = vec![self.certificate.der().to_vec()];
        Shop { products: products.collect(), capacity, certificates, hardware: Hardware::default(), profile: None }
    }

    fn first(&self) -> First {
        let (node, platform) = (vec![self.certificate.der().to_vec()], vec![self.platform.der().to_vec()]);
        First { rules: self.rules.clone(), node, platform }
    }

    /// As `hufu init`: the ledger with its first entries.
    ///
    /// # Errors
    /// [`Halt`].
    pub fn create(&self, id: [u8; 16]) -> Result<(), Halt> {
        let failed = |error: hufu_ledger::Error| Halt::Ledger(error.to_string());
        let options = self.options();
        Ledger::create_on(self.storage.as_ref(), &options, id).map_err(failed)?;
        let (mut ledger, _) = Ledger::open_on(Arc::clone(&self.storage), &options).map_err(failed)?;
        setup::first_blocks(&mut ledger, &self.identity(), &self.first(), self.clock)?;
        Ok(())
    }

    /// As `hufu agent`: opens, replays, and begins to compare itself with the platform.
    ///
    /// # Errors
    /// [`Halt`].
    pub fn start(&self) -> Result<Node, Halt> {
        let failed = |error: hufu_ledger::Error| Halt::Ledger(error.to_string());
        let (ledger, recovery) = Ledger::open_on(Arc::clone(&self.storage), &self.options()).map_err(failed)?;
        let ledger = ledger.with_keys(Arc::clone(&self.keys), self.random);
        let meter_state = StateFile::open(&self.meter_state, METER_STATE_BYTES_MAX).map_err(failed)?;
        let core_state = StateFile::open(&self.core_state, CORE_STATE_BYTES_MAX).map_err(failed)?;
        let stored = match meter_state.read(&ledger) {
            Ok(state) => state.map_or_else(Vec::new, |state| sampler::unpack(&state.bytes)),
            Err(_) => Vec::new(),
        };
        // The host's boot id, as the daemon reads it.
        let boot = std::fs::read_to_string(self.root.join("proc/sys/kernel/random/boot_id")).unwrap_or_default();
        let boot_id = Octets::<16>::from_hex(&boot.trim().replace('-', "")).map_or([0; 16], |id| id.0);
        let (inputs, inbox) = sync_channel(CHANNEL_COUNT_MAX);
        let (commands, obeyed) = sync_channel(CHANNEL_COUNT_MAX);
        let (outbound, sent) = tokio::sync::mpsc::channel(CHANNEL_COUNT_MAX);
        let counted = Shared::default();
        let (to_peers, beside) = queue();
        let takes_part = !self.follow.is_empty();
        let mut writer = Writer {
            core: Core::new(self.identity(), self.shop(), self.window_ns, boot_id),
            ledger,
            storage: Arc::clone(&self.storage),
            meter_state,
            core_state,
            state_at: 0,
            state_blocks: self.state_blocks,
            link: outbound,
            sampler: commands,
            inputs: inbox,
            places: Places::Asked(Vec::new()),
            alarms: Alarms::default(),
            metrics: Metrics::new(&self.pool, &counted, Show::Site),
            clock: self.clock,
            dir: PathBuf::new(),
            compare_ns: self.compare_ns,
            first: self.first(),
            hardware: None,
            set_aside: recovery.set_aside,
            comparing: None,
            unsigned: Unsigned::default(),
            signer_pause_ns: 0,
            keys: Keys::default(),
            directory: None,
            peers: takes_part.then_some(to_peers),
            heard: Heard::waiting(takes_part.then_some(self.hear_ns)),
            peers_shown: None,
        };
        let whole = Some(writer.begin_comparing()?);
        let setting = Setting {
            root: self.root.clone(),
            interval_ns: self.sample_ns,
            window_ns: self.window_ns,
            stored,
            commands: obeyed,
            writer: inputs,
            clock: self.clock,
            counted,
            gpus: None,
            nft: None,
            ends: None,
        };
        let thread = Thread::new(setting).map_err(|error| Halt::Bug(error.to_string()))?;
        let (said, archive_ns, alarms) = (Vec::new(), 0, 0);
        let mut node = Node { writer, whole, thread, sent, said, archive_ns, alarms, beside: None };
        if takes_part {
            let terms = Terms {
                follow: self.follow.clone(),
                checkpoint_ns: self.checkpoint_ns,
                headers: HEADERS_KEPT,
                confirm: 1,
                hear_ns: self.hear_ns,
            };
            node.take_part(self.me(), terms, &self.peers.0, beside)?;
        }
        Ok(node)
    }
}
