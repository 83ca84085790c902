//! Topic names and the table of interfaces: name, direction, durability. Payloads are `message.rs`.

/// How an interface behaves when the link breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// An entry in the ledger; sent again until the platform's signed receipt covers it.
    Durable,
    /// Content id; the same answer again from the key index.
    Replayable,
    /// Asked again by a timer.
    Ephemeral,
}

macro_rules! interfaces {
    ($($(#[$meta:meta])* $name:ident = $text:literal, up $up:literal, $delivery:ident;)*) => {
        /// The interfaces of IF2 that this version speaks.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Interface { $($(#[$meta])* $name),* }
        impl Interface {
            /// The topic segment.
            pub fn name(self) -> &'static str { match self { $(Interface::$name => $text),* } }
            /// The interface of a topic segment.
            pub fn from_name(name: &str) -> Option<Self> { match name { $($text => Some(Interface::$name),)* _ => None } }
            /// True when the node asks or tells, false when the platform does.
            pub fn is_up(self) -> bool { match self { $(Interface::$name => $up),* } }
            /// What happens when the link breaks.
            pub fn delivery(self) -> Delivery { match self { $(Interface::$name => Delivery::$delivery),* } }
            /// All of them.
            pub const ALL: &'static [Interface] = &[$(Interface::$name),*];
        }
    };
}
interfaces! {
    /// 认证服务器授权码获取: the node asks for a code that it can change for a token.
    AuthCode = "auth-code", up true, Ephemeral;
    /// 认证服务器 token 获取: the node changes its code for a token.
    Token = "token", up true, Ephemeral;
    /// 认证服务器登出: the node gives its token back.
    Logout = "logout", up true, Ephemeral;
    /// 用户信息获取: the node asks whose token a user showed, and whether it holds.
    UserInfo = "user-info", up true, Ephemeral;
    /// 产品上报: the signed catalogue; also retained on the products topic.
    ProductReport = "product-report", up true, Ephemeral;
    /// Ledger blocks (DER, see [`super::Blocks`]); the answer is the platform's signed receipt.
    Blocks = "blocks", up true, Durable;
    /// 后付费账单推送.
    BillPush = "bill-push", up true, Durable;
    /// 后付费账单支付结果确认.
    PaymentConfirm = "payment-confirm", up true, Ephemeral;
    /// The node asks how far the platform holds a log, and for blocks of it that the node itself has lost; see
    /// [`super::Fetch`]. Blocks come as [`super::Blocks`] behind the answer.
    Fetch = "fetch", up true, Ephemeral;
    /// 获取定制需求: the node asks for the demands that it may see.
    Demands = "demands", up true, Ephemeral;
    /// 响应定制需求: the node's answer to a demand, which is an entry.
    DemandResponse = "demand-response", up true, Durable;
    /// A buyer's browse statement, relayed; the answer is the node's offer.
    Browse = "browse", up false, Replayable;
    /// 发送订单: a buyer's order statement, relayed; the answer is the deal.
    SendOrder = "order", up false, Replayable;
    /// A buyer's score statement, relayed.
    Score = "score", up false, Replayable;
    /// 订单状态变更: a notice of the buyer, relayed, or of the platform; the answer is its entry.
    OrderChange = "order-change", up false, Replayable;
    /// 用户账户下行同步 (7.1): an account of the platform; the node makes or changes its own.
    Account = "account", up false, Replayable;
    /// 退款金额确认: what of an order's money goes back, now or at a given moment.
    RefundAmount = "refund-amount", up false, Ephemeral;
    /// 后付费账单查询: the bills of a contract as the node holds them.
    BillQuery = "bill-query", up false, Ephemeral;
}

impl Interface {
    /// Whether the id of a message comes from its content and the time it was asked: the same words may be asked again.
    pub fn is_question(self) -> bool {
        matches!(
            self,
            Interface::AuthCode
                | Interface::Token
                | Interface::UserInfo
                | Interface::PaymentConfirm
                | Interface::Fetch
                | Interface::Demands
                | Interface::RefundAmount
                | Interface::BillQuery
        )
    }
}

impl Interface {
    /// Whether a message of a node must show a token where the platform asks for tokens: what introduces the node or leads to
    /// a token cannot.
    pub fn needs_token(self) -> bool {
        use Interface::{AuthCode, Blocks, Fetch, ProductReport, Token};
        self.is_up() && !matches!(self, AuthCode | Token | ProductReport | Fetch | Blocks)
    }
}

/// Name of the platform in `from` and `to`.
pub const PLATFORM: &str = "platform";

/// Whether a topic segment is `[a-z0-9_-]{1,64}` (NATS drops a connection over a dot or a space).
pub fn segment_ok(segment: &str) -> bool {
    (1..=64).contains(&segment.len())
        && segment.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
}

/// What a node tells of its log, or a finder of a fork.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Told {
    /// `headers`: [`super::peers::Headers`] as they are written.
    Headers,
    /// `checkpoint-trade`, `checkpoint-finance`: the newest with its cosignatures, retained.
    Checkpoint(u8),
    /// `certificates`: the node's chain, DER of `SEQUENCE OF OCTET STRING`, leaf first; retained.
    Certificates,
    /// `public`: DER of `Signed` over [`super::public::Public`], retained.
    Public,
    /// `cosignature`: [`super::peers::Witnessing`] of a checkpoint of another node.
    Cosignature,
    /// `fork-{16 hexadecimal digits}`: a fork proof, named by the first octets of its SM3; retained.
    Fork(String),
}

/// What is said to one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// [`super::peers::Ask`].
    Ask,
    /// [`super::peers::Headers`].
    Answer,
}

