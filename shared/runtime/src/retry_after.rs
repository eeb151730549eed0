//! What a Retry-After header asks for (RFC 9110, 10.2.3): seconds, or an HTTP-date in any of its three forms (5.6.7).

use jiff::civil::{Date, DateTime};
use jiff::fmt::{rfc2822, strtime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp};

/// No wish is honoured for longer.
pub const LONGEST: SignedDuration = SignedDuration::from_hours(1);

/// A two-digit year is never read as one further ahead than this.
const AHEAD_MAX_YEARS: i16 = 50;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryAfter {
    For(SignedDuration),
    Until(HttpDate),
}

impl RetryAfter {
    /// Anything else is not a wish.
    pub fn parse(header: &str) -> Option<Self> {
        let header = header.trim();
        if !header.is_empty() && header.bytes().all(|byte| byte.is_ascii_digit()) {
            let seconds = header.parse().unwrap_or(i64::MAX);
            return Some(Self::For(SignedDuration::from_secs(seconds)));
        }
        HttpDate::parse(header).map(Self::Until)
    }

    /// When it ends, [`LONGEST`] from now at most. A date that has passed ends where it says.
    pub fn until(self, now: Timestamp) -> Timestamp {
        let later = |wait| now.saturating_add(wait).unwrap_or(Timestamp::MAX);
        let asked = match self {
            Self::For(wait) => later(wait),
            Self::Until(date) => date.at(now).unwrap_or(now),
        };
        asked.min(later(LONGEST))
    }
}

/// A date as a server writes it, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpDate {
    written: DateTime,
    /// RFC 850 writes the last two digits of the year: which century is meant depends on when it is read.
    short_year: bool,
}

impl HttpDate {
    /// The day's name is not compared with the date: a server that is wrong there still means the date.
    fn parse(text: &str) -> Option<Self> {
        let full = |written| Self {
            written,
            short_year: false,
        };
        let short = |written| Self {
            written,
            short_year: true,
        };
        imf_fixdate(text)
            .or_else(|| by_format("%a %b %e %H:%M:%S %Y", text))
            .map(full)
            .or_else(|| by_format("%A, %d-%b-%y %H:%M:%S GMT", text).map(short))
    }

    /// `None` where no such day is in the year that is meant.
    fn at(self, now: Timestamp) -> Option<Timestamp> {
        if !self.short_year {
            return moment(self.written);
        }
        let furthest = now.to_zoned(TimeZone::UTC).datetime();
        let furthest = furthest.saturating_add(Span::new().years(AHEAD_MAX_YEARS));
        let in_century = |century: i16| {
            let year = century * 100 + self.written.year() % 100;
            let date = Date::new(year, self.written.month(), self.written.day()).ok()?;
            Some(date.to_datetime(self.written.time()))
        };
        let newest = furthest.year() / 100;
        let meant = in_century(newest).filter(|meant| *meant <= furthest);
        moment(meant.or_else(|| in_century(newest - 1))?)
    }
}

fn imf_fixdate(text: &str) -> Option<DateTime> {
    let parser = rfc2822::DateTimeParser::new().relaxed_weekday(true);
    let at = parser.parse_timestamp(text).ok()?;
    Some(at.to_zoned(TimeZone::UTC).datetime())
}

fn by_format(format: &str, text: &str) -> Option<DateTime> {
    let mut told = strtime::parse(format, text).ok()?;
    told.set_weekday(None);
    told.to_datetime().ok()
}

