//! The only file of the agent that knows MQTT. Nothing is kept here: what must arrive is in the ledger, and the writer sends
//! it again until a signed receipt answers. Every error drops the client and builds a new one, because rumqttc forgets its
//! queue when the broker forgets the session.

use std::{
    path::PathBuf,
    sync::mpsc::{SyncSender, TrySendError},
    time::Duration,
};

use hufu_trade::if2::{MESSAGE_BYTES_MAX, PLATFORM, Told, Topic};
use rumqttc::{
    AsyncClient, ConnectionError, Event as MqttEvent, EventLoop, Incoming, LastWill, MqttOptions, NetworkOptions,
    Publish, QoS, SubscribeReasonCode, TlsConfiguration, Transport,
};
use tokio::sync::mpsc::Receiver;

use crate::{
    metrics::Shared,
    node::Event,
    peers,
    tls::{Tls, private},
    writer::Input,
};

/// The largest packet that MQTT has. The client fails on a larger one, and the broker would deliver it again on every new
/// connection: one message of anybody's would end the link for good.
const RECEIVED_BYTES_MAX: usize = 268_435_455;
/// Larger than any message of ours.
const SENT_BYTES_MAX: usize = 256 * 1024;
/// Publishes and acknowledgements that may wait for the broker. The client reads ten messages for each request that it sends,
/// and a broker delivers all it kept at once. Room is taken as it is needed.
const REQUESTS_MAX: usize = 1 << 16;
/// The writer is asked again after this long whether it has room, and so often.
const WRITER_PAUSE: Duration = Duration::from_millis(5);
const WRITER_TIMES: u32 = 2000;
/// After so many connections in a row that broke before the subscriptions stood, the broker is told to forget what it kept for
/// us. It sends that first, all at once, and over a line that breaks sooner than it is through no acknowledgement would ever
/// arrive. Whoever sent it sends again until it is answered.
const CUT_MAX: u32 = 2;
/// A connection is given up after this long, s. A broker of a cluster that has just lost another takes some ten to welcome anybody, and a
/// host that does not even refuse takes the kernel 127, before the next address of the same name is tried.
const CONNECT_S: u64 = 150;
/// A line that stands and takes nothing is given up after this long, s.
const FLUSH_S: u64 = 5;
/// Subscriptions that are refused are asked for so often in all.
const ASKED_MAX: u32 = 6;
const PAUSE_MS: u64 = 500;
const PAUSE_MS_MAX: u64 = 60_000;

/// A received publish that waits for its acknowledgement, with the connection it belongs to.
#[derive(Debug)]
pub(crate) struct Stub {
    connection: u64,
    publish: Publish,
}

impl Stub {
    /// A stub of a simulated broker: a number and nothing else.
    pub(crate) fn numbered(number: u64) -> Self {
        Self { connection: number, publish: Publish::new("", QoS::AtLeastOnce, Vec::new()) }
    }

    /// That number.
    pub(crate) fn number(&self) -> u64 {
        self.connection
    }
}

/// What the writer wants of the link.
#[derive(Debug)]
pub(crate) enum Outbound {
    /// Publish with QoS 1.
    Publish { topic: Topic, payload: Vec<u8>, retain: bool },
    /// Acknowledge a message that was dealt with.
    Ack(Stub),
}

/// A broker, and who this node is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// A name, and the file of its password.
    pub(crate) user: Option<(String, PathBuf)>,
    /// Without it the line is open.
    pub(crate) tls: Option<Tls>,
}

impl Access {
    /// Options of a connection under a client id.
    ///
    /// # Errors
    /// The file that cannot be used, and why.
    fn options(&self, id: String) -> Result<MqttOptions, String> {
        let mut options = MqttOptions::new(id, self.host.clone(), self.port);
        if let Some((name, file)) = &self.user {
            options.set_credentials(name, private(file)?.trim_end_matches(['\r', '\n']));
        }
        if let Some(tls) = &self.tls {
            options.set_transport(Transport::Tls(TlsConfiguration::Rustls(tls.config()?)));
        }
        Ok(options)
    }
}

