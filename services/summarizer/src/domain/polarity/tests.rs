//! Alert texts as people and tools write them, and how bad they are.

use schema::Severity;
use schema::Severity::{Critical, Info, Warning};

use crate::domain::summarize;

fn assert_each(cases: &[(&str, Severity)]) {
    let wrong: Vec<_> = cases
        .iter()
        .map(|(text, severity)| (text, severity, summarize(text)))
        .filter(|(_, severity, found)| found.suggested_severity != **severity)
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_trouble_that_is_denied_is_none() {
    assert_each(&[
        ("No payment failures detected", Info),
        (
            "No failures, errors or timeouts were seen in the last hour",
            Info,
        ),
        ("0 failures", Info),
        ("0 payment failures in the last 24h", Info),
        ("Zero outages this quarter", Info),
        ("Deploy finished with 0 errors", Info),
        ("Payouts completed without errors", Info),
        ("Payouts completed without any errors or delays", Info),
        ("Payments are not failing", Info),
        ("Payments aren't failing", Info),
        ("Payments aren\u{2019}t failing anywhere", Info),
        ("Payments are no longer failing", Info),
        ("Payments never failed", Info),
        ("None of the payments failed", Info),
        ("Nothing is failing", Info),
        ("There was no outage", Info),
        ("This is not an outage", Info),
        ("No evidence of data loss", Info),
        ("There has been no data loss and no security breach", Info),
        ("Neither payments nor refunds are failing", Info),
        ("Errors were not detected in APAC", Info),
        ("Payment failures have not been seen since noon", Info),
        ("Payment failures are no longer observed", Info),
        ("Failures haven't recurred", Info),
        ("Payment failures: none", Info),
        ("Errors: 0, timeouts: 0", Info),
        ("Error rate is 0%", Info),
        ("Payment failures dropped to zero", Info),
        ("Payments stopped failing", Info),
        ("Checkout is free of errors", Info),
        ("No critical issues", Info),
        ("This is not an emergency", Info),
    ]);
}

#[test]
fn a_trouble_that_is_over_is_none() {
    assert_each(&[
        ("payments are no longer failing; all clear", Info),
        ("Resolved: payments failing in APAC", Info),
        ("[RESOLVED] Payments are failing in APAC", Info),
        ("RESOLVED - Multiple payment failures", Info),
        ("Recovered: API outage", Info),
        ("Status: resolved. Payments are failing in APAC.", Info),
        ("All clear: payments were failing", Info),
        ("All clear. Payments were failing earlier today.", Info),
        ("Payments were failing, now healthy", Info),
        ("was failing, now healthy", Info),
        ("API was down but has recovered", Info),
        ("API was not responding, now fixed", Info),
        ("Payment outage in EMEA has been resolved", Info),
        (
            "Multiple payments failed in APAC. The issue has been resolved.",
            Info,
        ),
        ("The database has recovered from the outage", Info),
        ("Fixed multiple payment failures", Info),
        ("The outage is over", Info),
        ("Payment failures have stopped", Info),
        (
            "Checkout was down worldwide; service is back to normal",
            Info,
        ),
        ("Payouts were failing and are working again", Info),
        ("Critical alert resolved", Info),
        ("CRITICAL: payments failing. Update: resolved", Info),
        ("False alarm, payments are not failing", Info),
        ("All systems operational", Info),
    ]);
}

#[test]
fn an_end_that_is_denied_hoped_for_or_partial_is_none() {
    assert_each(&[
        ("Payments did not recover", Critical),
        ("The database failed to recover", Critical),
        ("The API has not been restored", Critical),
        ("Checkout is not operational", Critical),
        ("Payments are not working", Critical),
        ("No payments are going through", Critical),
        ("Checkout is no longer available", Critical),
        ("Payments stopped working", Critical),
        ("0 payments succeeded", Critical),
        ("The outage is not resolved", Critical),
        ("The outage has not yet been resolved", Critical),
        ("Payments still failing", Critical),
        ("Resolved: payments still failing", Critical),
        ("Payment failures are not decreasing", Critical),
        ("Payment failures have not stopped", Critical),
        ("No improvement: payments failing", Critical),
        ("No fix for the payment failures yet", Critical),
        ("No end to the outage in sight", Critical),
        ("There is no workaround for the outage", Critical),
        ("The outage will be resolved soon", Critical),
        ("The outage is expected to be fixed by noon", Critical),
        ("Checkout is down until the database is restored", Critical),
        ("The outage is partially resolved", Critical),
        ("Checkout is down, other systems operational", Critical),
        (
            "Payments are failing again after a fix was deployed",
            Critical,
        ),
        ("Resolved, but payments are failing again", Critical),
        ("We fixed the outage, then payments began failing", Critical),
        ("Failed to fail over", Warning),
        ("Database failed to fail over to the standby", Warning),
        ("The incident is unresolved", Warning),
    ]);
}

#[test]
fn what_is_said_of_one_thing_is_not_said_of_another() {
    assert_each(&[
        ("No login errors, but payments are failing", Critical),
        ("No refund failures; payouts are failing", Critical),
        ("Refund failures resolved; payouts are failing", Critical),
        ("Payouts are failing; refund failures resolved", Critical),
        ("Payments recovered but refunds are failing", Critical),
        ("Payments are down. Refunds are restored.", Critical),
        ("No errors and multiple payments have failed", Critical),
        ("Not all payments are failing", Critical),
        ("Not only refunds but payments are failing", Critical),
        ("Payouts stopped due to multiple failures", Critical),
        ("Payments fail without warning: multiple failures", Critical),
        ("No outage, only latency", Warning),
        ("Payments are not going through without failures", Critical),
        ("Node 0 failed", Warning),
        ("Failures on node 0", Critical),
        ("Error rate is 0.5%", Info),
        ("Payments failing at a rate of 0.5%", Critical),
        ("Payments failing, operational impact is high", Critical),
    ]);
}

#[test]
fn a_summary_says_what_is_there_or_that_it_is_over() {
    for (text, summary) in [
        (
            "Payments recovered but refunds are failing in EMEA",
            "Refund failures in EMEA",
        ),
        (
            "Resolved: payments failing in APAC",
            "Payment failures in APAC, resolved",
        ),
        (
            "No payment failures detected",
            "No payment failures detected",
        ),
        ("Payments did not recover", "Payment outage"),
        (
            "Payments failed; refunds were failing, now healthy",
            "Payment failure",
        ),
    ] {
        assert_eq!(summarize(text).summary, summary, "{text}");
    }
}

#[test]
fn a_long_text_of_nothing_but_negations_takes_no_longer_than_another() {
    for piece in [
        "no failure ",
        "not resolved ",
        "resolved. ",
        "failing, but ",
        "0 ",
    ] {
        let text = piece.repeat(16 * 1024 / piece.len());
        let begun = std::time::Instant::now();
        summarize(&text);
        assert!(
            begun.elapsed().as_secs() < 2,
            "{piece}: {:?}",
            begun.elapsed()
        );
    }
}

#[test]
fn in_a_text_of_thousands_of_ends_the_ends_that_are_kept_are_no_more_than_the_subjects() {
    let mut ends = super::Ends::default();
    for _ in 0..10_000 {
        ends.add(&["payments"]);
        ends.add(&["refunds", "payments"]);
    }
    assert_eq!(ends.subjects, ["payments", "refunds"]);
    assert!(ends.close(&["refunds"]) && ends.close(&[]));
    assert!(!ends.close(&["payouts"]));

    let fixed = "Payments were failing. ".to_owned() + &"fixed. ".repeat(9_000);
    let failing = "fixed. ".repeat(9_000) + "Payments are failing";
    assert_each(&[
        (&fixed, Info),
        (
            &failing,
            summarize("Payments are failing").suggested_severity,
        ),
    ]);
}
