//! Products with GPUs: stock by the devices that are there, which device an order gets, and that a restart changes nothing.

use hufu_trade::{
    allocation::{Allocation, Device},
    decode,
    entry::EntryKind,
    if2::Interface,
    octets::ContractNo,
    tariff::Tariff,
    usage::Reason,
};

use super::market::{Market, QUALITY, SECOND, core, party, replay};
use crate::{gpu_config::GpuConfig, node::Event};

const KIND: &str = "A100-80G";

fn device(number: u8) -> Device {
    Device { resource: format!("gpu:{KIND}"), id: format!("GPU-{number:02}") }
}

/// A market whose one product holds a GPU, with these devices.
fn open(devices: &[Device]) -> Market {
    let mut market = Market::open();
    let product = &mut market.core.shop.products[0];
    (product.cpu_millicores, product.memory_bytes) = (100, 1 << 20);
    product.gpu = GpuConfig::of(Some(KIND), Some(1)).unwrap();
    let prices =
        "[[price]]\nresource = \"gpu:A100-80G\"\nprice = \"10\"\n[[price]]\nresource = \"gpu_energy\"\nprice = \"1\"\n";
    product.tariff = Tariff::from_toml(prices).unwrap();
    market.event(Event::Gpus { found: Ok(devices.to_vec()) });
    market
}

fn stock(market: &Market) -> u32 {
    market.core.shop.catalogue(&market.core.book).products[0].stock
}

fn held(market: &Market, no: ContractNo) -> Vec<String> {
    market.core.book.contracts[&no].devices.iter().map(|device| device.id.clone()).collect()
}

fn end(market: &mut Market, no: ContractNo) {
    market.event(Event::Provisioned { contract: no, outcome: Ok(None) });
    market.pass(20 * SECOND);
    let last = market.draft(no, Reason::End, 1);
    market.event(Event::Final { contract: no, drafts: vec![last], quality: QUALITY });
}

#[test]
fn an_order_gets_a_device_before_its_place_is_made_and_no_other_order_gets_it() {
    let mut market = open(&[device(2), device(1)]);
    assert_eq!(stock(&market), 2);
    let (first, _) = market.deal(1, 20);
    assert_eq!((held(&market, first), stock(&market)), (vec!["GPU-01".to_owned()], 1));
    // In the log first, then provided.
    let given: Vec<Allocation> = market
        .entries()
        .into_iter()
        .filter(|(kind, _)| *kind == EntryKind::Allocation)
        .map(|(_, body)| decode(&body, "Allocation").unwrap())
        .collect();
    assert_eq!((given.len(), given[0].contract_no, &given[0].devices[..]), (1, first, &[device(1)][..]));
    assert_eq!(market.provided, [first]);
    let job = format!("{:?}", crate::provision::job(&market.core, first).unwrap());
    assert!(job.contains("GPU-01") && !job.contains("GPU-02"), "{job}");

    let (second, _) = market.deal(2, 20);
    assert_eq!((held(&market, second), stock(&market)), (vec!["GPU-02".to_owned()], 0));
    let (offer, hash) = market.browse(3);
    let third = market.order_request(&offer, hash, 20, |_| {});
    assert_eq!(Market::code(market.say(Interface::SendOrder, &third)), "offer", "nothing is left to sell");

    // Another process reads the same from the log.
    let root = party(None, "root", 1);
    let mut again = core(&market.platform, &party(Some(&root), "node", 3), &root);
    replay(&mut again, &market.ledger);
    for no in [first, second] {
        assert_eq!(again.book.contracts[&no].devices, market.core.book.contracts[&no].devices);
    }
    end(&mut market, first);
    assert_eq!((held(&market, first), stock(&market)), (Vec::new(), 1), "whoever holds no capacity holds no device");
    let (fourth, _) = market.deal(4, 20);
    assert_eq!(held(&market, fourth), ["GPU-01"]);
    assert_eq!(market.alarms.len(), 0, "{:?}", market.alarms);
}

