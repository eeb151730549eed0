//! Whether an answer holds what a scenario expects of it.

use serde_json::Value;

/// What is missing or differs, with its place; `Ok` when the expected is part of the actual.
///
/// An object may have further fields. Each item of an array must be found in the actual array, in any place; an empty
/// array must be empty. Anything else must be equal.
pub fn contains(actual: &Value, expected: &Value) -> Result<(), String> {
    contains_at("", actual, expected)
}

fn contains_at(place: &str, actual: &Value, expected: &Value) -> Result<(), String> {
    match (actual, expected) {
        (Value::Object(actual), Value::Object(expected)) => {
            for (name, value) in expected {
                let place = format!("{place}/{name}");
                let found = actual.get(name).ok_or(format!("{place} is missing"))?;
                contains_at(&place, found, value)?;
            }
            Ok(())
        }
        (Value::Array(actual), Value::Array(expected)) if !expected.is_empty() => {
            for item in expected {
                if !actual.iter().any(|found| contains(found, item).is_ok()) {
                    return Err(format!("{place} has no item with {item}"));
                }
            }
            Ok(())
        }
        _ if actual == expected => Ok(()),
        _ => Err(format!("{place} is {actual}, not {expected}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_expected_must_be_part_of_the_actual() {
        let actual = json!({"a": 1, "list": [{"id": "x", "n": 1}, {"id": "y"}], "none": null});
        for (expected, holds) in [
            (json!({}), true),
            (json!({"a": 1}), true),
            (json!({"a": 2}), false),
            (json!({"b": null}), false),
            (json!({"none": null}), true),
            (json!({"list": [{"id": "y"}]}), true),
            (json!({"list": [{"id": "y", "n": 1}]}), false),
            (json!({"list": []}), false),
            (json!([]), false),
        ] {
            assert_eq!(contains(&actual, &expected).is_ok(), holds, "{expected}");
        }
        assert_eq!(contains(&json!({"list": []}), &json!({"list": []})), Ok(()));
    }

    #[test]
    fn a_difference_is_told_with_its_place() {
        let told = contains(&json!({"a": {"b": 1}}), &json!({"a": {"b": 2}})).unwrap_err();
        assert_eq!(told, "/a/b is 1, not 2");
    }
}
