//! The only file of the platform that knows MQTT. A message is acknowledged to the broker once it is judged and stored; every
//! error drops the client and builds a new one, and what was not acknowledged comes again. Messages that have arrived together are
//! judged together. Of several workers each hears all and handles the messages of the nodes that it holds: the others are
//! acknowledged and dropped, for whoever sent them goes by the signed answer and sends again until it comes.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use hufu_trade::if2::Topic;
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, Incoming, LastWill, MqttOptions, NetworkOptions, Publish, QoS,
    SubscribeReasonCode, TlsConfiguration, Transport,
};
use tokio::sync::{broadcast, mpsc, watch};

use crate::{
    inbox::{Answered, BATCH_MAX, Inbox, Outgoing, Received},
    limit::Limit,
    tls::{Tls, private},
    worker::Worker,
};

/// The largest packet that MQTT has. The client fails on a larger one, and the broker would deliver it again on every new
/// connection: one message of anybody's would end the link for good. What is too long is refused by the inbox.
const RECEIVED_BYTES_MAX: usize = 268_435_455;
/// Larger than any message of ours.
const SENT_BYTES_MAX: usize = 1 << 20;
/// Publishes and acknowledgements that may wait for the broker. The client reads ten messages for each request that it sends,
/// and a message leads to three: a platform that comes back to a full queue must hold them all, or it loses them with the
/// connection and begins anew. Room is taken as it is needed.
const REQUESTS_MAX: usize = 1 << 16;
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
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Where to connect, and as whom.
#[derive(Clone, Debug)]
pub(crate) struct Broker {
    /// Host name or address.
    pub(crate) host: String,
    /// TCP port.
    pub(crate) port: u16,
    /// The site this platform serves.
    pub(crate) site: String,
    /// A name and the file of its password.
    pub(crate) user: Option<(String, PathBuf)>,
    /// Without it the line is open.
    pub(crate) tls: Option<Tls>,
    /// Start of this process, seconds since 1970: tells an old will from this run's.
    pub(crate) boot: i64,
}

/// The link: its inbox, and the channels to the relay.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) broker: Broker,
    pub(crate) inbox: Inbox,
    /// What buyers ask of nodes.
    pub(crate) outgoing: mpsc::Receiver<Outgoing>,
    /// Whoever waits for an answer listens here.
    pub(crate) answered: broadcast::Sender<Answered>,
    /// This process among several.
    pub(crate) worker: Option<Worker>,
    pub(crate) now: fn() -> i64,
}

impl Link {
    /// Keeps the link up until `stop` is true, then says goodbye.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let (mut pause, mut session, mut cut) = (PAUSE, 0_u64, 0_u32);
        // A broker that is away for a day is two lines an hour in the log.
        let mut lines = Limit::new(1, 1_800_000_000_000);
        loop {
            session = session.saturating_add(1);
            // What waits for a worker that was away has been handled by the others.
            let clean = self.worker.is_some() || cut >= CUT_MAX;
            let why = match connect(&self.broker, self.worker.as_ref(), session, clean) {
                Err(why) => why,
                Ok((client, events)) => {
                    let (is_up, is_cut, asked) = (false, false, Asked::default());
                    let mut link = Session { link: &mut self, client, events, session, is_up, is_cut, asked };
                    let why = tokio::select! {
                        why = link.run() => why,
                        () = stopped(&mut stop) => return link.farewell().await,
                    };
                    cut = if link.is_cut && !link.is_up { cut.saturating_add(1) } else { 0 };
                    if link.is_up {
                        (pause, lines) = (PAUSE, Limit::new(1, 1_800_000_000_000));
                    }
                    why
                }
            };
            if lines.allow((self.now)()) {
                tracing::warn!(broker = %format_args!("{}:{}", self.broker.host, self.broker.port), why, "broker link lost; trying again");
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stopped(&mut stop) => return,
            }
            pause = pause.saturating_mul(2).min(PAUSE_MAX);
        }
    }
}

/// Waits until the platform is told to stop.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone means the same.
    stop.wait_for(|stop| *stop).await.ok();
}

/// Waits until what a worker holds has changed; for ever where there is none.
async fn changed(held: &mut Option<watch::Receiver<BTreeSet<i64>>>) {
    let is_changed = match held {
        Some(held) => held.changed().await.is_ok(),
        None => false,
    };
    if !is_changed {
        std::future::pending().await
    }
}

/// The client has one limit for a connection that is made and for one that stands.
fn network(limit_s: u64) -> NetworkOptions {
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    network.set_connection_timeout(limit_s);
    network
}

