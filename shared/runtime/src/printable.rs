//! Text from outside on its way to a terminal or into a log line: what a terminal obeys, and what people do not see, is
//! not passed on.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::ops::RangeInclusive;

/// Beside the controls (C0, DEL, C1): what Unicode 16 calls format characters (Cf), of which the bidirectional ones turn a
/// line around and others have no width; the two separators of lines and paragraphs; the block of tags.
const HIDDEN: [RangeInclusive<char>; 21] = [
    '\u{ad}'..='\u{ad}',
    '\u{600}'..='\u{605}',
    '\u{61c}'..='\u{61c}',
    '\u{6dd}'..='\u{6dd}',
    '\u{70f}'..='\u{70f}',
    '\u{890}'..='\u{891}',
    '\u{8e2}'..='\u{8e2}',
    '\u{180e}'..='\u{180e}',
    '\u{200b}'..='\u{200f}',
    '\u{2028}'..='\u{202e}',
    '\u{2060}'..='\u{206f}',
    '\u{feff}'..='\u{feff}',
    '\u{fff9}'..='\u{fffb}',
    '\u{110bd}'..='\u{110bd}',
    '\u{110cd}'..='\u{110cd}',
    '\u{13430}'..='\u{1343f}',
    '\u{1bca0}'..='\u{1bca3}',
    '\u{1d173}'..='\u{1d17a}',
    '\u{e0000}'..='\u{e0fff}',
    // Noncharacters, of which some terminals make what they like.
    '\u{fdd0}'..='\u{fdef}',
    '\u{fffe}'..='\u{ffff}',
];

/// Whether a character is kept from terminals and logs.
pub fn is_hidden(c: char) -> bool {
    c.is_control() || (!c.is_ascii() && HIDDEN.iter().any(|range| range.contains(&c)))
}

/// One line that a terminal only shows: a blank for each character that is kept from it.
pub fn plain(text: &str) -> Cow<'_, str> {
    replaced(text, is_hidden)
}

/// As [`plain`], with the line ends kept, for text of our own around words from outside.
pub fn plain_lines(text: &str) -> Cow<'_, str> {
    replaced(text, |c| c != '\n' && is_hidden(c))
}

fn replaced(text: &str, is_hidden: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_hidden) {
        return Cow::Borrowed(text);
    }
    let shown = text.chars().map(|c| if is_hidden(c) { ' ' } else { c });
    Cow::Owned(shown.collect())
}

/// JSON of the same value, in which each such character is written `\uXXXX`. Blanks between values stay as they are.
pub fn json(text: &str) -> Cow<'_, str> {
    let is_raw = |c: char| !matches!(c, '\n' | '\r' | '\t') && is_hidden(c);
    if !text.contains(is_raw) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_raw(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // A String takes whatever is written.
                let _written = write!(escaped, "\\u{unit:04x}");
            }
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_or_nobody_sees_is_hidden_and_other_text_is_not() {
        for hidden in [
            '\0',
            '\u{7}',
            '\u{1b}',
            '\u{7f}',
            '\u{80}',
            '\u{9b}',
            '\u{9f}',
            '\u{ad}',
            '\u{61c}',
            '\u{200b}',
            '\u{200d}',
            '\u{200e}',
            '\u{202e}',
            '\u{2028}',
            '\u{2066}',
            '\u{2069}',
            '\u{feff}',
            '\u{fffb}',
            '\u{e0041}',
            '\u{e007f}',
        ] {
            assert!(is_hidden(hidden), "{hidden:?}");
            assert_eq!(plain(&format!("a{hidden}b")), "a b", "{hidden:?}");
        }
        for shown in ["~ aé€", "שלום", "日本語", "🙂", "\u{301}", "\u{a0}"] {
            assert!(matches!(plain(shown), Cow::Borrowed(same) if same == shown));
        }
        assert_eq!(plain_lines("a\nb\u{9b}c\r"), "a\nb c ");
    }

    #[test]
    fn escaped_json_is_the_same_value_without_a_hidden_character() {
        let value = serde_json::json!({"\u{202e}k": "\u{9b}31m \u{7f} \u{e0041} \\ \u{1b} é\n"});
        for text in [
            value.to_string(),
            serde_json::to_string_pretty(&value).unwrap(),
        ] {
            let escaped = json(&text);

            assert!(
                !escaped.chars().any(|c| c != '\n' && is_hidden(c)),
                "{escaped}"
            );
            let read: serde_json::Value = serde_json::from_str(&escaped).unwrap();
            assert_eq!(read, value);
        }
    }
}