impl Told {
    fn name(&self) -> String {
        match self {
            Told::Headers => "headers".to_owned(),
            Told::Checkpoint(0) => "checkpoint-trade".to_owned(),
            Told::Checkpoint(_) => "checkpoint-finance".to_owned(),
            Told::Certificates => "certificates".to_owned(),
            Told::Public => "public".to_owned(),
            Told::Cosignature => "cosignature".to_owned(),
            Told::Fork(number) => format!("fork-{number}"),
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        let number = |text: &str| {
            let is_number = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            is_number.then(|| Told::Fork(text.to_owned()))
        };
        match name {
            "headers" => Some(Told::Headers),
            "checkpoint-trade" => Some(Told::Checkpoint(0)),
            "checkpoint-finance" => Some(Told::Checkpoint(1)),
            "certificates" => Some(Told::Certificates),
            "public" => Some(Told::Public),
            "cosignature" => Some(Told::Cosignature),
            name => number(name.strip_prefix("fork-")?),
        }
    }
}

/// A topic of the tree `hufu/v1/...`, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topic {
    /// `hufu/v1/{site}/{node}/presence`.
    Presence {
        /// `{site}/{node}`.
        pool: String,
    },
    /// `hufu/v1/{site}/{node}/products`.
    Products {
        /// `{site}/{node}`.
        pool: String,
    },
    /// `hufu/v1/{site}/platform/state`.
    PlatformState {
        /// The site.
        site: String,
    },
    /// `.../up/{interface}` or `.../down/{interface}`, and their `/re`.
    Call {
        /// `{site}/{node}`.
        pool: String,
        /// Which interface; its direction gives `up` or `down`.
        interface: Interface,
        /// The answer's topic.
        answer: bool,
    },
    /// `hufu/v1/{site}/{node}/ledger/{..}`; of the platform, `node` is `platform` and only forks are told.
    Ledger {
        /// Who tells: `{site}/{node}`.
        pool: String,
        /// What.
        told: Told,
    },
    /// `hufu/v1/{site}/{node}/ledger/to/{site}/{node}/{..}`.
    LedgerTo {
        /// Who says it.
        pool: String,
        /// To whom.
        to: String,
        /// What.
        said: Said,
    },
}

