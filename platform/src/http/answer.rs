//! What goes wrong with a request, as status and `Problem`; and reading a request's body strictly.

use axum::{
    body::Bytes,
    extract::rejection::BytesRejection,
    http::{HeaderMap, Method, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use hufu_trade::if2::Problem;
use serde::de::DeserializeOwned;

use super::BODY_BYTES_MAX;
use crate::{
    error::Error,
    judge::{Code, Refusal},
};

/// Longest piece of a request that is repeated back, characters.
const REPEATED_CHARS: usize = 120;

/// A request that is not answered with what it asked for.
#[derive(Clone, Debug)]
pub(super) struct Wrong {
    /// HTTP status.
    pub(super) status: StatusCode,
    /// For the program and the person that asked.
    pub(super) problem: Problem,
}

impl Wrong {
    fn new(status: StatusCode, refusal: &Refusal) -> Self {
        Self { status, problem: refusal.problem() }
    }

    /// 404: what the request names is not here.
    pub(super) fn no_such(what: &str) -> Self {
        let what: String = what.chars().take(REPEATED_CHARS).collect();
        Self::new(StatusCode::NOT_FOUND, &Refusal::new(Code::Unknown, format!("no {what} here")))
    }

    /// 405.
    pub(super) fn method(method: &Method, path: &str) -> Self {
        let path: String = path.chars().take(REPEATED_CHARS).collect();
        let refusal = Refusal::new(Code::Malformed, format!("{method} is not understood at {path}"));
        Self::new(StatusCode::METHOD_NOT_ALLOWED, &refusal)
    }

    /// 400: not what the API describes.
    pub(super) fn malformed(why: impl std::fmt::Display) -> Self {
        Refusal::new(Code::Malformed, why).into()
    }
}

/// The status that goes with a code of the error table; the node's own codes are the same.
fn status(code: &str) -> StatusCode {
    match code {
        "malformed" => StatusCode::BAD_REQUEST,
        "signature" | "certificate" => StatusCode::FORBIDDEN,
        "unknown" => StatusCode::NOT_FOUND,
        "busy" => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::CONFLICT,
    }
}

impl From<Refusal> for Wrong {
    fn from(refusal: Refusal) -> Self {
        Self::new(status(refusal.code.name()), &refusal)
    }
}

/// A problem that the node answered with.
impl From<Problem> for Wrong {
    fn from(problem: Problem) -> Self {
        Self { status: status(&problem.code), problem }
    }
}

/// Our own failure: the log has the reason, who asked does not need it.
impl From<Error> for Wrong {
    fn from(error: Error) -> Self {
        tracing::error!(%error, "request failed");
        let refusal = Refusal::new(Code::Busy, "the platform could not read or store this");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, &refusal)
    }
}

impl From<sqlx::Error> for Wrong {
    fn from(error: sqlx::Error) -> Self {
        Error::from(error).into()
    }
}

impl IntoResponse for Wrong {
    fn into_response(self) -> Response {
        (self.status, axum::Json(self.problem)).into_response()
    }
}

/// Reads a JSON body; another content type is refused, which also keeps web pages of other origins out.
///
/// # Errors
/// 400, 413 or 415.
pub(super) fn read<T: DeserializeOwned>(headers: &HeaderMap, body: Result<Bytes, BytesRejection>) -> Result<T, Wrong> {
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = given.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        let refusal = Refusal::new(Code::Malformed, "content type application/json is expected");
        return Err(Wrong::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, &refusal));
    }
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            let refusal = Refusal::new(Code::Malformed, format!("at most {BODY_BYTES_MAX} bytes are taken"));
            Wrong::new(StatusCode::PAYLOAD_TOO_LARGE, &refusal)
        }
        _ => Wrong::malformed("the body did not arrive whole"),
    })?;
    serde_json::from_slice(&body).map_err(Wrong::malformed)
}
