//! The head of an answer from a stranger, as curl and browsers read it: what is odd in it costs the connection, not the
//! answer. Pure.

use std::borrow::Cow;

/// As much as curl takes.
const HEAD_MAX: usize = 300 * 1024;

const PROTOCOL: &[u8] = b"HTTP/";

/// Why bytes are no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum HeadFault {
    #[error("the answer is not HTTP")]
    Invalid,
    #[error("the head of the answer is longer than 300 KiB")]
    TooLarge,
}

impl HeadFault {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Invalid => "invalid_response",
            Self::TooLarge => "head_too_large",
        }
    }
}

/// Gathers a head from the pieces in which it comes.
#[derive(Debug, Default)]
pub(super) struct HeadReader {
    bytes: Vec<u8>,
    /// Where the line begins that is not whole yet.
    line: usize,
    /// Up to where no line ends.
    searched: usize,
    /// How long what was passed over is: blank lines and interim answers. They count towards the bound, or there might be
    /// no end of them.
    passed_over: usize,
}

impl HeadReader {
    /// Once the head is whole: the head in words that every reader takes for the same, and what came behind it. An interim
    /// answer is passed over.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Option<Vec<u8>>, HeadFault> {
        self.bytes.extend_from_slice(bytes);
        while let Some(at) = self.line_end() {
            let line = without_cr(&self.bytes[self.line..at]);
            let (is_empty, begins) = (line.is_empty(), self.line == 0);
            self.line = at + 1;
            self.searched = self.line;
            if !is_empty {
                continue;
            }
            let head = Head::parse(&self.bytes[..at])?;
            self.bytes.drain(..self.line);
            self.passed_over += self.line;
            (self.line, self.searched) = (0, 0);
            match head {
                // Blank lines ahead of it.
                None if begins => {}
                None => return Err(HeadFault::Invalid),
                Some(head) if head.is_interim() => {}
                Some(head) => {
                    let mut tidied = head.written();
                    tidied.append(&mut self.bytes);
                    return Ok(Some(tidied));
                }
            }
        }
        self.look_at_the_beginning()?;
        Ok(None)
    }

    /// Nothing more comes.
    pub(super) fn end(&self) -> Result<(), HeadFault> {
        self.look_at_the_beginning()
    }

    fn line_end(&mut self) -> Option<usize> {
        let rest = &self.bytes[self.searched..];
        let found = rest.iter().position(|&byte| byte == b'\n');
        if found.is_none() {
            self.searched = self.bytes.len();
        }
        found.map(|at| self.searched + at)
    }

    /// What is no HTTP is known by its first bytes; no more of it is waited for.
    fn look_at_the_beginning(&self) -> Result<(), HeadFault> {
        let begun = self.bytes.trim_ascii_start();
        let length = begun.len().min(PROTOCOL.len());
        if !begun[..length].eq_ignore_ascii_case(&PROTOCOL[..length]) {
            return Err(HeadFault::Invalid);
        }
        if self.passed_over + self.bytes.len() > HEAD_MAX {
            return Err(HeadFault::TooLarge);
        }
        Ok(())
    }
}

/// What is read here of an answer's head.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    framing: Framing,
    /// Nothing more is asked over its connection: it says so, or readers may differ about where the answer ends.
    is_last: bool,
    retry_after: Option<Vec<u8>>,
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    WithItsConnection,
    After(u64),
    Chunked,
}

impl Head {
    /// `None` of blank lines.
    fn parse(head: &[u8]) -> Result<Option<Self>, HeadFault> {
        let text = head.trim_ascii();
        if text.is_empty() {
            return Ok(None);
        }
        // Neither curl nor browsers take it.
        if text.contains(&0) {
            return Err(HeadFault::Invalid);
        }
        if text.len() > HEAD_MAX {
            return Err(HeadFault::TooLarge);
        }
        let mut lines = text.split(|&byte| byte == b'\n').map(without_cr);
        let first = lines.next().unwrap_or_default();
        let (is_current, status) = status_line(first).ok_or(HeadFault::Invalid)?;
        let mut fields = Fields {
            is_odd: has_control(first),
            ..Fields::default()
        };
        for line in unfolded(lines, &mut fields.is_odd) {
            fields.take(&line);
        }
        let framing = fields.framing();
        Ok(Some(Self {
            status,
            framing,
            is_last: !is_current || fields.is_odd || fields.closes,
            retry_after: fields.retry_after,
        }))
    }

    fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }

    /// What nobody here reads is left out.
    fn written(&self) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} \r\n", self.status).into_bytes();
        match self.framing {
            Framing::WithItsConnection => {}
            Framing::After(bytes) => {
                head.extend_from_slice(format!("content-length: {bytes}\r\n").as_bytes());
            }
            Framing::Chunked => head.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        }
        if self.is_last {
            head.extend_from_slice(b"connection: close\r\n");
        }
        if let Some(value) = &self.retry_after {
            for part in [b"retry-after: ", &value[..], b"\r\n"] {
                head.extend_from_slice(part);
            }
        }
        head.extend_from_slice(b"\r\n");
        head
    }
}

/// Whether it is of HTTP/1.1, and the status. The reason is nobody's business.
fn status_line(line: &[u8]) -> Option<(bool, u16)> {
    let (protocol, rest) = line.split_at_checked(PROTOCOL.len())?;
    if !protocol.eq_ignore_ascii_case(PROTOCOL) {
        return None;
    }
    let blank = rest.iter().position(|byte| b" \t".contains(byte))?;
    let (version, rest) = rest.split_at(blank);
    if !matches!(version, [b'1'..=b'3'] | [b'1'..=b'3', b'.', b'0'..=b'9']) {
        return None;
    }
    let (digits, rest) = rest.trim_ascii_start().split_at_checked(3)?;
    if rest.first().is_some_and(u8::is_ascii_digit) {
        return None;
    }
    let status = number(digits)?;
    let status = u16::try_from(status).ok().filter(|status| *status >= 100)?;
    Some((version == b"1.1", status))
}

/// One field a line (RFC 9112, 5.2: what begins with a blank goes on).
fn unfolded<'a>(lines: impl Iterator<Item = &'a [u8]>, is_odd: &mut bool) -> Vec<Cow<'a, [u8]>> {
    let mut fields: Vec<Cow<'a, [u8]>> = Vec::new();
    for line in lines {
        if !line.first().is_some_and(|byte| b" \t".contains(byte)) {
            fields.push(line.into());
            continue;
        }
        *is_odd = true;
        if let Some(field) = fields.last_mut() {
            let field = field.to_mut();
            field.push(b' ');
            field.extend_from_slice(line.trim_ascii());
        }
    }
    fields
}

#[derive(Default)]
struct Fields {
    /// One of them is not as it should be written.
    is_odd: bool,
    closes: bool,
    length: Option<u64>,
    /// Of `Transfer-Encoding`, whether the last coding is chunked.
    chunked: Option<bool>,
    retry_after: Option<Vec<u8>>,
}

impl Fields {
    fn take(&mut self, field: &[u8]) {
        let Some(colon) = field.iter().position(|&byte| byte == b':') else {
            self.is_odd = true;
            return;
        };
        let (told, value) = (&field[..colon], field[colon + 1..].trim_ascii());
        let name = told.trim_ascii();
        let is_tidy = name.len() == told.len() && is_token(name) && !has_control(value);
        self.is_odd |= !is_tidy;
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("content-length") {
            self.take_length(value);
        } else if is("transfer-encoding") {
            self.take_coding(value);
        } else if is("connection") {
            self.closes |= items(value).any(|item| item.eq_ignore_ascii_case(b"close"));
        } else if is("retry-after") && self.retry_after.is_none() && !has_control(value) {
            self.retry_after = Some(value.to_vec());
        }
    }

    /// Of lengths that differ the first is taken. Whether that is right does not matter to the next answer: there is none.
    fn take_length(&mut self, value: &[u8]) {
        for item in items(value) {
            match (number(item), self.length) {
                (Some(length), None) => self.length = Some(length),
                (Some(length), Some(before)) if length == before => {}
                _ => self.is_odd = true,
            }
        }
    }

    fn take_coding(&mut self, value: &[u8]) {
        for item in items(value) {
            self.is_odd |= self.chunked.is_some();
            self.chunked = Some(item.eq_ignore_ascii_case(b"chunked"));
        }
    }

    fn framing(&mut self) -> Framing {
        match (self.chunked, self.length) {
            (Some(is_chunked), length) => {
                self.is_odd |= length.is_some() || !is_chunked;
                match is_chunked {
                    true => Framing::Chunked,
                    false => Framing::WithItsConnection,
                }
            }
            (None, Some(length)) => Framing::After(length),
            (None, None) => Framing::WithItsConnection,
        }
    }
}

fn items(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

fn number(digits: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(digits).ok()?;
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

fn without_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn is_token(name: &[u8]) -> bool {
    let known = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !name.is_empty() && name.iter().all(known)
}

/// Other than a tab.
fn has_control(text: &[u8]) -> bool {
    text.iter()
        .any(|byte| byte.is_ascii_control() && *byte != b'\t')
}

#[cfg(test)]
pub(super) mod tests;
