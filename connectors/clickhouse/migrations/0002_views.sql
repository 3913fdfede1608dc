-- What analysts read. Each event counts once here, though the log, and so the table, may hold it twice.
--
-- `user` and `metadata` of a request stand in its decision; the views of all other events of the request join them.

CREATE OR REPLACE VIEW owners AS
SELECT id, tenant, user, metadata FROM decisions_log FINAL WHERE user != '' OR notEmpty(metadata);

CREATE OR REPLACE VIEW requests AS SELECT event_id, * FROM requests_log FINAL;

CREATE OR REPLACE VIEW decisions AS SELECT event_id, * FROM decisions_log FINAL;

CREATE OR REPLACE VIEW ends AS SELECT event_id, * FROM ends_log FINAL;

CREATE OR REPLACE VIEW health AS SELECT event_id, * FROM health_log FINAL;

CREATE OR REPLACE VIEW dead_letters AS SELECT event_id, * FROM dead_letters_log FINAL;

CREATE OR REPLACE VIEW runs AS
SELECT * FROM (SELECT event_id, * FROM runs_log FINAL) AS r LEFT ANY JOIN owners AS o USING (id, tenant);

CREATE OR REPLACE VIEW run_ends AS
SELECT * FROM (SELECT event_id, * FROM run_ends_log FINAL) AS r LEFT ANY JOIN owners AS o USING (id, tenant);

CREATE OR REPLACE VIEW chunks AS
SELECT * FROM (SELECT event_id, * FROM chunks_log FINAL) AS c LEFT ANY JOIN owners AS o USING (id, tenant);

CREATE OR REPLACE VIEW releases AS
SELECT * FROM (SELECT event_id, * FROM releases_log FINAL) AS r LEFT ANY JOIN owners AS o USING (id, tenant);

CREATE OR REPLACE VIEW outcomes AS
SELECT * FROM (SELECT event_id, * FROM outcomes_log FINAL) AS r LEFT ANY JOIN owners AS o USING (id, tenant);

CREATE OR REPLACE VIEW answers AS
SELECT * FROM (SELECT event_id, * FROM answers_log FINAL) AS a LEFT ANY JOIN owners AS o USING (id, tenant);

CREATE OR REPLACE VIEW verdicts AS
SELECT * FROM (SELECT event_id, * FROM verdicts_log FINAL) AS v LEFT ANY JOIN owners AS o USING (id, tenant);

CREATE OR REPLACE VIEW actions AS
SELECT * FROM (SELECT event_id, * FROM actions_log FINAL) AS a LEFT ANY JOIN owners AS o USING (id, tenant);

CREATE OR REPLACE VIEW control AS
SELECT * FROM (SELECT event_id, * FROM control_log FINAL) AS c LEFT ANY JOIN owners AS o USING (id, tenant);

-- One line a provider call. Money is summed here and nowhere else: over the outcomes, each of which is one attempt's.
CREATE OR REPLACE VIEW attempts AS
SELECT
    r.id AS id, r.tenant AS tenant, r.attempt AS attempt, r.run AS run, r.appended AS started,
    r.provider AS provider, r.provider_model AS provider_model, d.model AS model, d.policy AS policy,
    multiIf(x.run != '', toString(x.status), e.run != '', 'ended', 'open') AS status,
    if(x.error != '', x.error, e.error) AS error,
    if(x.error != '', x.error_message, e.error_message) AS error_message,
    if(x.error != '', x.error_status, e.error_status) AS error_status,
    e.finish_reason AS finish_reason, e.chunks AS chunks,
    if(e.usage_source != '', e.usage_input, x.usage_input) AS usage_input,
    if(e.usage_source != '', e.usage_output, x.usage_output) AS usage_output,
    if(e.usage_source != '', e.usage_cached, x.usage_cached) AS usage_cached,
    if(e.usage_source != '', e.usage_reasoning, x.usage_reasoning) AS usage_reasoning,
    if(e.usage_source != '', e.usage_source, x.usage_source) AS usage_source,
    x.cost_micros AS cost_micros, x.currency AS currency, x.prices AS prices,
    e.first_token_ms AS first_token_ms, e.total_ms AS total_ms,
    e.provider_request_id AS provider_request_id, o.user AS user, o.metadata AS metadata
FROM (SELECT * FROM runs_log FINAL) AS r
LEFT ANY JOIN (SELECT * FROM run_ends_log FINAL) AS e ON e.id = r.id AND e.tenant = r.tenant AND e.run = r.run
LEFT ANY JOIN (SELECT * FROM outcomes_log FINAL) AS x ON x.id = r.id AND x.tenant = r.tenant AND x.run = r.run
LEFT ANY JOIN (SELECT * FROM decisions_log FINAL) AS d
    ON d.id = r.id AND d.tenant = r.tenant AND d.attempt = r.attempt
LEFT ANY JOIN owners AS o ON o.id = r.id AND o.tenant = r.tenant;

-- One line a request, from its first decision on.
CREATE OR REPLACE VIEW streams AS
SELECT
    d.id AS id, d.tenant AS tenant, ifNull(d.submitted, d.appended) AS submitted, d.model AS model,
    if(e.id != '', toString(e.status), 'open') AS status, e.reason AS reason, e.message AS message,
    e.error_status AS error_status, e.error_code AS error_code, e.error_param AS error_param,
    if(e.id != '', e.appended, NULL) AS ended, e.first_token_ms AS first_token_ms, e.total_ms AS total_ms,
    e.usage_input AS usage_input, e.usage_output AS usage_output, e.usage_cached AS usage_cached,
    e.usage_reasoning AS usage_reasoning, e.usage_source AS usage_source,
    m.cost_micros AS cost_micros, if(m.currency != '', m.currency, e.currency) AS currency, e.attempts AS attempts,
    e.cached AS cached, e.tokens_saved AS tokens_saved, d.policy AS policy, d.user AS user, d.metadata AS metadata
FROM (SELECT * FROM decisions_log FINAL ORDER BY id, attempt LIMIT 1 BY id) AS d
LEFT ANY JOIN (SELECT * FROM ends_log FINAL) AS e ON e.id = d.id AND e.tenant = d.tenant
LEFT ANY JOIN
(
    SELECT id, tenant, sum(cost_micros) AS cost_micros, any(currency) AS currency
    FROM outcomes_log FINAL GROUP BY id, tenant
) AS m ON m.id = d.id AND m.tenant = d.tenant;
