//! `deploy/alerts.yml` and the runbook's table are one list, and each alert is tried.

use std::path::Path;
use std::process::Command;

use system_tests::alerts::{self, Alert};
use system_tests::repository;

/// Metric, condition and alert of each row of "What to watch".
fn table() -> Vec<[String; 3]> {
    let runbook = repository::read_text("docs/FAILURES.md").unwrap();
    let (_, part) = runbook.split_once("## What to watch").unwrap();
    let (part, _) = part.split_once("\n## ").unwrap();
    let rows = part.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [metric, when, alert] = cells[..] else {
            panic!("three columns: {row}");
        };
        [metric.trim_matches('`'), when, alert.trim_matches('`')].map(str::to_owned)
    })
    .collect()
}

#[test]
fn every_row_of_the_runbook_has_its_alert_and_every_alert_its_row() {
    let rows = table();
    let alerts = alerts::read().unwrap();

    let names: Vec<&str> = rows.iter().map(|[_, _, alert]| &**alert).collect();
    let rules: Vec<&str> = alerts.iter().map(|alert| &*alert.name).collect();
    assert_eq!(names, rules, "in the same order");
    for ([metric, when, _], Alert { name, expr, .. }) in rows.iter().zip(&alerts) {
        // A histogram is asked by its buckets.
        let asked = expr.contains(metric) || expr.contains(&format!("{metric}_bucket"));
        assert!(asked, "{name} asks {expr}, not {metric}");
        for number in numbers(when) {
            assert!(expr.contains(&number), "{name} has no {number}: {expr}");
        }
        if when.starts_with("grows:") {
            assert!(expr.starts_with("increase("), "{name}: {expr}");
        }
    }
}

/// Those of the condition, which stands before the first colon.
fn numbers(when: &str) -> Vec<String> {
    let condition = when.split(':').next().unwrap_or_default();
    let mut words = condition.split(' ').skip_while(|word| *word != "over");
    let number = words.nth(1).map(|word| word.replace(',', ""));
    number.into_iter().collect()
}

#[test]
fn every_alert_is_tried_where_it_tells_and_where_it_does_not() {
    let tests = repository::read_text("deploy/alerts_test.yml").unwrap();

    for Alert { name, .. } in alerts::read().unwrap() {
        let silent = tests.contains(&format!("alertname: {name}}}"));
        let tells = tests.contains(&format!("alertname: {name}\n        exp_alerts:\n"));
        assert!(silent && tells, "{name}: silent {silent}, tells {tells}");
    }
}

/// `.ci/run` has promtool.
#[test]
fn promtool_takes_the_rules_and_each_tells_what_it_should() {
    for arguments in [
        ["check", "rules", "deploy/alerts.yml"],
        ["test", "rules", "deploy/alerts_test.yml"],
    ] {
        let mut promtool = Command::new("promtool");
        let Ok(output) = promtool
            .args(arguments)
            .current_dir(repository::root())
            .output()
        else {
            println!("skipped: promtool is not installed");
            return;
        };
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{told}{complaints}");
    }
    assert!(Path::new(repository::root()).join(alerts::FILE).is_file());
}
