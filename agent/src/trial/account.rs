//! Accounts that the platform tells: kept once, the highest revision stands, who may not buy gets nothing new.

use hufu_gm::Signed;
use hufu_trade::{
    account::{ACTIVE, Account, BUYER, CLOSED, PROVIDER, SUSPENDED},
    encode,
    entry::EntryKind,
    if2::{AccountTold, Browse, Interface, Sealed},
    octets::Octets,
};

use super::market::{Market, Party, core, party, replay};
use crate::node::Event;

fn account(market: &Market, revision: u64, edit: impl FnOnce(&mut Account)) -> Account {
    let mut account = Account {
        version: 1,
        relay: "site-1/platform".to_owned(),
        user: Octets(market.buyer.certificate.id()),
        revision,
        roles: vec![BUYER.to_owned()],
        state: ACTIVE.to_owned(),
        time: market.now().real_ns,
        operation: Octets([1; 32]),
    };
    edit(&mut account);
    account
}

/// Code of the answer, or `held` with the revision.
fn tell(market: &mut Market, account: &Account, by: fn(&Market) -> &Party) -> String {
    let signer = by(market);
    let signed = Signed::seal(encode(account, "Account").unwrap(), &signer.certificate.id(), &signer.key).unwrap();
    let said = market.say(Interface::Account, &AccountTold { account: Sealed(signed.to_bytes().unwrap()) }).unwrap();
    match said["ok"]["revision"].as_u64() {
        Some(revision) => format!("held {revision}"),
        None => said["error"]["code"].as_str().unwrap().to_owned(),
    }
}

fn browse(market: &mut Market, nonce: u8) -> String {
    let request = market.signed(&market.browse_statement(nonce));
    let certificates = vec![Sealed(market.buyer.certificate.der().to_vec())];
    let (statement, signature) = (request.statement, request.signature);
    let said = market
        .say(Interface::Browse, &Browse { statement, signature, certificates, product_id: "small".to_owned() })
        .unwrap();
    said["error"]["code"].as_str().unwrap_or("offered").to_owned()
}

fn accounts(market: &Market) -> usize {
    market.entries().iter().filter(|(kind, _)| *kind == EntryKind::Account).count()
}

#[test]
fn an_account_is_an_entry_and_the_highest_revision_stands() {
    let mut market = Market::open();
    market.event(Event::Linked);
    let platform: fn(&Market) -> &Party = |market| &market.platform;
    let first = account(&market, 1, |_| ());
    assert_eq!(tell(&mut market, &first, platform), "held 1");
    assert_eq!((tell(&mut market, &first, platform), accounts(&market)), ("held 1".to_owned(), 1), "the same again");
    for (code, wrong) in [
        ("duplicate", account(&market, 1, |account| account.state = SUSPENDED.to_owned())),
        ("malformed", account(&market, 2, |account| account.relay = "site-2/platform".to_owned())),
        ("malformed", account(&market, 2, |account| account.roles = vec!["root".to_owned()])),
    ] {
        assert_eq!(tell(&mut market, &wrong, platform), code);
    }
    let foreign = account(&market, 2, |_| ());
    assert_eq!(tell(&mut market, &foreign, |market| &market.buyer), "signature");
    let third = account(&market, 3, |account| account.roles = vec![BUYER.to_owned(), PROVIDER.to_owned()]);
    assert_eq!(tell(&mut market, &third, platform), "held 3");
    let second = account(&market, 2, |_| ());
    assert_eq!((tell(&mut market, &second, platform), accounts(&market)), ("state".to_owned(), 2));
    assert_eq!(market.alarms, Vec::<String>::new());

    let root = party(None, "root", 1);
    let mut again = core(&market.platform, &party(Some(&root), super::market::POOL, 3), &root);
    replay(&mut again, &market.ledger);
    assert_eq!(again.book.accounts, market.core.book.accounts, "replayed");
    let state = crate::core_state::write(&market.core.book).unwrap();
    let recalled = crate::core_state::read(&state, &market.ledger).unwrap();
    assert_eq!(recalled.accounts, market.core.book.accounts, "recalled");
    let shown = market.core.accounts_shown();
    assert_eq!((&shown["accounts"][0]["revision"], &shown["accounts"][0]["state"]), (&3.into(), &ACTIVE.into()));
}

#[test]
fn who_may_not_buy_gets_no_offer_and_no_deal_and_what_runs_goes_on() {
    let mut market = Market::open();
    market.event(Event::Linked);
    let platform: fn(&Market) -> &Party = |market| &market.platform;
    assert_eq!(browse(&mut market, 1), "offered", "nothing is known of this user, and nothing is asked");
    let (running, _) = market.deal(2, 20);
    let (offer, hash) = market.browse(3);
    for (revision, barred) in [
        (1, account(&market, 1, |account| account.state = SUSPENDED.to_owned())),
        (2, account(&market, 2, |account| account.state = CLOSED.to_owned())),
        (3, account(&market, 3, |account| account.roles = vec![PROVIDER.to_owned()])),
    ] {
        assert_eq!(tell(&mut market, &barred, platform), format!("held {revision}"));
        assert_eq!(browse(&mut market, 10 + u8::try_from(revision).unwrap()), "state");
        let request = market.order_request(&offer, hash, 20, |_| ());
        assert_eq!(Market::code(market.say(Interface::SendOrder, &request)), "state");
        assert_eq!(market.state(running), "serving");
    }
    let good = account(&market, 4, |_| ());
    assert_eq!(tell(&mut market, &good, platform), "held 4");
    let request = market.order_request(&offer, hash, 20, |_| ());
    assert_eq!(Market::code(market.say(Interface::SendOrder, &request)), "accepted");
}

#[test]
fn a_site_may_ask_for_accounts() {
    let mut market = Market::open();
    market.event(Event::Linked);
    market.core.accounts_required = true;
    assert_eq!(browse(&mut market, 1), "unknown");
    let first = account(&market, 1, |_| ());
    tell(&mut market, &first, |market| &market.platform);
    assert_eq!(browse(&mut market, 1), "offered");
}
