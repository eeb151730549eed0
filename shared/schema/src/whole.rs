//! Whole numbers as people and programs write them: `1` and `1.0` are one number, `1.5` is none.

use std::fmt;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

/// Beyond it a double does not tell neighbours apart.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

struct Whole(u64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_u64(WholeVisitor).map(Self)
    }
}

struct WholeVisitor;

impl Visitor<'_> for WholeVisitor {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<u64, E> {
        Ok(number)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<u64, E> {
        u64::try_from(number).map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a whole number within 0 and 2^53"
    )]
    fn visit_f64<E: Error>(self, number: f64) -> Result<u64, E> {
        if number.fract() == 0.0 && (0.0..=EXACT_MAX).contains(&number) {
            Ok(number as u64)
        } else {
            Err(E::invalid_value(Unexpected::Float(number), &self))
        }
    }
}

/// A number that may be absent or null.
pub(crate) fn number<'de, D: Deserializer<'de>, T: TryFrom<u64>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let number = Option::<Whole>::deserialize(deserializer)?;
    number.map(narrow).transpose()
}

/// As [`number`], where null says something else than absence.
pub(crate) fn told<'de, D: Deserializer<'de>, T: TryFrom<u64>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    number(deserializer).map(Some)
}

/// Numbers that may be absent or null together.
pub(crate) fn list<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<u64>>, D::Error> {
    let numbers = Option::<Vec<Whole>>::deserialize(deserializer)?;
    Ok(numbers.map(|numbers| numbers.into_iter().map(|Whole(number)| number).collect()))
}

fn narrow<T: TryFrom<u64>, E: Error>(Whole(number): Whole) -> Result<T, E> {
    T::try_from(number)
        .map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &"a smaller number"))
}

#[cfg(test)]
mod tests {
    use crate::webhooks::{EndpointChange, RetryPolicy};

    #[test]
    fn a_whole_number_is_one_however_it_is_written_and_another_is_named() {
        for (written, read) in [
            ("1", Ok(1)),
            ("1.0", Ok(1)),
            ("1e2", Ok(100)),
            ("0.0", Ok(0)),
            (
                "1.5",
                Err("invalid value: floating point `1.5`, expected a whole number"),
            ),
            (
                "-1",
                Err("invalid value: integer `-1`, expected a whole number"),
            ),
            (
                "-1.0",
                Err("invalid value: floating point `-1.0`, expected a whole number"),
            ),
            (
                "1e300",
                Err("invalid value: floating point `1e+300`, expected a whole number"),
            ),
            (
                "\"1\"",
                Err("invalid type: string \"1\", expected a whole number"),
            ),
            ("null", Err("invalid type: null, expected a whole number")),
            (
                "true",
                Err("invalid type: boolean `true`, expected a whole number"),
            ),
        ] {
            let body = format!(r#"{{"schedule_s":[{written}]}}"#);
            let found = serde_json::from_str::<RetryPolicy>(&body)
                .map(|policy| policy.schedule_s.unwrap()[0])
                .map_err(|fault| fault.to_string());
            match read {
                Ok(number) => assert_eq!(found, Ok(number), "{written}"),
                Err(fault) => assert!(found.as_ref().unwrap_err().starts_with(fault), "{found:?}"),
            }
        }
        let narrow = r#"{"max_in_flight":4294967296}"#;
        assert!(serde_json::from_str::<EndpointChange>(narrow).is_err());
    }
}
