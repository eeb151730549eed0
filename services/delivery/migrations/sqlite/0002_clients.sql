-- Clients, endpoints, events of their own. What the first release wrote is carried over, as the client `oncall`.

ALTER TABLE events RENAME TO old_events;
ALTER TABLE deliveries RENAME TO old_deliveries;
ALTER TABLE attempts RENAME TO old_attempts;
DROP INDEX deliveries_by_id;
DROP INDEX deliveries_by_status;

-- version: the position of the last change of its endpoints.
CREATE TABLE clients (
    lane       INTEGER NOT NULL,
    position   INTEGER NOT NULL,
    client_id  TEXT    NOT NULL,
    version    INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    removed    INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (lane, position)
) WITHOUT ROWID;

CREATE UNIQUE INDEX clients_by_id ON clients (lane, client_id) WHERE removed = 0;

-- settings: JSON, or empty where configuration says it. confidential: see the vault.
CREATE TABLE endpoints (
    lane            INTEGER NOT NULL,
    position        INTEGER NOT NULL,
    endpoint_id     TEXT    NOT NULL,
    client          INTEGER NOT NULL,
    settings        TEXT    NOT NULL,
    confidential    BLOB    NOT NULL,
    disabled_reason TEXT,
    disabled_at     INTEGER,
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    version         INTEGER NOT NULL,
    removed         INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (lane, position)
) WITHOUT ROWID;

CREATE UNIQUE INDEX endpoints_by_id ON endpoints (lane, endpoint_id);
CREATE INDEX endpoints_by_client ON endpoints (lane, client);

-- fanout: its first deliveries are at the positions that follow, so many of them; others are in `late`.
CREATE TABLE events (
    lane            INTEGER NOT NULL,
    position        INTEGER NOT NULL,
    event_id        BLOB    NOT NULL,
    client          INTEGER NOT NULL,
    event_type      TEXT    NOT NULL,
    idempotency_key TEXT,
    ordering_key    TEXT,
    occurred_at     INTEGER,
    correlation_id  TEXT    NOT NULL,
    created_at      INTEGER NOT NULL,
    fanout          INTEGER NOT NULL,
    operational     INTEGER NOT NULL,
    source_event_id TEXT,
    revision        INTEGER,
    stored_at       INTEGER,
    payload         BLOB    NOT NULL,
    PRIMARY KEY (lane, position)
);

CREATE UNIQUE INDEX events_by_id ON events (lane, event_id);
CREATE INDEX events_by_client ON events (lane, client, position);

CREATE TABLE late (
    lane     INTEGER NOT NULL,
    event    INTEGER NOT NULL,
    delivery INTEGER NOT NULL,
    PRIMARY KEY (lane, event, delivery)
) WITHOUT ROWID;

-- started: the number of the last attempt; the open_ columns tell of it while it has no result.
CREATE TABLE deliveries (
    lane                 INTEGER NOT NULL,
    position             INTEGER NOT NULL,
    delivery_id          BLOB    NOT NULL,
    event                INTEGER NOT NULL,
    client               INTEGER NOT NULL,
    endpoint             INTEGER NOT NULL,
    line                 INTEGER NOT NULL,
    order_at             INTEGER NOT NULL,
    from_hub             INTEGER NOT NULL,
    version              INTEGER NOT NULL,
    status               TEXT    NOT NULL,
    reason               TEXT,
    generation           INTEGER NOT NULL,
    next_trigger         TEXT    NOT NULL,
    started              INTEGER NOT NULL,
    started_before       INTEGER NOT NULL,
    finished             INTEGER NOT NULL,
    interrupted          INTEGER NOT NULL,
    interrupted_in_a_row INTEGER NOT NULL,
    stop                 TEXT,
    due_at               INTEGER,
    age_from             INTEGER NOT NULL,
    open_epoch           INTEGER,
    open_alone           INTEGER,
    open_at              INTEGER,
    open_trigger         TEXT,
    blocks               INTEGER NOT NULL,
    code                 TEXT,
    created_at           INTEGER NOT NULL,
    ended_at             INTEGER,
    last_outcome         INTEGER NOT NULL,
    PRIMARY KEY (lane, position)
) WITHOUT ROWID;

CREATE UNIQUE INDEX deliveries_by_id ON deliveries (lane, delivery_id);
CREATE INDEX deliveries_by_client ON deliveries (lane, client, position);
CREATE INDEX deliveries_by_endpoint ON deliveries (lane, endpoint, position);
-- Almost every row is delivered, and newest-first finds those without help.
CREATE INDEX deliveries_by_status ON deliveries (lane, status, position, endpoint) WHERE status <> 'delivered';
-- A delivery that is sent at once and arrives is never in these.
CREATE INDEX deliveries_by_client_status ON deliveries (lane, client, status, position)
    WHERE status <> 'delivered' AND status <> 'pending';
CREATE INDEX deliveries_by_endpoint_status ON deliveries (lane, endpoint, status, position)
    WHERE status <> 'delivered' AND status <> 'pending';
CREATE INDEX deliveries_blocking ON deliveries (lane, position) WHERE blocks = 1;

