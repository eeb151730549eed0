use schema::Severity;
use schema::summary::SummarizeResponse;

use super::polarity::{Polarities, Polarity};
use super::text::Words;
use super::words::{CRITICAL, LOWERS, NOT_WELL, RAISES, REGIONS, SUBJECTS, TROUBLES, Trouble};

/// The longest summary, in characters.
pub const SUMMARY_MAX: usize = 120;

/// Says in one line what a text is about and how bad it sounds. A text in which no trouble is found is summarized by its
/// first sentence, as info.
pub fn summarize(text: &str) -> SummarizeResponse {
    let reading = Reading::of(text);
    let found = reading.worst_trouble();
    let summary = match &found {
        Some(found) => phrase(&reading, found),
        None => first_sentence(text),
    };
    SummarizeResponse {
        summary,
        suggested_severity: severity(&reading, found.as_ref()),
    }
}

/// A trouble, where it is told, and whether it is there.
struct Found {
    trouble: &'static Trouble,
    many: bool,
    at: usize,
    polarity: Polarity,
}

impl Found {
    fn badness(&self) -> i8 {
        self.trouble.badness + i8::from(self.many)
    }
}

/// A text, and what it says of the troubles that it names.
struct Reading {
    text: Words,
    polarities: Polarities,
}

impl Reading {
    fn of(original: &str) -> Self {
        let text = Words::of(original);
        let patterns = TROUBLES
            .iter()
            .flat_map(|trouble| trouble.one.iter().chain(trouble.many))
            .chain(CRITICAL);
        let troubles: Vec<usize> = patterns.flat_map(|pattern| text.all(pattern)).collect();
        let polarities = Polarities::of(&text, &troubles);
        Self { text, polarities }
    }

    /// The worst trouble that is there, else the worst that is over; of equals the one told first.
    fn worst_trouble(&self) -> Option<Found> {
        let named = TROUBLES
            .iter()
            .flat_map(|trouble| [(trouble, trouble.one, false), (trouble, trouble.many, true)])
            .flat_map(|(trouble, patterns, many)| {
                let places = patterns.iter().flat_map(|pattern| self.text.all(pattern));
                places.map(move |at| self.found(trouble, many, at))
            });
        let not_well = self.polarities.not_well.iter();
        named
            .filter(|found| found.polarity != Polarity::Denied)
            .chain(not_well.map(|at| self.found_not_well(*at)))
            .min_by_key(|found| (found.polarity == Polarity::Over, -found.badness(), found.at))
    }

    fn found(&self, trouble: &'static Trouble, many: bool, at: usize) -> Found {
        Found {
            trouble,
            many,
            at,
            polarity: self.polarities.at(&self.text, at),
        }
    }

    /// It is told by being denied.
    fn found_not_well(&self, at: usize) -> Found {
        let found = self.found(&NOT_WELL, false, at);
        let polarity = match found.polarity {
            Polarity::Denied => Polarity::Here,
            other => other,
        };
        Found { polarity, ..found }
    }

    fn says(&self, pattern: &str) -> bool {
        let is_said = |at| self.polarities.at(&self.text, at) == Polarity::Here;
        self.text.all(pattern).any(is_said)
    }

    fn says_any(&self, patterns: &[&str]) -> bool {
        patterns.iter().any(|pattern| self.says(pattern))
    }

    fn first_of(&self, patterns: &[&str]) -> Option<usize> {
        let places = patterns.iter().flat_map(|pattern| self.text.all(pattern));
        places.min()
    }

    /// What the trouble's clause names first, or else the text.
    fn subject(&self, found: &Found) -> Option<&'static str> {
        let clause = self.text.clause_of[found.at];
        SUBJECTS
            .iter()
            .filter_map(|subject| {
                Some((
                    self.first_of_clause(subject.patterns, clause)?,
                    subject.label,
                ))
            })
            .min()
            .map(|(_, label)| label)
    }

    /// Whether it is elsewhere, and where.
    fn first_of_clause(&self, patterns: &[&str], clause: usize) -> Option<(bool, usize)> {
        let places = patterns.iter().flat_map(|pattern| self.text.all(pattern));
        places
            .map(|at| (self.text.clause_of[at] != clause, at))
            .min()
    }
}

