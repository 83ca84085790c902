//! The only file of the platform that knows MQTT. A message is acknowledged to the broker once it is judged and stored; every
//! error drops the client and builds a new one, and what was not acknowledged comes again.

use std::{path::PathBuf, time::Duration};

use hufu_trade::if2::Topic;
use rumqttc::{
    AsyncClient, Event, EventLoop, Incoming, LastWill, MqttOptions, NetworkOptions, Publish, QoS, SubscribeReasonCode,
    TlsConfiguration, Transport,
};
use tokio::sync::{broadcast, mpsc, watch};

use crate::{
    inbox::{Answered, Inbox, Outgoing},
    limit::Limit,
    tls::{Tls, private},
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
    pub(crate) now: fn() -> i64,
}

impl Link {
    /// Keeps the link up until `stop` is true, then says goodbye.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let (mut pause, mut session) = (PAUSE, 0_u64);
        // A broker that is away for a day is two lines an hour in the log.
        let mut lines = Limit::new(1, 1_800_000_000_000);
        loop {
            session = session.saturating_add(1);
            let why = match connect(&self.broker, session) {
                Err(why) => why,
                Ok((client, events)) => {
                    let mut link = Session { link: &mut self, client, events, session, is_up: false, subscribed: 0 };
                    let why = tokio::select! {
                        why = link.run() => why,
                        () = stopped(&mut stop) => return link.farewell().await,
                    };
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

fn connect(broker: &Broker, session: u64) -> Result<(AsyncClient, EventLoop), String> {
    let mut options = MqttOptions::new(format!("hufu-platform-{}", broker.site), broker.host.clone(), broker.port);
    if let Some((name, file)) = &broker.user {
        options.set_credentials(name, private(file)?.trim_end_matches(['\r', '\n']));
    }
    if let Some(tls) = &broker.tls {
        options.set_transport(Transport::Tls(TlsConfiguration::Rustls(tls.config()?)));
    }
    options.set_keep_alive(Duration::from_secs(30));
    options.set_clean_session(false);
    options.set_manual_acks(true);
    options.set_max_packet_size(RECEIVED_BYTES_MAX, SENT_BYTES_MAX);
    let lost = state("lost", broker.boot, session);
    options.set_last_will(LastWill::new(state_topic(broker), lost, QoS::AtLeastOnce, true));
    let (client, mut events) = AsyncClient::new(options, REQUESTS_MAX);
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    events.set_network_options(network);
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
    subscribed: usize,
}

impl Session<'_> {
    /// Works until the connection ends; says why.
    async fn run(&mut self) -> String {
        loop {
            let done = tokio::select! {
                event = self.events.poll() => match event {
                    Ok(Event::Incoming(incoming)) => self.incoming(incoming).await,
                    Ok(Event::Outgoing(_)) => Ok(()),
                    Err(error) => Err(error.to_string()),
                },
                // Buyers' requests are asked again by the relay; one that finds no link is dropped here.
                Some(outgoing) = self.link.outgoing.recv() => if self.is_up { self.publish(&outgoing) } else { Ok(()) },
            };
            if let Err(why) = done {
                return why;
            }
        }
    }

    fn filters(&self) -> [String; 4] {
        let site = &self.link.broker.site;
        ["up/+", "down/+/re", "presence", "products"].map(|rest| format!("hufu/v1/{site}/+/{rest}"))
    }

    async fn incoming(&mut self, incoming: Incoming) -> Result<(), String> {
        match incoming {
            Incoming::ConnAck(_) => {
                self.subscribed = 0;
                for filter in self.filters() {
                    self.client.try_subscribe(filter, QoS::AtLeastOnce).map_err(|error| error.to_string())?;
                }
                Ok(())
            }
            Incoming::SubAck(answer) => {
                if answer.return_codes.iter().any(|code| matches!(code, SubscribeReasonCode::Failure)) {
                    return Err("the broker refuses a subscription; check its access list".to_owned());
                }
                self.subscribed = self.subscribed.saturating_add(1);
                if self.subscribed == self.filters().len() {
                    self.is_up = true;
                    tracing::info!("broker link up");
                    self.say("online")?;
                }
                Ok(())
            }
            Incoming::Publish(publish) => self.take(&publish).await,
            _ => Ok(()),
        }
    }

    /// Judges and stores a message, publishes the answers, and only then lets the broker forget it.
    async fn take(&mut self, publish: &Publish) -> Result<(), String> {
        let now_ns = (self.link.now)();
        if let Some(topic) = Topic::parse(&publish.topic) {
            let taken = self.link.inbox.take(now_ns, &topic, &publish.payload).await.map_err(|error| {
                tracing::error!(%error, "message not stored");
                error.to_string()
            })?;
            for outgoing in &taken.outgoing {
                self.publish(outgoing)?;
            }
            if let Some(answered) = taken.answered {
                // Nobody waits any more: the answer is stored.
                self.link.answered.send(answered).ok();
            }
        }
        self.client.try_ack(publish).map_err(|error| error.to_string())
    }

    fn publish(&self, outgoing: &Outgoing) -> Result<(), String> {
        let (topic, payload) = (outgoing.topic.to_string(), outgoing.payload.clone());
        self.client.try_publish(topic, QoS::AtLeastOnce, false, payload).map_err(|error| error.to_string())
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
