//! When a request was signed, as both schemes write it: Unix seconds in decimal digits.

/// How far a signature's time may be from now, in seconds, either way.
pub(crate) const TOLERANCE_S: u64 = 300;

/// One to twelve digits without sign, blank or leading zero: a text has one number and a number one text.
pub(crate) fn parse(text: &[u8]) -> Option<i64> {
    let plain = matches!(text.len(), 1..=12)
        && text.iter().all(u8::is_ascii_digit)
        && (text[0] != b'0' || text.len() == 1);
    plain.then(|| {
        text.iter()
            .fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'))
    })
}

/// Whether a signature of `signed_unix` still counts at `now_unix`, both in seconds.
pub(crate) fn is_fresh(signed_unix: i64, now_unix: i64) -> bool {
    signed_unix.abs_diff(now_unix) <= TOLERANCE_S
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_one_plain_text_of_a_number_is_read() {
        for (text, number) in [
            ("0", Some(0)),
            ("1705315200", Some(1_705_315_200)),
            ("999999999999", Some(999_999_999_999)),
            ("", None),
            ("01", None),
            ("+1", None),
            ("-1", None),
            (" 1", None),
            ("1 ", None),
            ("1.0", None),
            ("1e10", None),
            ("0x1", None),
            ("1\0", None),
            ("\u{661}\u{662}", None),
            ("1000000000000", None),
        ] {
            assert_eq!(parse(text.as_bytes()), number, "{text:?}");
        }
    }

    #[test]
    fn a_signature_is_fresh_for_300_seconds_either_way() {
        for (offset, fresh) in [
            (0, true),
            (300, true),
            (-300, true),
            (301, false),
            (-301, false),
        ] {
            assert_eq!(is_fresh(1_705_315_200 + offset, 1_705_315_200), fresh);
        }
        assert!(!is_fresh(i64::MIN, i64::MAX));
    }
}
