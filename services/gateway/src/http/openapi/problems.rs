//! The problems that several calls of the webhook API answer.
#![expect(dead_code, reason = "read by the derive, never made")]

use utoipa::IntoResponses;

use super::shapes::ProblemBody;

/// Declares the problems once: name, status, codes.
macro_rules! problems {
    ($($name:ident = $status:literal, $codes:literal;)+) => {
        $(
            #[derive(IntoResponses)]
            #[response(status = $status, description = $codes, content_type = "application/problem+json")]
            pub(super) struct $name(ProblemBody);
        )+
    };
}

problems! {
    BadBody = 400, "`invalid_payload`";
    BadQuery = 400, "`invalid_query`";
    Reserved = 403, "`reserved`: the hub's own";
    NotFound = 404, "`not_found`: no such row, or another client's";
    AnotherEvent = 409, "`idempotency_key_reused`";
    BuiltIn = 409, "`endpoint_built_in`";
    BuiltInOrManySecrets = 409, "`endpoint_built_in`, `too_many_secrets`";
    BuiltInOrFull = 409, "`endpoint_built_in`, `too_many_endpoints`";
    Conflict = 409, "`conflict`";
    TooLarge = 413, "`too_large`";
    BadSetting = 422, "`invalid_url`, `endpoint_url_forbidden`, `invalid_endpoint`";
    ClientOverloaded = 429, "`client_overloaded`, with Retry-After";
    Unavailable = 503, "`unavailable`: nothing was done; with Retry-After";
}
