//! Traffic as an order's usage: priced kinds of a sampler, over restarts of the agent, recreated interfaces and sources that fail.

use std::path::Path;

use hufu_metering::{At, OrderState, Plan, Sampler, Target, Total, plan::Network};
use hufu_trade::{
    resource::{Kind, Resource},
    usage::{Reason, Status},
};
use rustix::time::{ClockId, clock_gettime};

use crate::setup::{HEADERS_BYTES, Net, Own, SYN_BYTES, attach, ip, own, transfer};

const INTERVAL_NS: u64 = 100_000_000;
pub(crate) const ORDER: [u8; 16] = [1; 16];

pub(crate) fn now() -> At {
    let ns = |clock| {
        let time = clock_gettime(clock);
        time.tv_sec * 1_000_000_000 + time.tv_nsec
    };
    At {
        real_ns: ns(ClockId::Realtime),
        boot_ns: ns(ClockId::Boottime).unsigned_abs(),
        mono_ns: ns(ClockId::Monotonic).unsigned_abs(),
    }
}

pub(crate) fn metered() -> Vec<Resource> {
    [Kind::Cpu, Kind::NetRx, Kind::NetTx].map(Resource::used).to_vec()
}

pub(crate) fn sampler() -> Sampler {
    Sampler::new(Path::new("/"), INTERVAL_NS, now()).unwrap()
}

pub(crate) fn plan(target: &Target, network: Network) -> Plan {
    Plan { network: Some(network), ..target.clone().into() }
}

pub(crate) fn of(totals: &[Total], kind: Kind) -> &Total {
    totals.iter().find(|total| total.resource == Resource::used(kind)).unwrap()
}

fn pause(sampler: &mut Sampler) {
    std::thread::sleep(std::time::Duration::from_nanos(INTERVAL_NS));
    sampler.tick(now());
}

pub(crate) fn start(sampler: &mut Sampler, own: &Own, network: Network, state: Option<OrderState>) {
    sampler.start(ORDER, plan(&own.place.target, network), &metered(), &[], state, now()).unwrap();
}

#[test]
fn an_orders_traffic_is_its_usage_and_nothing_is_lost_while_the_agent_is_down() {
    let (Some(own), Some(net)) = (own("order"), Net::make()) else { return };
    let counters = attach(&own);
    let mut sampler = self::sampler();
    start(&mut sampler, &own, Network::Cgroup, None);
    let mut sent = transfer(&own, &net);
    pause(&mut sampler);
    let state = sampler.state_of(ORDER).unwrap();
    assert_eq!(state.identity.attached.as_deref().map(|found| found[0].instance), Some(u64::from(counters.id())));
    drop(sampler);
    sent += transfer(&own, &net);
    // As an agent that may attach nothing: the counters come by hand, of which only the mapping is left.
    let mut sampler = self::sampler();
    let Target::Cgroup { path } = &own.place.target else { panic!("{:?}", own.place.target) };
    sampler.hand_over(path, attach(&own));
    let kept = OrderState::decode(&state.encode()).unwrap();
    assert!(sampler.resume(&kept, now()));
    sent += transfer(&own, &net);
    pause(&mut sampler);
    let pieces = sampler.stop(ORDER, now()).unwrap();
    let [last] = &pieces[..] else { panic!("{pieces:?}") };
    let (tx, rx) = (of(&last.totals, Kind::NetTx), of(&last.totals, Kind::NetRx));
    let traffic = counters.read();
    assert_eq!((tx.status, tx.total), (Status::Measured, Some(traffic.tx_bytes.into())), "{tx:?}");
    assert_eq!((rx.status, rx.total), (Status::Measured, Some(traffic.rx_bytes.into())), "{rx:?}");
    assert_eq!(traffic.tx_bytes, sent + traffic.tx_packets * HEADERS_BYTES + 3 * SYN_BYTES);
}

#[test]
fn a_recreated_interface_starts_its_own_kinds_anew_and_leaves_the_others_alone() {
    let (Some(own), Some(net)) = (own("anew"), Net::make()) else { return };
    let mut sampler = self::sampler();
    // From the host's side the order is whoever is in the namespace; here the place sends to it, and so the order receives.
    start(&mut sampler, &own, Network::Interface { name: net.veth.clone(), host_side: true, netns_pid: None }, None);
    let first = transfer(&own, &net);
    pause(&mut sampler);
    let measured = of(&sampler.close(now(), now().real_ns).orders[0].totals, Kind::NetRx).clone();
    assert_eq!(measured.status, Status::Measured);
    let before = measured.total.unwrap();
    assert!(before > u128::from(first) && before * 1000 < u128::from(first) * 1004, "{before} for {first}");
    assert!(ip(&format!("link del {}", net.veth)));
    pause(&mut sampler);
    pause(&mut sampler);
    net.plug();
    // What could not be opened is tried again after some ticks.
    (0..15).for_each(|_| pause(&mut sampler));
    let second = transfer(&own, &net);
    pause(&mut sampler);
    let pieces = sampler.stop(ORDER, now()).unwrap();
    println!("{pieces:?}");
    assert!(pieces.iter().all(|piece| !matches!(piece.reason, Reason::Gap | Reason::PowerLoss)), "no gap of the order");
    let last = pieces.last().unwrap();
    let rx = of(&last.totals, Kind::NetRx);
    let total = rx.total.unwrap();
    assert_eq!(rx.status, Status::Estimated, "{rx:?}");
    assert!(rx.why.as_deref().is_some_and(|why| why.contains("replaced") || why.contains("gone")), "{rx:?}");
    let both = u128::from(first + second);
    assert!(total > both && total * 1000 < both * 1004, "{total} for {both}");
    assert_eq!(of(&last.totals, Kind::Cpu).status, Status::Measured);
    let instances: Vec<u64> =
        pieces.iter().filter_map(|piece| Some(piece.identity.attached.as_deref()?.first()?.instance)).collect();
    assert!(instances.first() != instances.last() || instances.len() == 1, "{instances:?}");
}

#[test]
fn a_boundary_that_cannot_be_had_is_a_missing_reading_with_its_reason() {
    let Some(own) = own("none") else { return };
    let mut sampler = self::sampler();
    start(
        &mut sampler,
        &own,
        Network::Interface { name: "hufu-none0".to_owned(), host_side: false, netns_pid: None },
        None,
    );
    pause(&mut sampler);
    let pieces = sampler.stop(ORDER, now()).unwrap();
    let last = pieces.last().unwrap();
    let tx = of(&last.totals, Kind::NetTx);
    assert_eq!((tx.status, tx.total), (Status::Missing, None));
    assert!(tx.why.as_deref().is_some_and(|why| why.contains("none of this name")), "{tx:?}");
    assert_eq!(of(&last.totals, Kind::Cpu).status, Status::Measured);
}
