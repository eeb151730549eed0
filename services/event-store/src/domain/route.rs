//! Whether an event pages somebody.

use schema::{Event, Severity};

/// What the operator has chosen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Routing {
    /// `ROUTE_WARNING`.
    pub warnings: bool,
}

/// Critical always, warning if so chosen, info never; and nobody is woken by what is already over.
pub fn pages(event: &Event, routing: Routing) -> bool {
    let bad_enough = match event.severity {
        Severity::Critical => true,
        Severity::Warning => routing.warnings,
        Severity::Info => false,
    };
    bad_enough && event.resolved_at.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routing_by_table() {
        const ENDED: &str = r#""2024-01-15T11:00:00Z""#;
        // severity, resolved_at, pages, pages with ROUTE_WARNING=true
        for (severity, resolved_at, plain, with_warnings) in [
            ("critical", "null", true, true),
            ("warning", "null", false, true),
            ("info", "null", false, false),
            ("critical", ENDED, false, false),
            ("warning", ENDED, false, false),
            ("info", ENDED, false, false),
        ] {
            let event: Event = serde_json::from_str(&format!(
                r#"{{"event_id":"a","source":"stripe","kind":"incident","severity":"{severity}","service":"","summary":"","description":null,"started_at":"2024-01-15T10:00:00Z","resolved_at":{resolved_at},"raw":0}}"#
            ))
            .unwrap();
            let case = format!("{severity}, resolved_at {resolved_at}");
            assert_eq!(pages(&event, Routing { warnings: false }), plain, "{case}");
            assert_eq!(
                pages(&event, Routing { warnings: true }),
                with_warnings,
                "{case}"
            );
        }
    }
}
