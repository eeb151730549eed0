-- What the store was made with; a program that expects something else refuses to start.
CREATE TABLE meta (
    name  TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (name)
) STRICT, WITHOUT ROWID;

-- Each start of event-store: where the history of its run began. It ends where the next run begins.
CREATE TABLE runs (
    lane     INTEGER NOT NULL,
    number   INTEGER NOT NULL,
    run      TEXT    NOT NULL,
    began_at INTEGER NOT NULL, -- the head then, a position
    PRIMARY KEY (lane, number)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX runs_run ON runs (lane, run);

-- Columns that filters read come first, the bytes that only answers read come last.
-- The table has a rowid: rows are large, and appended.
CREATE TABLE events (
    lane           INTEGER NOT NULL,
    position       INTEGER NOT NULL, -- the position of the event's first notice
    stored_at      INTEGER NOT NULL, -- microseconds since 1970, never less than its predecessor's
    revision       INTEGER NOT NULL,
    routed         INTEGER NOT NULL,
    kind           TEXT    NOT NULL,
    severity       TEXT    NOT NULL,
    source         TEXT    NOT NULL,
    resolved_at    TEXT,
    event_id       TEXT    NOT NULL,
    service        TEXT    NOT NULL,
    summary        TEXT    NOT NULL,
    description    TEXT,
    started_at     TEXT    NOT NULL,
    correlation_id TEXT    NOT NULL,
    raw            TEXT    NOT NULL,
    PRIMARY KEY (lane, position)
) STRICT;

-- Partial, so that an ordinary payment costs none of them.
CREATE INDEX events_open ON events (lane, position) WHERE resolved_at IS NULL AND kind <> 'payment';
CREATE INDEX events_open_source ON events (lane, source, position) WHERE resolved_at IS NULL AND kind <> 'payment';
CREATE INDEX events_source ON events (lane, source, position) WHERE source <> 'stripe';
CREATE INDEX events_kind ON events (lane, kind, position) WHERE kind <> 'payment';
CREATE INDEX events_severity ON events (lane, severity, position) WHERE severity <> 'info';

-- An event's identity: the one key here that does not grow with time, so it is kept small.
CREATE TABLE event_keys (
    lane     INTEGER NOT NULL,
    event_id TEXT    NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (lane, event_id)
) STRICT, WITHOUT ROWID;

-- The feed, in commit order. A later notice of an event tells its own time and correlation id; the first has the event's.
CREATE TABLE notices (
    lane           INTEGER NOT NULL,
    position       INTEGER NOT NULL,
    event_position INTEGER NOT NULL,
    revision       INTEGER NOT NULL,
    action         TEXT    NOT NULL,
    routed         INTEGER NOT NULL,
    stored_at      INTEGER,
    correlation_id TEXT,
    PRIMARY KEY (lane, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX notices_routed ON notices (lane, position) WHERE routed = 1;
CREATE INDEX notices_later ON notices (lane, event_position) WHERE revision > 0;

-- What delivery reported last of each delivery. `delivered` stays once it is 1.
CREATE TABLE outcomes (
    lane           INTEGER NOT NULL,
    event_position INTEGER NOT NULL,
    revision       INTEGER NOT NULL,
    delivery_id    TEXT    NOT NULL,
    destination    TEXT    NOT NULL,
    status         TEXT    NOT NULL,
    attempts       INTEGER NOT NULL,
    reason         TEXT,
    at             TEXT    NOT NULL,
    epoch          INTEGER NOT NULL,
    position       INTEGER NOT NULL,
    delivered      INTEGER NOT NULL,
    PRIMARY KEY (lane, event_position, revision, delivery_id)
) STRICT, WITHOUT ROWID;