/// Where to connect, and as whom.
#[derive(Clone, Debug)]
pub(crate) struct Broker {
    pub(crate) access: Access,
    /// `{site}/{node}`.
    pub(crate) pool: String,
    /// Start of this process, seconds since 1970: tells an old will from this run's.
    pub(crate) boot: i64,
    /// Spreads reconnects of a site's nodes: from the node's own certificate id.
    pub(crate) jitter_ms: u64,
    /// Connections, for whoever watches.
    pub(crate) counted: Shared,
    /// The nodes that are followed, and who hears what they say; absent without any.
    pub(crate) peers: Option<(Vec<String>, peers::ToPeers)>,
}

impl Broker {
    /// Tells the peers which connection is up; 0: none.
    fn linked(&self, connection: u64) {
        if let Some((_, peers)) = &self.peers {
            peers.linked(connection);
        }
    }
}

/// Keeps the link up until `outbound` closes.
pub(crate) async fn run(broker: Broker, mut outbound: Receiver<Outbound>, writer: SyncSender<Input>) {
    let mut pause_ms = PAUSE_MS;
    let (mut connection, mut cut) = (0_u64, 0_u32);
    loop {
        connection += 1;
        let end = match connect(&broker, connection, cut >= CUT_MAX) {
            Err(why) => End::Broken(why),
            Ok((client, events)) => {
                let (linked, is_cut, asked) = (false, false, Asked::default());
                let mut session = Session { broker: &broker, client, events, connection, linked, is_cut, asked };
                let end = session.run(&mut outbound, &writer).await;
                cut = if session.is_cut && !session.linked { cut.saturating_add(1) } else { 0 };
                if session.linked {
                    pause_ms = PAUSE_MS;
                    // The writer may be waiting for room in our queue, never the other way round for long.
                    if let Err(TrySendError::Full(_)) = writer.try_send(Input::Event(Event::Unlinked)) {
                        tracing::warn!("writer is busy");
                    }
                    broker.linked(0);
                }
                end
            }
        };
        match end {
            End::Closed => return,
            End::Broken(why) => tracing::warn!(why, pause_ms, "broker link lost"),
        }
        let spread = broker.jitter_ms % pause_ms.max(1);
        if idle(Duration::from_millis(pause_ms / 2 + spread / 2), &mut outbound).await.is_none() {
            return;
        }
        pause_ms = (pause_ms * 2).min(PAUSE_MS_MAX);
    }
}

/// Waits, dropping what cannot be sent now; `None` when the writer is gone.
async fn idle(wait: Duration, outbound: &mut Receiver<Outbound>) -> Option<()> {
    let sleep = tokio::time::sleep(wait);
    tokio::pin!(sleep);
    loop {
        tokio::select! {
            () = &mut sleep => return Some(()),
            out = outbound.recv() => { out?; }
        }
    }
}

/// Gives the writer something, when it has room; it never waits for us. A writer that has none for ten seconds ends this
/// connection: the broker delivers the unacknowledged message again on the next.
async fn hand_over(writer: &SyncSender<Input>, mut input: Input) -> Result<(), String> {
    for _ in 0..WRITER_TIMES {
        match writer.try_send(input) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Disconnected(_)) => return Err("the writer ended".to_owned()),
            Err(TrySendError::Full(back)) => input = back,
        }
        tokio::time::sleep(WRITER_PAUSE).await;
    }
    Err("writer is busy".to_owned())
}

fn presence(state: &str, boot: i64, session: u64) -> String {
    format!("{{\"state\":\"{state}\",\"boot\":{boot},\"session\":{session}}}")
}

/// The client has one limit for a connection that is made and for one that stands.
fn network(limit_s: u64) -> NetworkOptions {
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    network.set_connection_timeout(limit_s);
    network
}

/// `clean`: what the broker kept for us is forgotten, and it keeps nothing when this connection ends.
fn connect(broker: &Broker, session: u64, clean: bool) -> Result<(AsyncClient, EventLoop), String> {
    let mut options = broker.access.options(format!("hufu-{}", broker.pool.replace('/', "-")))?;
    options.set_keep_alive(Duration::from_secs(30));
    options.set_clean_session(clean);
    options.set_manual_acks(true);
    options.set_max_packet_size(RECEIVED_BYTES_MAX, SENT_BYTES_MAX);
    let topic = Topic::Presence { pool: broker.pool.clone() }.to_string();
    options.set_last_will(LastWill::new(topic, presence("lost", broker.boot, session), QoS::AtLeastOnce, true));
    let (client, mut events) = AsyncClient::new(options, REQUESTS_MAX);
    events.set_network_options(network(CONNECT_S));
    Ok((client, events))
}