/// `clean`: what the broker kept for us is forgotten, and it keeps nothing when this connection ends.
fn connect(
    broker: &Broker,
    worker: Option<&Worker>,
    session: u64,
    clean: bool,
) -> Result<(AsyncClient, EventLoop), String> {
    let own = worker.map(|worker| format!("-{}", worker.name)).unwrap_or_default();
    let id = format!("hufu-platform-{}{own}", broker.site);
    let mut options = MqttOptions::new(id, broker.host.clone(), broker.port);
    if let Some((name, file)) = &broker.user {
        options.set_credentials(name, private(file)?.trim_end_matches(['\r', '\n']));
    }
    if let Some(tls) = &broker.tls {
        options.set_transport(Transport::Tls(TlsConfiguration::Rustls(tls.config()?)));
    }
    options.set_keep_alive(Duration::from_secs(30));
    options.set_clean_session(clean);
    options.set_manual_acks(true);
    options.set_max_packet_size(RECEIVED_BYTES_MAX, SENT_BYTES_MAX);
    let lost = state("lost", broker.boot, session);
    options.set_last_will(LastWill::new(state_topic(broker), lost, QoS::AtLeastOnce, true));
    let (client, mut events) = AsyncClient::new(options, REQUESTS_MAX);
    events.set_network_options(network(CONNECT_S));
    Ok((client, events))
}

fn state_topic(broker: &Broker) -> String {
    Topic::PlatformState { site: broker.site.clone() }.to_string()
}

/// The same members as a node's presence.
fn state(state: &str, boot: i64, session: u64) -> String {
    format!("{{\"state\":\"{state}\",\"boot\":{boot},\"session\":{session}}}")
}

