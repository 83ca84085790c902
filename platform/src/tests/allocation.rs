//! Which devices an order holds, as the platform judges it.

use hufu_ledger::Log;
use hufu_trade::{
    allocation::{Allocation, Device},
    encode,
    entry::EntryKind,
    octets::Octets,
};

use super::{judgement::alarm_codes, world::World};

#[tokio::test]
async fn the_devices_of_an_order_are_those_that_its_offer_reserves() {
    type Row = (&'static str, fn(&mut Allocation), Option<&'static str>);
    let table: [Row; 6] = [
        ("as reserved", |_| {}, None),
        ("fewer", |given| drop(given.devices.pop()), Some("offer")),
        ("of another kind", |given| given.devices[0].resource = "gpu:1g.10gb".to_owned(), Some("offer")),
        ("one device twice", |given| given.devices[1] = given.devices[0].clone(), Some("malformed")),
        ("an index", |given| given.devices[0].id = "0".to_owned(), Some("malformed")),
        ("of a contract that nobody knows", |given| given.contract_no = Octets([7; 16]), Some("unknown")),
    ];
    for (name, change, code) in table {
        let mut world = World::open().await;
        let sold = world.deal();
        let device = |id: &str| Device { resource: "gpu:A100-80G".to_owned(), id: id.to_owned() };
        let devices = vec![device("GPU-1"), device("GPU-2")];
        let mut given = Allocation { version: 1, contract_no: sold.no, time: world.now, devices };
        change(&mut given);
        let body = encode(&given, "Allocation").expect("DER");
        world.one(Log::Trade, EntryKind::Allocation, sold.no, body);
        world.send_all().await;
        assert_eq!(alarm_codes(&world).await, code.into_iter().collect::<Vec<_>>(), "{name}");
    }
}