/// What a broker said to a stranger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    /// It takes connections.
    Welcome,
    /// It speaks MQTT and does not take this one.
    Refused(String),
    /// It is not there, or is no broker.
    Nothing(String),
}

/// Connects once under this client id, which must be nobody else's, and leaves again; within `limit`.
pub(crate) fn probe(access: &Access, id: &str, limit: Duration) -> Answered {
    let mut options = match access.options(id.to_owned()) {
        Ok(options) => options,
        Err(why) => return Answered::Nothing(why),
    };
    options.set_clean_session(true);
    let (client, mut events) = AsyncClient::new(options, 4);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Answered::Nothing(error.to_string()),
    };
    let asked = async {
        loop {
            match events.poll().await {
                Ok(MqttEvent::Incoming(Incoming::ConnAck(_))) => {
                    client.try_disconnect().ok();
                    events.poll().await.ok();
                    return Answered::Welcome;
                }
                Ok(_) => {}
                Err(ConnectionError::ConnectionRefused(code)) => {
                    return Answered::Refused(format!("{code:?}"));
                }
                Err(error) => return Answered::Nothing(error.to_string()),
            }
        }
    };
    let timed = async { tokio::time::timeout(limit, asked).await };
    runtime.block_on(timed).unwrap_or_else(|_| Answered::Nothing(format!("no answer within {} s", limit.as_secs())))
}

enum End {
    Closed,
    Broken(String),
}

struct Session<'a> {
    broker: &'a Broker,
    client: AsyncClient,
    events: EventLoop,
    connection: u64,
    linked: bool,
    /// The broker was reached, and the connection broke.
    is_cut: bool,
    asked: Asked,
}

/// Subscriptions that the broker was asked for.
#[derive(Debug, Default)]
struct Asked {
    /// Those that it has not answered.
    waits: usize,
    is_refused: bool,
    times: u32,
}

