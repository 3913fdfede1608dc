-- Shared budgets: what they allowed, and by which key and session a request came.

CREATE TABLE IF NOT EXISTS leases_log
(
    id String,
    tenant LowCardinality(String),
    said String,
    granted Map(String, Int64),
    exhausted Array(String),
    away Bool,
    topic_partition UInt16,
    log_offset UInt64,
    appended DateTime64(6, 'UTC'),
    ver UInt64 MATERIALIZED 18446744073709551615 - (log_offset * 65536 + topic_partition),
    event_id String ALIAS concat('journal/', id, '/leased/', said)
)
ENGINE = ReplacingMergeTree(ver)
ORDER BY (id, said)
SETTINGS non_replicated_deduplication_window = 1000;

CREATE OR REPLACE VIEW leases AS
SELECT * FROM (SELECT event_id, * FROM leases_log FINAL) AS l LEFT ANY JOIN owners AS o USING (id, tenant);

ALTER TABLE decisions_log ADD COLUMN IF NOT EXISTS session String AFTER prompt_tokens;

ALTER TABLE decisions_log ADD COLUMN IF NOT EXISTS key LowCardinality(String) AFTER session;

ALTER TABLE outcomes_log ADD COLUMN IF NOT EXISTS session String AFTER total_ms;

ALTER TABLE outcomes_log ADD COLUMN IF NOT EXISTS key LowCardinality(String) AFTER session;

CREATE OR REPLACE VIEW decisions AS SELECT event_id, * FROM decisions_log FINAL;

CREATE OR REPLACE VIEW outcomes AS
SELECT * FROM (SELECT event_id, * FROM outcomes_log FINAL) AS r LEFT ANY JOIN owners AS o USING (id, tenant);
