//! The refusal codes of IF2 and what to tell the sender to do.

use hufu_trade::if2::{Problem, Remedy};

/// Declares the codes with name and remedies in one table.
macro_rules! codes {
    ($($(#[$meta:meta])* $name:ident = $text:literal, $en:literal, $zh:literal;)*) => {
        /// Why something is refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Code { $($(#[$meta])* $name),* }
        impl Code {
            /// The code as it travels.
            pub(crate) fn name(self) -> &'static str { match self { $(Code::$name => $text),* } }
            fn remedy(self) -> (&'static str, &'static str) { match self { $(Code::$name => ($en, $zh)),* } }
        }
    };
}
codes! {
    /// Not what the format says.
    Malformed = "malformed", "send what the interface describes", "请按接口说明发送";
    /// A signature does not hold.
    Signature = "signature", "sign these bytes with the key of the certificate named", "请用所列证书的密钥对这些字节签名";
    /// A certificate is unknown or not trusted.
    Certificate = "certificate", "present a certificate that leads to a trust anchor of the platform and names the sender", "请提供可追溯到平台信任锚且与发送方名称一致的证书";
    /// The contract or the log is not in the state this needs.
    State = "state", "look at the contract's state and send what it allows next", "请查看合约状态并发送允许的下一步";
    /// Not what the offer says.
    Offer = "offer", "use the terms of the offer, or browse again for a new one", "请使用报价中的条款，或重新浏览获取新报价";
    /// No capacity.
    Stock = "stock", "order less, or later", "请减少数量或稍后再下单";
    /// An amount or total differs from what follows from the evidence.
    Amount = "amount", "compute the amount again from the usage records and the tariff", "请按用量记录和价格重新计算金额";
    /// The same id, number or height with other content.
    Duplicate = "duplicate", "this is taken by other content; send the first content or use a new id", "已被其他内容占用；请发送原内容或使用新编号";
    /// Names something that is not here.
    Unknown = "unknown", "send first what this refers to", "请先发送其所引用的内容";
    /// The token that a message must show is missing, expired or logged out.
    Token = "token", "ask for a token (auth-code, token) and show it", "请获取令牌（auth-code、token）并在消息中出示";
    /// No answer in time.
    Busy = "busy", "ask again later with the same content", "请稍后用相同内容重试";
}

impl Code {
    /// The problem to answer with: `why` names what was wrong.
    pub(crate) fn problem(self, field: Option<&str>, why: &str) -> Problem {
        let (en, zh) = self.remedy();
        Problem {
            code: self.name().to_owned(),
            field: field.map(str::to_owned),
            remedy: Remedy { en: format!("{why}: {en}"), zh: format!("{why}：{zh}") },
        }
    }
}

/// A refusal: its code and, for the log and the alarm list, what exactly was wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The code.
    pub(crate) code: Code,
    /// What was wrong.
    pub(crate) why: String,
}

impl Refusal {
    /// A refusal with its reason.
    pub(crate) fn new(code: Code, why: impl std::fmt::Display) -> Self {
        Self { code, why: why.to_string() }
    }

    /// The problem to answer with.
    pub(crate) fn problem(&self) -> Problem {
        self.code.problem(None, &self.why)
    }
}
