-- What a moderator says of the end of a running text.

CREATE TABLE IF NOT EXISTS opinions_log
(
    id String,
    tenant LowCardinality(String),
    run String,
    kind LowCardinality(String),
    choice Int64,
    at Int64,
    verdict LowCardinality(String),
    categories Array(String),
    model LowCardinality(String),
    topic_partition UInt16,
    log_offset UInt64,
    appended DateTime64(6, 'UTC'),
    ver UInt64 MATERIALIZED 18446744073709551615 - (log_offset * 65536 + topic_partition),
    event_id String ALIAS concat(
        'journal/', id, '/opinion/', run, '/', kind, '/', toString(choice), '/', toString(at))
)
ENGINE = ReplacingMergeTree(ver)
ORDER BY (id, run, kind, choice, at)
SETTINGS non_replicated_deduplication_window = 1000;

CREATE OR REPLACE VIEW opinions AS
SELECT * FROM (SELECT event_id, * FROM opinions_log FINAL) AS p LEFT ANY JOIN owners AS o USING (id, tenant);
