//! Logs: one JSON line each, flat, with the service's name. Identifiers yes; bodies, secrets and signatures no.

use std::fmt;
use std::io::{self, BufWriter};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::server::LISTENING;

/// Lines that wait for a slow reader of stdout; beyond it lines are dropped rather than requests held up.
const BUFFERED_LINES: usize = 16_384;
/// A longer text is cut, so that one hostile value cannot make a line of megabytes.
const TEXT_MAX: usize = 1024;

/// Libraries that tell at `info` or `warn` what we tell ourselves.
const DEFAULT_FILTER: &str = "info,reqwest_retry=error,tokio_cron_scheduler=warn";

/// Writes what is still buffered when dropped, at the end of `main`.
pub type Guard = WorkerGuard;

/// Starts logging to stdout. `LOG_LEVEL` (a `tracing` filter, default `info`) says how much.
#[expect(
    clippy::disallowed_methods,
    reason = "logging starts before the configuration is read, so as to tell its faults"
)]
pub fn init(service: &'static str) -> Guard {
    let (lines, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(BUFFERED_LINES)
        .finish(BufWriter::new(io::stdout()));
    let filter = std::env::var("LOG_LEVEL")
        .ok()
        .filter(|level| !level.is_empty());
    let filter = filter.as_deref().unwrap_or(DEFAULT_FILTER);
    // Whoever started the service reads from that line where it is.
    let filter = EnvFilter::new(format!("{filter},{LISTENING}=info"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(lines)
        .event_format(JsonLine { service })
        .finish();
    if tracing::subscriber::set_global_default(subscriber).is_err() {
        tracing::debug!("logging was started before");
    }
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        tracing::error!(place, "panic");
    }));
    guard
}

struct JsonLine {
    service: &'static str,
}

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    #[expect(
        clippy::disallowed_methods,
        reason = "a log line tells when it was written"
    )]
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let mut line = Line(String::with_capacity(256));
        line.0.push_str("{\"ts\":\"");
        fmt::Write::write_fmt(&mut line.0, format_args!("{:.3}", jiff::Timestamp::now()))?;
        line.0.push_str("\",\"level\":\"");
        line.0.push_str(match *metadata.level() {
            tracing::Level::ERROR => "error",
            tracing::Level::WARN => "warn",
            tracing::Level::INFO => "info",
            tracing::Level::DEBUG => "debug",
            tracing::Level::TRACE => "trace",
        });
        line.0.push('"');
        line.text("service", self.service);
        event.record(&mut line);
        line.0.push('}');
        writeln!(writer, "{}", line.0)
    }
}

/// A JSON object in the making.
struct Line(String);

impl Line {
    fn key(&mut self, name: &str) {
        self.0.push_str(",\"");
        self.0
            .push_str(if name == "message" { "msg" } else { name });
        self.0.push_str("\":");
    }

    fn text(&mut self, name: &str, text: &str) {
        self.key(name);
        let cut = text.floor_char_boundary(TEXT_MAX.min(text.len()));
        // serde_json escapes quotes, control characters and line ends; the others that a terminal obeys are not JSON's.
        match serde_json::to_string(&text[..cut]) {
            Ok(quoted) => self.0.push_str(&quoted),
            Err(_) => self.0.push_str("null"),
        }
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field.name(), &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.key(field.name());
        self.0.push_str(&value.to_string());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.key(field.name());
        self.0.push_str(&value.to_string());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.key(field.name());
        self.0.push_str(if value { "true" } else { "false" });
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.key(field.name());
        self.0.push_str(
            &serde_json::Number::from_f64(value)
                .map_or_else(|| "null".to_owned(), |n| n.to_string()),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_makes_one_bounded_line() {
        let mut line = Line("{\"level\":\"info\"".to_owned());
        line.text(
            "message",
            &format!(
                "\"\n{{\"level\":\"error\"}}\u{1b}[31m{}",
                "é".repeat(1 << 20)
            ),
        );
        line.0.push('}');
        assert_eq!(line.0.lines().count(), 1);
        assert!(line.0.len() < 8 * 1024);
        let object: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(&line.0).unwrap();
        assert_eq!(object["level"], "info");
    }
}
