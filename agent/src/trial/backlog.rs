//! What a node sends after a time without its platform: message after message, each beginning where the one before ended.

use hufu_ledger::Log;
use hufu_trade::{
    decode,
    if2::{Blocks, MESSAGE_BYTES_MAX},
    usage::Reason,
};

use super::{
    market::{Market, SECOND},
    personal::{taken, writer},
};
use crate::{
    link::Outbound,
    node::{Effect, Event},
};

#[test]
fn no_block_is_left_out_between_two_messages() {
    let mut market = Market::with_segments(hufu_trade::rules::DEFAULT, 1 << 20);
    let (no, _) = market.deal(1, 3600);
    market.event(Event::Provisioned { contract: no, outcome: Ok(None) });
    for window in 1..=250_u128 {
        market.elapsed_ns += SECOND;
        let draft = market.draft(no, Reason::Continue, window * 1_000_000);
        market.window(vec![draft]);
    }
    let (ledger, _empty) = taken(&mut market);
    let below = ledger.size(Log::Trade);
    let (mut writer, ..) = writer(&market, ledger);
    let (link, mut sent) = tokio::sync::mpsc::channel(64);
    writer.link = link;
    writer.replay().unwrap();
    writer.core.cursors[0].receipt(0, 0);
    let (mut from, mut sizes) = (0, Vec::new());
    while from < below {
        let room = MESSAGE_BYTES_MAX;
        writer.execute(Effect::SendBlocks { log: Log::Trade, from, below, room }).unwrap();
        let Ok(Outbound::Publish { payload, .. }) = sent.try_recv() else { panic!("nothing was sent from {from}") };
        let message: Blocks = decode(&payload, "Blocks").unwrap();
        assert_eq!(message.first, from);
        from += message.blocks.len() as u64;
        assert_eq!(writer.core.cursors[0].sent(), Some(from), "as far as the message goes");
        sizes.push(payload.len());
    }
    assert_eq!(from, below);
    assert!(sizes.len() > 2 && sizes.iter().all(|size| *size <= MESSAGE_BYTES_MAX), "{sizes:?}");
}
