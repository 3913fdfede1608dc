-- A verdict tells what its rule asks for, of personal data which kind it is, and a classifier's score.

ALTER TABLE verdicts_log
    ADD COLUMN IF NOT EXISTS action LowCardinality(String) AFTER seen_tokens,
    ADD COLUMN IF NOT EXISTS detector LowCardinality(String) AFTER action,
    ADD COLUMN IF NOT EXISTS score Nullable(Float64) AFTER detector;

CREATE TABLE IF NOT EXISTS scores_log
(
    id String,
    tenant LowCardinality(String),
    run String,
    kind LowCardinality(String),
    choice Int64,
    at Int64,
    scores Map(String, Float64),
    model LowCardinality(String),
    topic_partition UInt16,
    log_offset UInt64,
    appended DateTime64(6, 'UTC'),
    ver UInt64 MATERIALIZED 18446744073709551615 - (log_offset * 65536 + topic_partition),
    event_id String ALIAS concat(
        'journal/', id, '/scored/', run, '/', kind, '/', toString(choice), '/', toString(at))
)
ENGINE = ReplacingMergeTree(ver)
ORDER BY (id, run, kind, choice, at)
SETTINGS non_replicated_deduplication_window = 1000;

CREATE OR REPLACE VIEW verdicts AS
SELECT * FROM (SELECT event_id, * FROM verdicts_log FINAL) AS v LEFT ANY JOIN owners AS o USING (id, tenant);

CREATE OR REPLACE VIEW scores AS
SELECT * FROM (SELECT event_id, * FROM scores_log FINAL) AS s LEFT ANY JOIN owners AS o USING (id, tenant);
