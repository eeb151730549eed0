use std::fmt;

use serde::{Deserialize, Serialize};

/// Follows one request through every service. `^[A-Za-z0-9._-]{1,64}$`, so that it is safe in a header and in a log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String, pattern = "^[A-Za-z0-9._-]{1,64}$"))]
pub struct CorrelationId(String);

impl CorrelationId {
    /// `None` unless the text is one to 64 of `A-Z a-z 0-9 . _ -`.
    pub fn parse(text: &str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        ((1..=64).contains(&text.len()) && text.bytes().all(allowed)).then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for CorrelationId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("a correlation id is 1 to 64 of A-Z a-z 0-9 . _ -")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_safe_text_becomes_a_correlation_id() {
        for good in ["a", "0190-a.b_C", &"x".repeat(64)] {
            assert!(CorrelationId::parse(good).is_some(), "{good:?}");
        }
        for bad in ["", "a b", "a\n", "ä", "a/b", "{}", &"x".repeat(65)] {
            assert!(CorrelationId::parse(bad).is_none(), "{bad:?}");
        }
    }
}