fn severity(reading: &Reading, found: Option<&Found>) -> Severity {
    if reading.says_any(CRITICAL) {
        return Severity::Critical;
    }
    let Some(found) = found.filter(|found| found.polarity == Polarity::Here) else {
        return Severity::Info;
    };
    let raised = i8::from(reading.says_any(RAISES));
    let lowered = i8::from(reading.says_any(LOWERS));
    match found.badness() + raised - lowered {
        ..=0 => Severity::Info,
        1 => Severity::Warning,
        2.. => Severity::Critical,
    }
}

/// `Payment failures in APAC`, with `, resolved` when the text says that it is over.
fn phrase(reading: &Reading, found: &Found) -> String {
    // A thing of which several fail has several failures, even where the text says "failed".
    let label = if found.many || reading.says_any(RAISES) {
        found.trouble.label_many
    } else {
        found.trouble.label_one
    };
    let mut phrase = match reading.subject(found) {
        Some(subject) => format!("{subject} {label}"),
        None => label.to_owned(),
    };
    if let Some(place) = place(reading) {
        phrase.push_str(" in ");
        phrase.push_str(&place);
    }
    if found.polarity == Polarity::Over {
        phrase.push_str(", resolved");
    }
    one_line(&capitalized(&phrase))
}

fn place(reading: &Reading) -> Option<String> {
    let mut places: Vec<(usize, &str)> = REGIONS
        .iter()
        .filter_map(|region| Some((reading.first_of(region.patterns)?, region.label)))
        .collect();
    let words = reading.text.places.iter();
    let clouds = words.filter(|(word, _)| is_cloud_region(word));
    places.extend(clouds.map(|(word, at)| (at[0], word.as_str())));
    // Of two that begin at one word ("Asia", "Asia Pacific") the one listed first is meant.
    places.sort_by_key(|(at, _)| *at);
    places.dedup_by_key(|(at, _)| *at);
    let labels: Vec<&str> = places.into_iter().map(|(_, label)| label).collect();
    match labels.as_slice() {
        [] => None,
        [only] => Some((*only).to_owned()),
        [first, second] => Some(format!("{first} and {second}")),
        _ => Some("multiple regions".to_owned()),
    }
}

/// `us-east-1`, `eu-central-2`, `ap-southeast-1`.
fn is_cloud_region(word: &str) -> bool {
    let parts: Vec<&str> = word.split('-').collect();
    let [continent, side, number] = parts.as_slice() else {
        return false;
    };
    let letters = |part: &str, longest: usize| {
        (2..=longest).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_lowercase())
    };
    letters(continent, 2)
        && letters(side, 9)
        && (1..=2).contains(&number.len())
        && number.bytes().all(|byte| byte.is_ascii_digit())
}

fn first_sentence(text: &str) -> String {
    let line = one_line(text);
    let end = line
        .find(". ")
        .or_else(|| line.find("! "))
        .unwrap_or(line.len());
    let sentence = line[..end].trim_end_matches(['.', '!', ' ']);
    capitalized(if sentence.is_empty() { &line } else { sentence })
}

