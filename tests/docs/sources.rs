//! What the sources say, as far as a document may quote it: the messages of log lines, the names of metrics, words.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use system_tests::repository;

/// A log line: its level, and its words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Line {
    pub(crate) level: String,
    pub(crate) message: String,
}

/// The text of every source of the product, one after the other, without the tests in them.
pub(crate) fn product() -> String {
    let mut text = String::new();
    for folder in ["services", "shared", "cli"] {
        collect(&repository::root().join(folder), &mut text).unwrap();
    }
    text
}

fn collect(folder: &Path, text: &mut String) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && !["tests", "conformance", "benches"].contains(&&*name) {
            collect(&path, text)?;
        } else if name.ends_with(".rs") && name != "tests.rs" {
            let source = std::fs::read_to_string(&path)?;
            text.push_str(source.split("\n#[cfg(test)]").next().unwrap_or_default());
        }
    }
    Ok(())
}

/// The lines that the sources write: the last literal of each of `tracing`'s macros.
pub(crate) fn lines(sources: &str) -> BTreeSet<Line> {
    let mut lines = BTreeSet::new();
    for level in ["error", "warn", "info", "debug"] {
        for call in sources.split(&format!("tracing::{level}!(")).skip(1) {
            let literals = literals_of_call(call);
            if let Some((message, _)) = literals.last() {
                lines.insert(Line {
                    level: level.to_uppercase(),
                    message: message.clone(),
                });
            }
        }
    }
    lines
}

/// The metrics that the sources register, each with its labels.
pub(crate) fn metrics(sources: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut metrics = BTreeMap::new();
    for register in [
        "counter(",
        "counters(",
        "gauge(",
        "gauges(",
        "seconds(",
        "Opts::new(",
    ] {
        for call in sources.split(register).skip(1) {
            let literals = literals_of_call(call);
            if let Some((name, 0)) = literals.first().map(|(name, depth)| (name, *depth))
                && is_metric(name)
            {
                let labels = literals[1..].iter().map(|(label, _)| label.clone());
                let known: &mut BTreeSet<String> = metrics.entry(name.clone()).or_default();
                known.extend(labels.filter(|label| is_word(label)));
            }
        }
    }
    metrics
}

/// At least two words with underscores between them.
pub(crate) fn is_metric(word: &str) -> bool {
    word.contains('_') && is_word(word)
}

fn is_word(word: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    word.starts_with(|first: char| first.is_ascii_lowercase()) && word.bytes().all(allowed)
}

/// The string literals between an opening bracket and its closing one, each with how deep within further brackets it is.
fn literals_of_call(after_bracket: &str) -> Vec<(String, usize)> {
    let mut literals = Vec::new();
    let mut depth = 0;
    let mut rest = after_bracket.chars();
    while let Some(next) = rest.next() {
        match next {
            '"' => literals.push((literal(&mut rest), depth)),
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => break,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
    }
    literals
}

/// What stands before the closing quote.
fn literal(rest: &mut std::str::Chars<'_>) -> String {
    let mut text = String::new();
    while let Some(next) = rest.next() {
        match next {
            '"' => break,
            '\\' => text.extend(rest.next()),
            next => text.push(next),
        }
    }
    text
}

#[test]
fn lines_and_metrics_are_read_off_the_sources() {
    let sources = r#"
        tracing::warn!(%fault, kind = kind("x"), "it \"failed\" (again)");
        tracing::info!("done");
        metrics.counters("things_total", "Things.", "reason");
        let gauge = metrics.gauge(
            "thing_age_seconds",
            "Since then.",
        );
        counters(name, help)
    "#;

    let found = lines(sources);
    let line = |level: &str, message: &str| Line {
        level: level.to_owned(),
        message: message.to_owned(),
    };
    let expected = [line("INFO", "done"), line("WARN", r#"it "failed" (again)"#)];
    assert_eq!(found, BTreeSet::from(expected));

    let found = metrics(sources);
    let names: Vec<_> = found.keys().map(String::as_str).collect();
    assert_eq!(names, ["thing_age_seconds", "things_total"]);
    assert_eq!(found["things_total"], BTreeSet::from(["reason".to_owned()]));
}
