//! Whether what a text names is there: denied, over, or neither.
//!
//! One rule, clause by clause. A negation denies what stands behind it in its clause, or what is "not seen", two cancel
//! out. A word of the end closes its clause's trouble and what was told before it of the same thing; an end that is denied
//! is trouble, and one that is hoped for, partial or followed by a relapse is none. A label (`Resolved:`) closes what
//! follows it. In doubt something is there.

use super::text::{Clause, Words};
use super::words::{
    DETECTED, ENDS, ENDS_OF_TROUBLE, FOLLOWS, HINDRANCES, ISSUES, LINKS, NEGATIONS, NOTHING,
    OPERATIONAL, PAST, QUALIFIED, QUANTIFIERS, RELAPSES, REMEDIES, STOPS, SUBJECTS, SUCCESSES,
    UNSURE, ZERO,
};

/// What a text says of a trouble that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Polarity {
    Here,
    Denied,
    Over,
}

/// What is known of every clause.
pub(super) struct Polarities {
    /// Whether what a clause tells of is over by what follows it, or by a label before it.
    over: Vec<bool>,
    /// Where an end or a success is denied, which is trouble.
    pub(super) not_well: Vec<usize>,
}

/// What a clause says of ends.
struct Told<'a> {
    clause: &'a Clause,
    ends: bool,
    relapses: bool,
    past: bool,
    has_trouble: bool,
    subjects: Vec<&'static str>,
}

impl Polarities {
    /// `troubles` are the places of every word of trouble.
    pub(super) fn of(text: &Words, troubles: &[usize]) -> Self {
        let mut not_well: Vec<usize> = places(text, &[ENDS, SUCCESSES])
            .filter(|at| is_denied(text, *at))
            .collect();
        not_well.sort_unstable();
        let mut here = vec![false; text.clauses.len()];
        for at in troubles {
            here[text.clause_of[*at]] |= !is_denied(text, *at);
        }
        let told: Vec<Told<'_>> = text
            .clauses
            .iter()
            .zip(here)
            .map(|(clause, has_trouble)| told(text, clause, has_trouble, &not_well))
            .collect();
        Self {
            over: over(text, &told),
            not_well,
        }
    }

    pub(super) fn at(&self, text: &Words, at: usize) -> Polarity {
        if self.over[text.clause_of[at]] {
            Polarity::Over
        } else if is_denied(text, at) {
            Polarity::Denied
        } else {
            Polarity::Here
        }
    }
}

/// `not_well` is in order.
fn told<'a>(text: &Words, clause: &'a Clause, has_trouble: bool, not_well: &[usize]) -> Told<'a> {
    let has = |list: &[&str]| clause.words.clone().any(|at| stands_any(text, list, at));
    let is_of_issue = has_trouble || has(ISSUES);
    let mut ends = clause.words.clone().filter(|at| {
        stands_any(text, ENDS, *at) && is_an_end(text, *at)
            || is_of_issue && ends_of_trouble(text, *at)
    });
    let next = not_well.partition_point(|at| *at < clause.words.start);
    let is_not_well = not_well
        .get(next)
        .is_some_and(|at| clause.words.contains(at));
    let past = has(PAST);
    Told {
        clause,
        ends: ends.next().is_some() && !is_not_well,
        relapses: has(RELAPSES) || is_not_well && !past,
        past,
        has_trouble: has_trouble || is_not_well,
        subjects: subjects(text, clause),
    }
}

/// An end that is neither denied, hoped for nor partial, and no adjective of something else.
fn is_an_end(text: &Words, at: usize) -> bool {
    let before = text.before(at);
    let next = text.from(at).get(1).map_or("", String::as_str);
    let is_unsure = before.iter().any(|word| UNSURE.contains(&word.as_str()));
    let is_adjective = text.words[at] == OPERATIONAL && QUALIFIED.contains(&next);
    !(is_denied(text, at) || is_unsure || is_adjective)
}

/// `errors stopped`, not `payouts stopped due to errors`.
fn ends_of_trouble(text: &Words, at: usize) -> bool {
    let ending = ENDS_OF_TROUBLE.iter().filter(|end| text.stands_at(end, at));
    let mut next = ending.map(|end| text.from(at).get(end.split(' ').count()));
    is_an_end(text, at) && next.any(|next| next.is_none_or(|next| FOLLOWS.contains(&next.as_str())))
}