/// Every run of blanks and control characters as one blank, cut at [`SUMMARY_MAX`] characters.
fn one_line(text: &str) -> String {
    let spaced = text.replace(char::is_control, " ");
    // Enough for the cut; the text may be far longer.
    let line: String = spaced
        .split_whitespace()
        .flat_map(|word| [" ", word])
        .skip(1)
        .flat_map(str::chars)
        .take(SUMMARY_MAX + 1)
        .collect();
    if line.chars().count() <= SUMMARY_MAX {
        return line;
    }
    let mut cut: String = line.chars().take(SUMMARY_MAX - 1).collect();
    cut.push('…');
    cut
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        // Some letters have two as their capital ("ß"); they stay, so that the length does too.
        Some(first) if first.to_uppercase().count() == 1 => {
            first.to_uppercase().chain(letters).collect()
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::words::{ENDS, ENDS_OF_TROUBLE, HINDRANCES, RELAPSES, SUCCESSES};
    use super::*;

    const EXAMPLES: &[(&str, &str, Severity)] = &[
        (
            "Multiple payment failures detected across APAC region...",
            "Payment failures in APAC",
            Severity::Critical,
        ),
        (
            "A payment failed for one customer",
            "Payment failure",
            Severity::Warning,
        ),
        (
            "Payouts are failing in Europe",
            "Payout failures in Europe",
            Severity::Critical,
        ),
        (
            "API latency is elevated in us-east-1",
            "API latency in us-east-1",
            Severity::Warning,
        ),
        (
            "Major API latency in the US",
            "API latency in the US",
            Severity::Critical,
        ),
        (
            "Checkout is down worldwide",
            "Checkout outages in all regions",
            Severity::Critical,
        ),
        ("Webhook timeouts", "Webhook timeouts", Severity::Warning),
        ("A webhook timed out", "Webhook timeout", Severity::Info),
        (
            "Intermittent login errors in Germany and France",
            "Login errors in Germany and France",
            Severity::Info,
        ),
        (
            "Dashboard is degraded_performance",
            "Dashboard degradation",
            Severity::Warning,
        ),
        (
            "Scheduled maintenance of the database",
            "Database maintenance",
            Severity::Info,
        ),
        (
            "Payment outage in EMEA has been resolved.",
            "Payment outage in EMEA, resolved",
            Severity::Info,
        ),
        (
            "The outage is not resolved; emails are affected",
            "Email outage",
            Severity::Critical,
        ),
        (
            "CRITICAL: disk error on host 7",
            "Storage error",
            Severity::Critical,
        ),
        (
            "Minor outage of search in Japan",
            "Search outage in Japan",
            Severity::Warning,
        ),
        (
            "Failures in APAC, EMEA and Brazil",
            "Failures in multiple regions",
            Severity::Critical,
        ),
        (
            "Queue errors in us-east-1 and eu-west-2, us-east-1 is worse",
            "Queue errors in us-east-1 and eu-west-2",
            Severity::Warning,
        ),
        (
            "Slow messages in Asia Pacific",
            "Messaging latency in APAC",
            Severity::Warning,
        ),
        ("Slow. Contact us for details", "Latency", Severity::Warning),
        (
            "All systems operational",
            "All systems operational",
            Severity::Info,
        ),
        (
            "There are no errors today. Have a nice day.",
            "There are no errors today",
            Severity::Info,
        ),
        (
            "支払いが失敗しました",
            "支払いが失敗しました",
            Severity::Info,
        ),
        ("ß\u{0}\r\n\tß", "ß ß", Severity::Info),
    ];

    #[test]
    fn each_example_has_its_summary_and_severity() {
        for (text, summary, severity) in EXAMPLES {
            let answer = summarize(text);
            assert_eq!(
                (answer.summary.as_str(), answer.suggested_severity),
                (*summary, *severity),
                "{text}"
            );
        }
    }

    #[test]
    fn a_long_text_without_trouble_is_cut_with_an_ellipsis() {
        let answer = summarize(&"lorem ipsum ".repeat(1000));

        assert_eq!(answer.summary.chars().count(), SUMMARY_MAX);
        assert!(answer.summary.ends_with('…'));
    }

    #[test]
    fn no_pattern_is_spelled_in_a_way_that_no_text_can_match() {
        let patterns = SUBJECTS
            .iter()
            .flat_map(|subject| subject.patterns)
            .chain(
                TROUBLES
                    .iter()
                    .flat_map(|trouble| trouble.one.iter().chain(trouble.many)),
            )
            .chain(REGIONS.iter().flat_map(|region| region.patterns))
            .chain([RAISES, LOWERS, CRITICAL].into_iter().flatten())
            .chain(
                [ENDS, ENDS_OF_TROUBLE, SUCCESSES, HINDRANCES, RELAPSES]
                    .into_iter()
                    .flatten(),
            );
        for pattern in patterns {
            let text = pattern.to_uppercase();
            assert!(Words::of(&text).all(pattern).next().is_some(), "{pattern}");
        }
    }

    fn assert_bounded(text: &str) {
        let summary = summarize(text).summary;
        assert!(summary.chars().count() <= SUMMARY_MAX, "{summary:?}");
        assert!(!summary.chars().any(char::is_control), "{summary:?}");
        assert_eq!(summarize(text).summary, summary);
    }

    proptest! {
        #[test]
        fn any_text_gives_one_bounded_line(text in any::<String>()) {
            assert_bounded(&text);
        }

        #[test]
        fn any_mix_of_known_words_gives_one_bounded_line(
            words in proptest::collection::vec(
                proptest::sample::select(vec![
                    "payment", "failures", "outage", "no", "not", "US", "us", "asia", "pacific", "eu-west-1", "resolved",
                    "multiple", "-", "'", ".", "\n", "critical", "minor", "sev", "1", "0", "none", ":", "but", "still",
                    "recovered", "is", "stopped", "failing",
                ]),
                0..40,
            ),
        ) {
            assert_bounded(&words.join(" "));
        }
    }
}