impl Topic {
    /// Reads a topic name; foreign or malformed names give `None`.
    pub fn parse(name: &str) -> Option<Self> {
        let parts: Vec<&str> = name.split('/').collect();
        let (["hufu", "v1", site, node], rest) = parts.split_first_chunk::<4>()? else { return None };
        if !segment_ok(site) || !segment_ok(node) {
            return None;
        }
        let pool = format!("{site}/{node}");
        // No node is named as the platform is, so that its topics are nobody else's.
        if *node == PLATFORM && rest != ["state"] && rest.first() != Some(&"ledger") {
            return None;
        }
        match rest {
            ["ledger", name] => {
                let told = Told::from_name(name)?;
                (*node != PLATFORM || matches!(told, Told::Fork(_))).then_some(Topic::Ledger { pool, told })
            }
            ["ledger", "to", site, other, name] => {
                let said = match *name {
                    "ask" => Said::Ask,
                    "answer" => Said::Answer,
                    _ => return None,
                };
                let is_named = segment_ok(site) && segment_ok(other);
                is_named.then(|| Topic::LedgerTo { pool, to: format!("{site}/{other}"), said })
            }
            ["presence"] => Some(Topic::Presence { pool }),
            ["products"] => Some(Topic::Products { pool }),
            ["state"] if *node == PLATFORM => Some(Topic::PlatformState { site: (*site).to_owned() }),
            [direction, name, tail @ ..] if tail.is_empty() || tail == ["re"] => {
                let interface = Interface::from_name(name)?;
                let expected = if interface.is_up() { "up" } else { "down" };
                (*direction == expected).then_some(Topic::Call { pool, interface, answer: !tail.is_empty() })
            }
            _ => None,
        }
    }
}

impl std::fmt::Display for Topic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Topic::Presence { pool } => write!(f, "hufu/v1/{pool}/presence"),
            Topic::Products { pool } => write!(f, "hufu/v1/{pool}/products"),
            Topic::PlatformState { site } => write!(f, "hufu/v1/{site}/{PLATFORM}/state"),
            Topic::Ledger { pool, told } => write!(f, "hufu/v1/{pool}/ledger/{}", told.name()),
            Topic::LedgerTo { pool, to, said } => {
                let name = match said {
                    Said::Ask => "ask",
                    Said::Answer => "answer",
                };
                write!(f, "hufu/v1/{pool}/ledger/to/{to}/{name}")
            }
            Topic::Call { pool, interface, answer } => {
                let direction = if interface.is_up() { "up" } else { "down" };
                write!(f, "hufu/v1/{pool}/{direction}/{}{}", interface.name(), if *answer { "/re" } else { "" })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_reads_back_as_itself() {
        let pool = "site-1/node_a".to_owned();
        let mut topics = vec![
            Topic::Presence { pool: pool.clone() },
            Topic::Products { pool: pool.clone() },
            Topic::PlatformState { site: "site-1".to_owned() },
        ];
        for interface in Interface::ALL {
            for answer in [false, true] {
                topics.push(Topic::Call { pool: pool.clone(), interface: *interface, answer });
            }
        }
        let fork = Told::Fork("0123456789abcdef".to_owned());
        let told = [Told::Headers, Told::Checkpoint(0), Told::Checkpoint(1), Told::Certificates, Told::Cosignature];
        for told in told.into_iter().chain([fork.clone()]) {
            topics.push(Topic::Ledger { pool: pool.clone(), told });
        }
        topics.push(Topic::Ledger { pool: "site-1/platform".to_owned(), told: fork });
        for said in [Said::Ask, Said::Answer] {
            topics.push(Topic::LedgerTo { pool: pool.clone(), to: "site-2/platform".to_owned(), said });
        }
        for topic in topics {
            assert_eq!(Topic::parse(&topic.to_string()), Some(topic));
        }
        for foreign in [
            "",
            "hufu/v1/a/b",
            "hufu/v2/a/b/presence",
            "hufu/v1/A/b/presence",
            "hufu/v1/a/b/down/blocks",
            "hufu/v1/a/platform/ledger/headers",
            "hufu/v1/a/b/ledger/fork-0123",
            "hufu/v1/a/b/ledger/to/c/ask",
            "hufu/v1/a/b/ledger/to/c/D/ask",
            "x/y",
        ] {
            assert_eq!(Topic::parse(foreign), None, "{foreign}");
        }
    }
}
