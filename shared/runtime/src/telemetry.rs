//! Logs: one JSON line each, flat, with the service's name. Identifiers yes; bodies, secrets and signatures no.

use std::fmt::{self, Write};
use std::io;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::{LookupSpan, Registry};

pub use crate::log_lines::Guard;
use crate::log_lines::LogLines;
use crate::server::LISTENING;
use crate::{config, printable};

/// A longer text is cut, so that one hostile value cannot make a line of megabytes.
const TEXT_MAX: usize = 1024;

/// Libraries that tell at `info` or `warn` what we tell ourselves.
const DEFAULT_FILTER: &str = "info,reqwest_retry=error,tokio_cron_scheduler=warn";

/// Starts logging to stdout. `LOG_LEVEL` (a level, or levels by target; default `info`) says how much.
///
/// Of the environment alone: logging starts before the configuration is read, so as to tell its faults.
pub fn init(service: &'static str) -> Guard {
    let (lines, guard) = LogLines::start(io::stdout());
    let filter = config::of_the_environment("LOG_LEVEL");
    let filter = filter.as_deref().unwrap_or(DEFAULT_FILTER);
    let writing = tracing_subscriber::fmt::layer()
        .with_writer(lines)
        .event_format(JsonLine { service });
    let subscriber = Registry::default().with(writing).with(targets(filter));
    if tracing::subscriber::set_global_default(subscriber).is_err() {
        tracing::debug!("logging was started before");
    }
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        tracing::error!(place, "panic");
    }));
    guard
}

/// What is told. A word that means nothing is passed over: it must not keep a service from starting.
fn targets(filter: &str) -> Targets {
    let is_known = |word: &&str| !word.is_empty() && word.parse::<Targets>().is_ok();
    let known: Vec<&str> = filter.split(',').map(str::trim).filter(is_known).collect();
    // Whoever started the service reads from that line where it is.
    let targets: Targets = known.join(",").parse().unwrap_or_default();
    targets.with_target(LISTENING, tracing::Level::INFO)
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
        let level = match *event.metadata().level() {
            tracing::Level::ERROR => "error",
            tracing::Level::WARN => "warn",
            tracing::Level::INFO => "info",
            tracing::Level::DEBUG => "debug",
            tracing::Level::TRACE => "trace",
        };
        let now = jiff::Timestamp::now();
        write!(writer, "{{\"ts\":\"{now:.3}\",\"level\":\"{level}\"")?;
        let mut line = Line::beginning(&mut writer);
        line.text("service", self.service);
        event.record(&mut line);
        line.written?;
        writer.write_str("}\n")
    }
}

/// A JSON object in the making.
struct Line<'a> {
    out: &'a mut dyn Write,
    written: fmt::Result,
}

impl<'a> Line<'a> {
    /// After the first field.
    fn beginning(out: &'a mut dyn Write) -> Self {
        Self {
            out,
            written: Ok(()),
        }
    }

    fn field(&mut self, name: &str, value: fmt::Arguments<'_>) {
        let name = if name == "message" { "msg" } else { name };
        if self.written.is_ok() {
            self.written = write!(self.out, ",\"{name}\":{value}");
        }
    }

    fn text(&mut self, name: &str, text: &str) {
        let text = &text[..text.floor_char_boundary(TEXT_MAX.min(text.len()))];
        // serde_json escapes quotes, control characters and line ends; the others that a terminal obeys are not JSON's.
        let needs_none = |byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
        if text.bytes().all(needs_none) {
            self.field(name, format_args!("\"{text}\""));
        } else if let Ok(quoted) = serde_json::to_string(text) {
            self.field(name, format_args!("{}", printable::json(&quoted)));
        }
    }
}

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field.name(), &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.field(field.name(), format_args!("{value}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.field(field.name(), format_args!("{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.field(field.name(), format_args!("{value}"));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.field(field.name(), format_args!("{value}"));
        } else {
            self.field(field.name(), format_args!("null"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_a_level_or_levels_by_target() {
        use tracing::Level;
        for (filter, target, level, told) in [
            ("info", "gateway", Level::INFO, true),
            ("info", "gateway", Level::DEBUG, false),
            ("WARN", "gateway", Level::INFO, false),
            ("WARN", LISTENING, Level::INFO, true),
            ("info, hyper=debug", "hyper::proto", Level::DEBUG, true),
            ("info,gateway=off", "gateway", Level::ERROR, false),
            ("info,a=b=c,,x=loud", "gateway", Level::INFO, true),
            (DEFAULT_FILTER, "reqwest_retry", Level::WARN, false),
        ] {
            let is_told = targets(filter).would_enable(target, &level);
            assert_eq!(is_told, told, "{filter}: {target} at {level}");
        }
    }

    #[test]
    fn hostile_text_makes_one_bounded_line() {
        let mut text = "{\"level\":\"info\"".to_owned();
        let mut line = Line::beginning(&mut text);
        line.text(
            "message",
            &format!(
                "\"\n{{\"level\":\"error\"}}\u{1b}[31m\u{9b}31m\u{7f}\u{202e}\u{200b}{}",
                "é".repeat(1 << 20)
            ),
        );
        line.text("plain", "a b");
        text.push('}');

        assert_eq!(text.lines().count(), 1);
        assert!(!text.chars().any(printable::is_hidden), "{text}");
        assert!(text.len() < 8 * 1024);
        let object: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(&text).unwrap();
        assert_eq!(object["level"], "info");
        assert_eq!(object["plain"], "a b");
        assert!(object["msg"].as_str().unwrap().starts_with("\"\n{"));
    }
}
