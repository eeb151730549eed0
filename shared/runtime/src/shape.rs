//! Bounds on a JSON text, checked in one pass before anything parses it.
//!
//! Not a grammar: what is no JSON at all is left to the parser that follows. What is refused here is what parsers differ
//! on or drown in, so that whoever reads the stored bytes later can read them: deep nesting, masses of values, halves of
//! surrogate pairs, numbers beyond a double.

/// Containers within containers.
const DEPTH_MAX: usize = 64;
/// Values that any text may have, containers included.
const NODES_MAX: usize = 20_000;
/// A longer text may have one for each so many bytes: it may say more, but not be made of commas.
const BYTES_A_NODE: usize = 16;
/// A number this long without an exponent is below the largest double, about 1.8e308.
const SURELY_FINITE_LEN: usize = 300;

/// Why a text is out of bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misshapen {
    #[error("nested deeper than {DEPTH_MAX} levels")]
    TooDeep,
    #[error("more than {NODES_MAX} values, and one for each {BYTES_A_NODE} bytes")]
    TooManyNodes,
    #[error("a \\u escape that is half of a surrogate pair, or no hex")]
    BrokenEscape,
    #[error("a number beyond the range of a double")]
    NumberOutOfRange,
}

/// Refuses a text that is out of bounds.
pub fn check(text: &[u8]) -> Result<(), Misshapen> {
    let nodes_max = NODES_MAX.max(text.len() / BYTES_A_NODE);
    let mut depth = 0_usize;
    let mut nodes = 0_usize;
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        at += 1;
        match byte {
            b'{' | b'[' => {
                depth += 1;
                nodes += 1;
                if depth > DEPTH_MAX {
                    return Err(Misshapen::TooDeep);
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                nodes += 1;
                at = skip_string(text, at)?;
            }
            // The string before a colon was a name, not a value.
            b':' => nodes = nodes.saturating_sub(1),
            b',' | b' ' | b'\t' | b'\n' | b'\r' => {}
            _ => {
                nodes += 1;
                at = skip_scalar(text, at - 1)?;
            }
        }
        // The one beyond may be a name whose colon is still to come.
        if nodes > nodes_max + 1 {
            return Err(Misshapen::TooManyNodes);
        }
    }
    if nodes > nodes_max {
        return Err(Misshapen::TooManyNodes);
    }
    Ok(())
}

/// From behind a string's opening quote to behind its closing one.
fn skip_string(text: &[u8], mut at: usize) -> Result<usize, Misshapen> {
    while let Some(&byte) = text.get(at) {
        at += 1;
        match byte {
            b'"' => break,
            b'\\' => at = skip_escape(text, at)?,
            _ => {}
        }
    }
    Ok(at)
}

/// From behind a backslash to behind its escape.
fn skip_escape(text: &[u8], at: usize) -> Result<usize, Misshapen> {
    if text.get(at) != Some(&b'u') {
        return Ok(at + 1);
    }
    match code_unit(text, at + 1)? {
        0xD800..=0xDBFF => match text.get(at + 5..at + 7) {
            Some(b"\\u") if (0xDC00..=0xDFFF).contains(&code_unit(text, at + 7)?) => Ok(at + 11),
            _ => Err(Misshapen::BrokenEscape),
        },
        0xDC00..=0xDFFF => Err(Misshapen::BrokenEscape),
        _ => Ok(at + 5),
    }
}

/// Four hex digits.
fn code_unit(text: &[u8], at: usize) -> Result<u32, Misshapen> {
    let digits = text.get(at..at + 4).ok_or(Misshapen::BrokenEscape)?;
    digits.iter().try_fold(0, |unit, digit| {
        let value = char::from(*digit).to_digit(16);
        value
            .map(|value| unit * 16 + value)
            .ok_or(Misshapen::BrokenEscape)
    })
}

/// From the first byte of a number or a word to behind it.
fn skip_scalar(text: &[u8], start: usize) -> Result<usize, Misshapen> {
    let ends = |byte: &u8| {
        matches!(
            byte,
            b',' | b'}' | b']' | b':' | b'"' | b'{' | b'[' | b' ' | b'\t' | b'\n' | b'\r'
        )
    };
    let rest = text.get(start..).unwrap_or_default();
    let scalar = &rest[..rest.iter().position(ends).unwrap_or(rest.len())];
    let is_number = scalar
        .first()
        .is_some_and(|byte| byte.is_ascii_digit() || *byte == b'-');
    let may_overflow =
        scalar.len() > SURELY_FINITE_LEN || scalar.iter().any(|byte| matches!(byte, b'e' | b'E'));
    if is_number && may_overflow {
        let number: Option<f64> = str::from_utf8(scalar)
            .ok()
            .and_then(|text| text.parse().ok());
        if number.is_some_and(f64::is_infinite) {
            return Err(Misshapen::NumberOutOfRange);
        }
    }
    Ok(start + scalar.len().max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_within_bounds_passes_and_what_is_beyond_says_why() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let values = |count: usize| format!("[{}0]", "0,".repeat(count - 2));
        let members = |count: usize| format!("{{{}\"k\":0}}", "\"k\":0,".repeat(count - 2));
        for (name, text, verdict) in [
            ("nothing", String::new(), Ok(())),
            ("as deep as may be", nested(64), Ok(())),
            ("deeper", nested(65), Err(Misshapen::TooDeep)),
            ("side by side", "[[],[]],".repeat(100), Ok(())),
            ("closed too often", "]".repeat(100), Ok(())),
            ("brackets in a text", format!("\"{}\"", nested(100)), Ok(())),
            ("a quote in a text", r#"["\"[[","]]"]"#.to_owned(), Ok(())),
            ("as many as may be", values(20_000), Ok(())),
            ("more", values(20_001), Err(Misshapen::TooManyNodes)),
            (
                "many in a long text",
                format!("[{}0]", format!("0,{}", " ".repeat(15)).repeat(29_998)),
                Ok(()),
            ),
            (
                "more in a long text",
                format!("[{}0]", format!("0,{}", " ".repeat(13)).repeat(29_998)),
                Err(Misshapen::TooManyNodes),
            ),
            ("names are no values", members(20_000), Ok(())),
            (
                "more members",
                members(20_001),
                Err(Misshapen::TooManyNodes),
            ),
            ("a pair", r#""\ud83d\uDE00""#.to_owned(), Ok(())),
            (
                "half a pair",
                r#""\ud83d""#.to_owned(),
                Err(Misshapen::BrokenEscape),
            ),
            (
                "cut off",
                r#""\ud83d\u"#.to_owned(),
                Err(Misshapen::BrokenEscape),
            ),
            ("cut off at the backslash", r#""\"#.to_owned(), Ok(())),
            ("the largest", "1.7976931348623157e308".to_owned(), Ok(())),
            (
                "larger",
                "[-1e309]".to_owned(),
                Err(Misshapen::NumberOutOfRange),
            ),
            (
                "long and larger",
                "1".repeat(310),
                Err(Misshapen::NumberOutOfRange),
            ),
            ("long and small", format!("0.{}", "1".repeat(310)), Ok(())),
        ] {
            assert_eq!(check(text.as_bytes()), verdict, "{name}");
        }
    }
}
