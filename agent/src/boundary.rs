//! The one boundary at which this node counts its orders' traffic: what offers call it, and that an order's plan keeps to it.
//! Counting is `hufu_metering::net`.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use hufu_metering::{Network, Plan, Target, capacity::TrustedSource, net, nft};
use hufu_provision::Verb;
use hufu_trade::{octets::Octets, resource::Kind};
use serde::Deserialize;

use crate::{
    config::Config,
    provision::{Means, bare},
};

/// Longest that the helper may take to say whether it can count traffic.
const PROBE: Duration = Duration::from_secs(10);
/// Longest that it may take to say what nftables counted: the sampling thread waits.
const ASKED: Duration = Duration::from_secs(1);

/// Where traffic of orders is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Boundary {
    /// At each order's cgroup.
    Cgroup,
    /// At the interface that the site's command names for each order.
    Interface,
}

impl Boundary {
    /// The plan with its traffic counted at this boundary and no other: offers name it, and the two count differently.
    ///
    /// # Errors
    /// An interface was named, and this node counts at cgroups.
    pub(crate) fn keep(self, plan: Plan) -> Result<Plan, String> {
        let network = match (self, plan.network) {
            (Self::Cgroup, Some(Network::Interface { name, .. })) => {
                return Err(format!(
                    "network: the interface {name} was named, but this node counts traffic at cgroups; set provision.network = \
                     \"interface\" or name none"
                ));
            }
            (Self::Cgroup, _) => matches!(plan.target, Target::Cgroup { .. }).then_some(Network::Cgroup),
            (Self::Interface, named @ Some(Network::Interface { .. })) => named,
            (Self::Interface, _) => None,
        };
        Ok(Plan { network, ..plan })
    }
}

/// Puts into `sources` by what this node counts traffic: by itself, as the machine allows; by the helper, if it can; or by the
/// interfaces that its command names.
pub(crate) fn name_sources(config: &Config, sources: &mut [TrustedSource]) {
    let network = match (config.boundary, &config.provision) {
        (Boundary::Interface, _) => Ok(net::INTERFACE_SOURCE.to_owned()),
        (Boundary::Cgroup, Means::Command(_)) => return,
        (Boundary::Cgroup, Means::Helper(socket)) => probe(socket),
    };
    for (resource, source) in sources {
        if matches!(resource.kind, Kind::NetRx | Kind::NetTx) {
            source.clone_from(&network);
        }
    }
}

/// Whether the helper can attach counters.
fn probe(socket: &Path) -> Result<String, String> {
    let asked = hufu_provision::ask(socket, &bare(Verb::Probe, Octets([0; 16])), PROBE);
    let (answer, _) = asked.map_err(|e| e.to_string())?;
    Ok(match answer.network {
        Some(hufu_provision::Network::Nft) => net::NFT_SOURCE.to_owned(),
        _ => net::CGROUP_SOURCE.to_owned(),
    })
}

/// How the sampling thread learns what nftables counted where it may not read that itself: from the helper, for all orders at
/// once. A helper that hangs keeps it waiting for [`ASKED`] and is then left alone for a while.
pub(crate) fn nft_asker(config: &Config) -> Option<nft::Ask> {
    match (config.boundary, &config.provision) {
        (Boundary::Cgroup, Means::Helper(socket)) => Some(asker(socket.clone())),
        _ => None,
    }
}

fn asker(socket: PathBuf) -> nft::Ask {
    Box::new(move || {
        let asked = hufu_provision::ask(&socket, &bare(Verb::Traffic, Octets([0; 16])), ASKED);
        let (answer, _) = asked.map_err(|e| e.to_string())?;
        let counted = answer.traffic.iter().map(|(key, bytes)| {
            nft::Counted::from_texts(key, bytes).ok_or_else(|| format!("traffic: {key}: {bytes}: numbers expected"))
        });
        counted.collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_counted_where_offers_say_or_not_at_all() {
        let veth = Network::Interface { name: "veth0".to_owned(), host_side: true, netns_pid: None };
        let cgroup = Target::Cgroup { path: "a".to_owned() };
        let process = Target::Process { pid: 7 };
        for (boundary, target, named, want) in [
            (Boundary::Cgroup, &cgroup, None, Ok(Some(Network::Cgroup))),
            (Boundary::Cgroup, &cgroup, Some(Network::Cgroup), Ok(Some(Network::Cgroup))),
            (Boundary::Cgroup, &cgroup, Some(veth.clone()), Err("provision.network")),
            (Boundary::Cgroup, &process, None, Ok(None)),
            (Boundary::Cgroup, &process, Some(Network::Cgroup), Ok(None)),
            (Boundary::Interface, &cgroup, Some(veth.clone()), Ok(Some(veth.clone()))),
            (Boundary::Interface, &process, Some(veth.clone()), Ok(Some(veth.clone()))),
            (Boundary::Interface, &cgroup, Some(Network::Cgroup), Ok(None)),
            (Boundary::Interface, &cgroup, None, Ok(None)),
        ] {
            let plan = Plan { network: named.clone(), ..target.clone().into() };
            match (boundary.keep(plan), want) {
                (Ok(plan), Ok(network)) => assert_eq!(plan.network, network, "{boundary:?} {target:?} {named:?}"),
                (Err(why), Err(word)) => assert!(why.contains(word), "{why}"),
                (found, want) => panic!("{boundary:?} {target:?} {named:?}: {found:?}, not {want:?}"),
            }
        }
    }

    #[test]
    fn a_helper_that_is_not_there_or_says_no_is_no_source() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        assert!(probe(&socket).is_err());
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let helper = std::thread::spawn(move || {
            for (say, verb) in [
                ("{\"error\":\"cannot load network counters\"}\n", "probe"),
                ("{\"network\":\"cgroup\"}\n", "probe"),
                ("nonsense\n", "probe"),
                ("{\"network\":\"nft\"}\n", "probe"),
                ("{\"traffic\":{\"7_00000000000000ff\":\"10 20\"}}\n", "traffic"),
                ("{\"traffic\":{\"7_ff\":\"10\"}}\n", "traffic"),
                ("{\"error\":\"no\"}\n", "traffic"),
            ] {
                let (stream, _) = listener.accept().unwrap();
                let (line, _) = hufu_provision::receive_line(&stream, 1 << 16).unwrap();
                assert!(String::from_utf8(line).unwrap().contains(&format!("\"{verb}\"")));
                hufu_provision::send_line(&stream, say.as_bytes(), None).unwrap();
            }
        });
        assert!(probe(&socket).unwrap_err().contains("cannot load"));
        assert_eq!(probe(&socket).unwrap(), net::CGROUP_SOURCE);
        assert!(probe(&socket).is_err());
        assert_eq!(probe(&socket).unwrap(), net::NFT_SOURCE);
        let mut ask = asker(socket);
        assert_eq!(ask(), Ok(vec![nft::Counted { cgroup: 7, made: 255, rx_bytes: 10, tx_bytes: 20 }]));
        assert!(ask().unwrap_err().contains("numbers expected"));
        assert!(ask().unwrap_err().contains("no"));
        helper.join().unwrap();
    }
}
