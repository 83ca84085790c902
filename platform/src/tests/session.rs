//! Tokens at the platform: asked for, shown, refused, given back; and users' tokens.

use hufu_gm::Signed;
use hufu_trade::{
    decode,
    if2::{
        Answer, AuthCode, Authorised, Demands, Envelope, Interface, Logout, PLATFORM, TokenGiven, TokenRequest, Topic,
        UserInfo,
    },
    octets::Octets,
    token::Token,
};
use serde::Serialize;
use serde_json::Value;

use super::world::{POOL, SECOND, World};
use crate::session;

impl World {
    /// The node says something with a token; what the platform answered, or the code of its refusal.
    async fn with_token<T: Serialize>(
        &mut self,
        token: Option<&str>,
        interface: Interface,
        body: &T,
    ) -> Result<Value, String> {
        self.now += 1;
        let (key, id) = (&self.node.key, Octets(self.node.id()));
        let asked = interface.is_question().then_some(self.now);
        let sealed = Envelope::seal_under(token, interface, POOL, PLATFORM, self.now, None, asked, body, key, id);
        let topic = Topic::Call { pool: POOL.to_owned(), interface, answer: false };
        let taken = self.inbox.take(self.now, &topic, &sealed.expect("a message").1).await.expect("the database");
        let answer = &taken.outgoing[0].payload;
        let envelope = Envelope::parse(answer).expect("an envelope");
        let key = self.identity.key.public_key();
        let opened = envelope.open::<Answer<Value>>(&key, interface, POOL, answer).expect("the platform's");
        match opened.payload.body {
            Answer::Ok(said) => Ok(said),
            Answer::Error(problem) => Err(problem.code),
        }
    }

    async fn code(&mut self) -> String {
        let said = self.with_token(None, Interface::AuthCode, &AuthCode { scope: "if2".to_owned() }).await;
        serde_json::from_value::<Authorised>(said.expect("a code")).expect("a code").code
    }

    async fn token(&mut self) -> Token {
        let code = self.code().await;
        let said = self.with_token(None, Interface::Token, &TokenRequest { code }).await.expect("a token");
        let given: TokenGiven = serde_json::from_value(said).expect("a token");
        let signed = Signed::from_bytes(&given.token.0).expect("DER");
        assert!(signed.verify(&self.identity.key.public_key()).is_valid());
        decode(signed.tbs(), "Token").expect("a token")
    }

    async fn demands_under(&mut self, token: Option<&str>) -> Result<(), String> {
        self.with_token(token, Interface::Demands, &Demands { after: 0 }).await.map(|_| ())
    }
}

#[tokio::test]
async fn a_code_is_good_once_and_a_token_until_it_ends() {
    let mut world = World::open().await;
    world.send_all().await;
    let wrong = AuthCode { scope: "everything".to_owned() };
    assert_eq!(world.with_token(None, Interface::AuthCode, &wrong).await.unwrap_err(), "malformed");
    let code = world.code().await;
    let asked = TokenRequest { code };
    world.with_token(None, Interface::Token, &asked).await.expect("a token");
    assert_eq!(world.with_token(None, Interface::Token, &asked).await.unwrap_err(), "unknown", "used");
    let late = TokenRequest { code: world.code().await };
    world.now += 61 * SECOND;
    assert_eq!(world.with_token(None, Interface::Token, &late).await.unwrap_err(), "unknown", "expired");

    let token = world.token().await;
    assert_eq!((token.subject.as_str(), token.audience.as_str()), (POOL, "s1/platform"));
    let id = token.token_id.to_string();
    world.demands_under(None).await.expect("this platform asks for none");
    world.demands_under(Some(&id)).await.expect("it holds");
    for (name, shown, code) in [("unknown", "00".repeat(16), "token"), ("no id", "7".to_owned(), "malformed")] {
        assert_eq!(world.demands_under(Some(&shown)).await.unwrap_err(), code, "{name}");
    }
    let ended = Logout { token_id: id.clone() };
    for _ in 0..2 {
        world
            .with_token(Some(&id), Interface::Logout, &ended)
            .await
            .map(|_| ())
            .unwrap_or_else(|code| assert_eq!(code, "token"));
    }
    assert_eq!(world.demands_under(Some(&id)).await.unwrap_err(), "token", "logged out");
    let next = world.token().await.token_id.to_string();
    world.now += 3600 * SECOND;
    assert_eq!(world.demands_under(Some(&next)).await.unwrap_err(), "token", "expired");
    let mut tx = world.store.read().await.expect("a transaction");
    let alarms = crate::store::list::alarms(&mut tx).await.expect("the alarms");
    let codes: Vec<String> =
        alarms.iter().map(|alarm| serde_json::to_value(alarm).expect("JSON")["code"].to_string()).collect();
    assert!(!codes.iter().any(|code| code.contains("token")), "a node without a token is nobody's alarm: {codes:?}");
}

#[tokio::test]
async fn a_users_token_is_told_to_the_node_that_it_is_for() {
    let mut world = World::open().await;
    let sold = world.deal();
    world.send_all().await;
    let (user, no, now) = (Octets(world.buyer.id()), sold.no.to_string(), world.now);
    let mut ids = Vec::new();
    for pool in [POOL, "s1/n2"] {
        let mut tx = world.store.write().await.expect("a transaction");
        let given = session::for_user(&mut tx, &world.identity, (user, &no, pool), now).await.expect("a token");
        tx.commit().await.expect("a commit");
        let token: Token = decode(Signed::from_bytes(&given.token.0).expect("DER").tbs(), "Token").expect("a token");
        token.holds(pool, now).expect("it holds");
        ids.push(token.token_id.to_string());
    }
    let [own, other] = &ids[..] else { panic!("two") };
    let asked = |token_id: &str| UserInfo { token_id: token_id.to_owned() };
    let said = world.with_token(None, Interface::UserInfo, &asked(own)).await.expect("an answer");
    assert_eq!(
        (&said["user"], &said["contract_no"], &said["is_active"]),
        (&user.to_string().into(), &no.into(), &true.into())
    );
    assert_eq!(world.with_token(None, Interface::UserInfo, &asked(other)).await.unwrap_err(), "unknown");
    assert_eq!(world.demands_under(Some(own)).await.unwrap_err(), "token", "a user's is no node's");
    world.now += 900 * SECOND;
    let said = world.with_token(None, Interface::UserInfo, &asked(own)).await.expect("an answer");
    assert_eq!(said["is_active"], false);
}
