-- What the guard made of each request: one line, written with its end.

CREATE TABLE IF NOT EXISTS summaries_log
(
    id String,
    tenant LowCardinality(String),
    run String,
    policy LowCardinality(String),
    status LowCardinality(String),
    reason LowCardinality(String),
    rules Map(String, Int64),
    actions Map(String, Int64),
    scores Map(String, Float64),
    seen_chars Int64,
    seen_tokens Int64,
    released_chars Int64,
    tokens_saved Int64,
    topic_partition UInt16,
    log_offset UInt64,
    appended DateTime64(6, 'UTC'),
    ver UInt64 MATERIALIZED 18446744073709551615 - (log_offset * 65536 + topic_partition),
    event_id String ALIAS concat('verdicts/', id, '/summary')
)
ENGINE = ReplacingMergeTree(ver)
ORDER BY (id)
SETTINGS non_replicated_deduplication_window = 1000;

CREATE OR REPLACE VIEW summaries AS
SELECT * FROM (SELECT event_id, * FROM summaries_log FINAL) AS s LEFT ANY JOIN owners AS o USING (id, tenant);
