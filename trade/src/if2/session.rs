//! 统一认证 and 用户信息 (table 1): the node asks for an authorisation code, changes it for a token, shows the token's id in what it
//! says, and gives it back; and it asks who a user's token is of. What a token is, is `crate::token`.

use serde::{Deserialize, Serialize};

use crate::if2::Sealed;

/// Body of `auth-code`, a question: 认证服务器授权码获取.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthCode {
    /// What the token shall be for; `if2`.
    pub scope: String,
}

/// Answer to [`AuthCode`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Authorised {
    /// 32 hexadecimal digits; good once.
    pub code: String,
    /// Until when, RFC 3339 UTC.
    pub expires: String,
}

/// Body of `token`, a question: 认证服务器 token 获取.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// The code of [`Authorised`].
    pub code: String,
}

/// Answer to [`TokenRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenGiven {
    /// DER of `Signed` over `Token`.
    pub token: Sealed,
}

/// Body of `logout`: 认证服务器登出.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Logout {
    /// Id of the token that ends, 32 hexadecimal digits.
    pub token_id: String,
}

/// Body of `user-info`, a question: 用户信息获取.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserInfo {
    /// Id of the token that the user showed, 32 hexadecimal digits.
    pub token_id: String,
}

/// Answer to [`UserInfo`]; nothing personal is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserState {
    /// As asked.
    pub token_id: String,
    /// Whether the token holds now: neither expired nor logged out.
    pub is_active: bool,
    /// The user's certificate id, 64 hexadecimal digits.
    pub user: String,
    /// The contract that it is for.
    pub contract_no: String,
    /// What the user may do there: `buyer`.
    pub roles: Vec<String>,
    /// Until when the token holds, RFC 3339 UTC.
    pub not_after: String,
}