#[test]
fn a_device_that_goes_is_not_sold_and_whose_it_is_is_said() {
    let mut market = open(&[device(1), device(2)]);
    let (first, _) = market.deal(1, 20);
    market.core.told_revision = Some(market.core.book.revision);
    market.event(Event::Gpus { found: Ok(vec![device(2)]) });
    assert_eq!(market.alarms, [format!("GPU of an order is gone: {first}: gpu:{KIND} GPU-01")]);
    assert_eq!((stock(&market), market.core.told_revision), (1, None), "the catalogue is told again");
    // The order keeps what it was given; nobody else gets it when it comes back.
    assert_eq!(held(&market, first), ["GPU-01"]);
    market.event(Event::Gpus { found: Ok(vec![device(1), device(2)]) });
    let (second, _) = market.deal(2, 20);
    assert_eq!((held(&market, second), stock(&market)), (vec!["GPU-02".to_owned()], 0));
    // Nothing known is nothing sold, and no price of it.
    market.event(Event::Gpus { found: Err("NVML did not answer within 10 s".to_owned()) });
    assert_eq!(market.alarms.len(), 2);
    let product = market.core.shop.catalogue(&market.core.book).products.remove(0);
    assert_eq!((product.stock, product.prices.len()), (0, 0));
}

#[test]
fn an_order_whose_device_went_before_it_was_given_waits_for_one() {
    let mut market = open(&[device(1)]);
    let (offer, hash) = market.browse(1);
    let request = market.order_request(&offer, hash, 600, |_| {});
    // Between the deal and the place.
    market.core.shop.capacity.gpus = Ok(vec![device(1)]);
    let no = offer.contract_no;
    assert_eq!(Market::code(market.say(Interface::SendOrder, &request)), "accepted");
    assert_eq!(held(&market, no), ["GPU-01"]);
    // The same, found after a restart: the deal is in the log, the allocation is not, and the device is away.
    market.core.book.contracts.get_mut(&no).unwrap().devices.clear();
    market.core.services.clear();
    market.provided.clear();
    market.event(Event::Gpus { found: Ok(Vec::new()) });
    assert_eq!(market.provided, []);
    let said = &market.alarms[0];
    assert!(
        said.contains("order could not be provided") && said.contains("1 of gpu:A100-80G reserved, 0 free"),
        "{said}"
    );
    assert_eq!(stock(&market), 0, "what is promised is not sold again");
    market.event(Event::Gpus { found: Ok(vec![device(3)]) });
    assert_eq!(stock(&market), 0);
    market.pass(31 * SECOND);
    assert_eq!((held(&market, no), market.provided.clone()), (vec!["GPU-03".to_owned()], vec![no]));
}

#[test]
fn an_offer_names_the_devices_and_meters_only_them() {
    let mut market = open(&[device(1)]);
    let (offer, _) = market.browse(1);
    let reserves: Vec<(String, u64)> = offer.reserves.iter().map(|r| (r.resource.clone(), r.quantity)).collect();
    assert!(reserves.contains(&(format!("gpu:{KIND}"), 1)), "{reserves:?}");
    let metered = |name: &str| offer.metered.iter().find(|m| m.resource == name).map(|m| m.source.as_str());
    assert_eq!(metered("gpu:A100-80G"), Some("nvml, device held"));
    assert_eq!(metered("gpu_energy"), Some("nvml nvmlDeviceGetTotalEnergyConsumption"));
    assert_eq!(metered("gpu"), None);
    assert_eq!(offer.tariff.prices.len(), 2);
    // MIG instances have no energy counter.
    let part = Device { id: "MIG-01".to_owned(), ..device(1) };
    market.event(Event::Gpus { found: Ok(vec![part]) });
    let (offer, _) = market.browse(2);
    let energy = offer.metered.iter().find(|m| m.resource == "gpu_energy").unwrap();
    assert_eq!(energy.why_not.as_deref(), Some("NVML counts no energy of a MIG instance"));
    assert_eq!(offer.tariff.prices.len(), 1);
    // A product without devices meters none.
    market.core.shop.products[0].gpu = None;
    let (offer, _) = market.browse(3);
    let gpu = offer.metered.iter().find(|m| m.resource == "gpu").unwrap();
    assert_eq!(gpu.why_not.as_deref(), Some("the product holds no GPU"));
}
