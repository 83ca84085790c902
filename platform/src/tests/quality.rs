//! The quality delivered, as the platform judges it: records whose totals do not follow, bills that tell another one.

use hufu_trade::{bill::Bill, quality::Delivered, usage::UsageRecord};

use super::{
    judgement::{alarm_codes, states},
    world::World,
};

/// A record of a minute in which the order waited for a CPU for a second.
fn told(record: &mut UsageRecord) {
    let total = (record.order_seq + 1) * 1_000_000_000;
    record.delivered = Some(vec![Delivered { code: 2, delta: Some(1_000_000_000), total: Some(total), why: None }]);
}

#[tokio::test]
async fn a_bill_tells_the_quality_that_its_records_tell() {
    type Row = (&'static str, fn(&mut Bill), &'static str);
    let table: [Row; 4] = [
        ("as it was", |_| {}, "payable"),
        ("better than it was", |bill| bill.quality.iter_mut().flatten().for_each(|line| line.ns -= 1), "refused"),
        ("told of no time", |bill| bill.quality.iter_mut().flatten().for_each(|line| line.elapsed_ns = 0), "refused"),
        ("not told", |bill| bill.quality = None, "refused"),
    ];
    for (name, change, state) in table {
        let mut world = World::open().await;
        world.told = told;
        let mut sold = world.deal();
        world.serve(&mut sold);
        world.bill(&sold, change);
        world.send_all().await;
        assert_eq!(states(&world).await, ("billed".to_owned(), vec![state.to_owned()]), "{name}");
        let refused = if state == "refused" { vec!["amount"] } else { Vec::new() };
        assert_eq!(alarm_codes(&world).await, refused, "{name}");
    }
}

#[tokio::test]
async fn a_record_whose_quality_does_not_follow_is_refused() {
    type Row = (&'static str, fn(&mut UsageRecord));
    let falls: fn(&mut UsageRecord) = |record| {
        told(record);
        if record.order_seq == 1 {
            record.delivered.iter_mut().flatten().for_each(|one| one.total = Some(999_999_999));
        }
    };
    let table: [Row; 4] = [
        ("falls", falls),
        ("is told no more", |record| {
            if record.order_seq == 0 {
                told(record)
            }
        }),
        ("without a reason", |record| {
            record.delivered = Some(vec![Delivered { code: 1, delta: None, total: None, why: None }]);
        }),
        ("unknown", |record| {
            record.delivered = Some(vec![Delivered { code: 6, delta: Some(1), total: Some(1), why: None }]);
        }),
    ];
    for (name, change) in table {
        let mut world = World::open().await;
        world.told = change;
        let mut sold = world.deal();
        world.serve(&mut sold);
        world.send_all().await;
        // What follows the refused record is refused because it follows it.
        let codes = alarm_codes(&world).await;
        assert!(codes.iter().any(|code| code == "amount"), "{name}: {codes:?}");
    }
}

#[tokio::test]
async fn a_record_of_counters_that_are_not_known_is_refused() {
    use hufu_trade::octets::Octets;

    type Row = (&'static str, fn(&mut UsageRecord), &'static [&'static str]);
    let table: [Row; 5] = [
        ("as it is", |_| {}, &[]),
        ("an identity again", |record| record.identity = Some(super::acts::identity()), &[]),
        ("of another identity", |record| record.meter = Octets([7; 16]), &["malformed"]),
        ("without one", |record| record.identity = None, &["malformed"]),
        (
            "changed without one",
            |record| {
                if record.order_seq == 1 {
                    record.meter = Octets([7; 16]);
                }
            },
            &["malformed"],
        ),
    ];
    for (name, change, want) in table {
        let mut world = World::open().await;
        world.told = change;
        let mut sold = world.deal();
        world.serve(&mut sold);
        world.send_all().await;
        // What follows the refused record is refused because it follows it.
        let codes = alarm_codes(&world).await;
        assert!(want.iter().all(|code| codes.iter().any(|found| found == code)), "{name}: {codes:?}");
        assert_eq!(codes.is_empty(), want.is_empty(), "{name}: {codes:?}");
    }
}