fn over(text: &Words, told: &[Told<'_>]) -> Vec<bool> {
    let mut over = vec![false; told.len()];
    let mut label = false;
    let mut all_over = false;
    for (at, clause) in told.iter().enumerate() {
        if clause.is_an_end() {
            over[at] = true;
            all_over = true;
            label |= is_label(text, told, at);
        } else if clause.has_trouble {
            over[at] = !clause.relapses && (label || all_over && clause.past);
            all_over &= over[at];
        }
    }
    close_what_is_before(told, &mut over);
    over
}

/// From behind, so that each clause is looked at once: a long text may have thousands, and every one an end.
fn close_what_is_before(told: &[Told<'_>], over: &mut [bool]) {
    let mut ends = Ends::default();
    for at in (0..told.len()).rev() {
        over[at] |= ends.close(&told[at].subjects);
        if told[at].is_an_end() {
            ends.add(of_what(told, at));
        }
    }
}

impl Told<'_> {
    fn is_an_end(&self) -> bool {
        self.ends && !self.relapses
    }
}

/// What the ends behind a place are of.
#[derive(Default)]
struct Ends {
    any: bool,
    of_everything: bool,
    /// Each once, so that they are no more than the subjects there are.
    subjects: Vec<&'static str>,
}

impl Ends {
    fn add(&mut self, of: &[&'static str]) {
        self.any = true;
        self.of_everything |= of.is_empty();
        for subject in of {
            if !self.subjects.contains(subject) {
                self.subjects.push(subject);
            }
        }
    }

    /// What is said of refunds says nothing of payments.
    fn close(&self, subjects: &[&str]) -> bool {
        let is_named = |subject: &&str| self.subjects.contains(subject);
        self.of_everything || self.any && (subjects.is_empty() || subjects.iter().any(is_named))
    }
}

/// What a clause is about: `refunds were failing, now healthy`.
fn of_what<'a>(told: &'a [Told<'_>], at: usize) -> &'a [&'static str] {
    let goes_on = at > 0 && told[at - 1].clause.goes_on;
    if told[at].subjects.is_empty() && goes_on {
        &told[at - 1].subjects
    } else {
        &told[at].subjects
    }
}

/// `Resolved: …`, `[RECOVERED] …`, `Status: resolved. …`
fn is_label(text: &Words, told: &[Told<'_>], at: usize) -> bool {
    let clause = told[at].clause;
    let is_short = clause.words.len() <= 3 && !told[at].has_trouble;
    let of_status = at > 0
        && text
            .within(told[at - 1].clause)
            .last()
            .is_some_and(|word| matches!(word.as_str(), "status" | "state" | "update"));
    let is_first = at == 0 && clause.is_label;
    is_short && (is_first || of_status)
}

fn subjects(text: &Words, clause: &Clause) -> Vec<&'static str> {
    let in_clause = |pattern: &&str| clause.words.clone().any(|at| text.stands_at(pattern, at));
    SUBJECTS
        .iter()
        .filter(|subject| subject.patterns.iter().any(in_clause))
        .map(|subject| subject.label)
        .collect()
}

/// Whether an odd number of negations stand for what is at a place.
fn is_denied(text: &Words, at: usize) -> bool {
    let negations = (text.reach(at)..at)
        .filter(|negation| negates(text, *negation, at))
        .count();
    let is_denied_before = negations % 2 == 1;
    is_denied_before != is_denied_after(text, at)
}

fn negates(text: &Words, negation: usize, at: usize) -> bool {
    let word = text.words[negation].as_str();
    let next = text.words[negation + 1].as_str();
    let between = &text.words[negation + 1..at];
    let is_negation = if STOPS.contains(&word) {
        between.is_empty()
    } else if ZERO.contains(&word) {
        // `node 0 failed` is a number that names.
        text.before(negation)
            .last()
            .is_none_or(|before| LINKS.contains(&before.as_str()))
    } else {
        NEGATIONS.contains(&word)
            || HINDRANCES.iter().any(|pattern| {
                text.stands_at(pattern, negation) && ends_before(pattern, negation, at)
            })
    };
    // `not all`, `not only`; and what is not mended is there.
    is_negation
        && !QUANTIFIERS.contains(&next)
        && !between.iter().any(|word| REMEDIES.contains(&word.as_str()))
}

fn ends_before(pattern: &str, begins: usize, at: usize) -> bool {
    begins + pattern.split(' ').count() <= at
}

/// `errors were not seen`, `error rate is 0`, `failures: none`.
fn is_denied_after(text: &Words, at: usize) -> bool {
    let mut rest = text.from(at)[1..].iter().map(String::as_str).peekable();
    while rest.next_if(|word| LINKS.contains(word)).is_some() {}
    match rest.next() {
        Some(word) if NOTHING.contains(&word) => {
            rest.next().is_none_or(|next| FOLLOWS.contains(&next))
        }
        Some(word) if NEGATIONS.contains(&word) => rest
            .find(|word| !LINKS.contains(word))
            .is_some_and(|word| DETECTED.contains(&word)),
        Some(_) => false,
        None => {
            let next = text.clauses.get(text.clause_of[at] + 1);
            let is_label = text.clauses[text.clause_of[at]].is_label;
            next.filter(|_| is_label).is_some_and(
                |next| matches!(text.within(next), [only] if NOTHING.contains(&only.as_str())),
            )
        }
    }
}

fn places<'a>(text: &'a Words, lists: &'a [&[&'static str]]) -> impl Iterator<Item = usize> + 'a {
    let patterns = lists.iter().flat_map(|list| list.iter());
    patterns.flat_map(|pattern| text.all(pattern))
}

fn stands_any(text: &Words, patterns: &[&str], at: usize) -> bool {
    patterns.iter().any(|pattern| text.stands_at(pattern, at))
}

#[cfg(test)]
mod tests;
