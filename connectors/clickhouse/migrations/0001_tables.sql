-- Where the sink writes. Every table is `<name>_log`; readers use the views of 0002, which count each event once.
--
-- The sorting key is the event's identity. Of records with one identity the first in the log wins: `ver` falls as the
-- offset rises.
-- The window lets ClickHouse drop an insert that comes twice under one token.
-- Text has a TTL of its own, apart from the figures: docs/clickhouse.md says how to change it.

CREATE TABLE IF NOT EXISTS requests_log
(
    id String,
    tenant LowCardinality(String),
    model LowCardinality(String),
    user String,
    metadata Map(String, String),
    session String,
    priority LowCardinality(String),
    sensitivity LowCardinality(String),
    cache LowCardinality(String),
    on_disconnect LowCardinality(String),
    edge LowCardinality(String),
    incarnation String,
    client_request_id String,
    bytes Int64,
    body_hash String,
    body String TTL toDateTime(appended) + INTERVAL 30 DAY,
    topic_partition UInt16,
    log_offset UInt64,
    appended DateTime64(6, 'UTC'),
    ver UInt64 MATERIALIZED 18446744073709551615 - (log_offset * 65536 + topic_partition),
    event_id String ALIAS concat('requests/', id, '/', body_hash)
)
ENGINE = ReplacingMergeTree(ver)
ORDER BY (id, body_hash)
SETTINGS non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS decisions_log
(
    id String,
    tenant LowCardinality(String),
    attempt Int64,
    policy LowCardinality(String),
    body_hash String,
    model LowCardinality(String),
    submitted Nullable(DateTime64(6, 'UTC')),
    user String,
    metadata Map(String, String),
    edge LowCardinality(String),
    incarnation String,
    on_disconnect LowCardinality(String),
    cache_key String,
    unscreened Array(String),
    flags Array(String),
    prompt_tokens Int64,
    choice LowCardinality(String),
    provider LowCardinality(String),
    provider_model LowCardinality(String),
    candidates Int64,
    deadline Nullable(DateTime64(6, 'UTC')),
    expires_at Nullable(DateTime64(6, 'UTC')),
    max_tokens Nullable(Int64),
    source String,
    finish_reason LowCardinality(String),
    rule LowCardinality(String),
    category LowCardinality(String),
    severity Int64,
    status Int64,
    code LowCardinality(String),
    param String,
    message String,
    topic_partition UInt16,
    log_offset UInt64,
    appended DateTime64(6, 'UTC'),
    ver UInt64 MATERIALIZED 18446744073709551615 - (log_offset * 65536 + topic_partition),
    event_id String ALIAS concat('journal/', id, '/decision/', toString(attempt))
)
ENGINE = ReplacingMergeTree(ver)
ORDER BY (id, attempt)
SETTINGS non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS runs_log
(
    id String,
    tenant LowCardinality(String),
    attempt Int64,
    run String,
    provider LowCardinality(String),
    provider_model LowCardinality(String),
    topic_partition UInt16,
    log_offset UInt64,
    appended DateTime64(6, 'UTC'),
    ver UInt64 MATERIALIZED 18446744073709551615 - (log_offset * 65536 + topic_partition),
    event_id String ALIAS concat('journal/', id, '/', run, '/started')
)
ENGINE = ReplacingMergeTree(ver)
ORDER BY (id, run)
SETTINGS non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS run_ends_log
(
    id String,
    tenant LowCardinality(String),
    attempt Int64,
    run String,
    provider LowCardinality(String),
    provider_model LowCardinality(String),
    chunks Int64,
    finish_reason LowCardinality(String),
    error LowCardinality(String),
    error_message String,
    error_status Int64,
    usage_input Int64,
    usage_output Int64,
    usage_cached Int64,
    usage_reasoning Int64,
    usage_source LowCardinality(String),
    raw_usage String,
    first_token_ms Nullable(Float64),
    total_ms Float64,
    provider_request_id String,
    topic_partition UInt16,
    log_offset UInt64,
    appended DateTime64(6, 'UTC'),
    ver UInt64 MATERIALIZED 18446744073709551615 - (log_offset * 65536 + topic_partition),
    event_id String ALIAS concat('journal/', id, '/', run, '/ended')
)
ENGINE = ReplacingMergeTree(ver)
ORDER BY (id, run)
SETTINGS non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS chunks_log
(
    id String,
    tenant LowCardinality(String),
    run String,
    n Int64,
    kind LowCardinality(String),
    choice Int64,
    chars Int64,
    text String TTL toDateTime(appended) + INTERVAL 30 DAY,
    tool_index Int64,
    tool_id String,
    tool_name LowCardinality(String),
    topic_partition UInt16,
    log_offset UInt64,
    appended DateTime64(6, 'UTC'),
    ver UInt64 MATERIALIZED 18446744073709551615 - (log_offset * 65536 + topic_partition),
    event_id String ALIAS concat('journal/', id, '/', run, '/', toString(n))
)
ENGINE = ReplacingMergeTree(ver)
ORDER BY (id, run, n)
SETTINGS non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS control_log
(
    id String,
    tenant LowCardinality(String),
    kind LowCardinality(String),
    attempt Int64,
    run String,
    reason LowCardinality(String),
    rule LowCardinality(String),
    edge LowCardinality(String),
    incarnation String,
    seen Int64,
    model LowCardinality(String),
    topic_partition UInt16,
    log_offset UInt64,
    appended DateTime64(6, 'UTC'),
    ver UInt64 MATERIALIZED 18446744073709551615 - (log_offset * 65536 + topic_partition),
    event_id String ALIAS arrayStringConcat(
        arrayFilter(part -> part NOT IN ('', '0', '-1'), [
            multiIf(kind = 'opened', 'tokens', kind = 'cancel_requested', 'requests', 'journal'),
            id, kind, toString(attempt), run, reason, rule, edge, incarnation, toString(seen)
        ]), '/')
)
ENGINE = ReplacingMergeTree(ver)
ORDER BY (id, kind, attempt, run, reason, rule, edge, incarnation, seen)
SETTINGS non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS releases_log
(
    id String,
    tenant LowCardinality(String),
    seq Int64,
    kind LowCardinality(String),
    choice Int64,
    chars Int64,
    text String TTL toDateTime(appended) + INTERVAL 30 DAY,
    tool_index Int64,
    tool_id String,
    tool_name LowCardinality(String),
    topic_partition UInt16,
    log_offset UInt64,
    appended DateTime64(6, 'UTC'),
    ver UInt64 MATERIALIZED 18446744073709551615 - (log_offset * 65536 + topic_partition),
    event_id String ALIAS concat('tokens/', id, '/', toString(seq))
)
ENGINE = ReplacingMergeTree(ver)
ORDER BY (id, seq)
SETTINGS non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS ends_log
(
    id String,
    tenant LowCardinality(String),
    seq Int64,
    status LowCardinality(String),
    reason LowCardinality(String),
    message String,
    error_status Int64,
    error_type LowCardinality(String),
    error_code LowCardinality(String),
    error_param String,
    usage_input Int64,
    usage_output Int64,
    usage_cached Int64,
    usage_reasoning Int64,
    usage_source LowCardinality(String),
    cost_micros Int64,
    currency LowCardinality(String),
    prices LowCardinality(String),
    model LowCardinality(String),
    attempts Int64,
    cached Bool,
    policy LowCardinality(String),
    user String,
    metadata Map(String, String),
    first_token_ms Nullable(Float64),
    total_ms Float64,
    tokens_saved Int64,
    topic_partition UInt16,
    log_offset UInt64,
    appended DateTime64(6, 'UTC'),
    ver UInt64 MATERIALIZED 18446744073709551615 - (log_offset * 65536 + topic_partition),
    event_id String ALIAS concat('tokens/', id, '/end')
)
ENGINE = ReplacingMergeTree(ver)
ORDER BY id
SETTINGS non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS outcomes_log
(
    id String,
    tenant LowCardinality(String),
    attempt Int64,
    run String,
    policy LowCardinality(String),
    body_hash String,
    model LowCardinality(String),
    provider LowCardinality(String),
    provider_model LowCardinality(String),
    status LowCardinality(String),
    error LowCardinality(String),
    error_message String,
    error_status Int64,
    retry Bool,
    usage_input Int64,
    usage_output Int64,
    usage_cached Int64,
    usage_reasoning Int64,
    usage_source LowCardinality(String),
    cost_micros Int64,
    currency LowCardinality(String),
    prices LowCardinality(String),
    first_token_ms Nullable(Float64),
    total_ms Float64,
    topic_partition UInt16,
    log_offset UInt64,
    appended DateTime64(6, 'UTC'),
    ver UInt64 MATERIALIZED 18446744073709551615 - (log_offset * 65536 + topic_partition),
    event_id String ALIAS concat('outcomes/', id, '/', run, '/', toString(attempt))
)
ENGINE = ReplacingMergeTree(ver)
ORDER BY (id, run, attempt)
SETTINGS non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS answers_log
(
    id String,
    tenant LowCardinality(String),
    model LowCardinality(String),
    provider LowCardinality(String),
    provider_model LowCardinality(String),
    finish_reason LowCardinality(String),
    usage_input Int64,
    usage_output Int64,
    usage_cached Int64,
    usage_reasoning Int64,
    usage_source LowCardinality(String),
    cost_micros Int64,
    currency LowCardinality(String),
    prices LowCardinality(String),
    cache_key String,
    cache_ttl_s Float64,
    chars Int64,
    parts String TTL toDateTime(appended) + INTERVAL 30 DAY,
    topic_partition UInt16,
    log_offset UInt64,
    appended DateTime64(6, 'UTC'),
    ver UInt64 MATERIALIZED 18446744073709551615 - (log_offset * 65536 + topic_partition),
    event_id String ALIAS concat('answers/', id)
)
ENGINE = ReplacingMergeTree(ver)
ORDER BY id
SETTINGS non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS verdicts_log
(
    id String,
    tenant LowCardinality(String),
    run String,
    n Int64,
    rule LowCardinality(String),
    category LowCardinality(String),
    severity Int64,
    policy LowCardinality(String),
    source LowCardinality(String),
    kind LowCardinality(String),
    choice Int64,
    span_start Int64,
    span_end Int64,
    text_hash String,
    seen_chars Int64,
    seen_tokens Int64,
    topic_partition UInt16,
    log_offset UInt64,
    appended DateTime64(6, 'UTC'),
    ver UInt64 MATERIALIZED 18446744073709551615 - (log_offset * 65536 + topic_partition),
    event_id String ALIAS concat('verdicts/', id, '/', run, '/verdict/', toString(n))
)
ENGINE = ReplacingMergeTree(ver)
ORDER BY (id, run, n)
SETTINGS non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS actions_log
(
    id String,
    tenant LowCardinality(String),
    run String,
    n Int64,
    action LowCardinality(String),
    rule LowCardinality(String),
    reason LowCardinality(String),
    policy LowCardinality(String),
    seen_chars Int64,
    seen_tokens Int64,
    topic_partition UInt16,
    log_offset UInt64,
    appended DateTime64(6, 'UTC'),
    ver UInt64 MATERIALIZED 18446744073709551615 - (log_offset * 65536 + topic_partition),
    event_id String ALIAS concat('verdicts/', id, '/action/', toString(n))
)
ENGINE = ReplacingMergeTree(ver)
ORDER BY (id, n)
SETTINGS non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS health_log
(
    tenant LowCardinality(String),
    provider LowCardinality(String),
    provider_model LowCardinality(String),
    window_s Float64,
    at DateTime64(6, 'UTC'),
    attempts Int64,
    failures Int64,
    first_token_ms Nullable(Float64),
    input_tokens Int64,
    output_tokens Int64,
    cost_micros Int64,
    currency LowCardinality(String),
    topic_partition UInt16,
    log_offset UInt64,
    appended DateTime64(6, 'UTC'),
    ver UInt64 MATERIALIZED 18446744073709551615 - (log_offset * 65536 + topic_partition),
    event_id String ALIAS concat('health/', provider, '/', provider_model, '/', tenant, '/', toString(at))
)
ENGINE = ReplacingMergeTree(ver)
ORDER BY (tenant, provider, provider_model, window_s, at)
TTL toDateTime(appended) + INTERVAL 90 DAY
SETTINGS non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS dead_letters_log
(
    origin_topic LowCardinality(String),
    origin_partition Int64,
    origin_offset Int64,
    origin_timestamp Nullable(DateTime64(6, 'UTC')),
    stage LowCardinality(String),
    error LowCardinality(String),
    message String,
    version LowCardinality(String),
    key String,
    bytes Int64,
    value String TTL toDateTime(appended) + INTERVAL 30 DAY,
    topic_partition UInt16,
    log_offset UInt64,
    appended DateTime64(6, 'UTC'),
    own_offset Int64 MATERIALIZED if(origin_offset < 0, toInt64(log_offset), -1),
    ver UInt64 MATERIALIZED 18446744073709551615 - (log_offset * 65536 + topic_partition),
    event_id String ALIAS if(origin_offset < 0,
        concat('dead-letters/', toString(topic_partition), '/', toString(log_offset)),
        concat(origin_topic, '/', toString(origin_partition), '/', toString(origin_offset), '/', stage))
)
ENGINE = ReplacingMergeTree(ver)
ORDER BY (origin_topic, origin_partition, origin_offset, stage, own_offset)
SETTINGS non_replicated_deduplication_window = 1000;