fn moment(utc: DateTime) -> Option<Timestamp> {
    TimeZone::UTC.to_timestamp(utc).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When a header's wish ends for who reads it at 2026-11-28 08:00:00, as a text.
    fn until(header: &str) -> Option<String> {
        let now: Timestamp = "2026-11-28T08:00:00Z".parse().unwrap();
        let wish = RetryAfter::parse(header)?;
        Some(wish.until(now).to_string())
    }

    #[test]
    fn seconds_and_each_of_the_three_forms_of_a_date_are_a_wish() {
        for (header, end) in [
            ("120", "2026-11-28T08:02:00Z"),
            (" 120 ", "2026-11-28T08:02:00Z"),
            ("0", "2026-11-28T08:00:00Z"),
            ("Sat, 28 Nov 2026 08:10:00 GMT", "2026-11-28T08:10:00Z"),
            ("Saturday, 28-Nov-26 08:10:00 GMT", "2026-11-28T08:10:00Z"),
            ("Sat Nov 28 08:10:00 2026", "2026-11-28T08:10:00Z"),
            ("Sun Nov  8 08:10:00 2026", "2026-11-08T08:10:00Z"),
            ("Sun, 06 Nov 1994 08:49:37 GMT", "1994-11-06T08:49:37Z"),
            ("Sunday, 06-Nov-94 08:49:37 GMT", "1994-11-06T08:49:37Z"),
            ("Sun Nov  6 08:49:37 1994", "1994-11-06T08:49:37Z"),
            // The wrong day's name.
            ("Monday, 28-Nov-26 08:10:00 GMT", "2026-11-28T08:10:00Z"),
            ("Mon Nov 28 08:10:00 2026", "2026-11-28T08:10:00Z"),
            ("Mon, 28 Nov 2026 08:10:00 GMT", "2026-11-28T08:10:00Z"),
        ] {
            assert_eq!(until(header).as_deref(), Some(end), "{header:?}");
        }
    }

    #[test]
    fn no_wish_goes_beyond_the_bound() {
        for header in [
            "3601",
            "99999999999999999999999999",
            "Sun, 29 Nov 2026 08:00:00 GMT",
            "Sunday, 29-Nov-26 08:00:00 GMT",
            "Sun Nov 29 08:00:00 2026",
        ] {
            assert_eq!(until(header).unwrap(), "2026-11-28T09:00:00Z", "{header:?}");
        }
    }

    #[test]
    fn a_year_of_two_digits_is_at_most_50_years_ahead() {
        for (written, meant) in [
            ("Friday, 27-Nov-76 08:00:00 GMT", "2076-11-27T08:00:00Z"),
            ("Saturday, 28-Nov-76 08:00:00 GMT", "2076-11-28T08:00:00Z"),
            ("Sunday, 28-Nov-76 08:00:01 GMT", "1976-11-28T08:00:01Z"),
            ("Monday, 01-Jan-77 00:00:00 GMT", "1977-01-01T00:00:00Z"),
            ("Friday, 31-Dec-99 23:59:59 GMT", "1999-12-31T23:59:59Z"),
            ("Saturday, 01-Jan-00 00:00:00 GMT", "2000-01-01T00:00:00Z"),
            ("Saturday, 29-Feb-76 00:00:00 GMT", "2076-02-29T00:00:00Z"),
        ] {
            let now: Timestamp = "2026-11-28T08:00:00Z".parse().unwrap();
            let date = HttpDate::parse(written).unwrap();
            assert_eq!(date.at(now).unwrap().to_string(), meant, "{written}");
        }
        let late: Timestamp = "2080-01-01T00:00:00Z".parse().unwrap();
        let date = HttpDate::parse("Tuesday, 01-Jan-05 00:00:00 GMT").unwrap();
        assert_eq!(date.at(late).unwrap().to_string(), "2105-01-01T00:00:00Z");
    }

    #[test]
    fn what_is_neither_is_not_a_wish() {
        for header in [
            "",
            " ",
            "-1",
            "+1",
            "1.5",
            "soon",
            "1 s",
            "2024-01-15T10:00:00Z",
            "Saturday, 28-Nov-2026 08:10:00 GMT",
            "Saturday, 28-Nov-26 08:10:00",
            "Saturday, 31-Nov-26 08:10:00 GMT",
            "Sat Nov 28 25:10:00 2026",
        ] {
            assert_eq!(RetryAfter::parse(header), None, "{header:?}");
        }
    }
}
