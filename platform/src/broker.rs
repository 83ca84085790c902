//! The broker inside (rumqttd), for demonstrations and small sites: it keeps nothing on disk, which costs nobody anything,
//! because nodes send again until the platform's receipt covers what they sent.

use std::{
    collections::HashMap,
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use hufu_audit::{Exit, Failure};
use rumqttd::{Config, ConnectionSettings, RouterConfig, ServerSettings};
use tokio::net::TcpStream;

use crate::text::Text;

/// Nodes and the platform together.
const CONNECTIONS_MAX: usize = 1024;
/// Larger than any message, with its topic.
const PAYLOAD_BYTES_MAX: usize = 192 * 1024;
/// How long the broker may take to listen.
const START: Duration = Duration::from_secs(10);

/// Starts the broker in a thread that lives as long as the process, and gives its address once it takes connections.
///
/// # Errors
/// 74 when the address cannot be had.
pub(crate) async fn start(listen: SocketAddr) -> Result<SocketAddr, Failure<Text>> {
    let taken = |why: &dyn std::fmt::Display| {
        let text = Text::PortInUse { address: listen.to_string(), why: why.to_string() };
        Failure::new(Exit::Io, text)
    };
    // rumqttd binds by itself and tells nobody its port: the kernel is asked for a free one first.
    let address = TcpListener::bind(listen).and_then(|found| found.local_addr()).map_err(|error| taken(&error))?;
    let mut broker = rumqttd::Broker::new(config(address));
    std::thread::Builder::new()
        .name("broker".to_owned())
        .spawn(move || {
            if let Err(error) = broker.start() {
                tracing::error!(%error, "broker ended");
            }
        })
        .map_err(|error| taken(&error))?;
    let listening = async {
        while TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(START, listening).await.map_err(|error| taken(&error))?;
    Ok(address)
}

fn config(listen: SocketAddr) -> Config {
    let connections = ConnectionSettings {
        connection_timeout_ms: 10_000,
        max_payload_size: PAYLOAD_BYTES_MAX,
        max_inflight_count: 100,
        auth: None,
        external_auth: None,
        dynamic_filters: true,
    };
    let server =
        ServerSettings { name: "mqtt".to_owned(), listen, tls: None, next_connection_delay_ms: 1, connections };
    Config {
        router: RouterConfig {
            max_connections: CONNECTIONS_MAX,
            max_outgoing_packet_count: 200,
            max_segment_size: 4 << 20,
            max_segment_count: 8,
            ..RouterConfig::default()
        },
        v4: Some(HashMap::from([("mqtt".to_owned(), server)])),
        ..Config::default()
    }
}