impl Session<'_> {
    async fn run(&mut self, outbound: &mut Receiver<Outbound>, writer: &SyncSender<Input>) -> End {
        let Some(reached) = self.reach(outbound).await else { return End::Closed };
        if let Err(why) = self.handle(reached, writer).await {
            return End::Broken(why);
        }
        loop {
            tokio::select! {
                event = self.events.poll() => {
                    if let Err(why) = self.handle(event, writer).await {
                        return End::Broken(why);
                    }
                }
                out = outbound.recv() => match out {
                    None => {
                        self.farewell().await;
                        return End::Closed;
                    }
                    Some(out) => {
                        if let Err(why) = self.send(out) {
                            return End::Broken(why);
                        }
                    }
                },
            }
        }
    }

    /// Makes the connection; `None` when the writer is gone. The first poll does it, and one that is dropped half-way begins anew: what
    /// is to be sent must not end it, or a broker that takes its time is never reached.
    async fn reach(&mut self, outbound: &mut Receiver<Outbound>) -> Option<Result<MqttEvent, ConnectionError>> {
        let reached = {
            let reached = self.events.poll();
            tokio::pin!(reached);
            loop {
                tokio::select! {
                    event = &mut reached => break event,
                    out = outbound.recv() => { out?; }
                }
            }
        };
        self.events.set_network_options(network(FLUSH_S));
        Some(reached)
    }

    async fn handle(
        &mut self,
        event: Result<MqttEvent, ConnectionError>,
        writer: &SyncSender<Input>,
    ) -> Result<(), String> {
        match event {
            Ok(MqttEvent::Incoming(incoming)) => self.incoming(incoming, writer).await,
            Ok(MqttEvent::Outgoing(_)) => Ok(()),
            Err(error) => {
                self.is_cut = matches!(error, ConnectionError::MqttState(_));
                Err(error.to_string())
            }
        }
    }

    fn filters(&self) -> Vec<String> {
        let pool = &self.broker.pool;
        let site = pool.split('/').next().unwrap_or_default();
        let mut filters = vec![
            format!("hufu/v1/{pool}/down/+"),
            format!("hufu/v1/{pool}/up/+/re"),
            format!("hufu/v1/{site}/{PLATFORM}/state"),
        ];
        if let Some((follow, _)) = &self.broker.peers {
            filters.push(format!("hufu/v1/+/+/ledger/to/{pool}/+"));
            filters.push(format!("hufu/v1/{site}/{PLATFORM}/ledger/+"));
            // What the broker still has of this node's own says how far it signed.
            filters.extend(
                [0, 1].map(|log| Topic::Ledger { pool: pool.clone(), told: Told::Checkpoint(log) }.to_string()),
            );
            filters.extend(follow.iter().filter(|peer| *peer != pool).map(|peer| format!("hufu/v1/{peer}/ledger/+")));
        }
        filters
    }

    /// Asks for all subscriptions, again where one of them was refused: a cluster that has just lost a broker has no place for some.
    fn subscribe(&mut self) -> Result<(), String> {
        if self.asked.times == ASKED_MAX {
            return Err("the broker refuses a subscription; check its access list".to_owned());
        }
        let filters = self.filters();
        self.asked.times += 1;
        self.asked.waits = filters.len();
        let ask = |filter| self.client.try_subscribe(filter, QoS::AtLeastOnce).map_err(|e| e.to_string());
        filters.into_iter().try_for_each(ask)
    }

    async fn incoming(&mut self, incoming: Incoming, writer: &SyncSender<Input>) -> Result<(), String> {
        match incoming {
            Incoming::ConnAck(_) => self.subscribe(),
            Incoming::SubAck(answer) => {
                self.asked.waits = self.asked.waits.saturating_sub(1);
                self.asked.is_refused |= answer.return_codes.contains(&SubscribeReasonCode::Failure);
                if self.asked.waits > 0 {
                    return Ok(());
                }
                if std::mem::take(&mut self.asked.is_refused) {
                    return self.subscribe();
                }
                if !self.linked {
                    let topic = Topic::Presence { pool: self.broker.pool.clone() };
                    let online = presence("online", self.broker.boot, self.connection);
                    self.publish(&topic, online.into_bytes(), true)?;
                    self.linked = true;
                    self.broker.counted.connections.inc();
                    tracing::info!("broker link up");
                    hand_over(writer, Input::Event(Event::Linked)).await?;
                    self.broker.linked(self.connection);
                }
                Ok(())
            }
            Incoming::Publish(publish) => {
                let stub = |publish| Stub { connection: self.connection, publish };
                // What is too long is no message of a platform; it must not wait for the writer either.
                let topic = Topic::parse(&publish.topic).filter(|_| publish.payload.len() <= MESSAGE_BYTES_MAX);
                let Some(topic) = topic else {
                    return self.client.try_ack(&publish).map_err(|e| e.to_string());
                };
                let payload = publish.payload.to_vec();
                if matches!(topic, Topic::Ledger { .. } | Topic::LedgerTo { .. }) {
                    if let Some((_, peers)) = &self.broker.peers {
                        peers.message(peers::Event::Message { topic, payload });
                    }
                    return self.client.try_ack(&publish).map_err(|e| e.to_string());
                }
                hand_over(writer, Input::Message { topic, payload, stub: stub(publish) }).await
            }
            _ => Ok(()),
        }
    }

    fn publish(&self, topic: &Topic, payload: Vec<u8>, retain: bool) -> Result<(), String> {
        self.client.try_publish(topic.to_string(), QoS::AtLeastOnce, retain, payload).map_err(|e| e.to_string())
    }

    fn send(&self, out: Outbound) -> Result<(), String> {
        match out {
            Outbound::Publish { topic, payload, retain } if self.linked => self.publish(&topic, payload, retain),
            // An acknowledgement of an earlier connection would tear this one down.
            Outbound::Ack(stub) if stub.connection == self.connection => {
                self.client.try_ack(&stub.publish).map_err(|e| e.to_string())
            }
            _ => Ok(()),
        }
    }

    /// Says `offline` and leaves, within a second.
    async fn farewell(&mut self) {
        let topic = Topic::Presence { pool: self.broker.pool.clone() };
        let offline = presence("offline", self.broker.boot, self.connection);
        if !self.linked
            || self.publish(&topic, offline.into_bytes(), true).is_err()
            || self.client.try_disconnect().is_err()
        {
            return;
        }
        let drain = async { while self.events.poll().await.is_ok() {} };
        tokio::time::timeout(Duration::from_secs(1), drain).await.ok();
    }
}
