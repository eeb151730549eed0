//! Log lines and metrics that the documents quote exist, and every line on which somebody must act is in the runbook.
//!
//! A document that quotes a line says its level before it, as in: the WARN line `endpoint disabled`. Other words of the
//! product in backticks, three or more, stand in the sources as they are quoted; `…` is whatever stands there.

use std::collections::BTreeSet;

use runtime::problem::Code;
use system_tests::repository;

use crate::sources::{self, Line};

const RUNBOOK: &str = "docs/FAILURES.md";
/// The first words of commands in backticks, which are no words of the product.
const COMMANDS: [&str; 6] = ["make", "docker", "cargo", "signalpost", "kill", "openssl"];
/// What a word that ends so is, whatever else it may look like.
const UNITS: [&str; 4] = ["_total", "_seconds", "_bytes", "_living"];

/// Every document, by its name.
pub(crate) fn documents() -> Vec<(String, String)> {
    let mut names = vec!["README.md".to_owned(), "ARCHITECTURE.md".to_owned()];
    for folder in ["docs", "docs/adr"] {
        let files = repository::files(folder, "md").unwrap();
        let relative = files.iter().map(|file| {
            let path = file.strip_prefix(repository::root()).unwrap();
            path.to_string_lossy().into_owned()
        });
        names.extend(relative);
    }
    let read = |name: String| {
        let text = repository::read_text(&name).unwrap();
        (name, text)
    };
    names.into_iter().map(read).collect()
}

/// The text without its fenced blocks, with one blank where lines break.
fn prose(document: &str) -> String {
    let outside: Vec<&str> = document.split("```").step_by(2).collect();
    outside
        .join(" ")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

/// What stands in backticks, each with what stands before it.
fn quotes(prose: &str) -> Vec<(&str, &str)> {
    let parts: Vec<&str> = prose.split('`').collect();
    let pairs = parts.chunks_exact(2);
    pairs.map(|pair| (pair[0], pair[1])).collect()
}

/// The lines that a text quotes: after a level and `line`, or after another with nothing but a comma or `and` between.
fn quoted_lines(prose: &str) -> Vec<Line> {
    let mut level = None;
    let mut lines = Vec::new();
    for (before, quote) in quotes(prose) {
        let before = before.trim_end();
        let told = ["ERROR", "WARN", "INFO", "DEBUG"]
            .into_iter()
            .find(|level| {
                [" line", " lines"]
                    .iter()
                    .any(|noun| before.ends_with(&format!("{level}{noun}")))
            });
        let goes_on = level.filter(|_| matches!(before.trim(), "," | "and" | "or"));
        level = told.or(goes_on);
        if let Some(level) = level {
            lines.push(Line {
                level: level.to_owned(),
                message: quote.to_owned(),
            });
        }
    }
    lines
}

#[test]
fn every_log_line_that_a_document_quotes_is_written_at_that_level() {
    let written = sources::lines(&sources::product());
    let mut quoted = BTreeSet::new();

    for (name, text) in documents() {
        for line in quoted_lines(&prose(&text)) {
            assert!(written.contains(&line), "{name} quotes {line:?}");
            quoted.insert(line);
        }
    }

    let counted = quoted.len();
    assert!(counted >= 10, "the documents quote {counted} lines");
}

#[test]
fn every_line_on_which_somebody_must_act_is_in_the_runbook() {
    let written = sources::lines(&sources::product());
    let quoted = quoted_lines(&prose(&repository::read_text(RUNBOOK).unwrap()));

    let missing: Vec<&Line> = written
        .iter()
        .filter(|line| line.level == "ERROR" && !quoted.contains(line))
        .collect();

    assert!(missing.is_empty(), "{RUNBOOK} does not name {missing:#?}");
}

#[test]
fn words_of_the_product_are_quoted_as_they_are() {
    let sources = sources::product();

    for (name, text) in documents() {
        for (_, quote) in quotes(&prose(&text)) {
            if !is_phrase(quote) {
                continue;
            }
            for part in quote.split('…') {
                let part = part.trim();
                assert!(sources.contains(part), "{name}: nobody says `{quote}`");
            }
        }
    }
}

/// Three words or more, and no command.
fn is_phrase(quote: &str) -> bool {
    let words: Vec<&str> = quote.split(' ').collect();
    let plain = |c: char| c.is_ascii_lowercase() || " ,;'’-…".contains(c);
    words.len() >= 3 && quote.chars().all(plain) && !COMMANDS.contains(&words[0])
}

/// A metric as a document names it: its name, and each label with the value that is told.
struct Named {
    metric: String,
    labels: Vec<(String, String)>,
}

/// `None` where the quote is no metric: by a unit at its end or a label in brackets it is one for certain.
fn named(quote: &str) -> Option<Named> {
    let (metric, selector) = match quote.split_once('{') {
        Some((metric, rest)) => (metric, rest.strip_suffix('}')?),
        None => (quote, ""),
    };
    let certain = !selector.is_empty() || UNITS.iter().any(|unit| metric.ends_with(unit));
    if !certain || !sources::is_metric(metric) {
        return None;
    }
    let labels = selector.split(',').filter(|label| !label.is_empty());
    let pair = |label: &str| {
        let (label, value) = label.split_once('=').unwrap_or((label, "…"));
        (label.to_owned(), value.trim_matches('"').to_owned())
    };
    Some(Named {
        metric: metric.to_owned(),
        labels: labels.map(pair).collect(),
    })
}

#[test]
fn every_metric_that_a_document_names_is_counted_with_its_labels() {
    let sources = sources::product();
    let metrics = sources::metrics(&sources);
    let mut found = BTreeSet::new();

    for (name, text) in documents() {
        for (_, quote) in quotes(&prose(&text)) {
            let Some(told) = named(quote) else { continue };
            let labels = metrics.get(&told.metric);
            let labels = labels.unwrap_or_else(|| panic!("{name}: nobody counts {quote}"));
            for (label, value) in told.labels {
                assert!(labels.contains(&label), "{name}: no label {label}: {quote}");
                let known = value == "…" || sources.contains(&format!("\"{value}\""));
                assert!(known, "{name}: no value {value}: {quote}");
            }
            found.insert(told.metric);
        }
    }

    assert!(found.len() >= 15, "{found:?}");
}

/// Whatever it is: a metric without a unit, a field, a code.
#[test]
fn every_word_with_an_underscore_is_one_of_the_products() {
    let sources = sources::product();
    let words: BTreeSet<&str> = sources
        .split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'))
        .chain(Code::ALL.iter().map(|code| code.as_str()))
        .collect();

    for (name, text) in documents() {
        for (_, quote) in quotes(&prose(&text)) {
            let known = !sources::is_metric(quote) || words.contains(quote) || is_of_tests(quote);
            assert!(known, "{name}: there is no {quote}");
        }
    }
}

/// A target of the tests.
fn is_of_tests(word: &str) -> bool {
    repository::root().join("tests").join(word).is_dir()
}

#[test]
fn a_quote_is_read_with_its_level() {
    let text = prose(
        "The WARN lines `one thing`,\n`another` and `a third`; the field `fourth`. One ERROR line `of\nthis`.\n```sh\nx `y`\n```\n",
    );

    let lines = quoted_lines(&text);

    let told: Vec<(&str, &str)> = lines
        .iter()
        .map(|line| (&*line.level, &*line.message))
        .collect();
    assert_eq!(
        told,
        [
            ("WARN", "one thing"),
            ("WARN", "another"),
            ("WARN", "a third"),
            ("ERROR", "of this"),
        ]
    );
}
