//! A parser's complaint in our words: what it is written in is no business of the caller.

/// The longest name that is repeated, in characters.
const NAME_MAX: usize = 64;

/// `complaint` is `name: what serde says`, as `serde_path_to_error` writes it. No value that was sent is repeated.
pub(crate) fn of_query(complaint: &str) -> String {
    let (name, said) = complaint.split_once(": ").unwrap_or(("", complaint));
    let name = shortened(name);
    let quoted = |before: &str| {
        let after = said.split_once(before)?.1;
        Some(shortened(after.split('`').next()?))
    };
    if let Some(unknown) = quoted("unknown field `") {
        return match choices(said) {
            Some(known) => format!("`{unknown}` is no parameter of this call, which takes {known}"),
            None => format!("`{unknown}` is no parameter of this call, which takes none"),
        };
    }
    if let Some(repeated) = quoted("duplicate field `") {
        return format!("`{repeated}` is given more than once");
    }
    if let Some(missing) = quoted("missing field `") {
        return format!("`{missing}` is missing");
    }
    match choices(said) {
        Some(known) if said.starts_with("unknown variant") => format!("`{name}` is one of {known}"),
        _ if name.is_empty() => "the query cannot be read".to_owned(),
        _ => format!("`{name}` has a value that it does not take"),
    }
}

/// A parser's complaint about a body, without the names of our types.
pub(crate) fn of_body(complaint: &str) -> String {
    const TYPE: &str = "expected struct ";
    let Some((before, named)) = complaint.rsplit_once(TYPE) else {
        return complaint.to_owned();
    };
    let end = named.find(|c: char| !c.is_alphanumeric());
    let after = end.map_or("", |end| &named[end..]);
    format!("{before}expected an object{after}")
}

/// What serde lists as possible, a name or several in backticks. What was sent stands before it, and may say the same.
fn choices(said: &str) -> Option<&str> {
    let (_, known) = said.rsplit_once("expected ")?;
    let known = known.strip_prefix("one of ").unwrap_or(known);
    known.starts_with('`').then_some(known)
}

fn shortened(name: &str) -> String {
    name.chars().take(NAME_MAX).collect()
}

#[cfg(test)]
mod tests {
    use axum::extract::Query;
    use http::Uri;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        Incident,
        Payment,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "read by the derive alone")]
    struct Asked {
        limit: Option<usize>,
        kind: Option<Kind>,
        open: Option<bool>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Nothing {}

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "read by the derive alone")]
    struct Needed {
        lane: String,
    }

    fn told<T: for<'de> Deserialize<'de> + std::fmt::Debug>(query: &str) -> String {
        let uri: Uri = format!("/x?{query}").parse().unwrap();
        let refused = Query::<T>::try_from_uri(&uri).unwrap_err();
        crate::extract::query_complaint(&refused)
    }

    #[test]
    fn what_is_wrong_with_a_query_is_told_in_words_of_ours() {
        for (query, expected) in [
            (
                "x=1",
                "`x` is no parameter of this call, which takes `limit`, `kind`, `open`",
            ),
            ("limit=ten", "`limit` has a value that it does not take"),
            ("limit=", "`limit` has a value that it does not take"),
            ("open=yes", "`open` has a value that it does not take"),
            ("kind=canary", "`kind` is one of `incident` or `payment`"),
            (
                "kind=canary,+expected+%60x%60",
                "`kind` is one of `incident` or `payment`",
            ),
            ("limit=1&limit=2", "`limit` is given more than once"),
        ] {
            assert_eq!(told::<Asked>(query), expected, "{query}");
        }
        let none = "`x` is no parameter of this call, which takes none";
        assert_eq!(told::<Nothing>("x=1"), none);
        assert_eq!(told::<Needed>(""), "`lane` is missing");
    }

    #[test]
    fn the_name_of_a_type_is_no_business_of_the_caller() {
        #[derive(Debug, Deserialize)]
        struct Outer {
            #[serde(rename = "inner")]
            _inner: Asked,
        }
        let fault = serde_json::from_str::<Outer>(r#"{"inner":1}"#).unwrap_err();
        assert_eq!(
            of_body(&fault.to_string()),
            "invalid type: integer `1`, expected an object at line 1 column 10"
        );
        assert_eq!(of_body("trailing characters"), "trailing characters");
    }

    #[test]
    fn a_long_name_is_cut_and_no_value_is_repeated() {
        let long = told::<Asked>(&format!("{}=canary", "n".repeat(5000)));
        assert!(long.len() < 200 && !long.contains("canary"), "{long}");
    }
}
