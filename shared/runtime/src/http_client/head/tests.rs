use super::*;

const TABLE: &str = include_str!("../../../../../fixtures/security/answers.tsv");

/// A row of the table.
pub(in super::super) struct Row {
    pub(in super::super) name: &'static str,
    pub(in super::super) answer: Vec<u8>,
    pub(in super::super) outcome: &'static str,
    pub(in super::super) is_kept: bool,
}

pub(in super::super) fn rows() -> impl Iterator<Item = Row> {
    TABLE
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let [name, answer, outcome, connection, _] =
                line.split('\t').collect::<Vec<_>>().try_into().unwrap();
            Row {
                name,
                answer: bytes(&repeated(answer)),
                outcome,
                is_kept: connection == "kept",
            }
        })
}

/// `{TEXT*9}` is nine times TEXT.
fn repeated(text: &str) -> String {
    let Some((before, rest)) = text.split_once('{') else {
        return text.to_owned();
    };
    let (inner, after) = rest.split_once('}').unwrap();
    let (inner, times) = inner.rsplit_once('*').unwrap();
    format!(
        "{before}{}{}",
        inner.repeat(times.parse().unwrap()),
        repeated(after)
    )
}

fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        let (byte, length) = match after.as_bytes()[0] {
            b'r' => (b'\r', 1),
            b'n' => (b'\n', 1),
            b't' => (b'\t', 1),
            b'0' => (0, 1),
            b'\\' => (b'\\', 1),
            b'x' => (u8::from_str_radix(&after[1..3], 16).unwrap(), 3),
            other => panic!("what is \\{}", char::from(other)),
        };
        bytes.push(byte);
        rest = &after[length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

/// What is passed on of bytes that come in pieces of so many.
fn read(answer: &[u8], piece: usize) -> Result<Option<Vec<u8>>, HeadFault> {
    let mut reader = HeadReader::default();
    let mut pieces = answer.chunks(piece);
    while let Some(came) = pieces.next() {
        if let Some(mut tidied) = reader.push(came)? {
            tidied.extend(pieces.flatten());
            return Ok(Some(tidied));
        }
    }
    reader.end()?;
    Ok(None)
}

#[test]
fn every_answer_counts_as_the_table_says_in_whatever_pieces_it_comes() {
    for row in rows() {
        for piece in [1, 7, 4096, 1 << 20] {
            // A head of 300 KiB in single bytes is the same again, three hundred thousand times.
            if piece < 100 && row.answer.len() > 10_000 {
                continue;
            }
            let outcome = match read(&row.answer, piece) {
                Ok(Some(tidied)) => String::from_utf8_lossy(&tidied[9..12]).into_owned(),
                Ok(None) => "nothing".to_owned(),
                Err(fault) => fault.word().to_owned(),
            };
            assert_eq!(outcome, row.outcome, "{}, {piece} at once", row.name);
        }
    }
}

#[test]
fn what_is_passed_on_says_one_thing_to_every_reader() {
    for (answer, passed_on) in [
        (
            "HTTP/1.1 200 Fine\r\nDate: now\r\nContent-Length: 2\r\n\r\nok",
            "HTTP/1.1 200 \r\ncontent-length: 2\r\n\r\nok",
        ),
        (
            "HTTP/1.1 200\r\nContent-Length : 2\r\n\r\nok",
            "HTTP/1.1 200 \r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 \r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n0\r\n\r\n",
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
            "HTTP/1.1 200 \r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
        ),
        (
            "HTTP/1.1 503 Busy\r\nRetry-After:\r\n 120\r\nRetry-After: 3\r\n\r\n",
            "HTTP/1.1 503 \r\nconnection: close\r\nretry-after: 120\r\n\r\n",
        ),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\nX: a\rContent-Length: 7\r\n\r\n",
            "HTTP/1.1 204 \r\nconnection: close\r\n\r\n",
        ),
    ] {
        let tidied = read(answer.as_bytes(), answer.len()).unwrap().unwrap();
        assert_eq!(String::from_utf8(tidied).unwrap(), passed_on);
    }
}

#[test]
fn what_is_cut_short_is_no_answer_and_what_cannot_become_http_is_told_at_once() {
    for (begun, fault) in [
        ("", Ok(None)),
        ("HTT", Ok(None)),
        ("HTTP/1.1 200 OK\r\ncontent-le", Ok(None)),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 20", Ok(None)),
        ("h", Ok(None)),
        ("x", Err(HeadFault::Invalid)),
        ("HTTQ", Err(HeadFault::Invalid)),
        ("HTTP/1.1 100 Continue\r\n\r\nbye", Err(HeadFault::Invalid)),
    ] {
        assert_eq!(read(begun.as_bytes(), 4096), fault, "{begun:?}");
    }
}

#[test]
fn blank_lines_and_interim_answers_without_end_are_too_much() {
    for passed_over in ["\r\n", "HTTP/1.1 100 Continue\r\n\r\n"] {
        let flood = passed_over.repeat(HEAD_MAX / passed_over.len() + 1);
        let found = read(flood.as_bytes(), 4096);
        assert_eq!(found, Err(HeadFault::TooLarge), "{passed_over:?}");
    }
}