-- Written once, when the attempt ends.
CREATE TABLE attempts (
    lane            INTEGER NOT NULL,
    delivery        INTEGER NOT NULL,
    number          INTEGER NOT NULL,
    epoch           INTEGER NOT NULL,
    made_by         TEXT    NOT NULL,
    started_at      INTEGER NOT NULL,
    duration_ms     INTEGER,
    dns_ms          INTEGER,
    connect_ms      INTEGER,
    head_ms         INTEGER,
    body_ms         INTEGER,
    status_code     INTEGER,
    error           TEXT,
    response        TEXT,
    next_attempt_at INTEGER,
    PRIMARY KEY (lane, delivery, number)
) WITHOUT ROWID;

-- Under which names a client's events are known. Apart from events, because these keys do not grow with time.
-- until: absent where the key leaves with its event.
CREATE TABLE keys (
    lane   INTEGER NOT NULL,
    client INTEGER NOT NULL,
    key    TEXT    NOT NULL,
    event  INTEGER NOT NULL,
    digest BLOB    NOT NULL,
    until  INTEGER,
    PRIMARY KEY (lane, client, key)
) WITHOUT ROWID;

CREATE INDEX keys_by_end ON keys (lane, until) WHERE until IS NOT NULL;

-- client_id and endpoint_id outlive the rows that have them.
CREATE TABLE jobs (
    lane        INTEGER NOT NULL,
    position    INTEGER NOT NULL,
    job_id      BLOB    NOT NULL,
    kind        TEXT    NOT NULL,
    client      INTEGER NOT NULL,
    client_id   TEXT    NOT NULL,
    endpoint    INTEGER,
    endpoint_id TEXT,
    since       INTEGER NOT NULL,
    until       INTEGER NOT NULL,
    wanted      TEXT,
    dry_run     INTEGER NOT NULL,
    status      TEXT    NOT NULL,
    cursor      INTEGER NOT NULL,
    examined    INTEGER NOT NULL,
    done        INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    PRIMARY KEY (lane, position)
) WITHOUT ROWID;

CREATE UNIQUE INDEX jobs_by_id ON jobs (lane, job_id);
CREATE INDEX jobs_running ON jobs (lane, position) WHERE status = 'running';

INSERT INTO clients (lane, position, client_id, version, created_at)
SELECT lane, head + 1, 'oncall', head + 2, epoch * 1000 FROM lanes;

INSERT INTO endpoints (lane, position, endpoint_id, client, settings, confidential, created_at, updated_at, version)
SELECT lane, head + 2, 'pagerduty', head + 1, '', x'', epoch * 1000, epoch * 1000, head + 2 FROM lanes;

-- The first release had an event for each delivery, at the delivery's own position.
INSERT INTO events (lane, position, event_id, client, event_type, idempotency_key, correlation_id, created_at, fanout,
    operational, source_event_id, revision, stored_at, payload)
SELECT e.lane, e.position, randomblob(16), l.head + 1, 'signalpost.page',
    CASE e.revision WHEN 0 THEN e.event_id ELSE e.event_id || '#' || e.revision END,
    e.correlation_id, d.created_at, 0, 0, e.event_id, e.revision, e.stored_at, e.payload
FROM old_events e
JOIN lanes l ON l.lane = e.lane
JOIN old_deliveries d ON d.lane = e.lane AND d.event = e.position;

INSERT INTO late (lane, event, delivery) SELECT lane, event, position FROM old_deliveries;

INSERT INTO deliveries (lane, position, delivery_id, event, client, endpoint, line, order_at, from_hub, version, status,
    reason, generation, next_trigger, started, started_before, finished, interrupted, interrupted_in_a_row, due_at,
    age_from, open_epoch, open_alone, open_at, open_trigger, blocks, code, created_at, ended_at, last_outcome)
SELECT d.lane, d.position, d.delivery_id, d.event, l.head + 1, l.head + 2, 0, d.position, 1, 0, d.status,
    d.reason, 0, 'schedule', d.started, 0, d.finished, d.interrupted, d.interrupted_in_a_row, d.due_at,
    d.created_at, d.open_epoch, iif(d.open_epoch IS NULL, NULL, d.open_alone), o.started_at,
    iif(d.open_epoch IS NULL, NULL, 'schedule'), 0,
    (SELECT coalesce(CAST(a.status_code AS TEXT), a.error) FROM old_attempts a
     WHERE a.lane = d.lane AND a.delivery = d.position AND a.ended = 1 ORDER BY a.number DESC LIMIT 1),
    d.created_at, d.ended_at, d.last_outcome
FROM old_deliveries d
JOIN lanes l ON l.lane = d.lane
LEFT JOIN old_attempts o ON o.lane = d.lane AND o.delivery = d.position AND o.number = d.started AND o.ended = 0;

INSERT INTO attempts (lane, delivery, number, epoch, made_by, started_at, duration_ms, status_code, error, response,
    next_attempt_at)
SELECT lane, delivery, number, epoch, 'schedule', started_at, duration_ms, status_code, error, response, next_attempt_at
FROM old_attempts WHERE ended = 1;

INSERT OR IGNORE INTO keys (lane, client, key, event, digest)
SELECT k.lane, l.head + 1, CASE k.revision WHEN 0 THEN k.event_id ELSE k.event_id || '#' || k.revision END,
    d.event, zeroblob(16)
FROM known k
JOIN lanes l ON l.lane = k.lane
JOIN old_deliveries d ON d.lane = k.lane AND d.position = k.delivery;

UPDATE lanes SET head = head + 2;

DROP TABLE old_attempts;
DROP TABLE old_deliveries;
DROP TABLE old_events;
DROP TABLE known;