struct Session<'a> {
    link: &'a mut Link,
    client: AsyncClient,
    events: EventLoop,
    session: u64,
    is_up: bool,
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
    /// Works until the connection ends; says why.
    async fn run(&mut self) -> String {
        let mut held = self.link.worker.as_ref().map(|worker| worker.held.clone());
        let reached = self.reach().await;
        if let Err(why) = self.handle(reached).await {
            return why;
        }
        loop {
            let done = tokio::select! {
                event = self.events.poll() => self.handle(event).await,
                () = changed(&mut held) => self.hear_anew(),
                // Buyers' requests are asked again by the relay; one that finds no link is dropped here.
                Some(outgoing) = self.link.outgoing.recv() => if self.is_up { self.publish(&outgoing) } else { Ok(()) },
            };
            if let Err(why) = done {
                return why;
            }
        }
    }

    /// Makes the connection. The first poll does it, and one that is dropped half-way begins anew: what buyers ask meanwhile must not end
    /// it, or a broker that takes its time is never reached. It is dropped, and asked again by the relay.
    async fn reach(&mut self) -> Result<Event, ConnectionError> {
        let reached = {
            let reached = self.events.poll();
            tokio::pin!(reached);
            loop {
                tokio::select! {
                    event = &mut reached => break event,
                    Some(_) = self.link.outgoing.recv() => {}
                }
            }
        };
        self.events.set_network_options(network(FLUSH_S));
        reached
    }

    async fn handle(&mut self, event: Result<Event, ConnectionError>) -> Result<(), String> {
        match event {
            Ok(Event::Incoming(Incoming::Publish(first))) => self.publishes(first).await,
            Ok(Event::Incoming(incoming)) => self.incoming(incoming),
            Ok(Event::Outgoing(_)) => Ok(()),
            Err(error) => Err(self.lost(&error)),
        }
    }

    fn lost(&mut self, error: &ConnectionError) -> String {
        self.is_cut = matches!(error, ConnectionError::MqttState(_));
        error.to_string()
    }

    fn filters(&self) -> Vec<String> {
        let site = &self.link.broker.site;
        let mut filters = ["up/+", "down/+/re", "presence", "products", "ledger/+"]
            .map(|rest| format!("hufu/v1/{site}/+/{rest}"))
            .to_vec();
        // Whether one of the others said that the platform is gone.
        filters.extend(self.link.worker.as_ref().map(|_| state_topic(&self.link.broker)));
        filters
    }

    /// What the broker retains of nodes that are new here is asked for again: when it came, it was somebody else's.
    fn hear_anew(&mut self) -> Result<(), String> {
        if !self.is_up {
            return Ok(());
        }
        let retained = |filter: &String| filter.ends_with("/presence") || filter.ends_with("/products");
        self.asked.times = 0;
        self.subscribe(self.filters().into_iter().filter(retained).collect())
    }

    /// Asks for subscriptions, all again where one of them was refused: a cluster that has just lost a broker has no place for some.
    fn subscribe(&mut self, filters: Vec<String>) -> Result<(), String> {
        if self.asked.times == ASKED_MAX {
            return Err("the broker refuses a subscription; check its access list".to_owned());
        }
        self.asked.times += 1;
        self.asked.waits += filters.len();
        let ask = |filter| self.client.try_subscribe(filter, QoS::AtLeastOnce).map_err(|error| error.to_string());
        filters.into_iter().try_for_each(ask)
    }

    fn incoming(&mut self, incoming: Incoming) -> Result<(), String> {
        match incoming {
            Incoming::ConnAck(_) => self.subscribe(self.filters()),
            Incoming::SubAck(answer) => {
                self.asked.waits = self.asked.waits.saturating_sub(1);
                self.asked.is_refused |= answer.return_codes.contains(&SubscribeReasonCode::Failure);
                if self.asked.waits > 0 {
                    return Ok(());
                }
                if std::mem::take(&mut self.asked.is_refused) {
                    return self.subscribe(self.filters());
                }
                if !self.is_up {
                    self.is_up = true;
                    tracing::info!("broker link up");
                    self.say("online")?;
                    if self.link.worker.is_some() {
                        // What was retained may have come before the first lease.
                        self.hear_anew()?;
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Takes a message, and with it those that have arrived meanwhile; nothing is waited for.
    async fn publishes(&mut self, first: Publish) -> Result<(), String> {
        let (mut batch, mut then) = (vec![first], Ok(()));
        while batch.len() < BATCH_MAX {
            let event = tokio::select! {
                biased;
                event = self.events.poll() => event,
                () = std::future::ready(()) => break,
            };
            match event {
                Ok(Event::Incoming(Incoming::Publish(publish))) => batch.push(publish),
                Ok(Event::Incoming(incoming)) => {
                    then = self.incoming(incoming);
                    break;
                }
                Ok(Event::Outgoing(_)) => {}
                Err(error) => {
                    then = Err(self.lost(&error));
                    break;
                }
            }
        }
        // What is stored is answered even where the link is gone: the answer is kept and given again.
        self.take(&batch).await?;
        then
    }

    /// Judges and stores messages, publishes the answers, and only then lets the broker forget them.
    async fn take(&mut self, batch: &[Publish]) -> Result<(), String> {
        let now_ns = (self.link.now)();
        let topics: Vec<Option<Topic>> = batch.iter().map(|publish| Topic::parse(&publish.topic)).collect();
        let messages =
            topics.iter().zip(batch).filter_map(|(topic, publish)| Some((topic.as_ref()?, &publish.payload[..])));
        let mut received: Vec<Received<'_>> = Vec::with_capacity(batch.len());
        for (topic, payload) in messages {
            match (&self.link.worker, topic) {
                (Some(_), Topic::PlatformState { .. }) => self.deny(payload)?,
                (
                    Some(worker),
                    Topic::Presence { pool }
                    | Topic::Products { pool }
                    | Topic::Call { pool, .. }
                    | Topic::Ledger { pool, .. },
                ) if !worker.holds(pool) => {}
                _ => received.push((topic, payload)),
            }
        }
        if !received.is_empty() {
            let taken = self.link.inbox.take_many(now_ns, &received).await.map_err(|error| {
                tracing::error!(%error, "messages not stored");
                error.to_string()
            })?;
            for taken in taken {
                for outgoing in &taken.outgoing {
                    self.publish(outgoing)?;
                }
                if let Some(answered) = taken.answered {
                    // Nobody waits any more: the answer is stored.
                    self.link.answered.send(answered).ok();
                }
            }
        }
        batch.iter().try_for_each(|publish| self.client.try_ack(publish).map_err(|error| error.to_string()))
    }

    /// Another worker left, or its will says so: the platform is still there.
    fn deny(&self, payload: &[u8]) -> Result<(), String> {
        let is_online = String::from_utf8_lossy(payload).contains("\"online\"");
        if self.is_up && !is_online { self.say("online") } else { Ok(()) }
    }

    fn publish(&self, outgoing: &Outgoing) -> Result<(), String> {
        let (topic, payload) = (outgoing.topic.to_string(), outgoing.payload.clone());
        // A proof stands on the broker for whoever comes later.
        let retain = matches!(outgoing.topic, Topic::Ledger { .. });
        self.client.try_publish(topic, QoS::AtLeastOnce, retain, payload).map_err(|error| error.to_string())
    }

    fn say(&self, word: &str) -> Result<(), String> {
        let payload = state(word, self.link.broker.boot, self.session);
        let topic = state_topic(&self.link.broker);
        self.client.try_publish(topic, QoS::AtLeastOnce, true, payload).map_err(|error| error.to_string())
    }

    /// Says `offline` and leaves, within a second.
    async fn farewell(&mut self) {
        if !self.is_up || self.say("offline").is_err() || self.client.try_disconnect().is_err() {
            return;
        }
        let drain = async { while self.events.poll().await.is_ok() {} };
        tokio::time::timeout(Duration::from_secs(1), drain).await.ok();
    }
}
