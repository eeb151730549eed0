//! Every statement, so that one test can prepare them all. `?1` is the lane.

/// The columns of a record, in the order that `reader::record_at` reads them.
macro_rules! record {
    () => {
        "e.position, e.stored_at, e.revision, e.routed, e.kind, e.severity, e.source, e.resolved_at, e.event_id, \
         e.service, e.summary, e.description, e.started_at, e.correlation_id, e.raw"
    };
}

/// A page below `?2`, from `?3`, newest first, by one index.
macro_rules! page {
    ($index:literal, $condition:literal) => {
        concat!(
            "SELECT ",
            record!(),
            " FROM events e INDEXED BY ",
            $index,
            " WHERE e.lane = ?1 AND e.position < ?2 AND e.position >= ?3 ",
            $condition,
            " ORDER BY e.position DESC"
        )
    };
}

/// Notices after `?2`, at most `?3`, with their events.
macro_rules! feed {
    ($index:literal, $condition:literal) => {
        concat!(
            "SELECT n.position, n.revision, n.action, coalesce(n.stored_at, e.stored_at), \
             coalesce(n.correlation_id, e.correlation_id), ",
            record!(),
            " FROM notices n ",
            $index,
            " CROSS JOIN events e ON e.lane = n.lane AND e.position = n.event_position \
             WHERE n.lane = ?1 AND n.position > ?2 ",
            $condition,
            " ORDER BY n.position LIMIT ?3"
        )
    };
}

/// Declares each statement once, and the list of all.
macro_rules! statements {
    ($($name:ident = $text:expr;)+) => {
        $(pub(super) const $name: &str = $text;)+
        #[cfg(test)]
        pub(super) const ALL: &[(&str, &str)] = &[$((stringify!($name), $text)),+];
    };
}

statements! {
    CLAIM_KEY = "INSERT INTO event_keys (lane, event_id, position) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
    INSERT_EVENT = "INSERT INTO events (lane, position, stored_at, revision, routed, kind, severity, source, resolved_at, \
        event_id, service, summary, description, started_at, correlation_id, raw) \
        VALUES (?1, ?2, ?3, 0, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)";
    INSERT_NOTICE = "INSERT INTO notices (lane, position, event_position, revision, action, routed, stored_at, correlation_id) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    POSITION_OF = "SELECT position FROM event_keys WHERE lane = ?1 AND event_id = ?2";
    ROUTED_OF = "SELECT e.routed FROM event_keys k JOIN events e ON e.lane = k.lane AND e.position = k.position \
        WHERE k.lane = ?1 AND k.event_id = ?2";
    RESOLVE = "UPDATE events SET resolved_at = ?3, revision = revision + 1 \
        WHERE lane = ?1 AND position = ?2 AND resolved_at IS NULL AND kind <> 'payment' RETURNING revision";

    OUTCOME = "SELECT epoch, position, delivered, destination, delivery_id, status, attempts, reason, at FROM outcomes \
        WHERE lane = ?1 AND event_position = ?2 AND revision = ?3 AND delivery_id = ?4";
    PUT_OUTCOME = "INSERT OR REPLACE INTO outcomes (lane, event_position, revision, delivery_id, destination, status, attempts, \
        reason, at, epoch, position, delivered) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
    OUTCOMES_OF = "SELECT epoch, position, delivered, destination, delivery_id, status, attempts, reason, at FROM outcomes \
        WHERE lane = ?1 AND event_position = ?2 ORDER BY revision, delivery_id";
    DELIVERED_TO = "SELECT destination FROM outcomes WHERE lane = ?1 AND event_position = ?2 AND delivered = 1";

    LEAVING = "SELECT e.position, e.stored_at, e.resolved_at IS NULL AND e.kind <> 'payment', e.routed, \
        EXISTS (SELECT 1 FROM outcomes o WHERE o.lane = e.lane AND o.event_position = e.position \
            AND o.status IN ('delivered', 'exhausted', 'skipped')), e.event_id \
        FROM events e WHERE e.lane = ?1 AND e.position > ?2 ORDER BY e.position LIMIT ?3";
    HOLDS_HEAD = "SELECT event_position FROM notices WHERE lane = ?1 ORDER BY position DESC LIMIT 1";
    DELETE_EVENT = "DELETE FROM events WHERE lane = ?1 AND position = ?2";
    DELETE_KEY = "DELETE FROM event_keys WHERE lane = ?1 AND event_id = ?2";
    DELETE_NOTICE = "DELETE FROM notices WHERE lane = ?1 AND position = ?2";
    DELETE_LATER_NOTICES = "DELETE FROM notices WHERE lane = ?1 AND event_position = ?2 AND revision > 0";
    DELETE_OUTCOMES = "DELETE FROM outcomes WHERE lane = ?1 AND event_position = ?2";

    NEWEST = page!("sqlite_autoindex_events_1", "");
    OPEN = page!("events_open", "AND e.resolved_at IS NULL AND e.kind <> 'payment'");
    OPEN_OF_SOURCE = page!("events_open_source", "AND e.resolved_at IS NULL AND e.kind <> 'payment' AND e.source = ?4");
    OF_SOURCE = page!("events_source", "AND e.source <> 'stripe' AND e.source = ?4");
    OF_KIND = page!("events_kind", "AND e.kind <> 'payment' AND e.kind = ?4");
    OF_SEVERITY = page!("events_severity", "AND e.severity <> 'info' AND e.severity = ?4");
    ONE = concat!("SELECT ", record!(), " FROM events e WHERE e.lane = ?1 AND e.position = ?2");
    STORED_AT_FROM = "SELECT position, stored_at FROM events WHERE lane = ?1 AND position >= ?2 ORDER BY position LIMIT 1";

    FEED = feed!("", "");
    FEED_ROUTED = feed!("INDEXED BY notices_routed", "AND n.routed = 1");
    HEAD = "SELECT coalesce(max(position), 0) FROM notices WHERE lane = ?1";
    OLDEST = "SELECT min(position) FROM notices WHERE lane = ?1";
    LAST_STORED_AT = "SELECT stored_at FROM events WHERE lane = ?1 ORDER BY position DESC LIMIT 1";

    BEGIN_RUN = "INSERT INTO runs (lane, number, run, began_at) \
        SELECT ?1, coalesce(max(number), 0) + 1, ?2, ?3 FROM runs WHERE lane = ?1";
    RUN_END = "SELECT (SELECT n.began_at FROM runs n WHERE n.lane = r.lane AND n.number = r.number + 1) \
        FROM runs r WHERE r.lane = ?1 AND r.run = ?2";
    META = "SELECT value FROM meta WHERE name = ?1";
    PUT_META = "INSERT INTO meta (name, value) VALUES (?1, ?2)";
    FILE_BYTES = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()";
}
