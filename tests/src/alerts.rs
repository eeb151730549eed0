//! The rules of `deploy/alerts.yml`, as far as a test asks for them.

use std::collections::BTreeSet;

use anyhow::Context as _;

use crate::repository;

/// By its path from the root.
pub const FILE: &str = "deploy/alerts.yml";

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    pub name: String,
    pub expr: String,
}

/// Every rule, in the order of the file. Each expression is one line.
pub fn read() -> anyhow::Result<Vec<Alert>> {
    parse(&repository::read_text(FILE)?)
}

fn parse(file: &str) -> anyhow::Result<Vec<Alert>> {
    let rules = file.split("- alert: ").skip(1).map(|rule| {
        let (name, rest) = rule.split_once('\n').context("a name")?;
        let (_, expr) = rest.split_once("expr: ").context("an expression")?;
        let (expr, _) = expr.split_once('\n').context("more than an expression")?;
        Ok(Alert {
            name: name.to_owned(),
            expr: expr.to_owned(),
        })
    });
    rules.collect()
}

impl Alert {
    /// What it asks of Prometheus: each metric with the labels that it names, as the exposition writes them.
    pub fn series(&self) -> BTreeSet<(String, Vec<String>)> {
        let mut series = BTreeSet::new();
        let mut rest = &*self.expr;
        while let Some(start) = rest.find(|c: char| c.is_ascii_lowercase()) {
            let word = &rest[start..];
            let end = word.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            let (word, after) = word.split_at(end.unwrap_or(word.len()));
            let (labels, after) = match after.strip_prefix('{') {
                Some(selector) => selector.split_once('}').unwrap_or((selector, "")),
                None => ("", after),
            };
            if word.contains('_') && !after.starts_with('(') {
                let labels = labels.split(',').filter(|label| !label.is_empty());
                series.insert((word.to_owned(), labels.map(str::to_owned).collect()));
            }
            rest = after;
        }
        series
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metrics_of_a_rule_are_told_from_its_functions_and_durations() {
        let file = "rules:\n  - alert: A\n    expr: max_over_time(a_b[1d]) > 0 or increase(c_total{d=\"e_f\"}[15m]) > g_h\n    for: 1m\n";
        let rules = parse(file).unwrap();

        let found: Vec<(String, Vec<String>)> = rules[0].series().into_iter().collect();

        assert_eq!(rules[0].name, "A");
        assert_eq!(
            found,
            [
                ("a_b".to_owned(), vec![]),
                ("c_total".to_owned(), vec!["d=\"e_f\"".to_owned()]),
                ("g_h".to_owned(), vec![]),
            ]
        );
    }
}
