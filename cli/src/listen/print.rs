//! What a person or a program reads of each request.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use runtime::printable::{is_hidden, json as json_of};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use super::receiver::{Counts, Received};
use crate::output::{print_lines, printable};

/// Lines that wait for a slow terminal. Beyond that they are dropped and counted: no request waits for a reader.
const LINES_WAITING: usize = 1024;
/// How long the last lines are waited for.
const LAST_LINES: Duration = Duration::from_secs(1);
/// How much of a body is printed, in bytes.
const BODY_SHOWN: usize = 1024;

/// What is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Show {
    /// The address at the start, the counts at the end.
    pub summary: bool,
    /// A line for each request.
    pub requests: bool,
    /// Its body on a second line; left out of JSON.
    pub body: bool,
    /// One JSON object a line instead of words.
    pub json: bool,
}

pub(super) struct Printer {
    show: Show,
    /// Until the end.
    lines: Mutex<Option<mpsc::Sender<String>>>,
    dropped: AtomicU64,
}

impl Printer {
    /// With what tells that the last line is written.
    pub(super) fn start(show: Show) -> (Self, oneshot::Receiver<()>) {
        let (lines, waiting) = mpsc::channel(LINES_WAITING);
        let printer = Self {
            show,
            lines: Mutex::new(Some(lines)),
            dropped: AtomicU64::new(0),
        };
        (printer, print_lines(waiting))
    }

    pub(super) fn listening(&self, address: SocketAddr) {
        if self.show.summary {
            self.say(if self.show.json {
                json!({"msg": "listening", "address": address}).to_string()
            } else {
                format!("listening on http://{address}")
            });
        }
    }

    pub(super) fn received(&self, received: &Received, body: &[u8]) {
        if self.show.requests {
            self.say(text(self.show, received, body));
        }
    }

    /// Tells of a request whose body was not taken.
    pub(super) fn refused(&self, why: &str) {
        if self.show.requests && !self.show.json {
            self.say(format!("a request was refused: {}", printable(why)));
        }
    }

    /// Tells the counts and waits for the last line to be written, but not for long.
    pub(super) async fn end(&self, counts: Counts, printed: oneshot::Receiver<()>) {
        let lines = self.lines().take();
        let last_line = async {
            if let Some(lines) = lines
                && self.show.summary
            {
                let dropped = self.dropped.load(Ordering::Relaxed);
                let _nobody_reads = lines.send(summary(self.show, counts, dropped)).await;
            }
            let _printed = printed.await;
        };
        let _stopped_terminal = tokio::time::timeout(LAST_LINES, last_line).await;
    }

    fn say(&self, line: String) {
        let sent = self.lines().as_ref().map(|lines| lines.try_send(line));
        if let Some(Err(_)) = sent {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    // What a panicking holder left behind is whole.
    fn lines(&self) -> MutexGuard<'_, Option<mpsc::Sender<String>>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn text(show: Show, received: &Received, body: &[u8]) -> String {
    if show.json {
        let line = serde_json::to_string(received).unwrap_or_default();
        return json_of(&line).into_owned();
    }
    let line = line(received);
    if show.body {
        format!("{line}\n    {}", escaped(body))
    } else {
        line
    }
}

fn line(received: &Received) -> String {
    let id = received.webhook_id.as_deref().unwrap_or("-");
    let attempt = received
        .attempt
        .map_or_else(|| "-".to_owned(), |number| number.to_string());
    let answered = received
        .answered
        .map_or_else(|| "no answer".to_owned(), |code| code.to_string());
    printable(&format!(
        "{:.3}  {}  {id}  attempt {attempt}  {} bytes  signature {}  {answered}",
        received.received_at,
        received.path,
        received.bytes,
        received.signature.as_str(),
    ))
}

/// The beginning of a body on one line, which no terminal obeys.
fn escaped(body: &[u8]) -> String {
    let shown = &body[..body.len().min(BODY_SHOWN)];
    let mut text = String::with_capacity(shown.len());
    for c in String::from_utf8_lossy(shown).chars() {
        if is_hidden(c) {
            text.extend(c.escape_default());
        } else {
            text.push(c);
        }
    }
    if shown.len() < body.len() {
        text.push('…');
    }
    text
}

fn summary(show: Show, counts: Counts, dropped: u64) -> String {
    let Counts {
        count,
        distinct,
        refused,
    } = counts;
    if show.json {
        return json!({
            "msg": "stopped", "count": count, "distinct": distinct, "refused": refused,
            "lines_dropped": dropped,
        })
        .to_string();
    }
    let mut text = format!(
        "received {count}, {distinct} of them distinct, {refused} refused for the signature"
    );
    if dropped > 0 {
        text += &format!("; {dropped} lines were not printed");
    }
    text
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::Value;

    use super::super::receiver::Verdict;
    use super::*;

    fn received() -> Received {
        Received {
            received_at: "2026-01-02T03:04:05.678Z".parse::<Timestamp>().unwrap(),
            webhook_id: Some("evt_1\u{1b}[31m".to_owned()),
            attempt: Some(3),
            correlation_id: Some("c-1".to_owned()),
            signature: Verdict::Valid,
            path: "/hooks".to_owned(),
            bytes: 5,
            body_sha256: "00".to_owned(),
            answered: Some(200),
        }
    }

    #[test]
    fn a_request_is_one_line_and_its_body_a_second_that_no_terminal_obeys() {
        let body = Show {
            body: true,
            ..Show::default()
        };
        let line = "2026-01-02T03:04:05.678Z  /hooks  evt_1 [31m  attempt 3  5 bytes  signature valid  200";

        assert_eq!(text(Show::default(), &received(), b"{}"), line);
        assert_eq!(
            text(body, &received(), b"{\"a\":\n\"\x1b\xff\"}"),
            format!("{line}\n    {{\"a\":\\n\"\\u{{1b}}\u{fffd}\"}}")
        );
        let long = text(body, &received(), &vec![b'x'; 2 * BODY_SHOWN]);
        assert_eq!(long.matches('x').count(), BODY_SHOWN);
        assert!(long.ends_with('…'));
    }

    #[test]
    fn json_has_a_field_for_each_part_and_null_for_what_is_absent() {
        let json = Show {
            json: true,
            body: true,
            ..Show::default()
        };
        let hung = Received {
            attempt: None,
            answered: None,
            signature: Verdict::Missing,
            ..received()
        };

        let line = text(json, &hung, b"{}");

        assert_eq!(line.lines().count(), 1);
        let object: Value = serde_json::from_str(&line).unwrap();
        for (field, value) in [
            ("received_at", json!("2026-01-02T03:04:05.678Z")),
            ("attempt", Value::Null),
            ("signature", json!("missing")),
            ("path", json!("/hooks")),
            ("bytes", json!(5)),
            ("answered", Value::Null),
        ] {
            assert_eq!(object[field], value, "{field}");
        }
    }

    #[test]
    fn the_end_tells_what_was_counted() {
        let counts = Counts {
            count: 3,
            distinct: 2,
            refused: 1,
        };
        assert_eq!(
            summary(Show::default(), counts, 0),
            "received 3, 2 of them distinct, 1 refused for the signature"
        );
        assert!(summary(Show::default(), counts, 9).ends_with("9 lines were not printed"));
    }
}
