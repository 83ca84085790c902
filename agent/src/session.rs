//! 统一认证 at the node: it asks for a code, changes it for a token, shows the token's id in what it says, renews it early and gives
//! it back when it stops. A platform that knows no tokens is spoken to without. What a token is, is `trade::token`.

use hufu_gm::Signed;
use hufu_trade::{
    decode,
    if2::{Answer, AuthCode, Authorised, Interface, Logout, Problem, TokenGiven, TokenRequest},
    party::platform_of,
    token::{SCOPE_IF2, Token},
};

use crate::{
    act::malformed,
    clock::Now,
    node::{Core, Effect},
    outbox::LINK_NS,
};

/// Pause before a question without an answer is asked again, ns; doubles to [`PAUSE_MAX_NS`].
const PAUSE_NS: u64 = 5_000_000_000;
const PAUSE_MAX_NS: u64 = 600_000_000_000;

/// The token of this node, as long as it is known to hold; nothing of it need survive.
#[derive(Debug, Default)]
pub(crate) struct Session {
    held: Option<Token>,
    /// When something is asked next, CLOCK_MONOTONIC ns.
    ask_ns: u64,
    pause_ns: u64,
}

impl Session {
    /// A new link: what was asked may be lost; a token holds on, and is renewed when its time comes.
    pub(crate) fn relinked(&mut self, mono_ns: u64) {
        if self.held.is_none() {
            self.ask_ns = mono_ns.saturating_add(LINK_NS);
        }
        self.pause_ns = 0;
    }

    /// Id of the token that is shown at a time, ns since 1970-01-01Z.
    pub(crate) fn shown(&self, real_ns: i64) -> Option<String> {
        self.held.as_ref().filter(|token| real_ns < token.not_after).map(|token| token.token_id.to_string())
    }

    /// When something is due, CLOCK_MONOTONIC ns.
    pub(crate) fn due_ns(&self) -> u64 {
        self.ask_ns
    }

    /// Whether a problem says that the token does not hold: another is asked for at once.
    pub(crate) fn is_refused(&mut self, problem: &Problem) -> bool {
        let is_token = problem.code == "token";
        if is_token {
            *self = Self { ask_ns: if self.held.is_some() { 0 } else { self.ask_ns }, ..Self::default() };
        }
        is_token
    }
}

impl Core {
    /// The question for a code, where one is due: no token, or two thirds of its life are over.
    pub(crate) fn tell_session(&mut self, now: Now) -> Option<Effect> {
        if self.session.ask_ns > now.mono_ns {
            return None;
        }
        self.session.pause_ns = (self.session.pause_ns * 2).clamp(PAUSE_NS, PAUSE_MAX_NS);
        self.session.ask_ns = now.mono_ns.saturating_add(self.session.pause_ns);
        self.say(now, Interface::AuthCode, None, &AuthCode { scope: SCOPE_IF2.to_owned() })
    }

    /// A code came: it is changed for a token at once.
    ///
    /// # Errors
    /// The [`Problem`] with what the platform says.
    pub(crate) fn authorised(&mut self, now: Now, payload: &[u8]) -> Result<Vec<Effect>, Problem> {
        match self.open::<Answer<Authorised>>(Interface::AuthCode, payload)?.payload.body {
            Answer::Ok(given) => {
                let asked = TokenRequest { code: given.code };
                Ok(self.say(now, Interface::Token, None, &asked).into_iter().collect())
            }
            // It has no tokens, or does not know this node yet: asked again after the pause.
            Answer::Error(_) => Ok(Vec::new()),
        }
    }

    /// A token came.
    ///
    /// # Errors
    /// The [`Problem`] with what it is.
    pub(crate) fn token_given(&mut self, now: Now, payload: &[u8]) -> Result<Vec<Effect>, Problem> {
        let Answer::Ok(given) = self.open::<Answer<TokenGiven>>(Interface::Token, payload)?.payload.body else {
            return Ok(Vec::new());
        };
        let signed = Signed::from_bytes(&given.token.0).map_err(malformed)?;
        let platform = &self.identity.platform;
        if signed.cert_id() != platform.id() || !signed.verify(platform.public_key()).is_valid() {
            return Err(malformed("the token is not signed by this node's platform"));
        }
        let token: Token = decode(signed.tbs(), "Token").map_err(malformed)?;
        let issuer = platform_of(&self.identity.pool);
        // The platform's clock may be ahead of this one: whether the token holds yet is for the platform to say.
        token.holds(&issuer, now.real_ns.max(token.not_before)).map_err(malformed)?;
        if token.subject != self.identity.pool || token.issuer != issuer {
            return Err(malformed("the token is another node's"));
        }
        let life = u64::try_from(token.not_after.saturating_sub(now.real_ns.max(token.not_before))).unwrap_or(0);
        self.session.ask_ns = now.mono_ns.saturating_add((life / 3 * 2).max(PAUSE_NS));
        self.session.pause_ns = 0;
        self.session.held = Some(token);
        Ok(Vec::new())
    }

    /// The token is given back: the node stops.
    pub(crate) fn log_out(&mut self, now: Now) -> Option<Effect> {
        let token_id = self.session.shown(now.real_ns).filter(|_| self.linked)?;
        let said = self.say(now, Interface::Logout, None, &Logout { token_id });
        self.session.held = None;
        said
    }
}
