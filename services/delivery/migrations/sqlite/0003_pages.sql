-- Under which names pages are known to the feed: in a space of their own, which no caller can write to. They leave with
-- their events. The second schema had them among the keys of the client `oncall`, as those without an end.
CREATE TABLE page_keys (
    lane  INTEGER NOT NULL,
    key   TEXT    NOT NULL,
    event INTEGER NOT NULL,
    PRIMARY KEY (lane, key)
) WITHOUT ROWID;

INSERT OR IGNORE INTO page_keys (lane, key, event) SELECT lane, key, event FROM keys WHERE until IS NULL;
DELETE FROM keys WHERE until IS NULL;

-- What a page is looked for by that nobody has got, so that a look costs what it finds.
CREATE INDEX pages_undelivered ON deliveries (lane, endpoint, status, reason, created_at)
    WHERE from_hub = 1 AND status <> 'delivered' AND reason IS NOT 'already_delivered';

-- Under which id a job was asked for.
ALTER TABLE jobs ADD COLUMN correlation_id TEXT NOT NULL DEFAULT '';
UPDATE jobs SET correlation_id = lower(hex(randomblob(16)));
