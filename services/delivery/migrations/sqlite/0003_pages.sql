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
