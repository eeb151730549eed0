CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- head: the last position given out; positions order commits and are never used twice.
-- lease_until: unused here, where the file's lock is the lease.
CREATE TABLE lanes (
    lane        INTEGER PRIMARY KEY,
    owner       TEXT    NOT NULL,
    epoch       INTEGER NOT NULL,
    lease_until INTEGER,
    head        INTEGER NOT NULL
);

CREATE TABLE cursors (
    lane  INTEGER NOT NULL,
    name  TEXT    NOT NULL,
    token TEXT    NOT NULL,
    PRIMARY KEY (lane, name)
) WITHOUT ROWID;

-- Times are microseconds since 1970.
CREATE TABLE events (
    lane           INTEGER NOT NULL,
    position       INTEGER NOT NULL,
    event_id       TEXT    NOT NULL,
    revision       INTEGER NOT NULL,
    correlation_id TEXT    NOT NULL,
    stored_at      INTEGER NOT NULL,
    payload        BLOB    NOT NULL,
    PRIMARY KEY (lane, position)
);

-- started is the number of the last attempt; open_epoch says who holds it, while it has no result.
CREATE TABLE deliveries (
    lane                 INTEGER NOT NULL,
    position             INTEGER NOT NULL,
    delivery_id          BLOB    NOT NULL,
    event                INTEGER NOT NULL,
    endpoint_id          TEXT    NOT NULL,
    status               TEXT    NOT NULL,
    reason               TEXT,
    started              INTEGER NOT NULL,
    finished             INTEGER NOT NULL,
    interrupted          INTEGER NOT NULL,
    interrupted_in_a_row INTEGER NOT NULL,
    due_at               INTEGER,
    open_epoch           INTEGER,
    open_alone           INTEGER NOT NULL,
    created_at           INTEGER NOT NULL,
    ended_at             INTEGER,
    last_outcome         INTEGER NOT NULL,
    PRIMARY KEY (lane, position)
) WITHOUT ROWID;

CREATE UNIQUE INDEX deliveries_by_id ON deliveries (lane, delivery_id);
-- Almost every row is delivered, and newest-first finds those without help.
CREATE INDEX deliveries_by_status ON deliveries (lane, status, position) WHERE status <> 'delivered';

-- What makes a feed that is read again harmless. Apart from deliveries, because these keys do not grow with time.
CREATE TABLE known (
    lane        INTEGER NOT NULL,
    event_id    TEXT    NOT NULL,
    revision    INTEGER NOT NULL,
    endpoint_id TEXT    NOT NULL,
    delivery    INTEGER NOT NULL,
    PRIMARY KEY (lane, event_id, revision, endpoint_id)
) WITHOUT ROWID;

CREATE TABLE attempts (
    lane            INTEGER NOT NULL,
    delivery        INTEGER NOT NULL,
    number          INTEGER NOT NULL,
    epoch           INTEGER NOT NULL,
    started_at      INTEGER NOT NULL,
    ended           INTEGER NOT NULL DEFAULT 0,
    duration_ms     INTEGER,
    status_code     INTEGER,
    error           TEXT,
    response        TEXT,
    next_attempt_at INTEGER,
    PRIMARY KEY (lane, delivery, number)
) WITHOUT ROWID;

-- What event-store has not been told, in commit order.
CREATE TABLE outcomes (
    lane     INTEGER NOT NULL,
    position INTEGER NOT NULL,
    delivery INTEGER NOT NULL,
    epoch    INTEGER NOT NULL,
    status   TEXT    NOT NULL,
    attempts INTEGER NOT NULL,
    reason   TEXT,
    at       INTEGER NOT NULL,
    PRIMARY KEY (lane, position)
) WITHOUT ROWID;
