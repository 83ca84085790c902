//! Tokens of the node: asked for, shown, renewed, lost, given back. The small world is `market.rs`.

use hufu_gm::Signed;
use hufu_trade::{
    encode,
    if2::{Answer, Authorised, Envelope, Interface, PLATFORM, Sealed, TokenGiven, Topic},
    octets::Octets,
    token::{SCOPE_IF2, Token},
};
use serde_json::{Value, json};

use super::market::{Market, POOL, Party, SECOND};
use crate::node::Event;

/// Payloads that the node said on an interface since it was last listened to: the token it showed, and the body.
fn said(market: &Market, interface: Interface) -> Vec<(Option<String>, Value)> {
    let wanted = Topic::Call { pool: POOL.to_owned(), interface, answer: false };
    let key = market.core.identity.key.public_key();
    let ours = market.published.iter().filter(|(topic, _)| *topic == wanted);
    ours.map(|(_, bytes)| {
        let opened = Envelope::parse(bytes).unwrap().open::<Value>(&key, interface, PLATFORM, bytes).unwrap();
        (opened.payload.token, opened.payload.body)
    })
    .collect()
}

fn token(market: &Market, edit: impl FnOnce(&mut Token)) -> Token {
    let now = market.now().real_ns;
    let mut token = Token {
        version: 1,
        token_id: Octets([7; 16]),
        issuer: "site-1/platform".to_owned(),
        subject: POOL.to_owned(),
        audience: "site-1/platform".to_owned(),
        scope: SCOPE_IF2.to_owned(),
        not_before: now,
        not_after: now + 3_600_000_000_000,
    };
    edit(&mut token);
    token
}

fn give(market: &mut Market, token: &Token, by: fn(&Market) -> &Party) {
    let signer = by(market);
    let der = encode(token, "Token").unwrap();
    let signed = Signed::seal(der, &signer.certificate.id(), &signer.key).unwrap();
    let given = TokenGiven { token: Sealed(signed.to_bytes().unwrap()) };
    market.say(Interface::Token, &Answer::Ok(given));
}

/// What the node shows when it says something that needs a token.
fn shown(market: &mut Market) -> Option<String> {
    market.published.clear();
    market.pass(60 * SECOND);
    said(market, Interface::Demands)[0].0.clone()
}

#[test]
fn a_token_is_asked_for_shown_renewed_early_and_given_back() {
    let mut market = Market::open();
    market.event(Event::Linked);
    market.pass(3 * SECOND);
    assert_eq!(said(&market, Interface::AuthCode), [(None, json!({ "scope": "if2" }))]);
    assert_eq!(shown(&mut market), None, "without one it speaks all the same");
    let authorised = Authorised { code: "ab".repeat(16), expires: String::new() };
    market.say(Interface::AuthCode, &Answer::Ok(authorised));
    assert_eq!(said(&market, Interface::Token), [(None, json!({ "code": "ab".repeat(16) }))]);
    let first = token(&market, |_| ());
    give(&mut market, &first, |market| &market.platform);
    assert_eq!(shown(&mut market), Some("07".repeat(16)));
    market.published.clear();
    market.pass(2300 * SECOND);
    assert_eq!(said(&market, Interface::AuthCode), []);
    market.pass(50 * SECOND);
    assert_eq!(said(&market, Interface::AuthCode).len(), 1, "two thirds of its life are over");
    assert_eq!(shown(&mut market), Some("07".repeat(16)), "it holds until it is replaced");
    market.pass(1200 * SECOND);
    assert_eq!(shown(&mut market), None, "and not after its end");
    let next = token(&market, |token| token.token_id = Octets([8; 16]));
    give(&mut market, &next, |market| &market.platform);
    market.published.clear();
    let left = market.core.log_out(market.now()).into_iter().collect();
    market.execute(left);
    assert_eq!(said(&market, Interface::Logout), [(Some("08".repeat(16)), json!({ "token_id": "08".repeat(16) }))]);
    assert_eq!(shown(&mut market), None);
    assert!(market.alarms.is_empty(), "{:?}", market.alarms);
}

#[test]
fn a_token_that_the_platform_refuses_is_replaced_at_once() {
    let mut market = Market::open();
    market.event(Event::Linked);
    let held = token(&market, |_| ());
    give(&mut market, &held, |market| &market.platform);
    market.pass(SECOND);
    market.published.clear();
    let refused = json!({ "error": { "code": "token", "remedy": { "en": "x", "zh": "x" } } });
    market.say(Interface::Demands, &refused);
    market.settle();
    assert_eq!(said(&market, Interface::AuthCode).len(), 1);
    market.published.clear();
    for _ in 0..5 {
        market.say(Interface::Demands, &refused);
        market.settle();
    }
    assert_eq!(said(&market, Interface::AuthCode), [], "but no question follows another without a pause");
    assert_eq!(shown(&mut market), None);
    assert!(market.alarms.is_empty(), "{:?}", market.alarms);
}

#[test]
fn only_its_own_platforms_token_for_itself_is_shown() {
    let mut market = Market::open();
    market.event(Event::Linked);
    let wrong: [(&str, Token); 4] = [
        ("another node's", token(&market, |token| token.subject = "site-1/node-2".to_owned())),
        ("for another platform", token(&market, |token| token.audience = "site-2/platform".to_owned())),
        ("expired", token(&market, |token| (token.not_before, token.not_after) = (1000, 2000))),
        ("of another form", token(&market, |token| token.version = 2)),
    ];
    for (name, token) in wrong {
        market.alarms.clear();
        give(&mut market, &token, |market| &market.platform);
        assert_eq!((market.alarms.len(), shown(&mut market)), (1, None), "{name}");
    }
    let good = token(&market, |_| ());
    give(&mut market, &good, |market| &market.buyer);
    assert_eq!(shown(&mut market), None, "signed by somebody else");
}
