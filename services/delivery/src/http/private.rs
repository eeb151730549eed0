//! Bodies that no log repeats: with secrets in them, or what a client's customers are told.

use axum::body::HttpBody as _;
use axum::extract::{FromRequest, OptionalFromRequest, Request};
use runtime::extract::Json;
use runtime::problem::{Code, Problem};
use serde::de::DeserializeOwned;

/// Settings of an endpoint, with room for the longest headers.
const SETTINGS_MAX: usize = 64 * 1024;

/// The longest name of a field that a refusal repeats.
const FIELD_MAX: usize = 32;

/// As [`Json`], but a refusal repeats no text that was sent: a key in the wrong place would show in the log.
pub(super) struct Private<T, const LIMIT: usize = SETTINGS_MAX>(pub T);

impl<S: Send + Sync, T: DeserializeOwned, const LIMIT: usize> FromRequest<S> for Private<T, LIMIT> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let told = Json::<T, LIMIT>::from_request(request, state).await;
        told.map(|Json(told)| Self(told)).map_err(discreet)
    }
}

/// No body is none.
impl<S: Send + Sync, T: DeserializeOwned> OptionalFromRequest<S> for Private<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Option<Self>, Problem> {
        if request.body().is_end_stream() {
            return Ok(None);
        }
        <Self as FromRequest<S>>::from_request(request, state)
            .await
            .map(Some)
    }
}

fn discreet(problem: Problem) -> Problem {
    if problem.code != Code::InvalidPayload {
        return problem;
    }
    Problem {
        detail: without_value(&problem.detail),
        ..problem
    }
}

/// A parser's complaint without the text that it complains of. A field's name is repeated only where it looks like one.
fn without_value(complaint: &str) -> String {
    if let Some(named) = complaint.strip_prefix("unknown field `") {
        let name = named.split('`').next().unwrap_or_default();
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
        return if name.len() <= FIELD_MAX && name.bytes().all(is_plain) {
            complaint.to_owned()
        } else {
            "unknown field".to_owned()
        };
    }
    const BEFORE_A_VALUE: [&str; 3] = [
        "invalid type: string",
        "invalid value: string",
        "unknown variant",
    ];
    let begins = BEFORE_A_VALUE
        .iter()
        .find(|begin| complaint.starts_with(**begin));
    match (begins, complaint.rfind(", expected")) {
        (Some(begins), Some(rest)) => format!("{begins}{}", &complaint[rest..]),
        _ => complaint.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use schema::webhooks::{NewEndpoint, RotateSecret};

    use super::*;

    fn complaint<T: DeserializeOwned>(text: &str) -> String {
        let fault = serde_json::from_str::<T>(text).err().unwrap();
        discreet(Code::InvalidPayload.because(fault.to_string())).detail
    }

    #[test]
    fn a_key_in_the_wrong_place_is_not_repeated() {
        for text in [
            r#"{"url":"u","headers":"canary"}"#,
            r#"{"url":"u","headers":"canary, expected \" nothing"}"#,
            r#"{"url":"u","ordering":"canary"}"#,
            r#"{"url":"u","timeout_ms":"canary"}"#,
            r#"{"url":"u","secret":{"key":"canary"}}"#,
            r#"{"url":"u","headers":{"x-key":["canary"]}}"#,
            r#"{"url":"u","secret":"canary"#,
        ] {
            let said = complaint::<NewEndpoint>(text);
            assert!(!said.contains("canary"), "{said}");
            assert!(said.contains("line 1"), "{said}");
        }
        let said = complaint::<NewEndpoint>(r#"{"url":"u","whsec_canary":1}"#);
        assert!(said.starts_with("unknown field `whsec_canary`"), "{said}");
        for key in ["whsec_Q2FuYXJ5", "canary==", &"canary".repeat(6)] {
            let said = complaint::<NewEndpoint>(&format!(r#"{{"url":"u","{key}":1}}"#));
            assert_eq!(said, "unknown field");
        }
        let said = complaint::<RotateSecret>(r#"{"overlap_s":"canary"}"#);
        assert!(!said.contains("canary"), "{said}");
    }

    #[test]
    fn what_is_wrong_is_still_said() {
        let said = complaint::<NewEndpoint>(r#"{"url":"u","timeout":5}"#);
        assert!(said.starts_with("unknown field `timeout`"), "{said}");
        let said = complaint::<NewEndpoint>(r#"{"url":"u","headers":"a"}"#);
        assert!(
            said.starts_with("invalid type: string, expected a map"),
            "{said}"
        );
    }
}
