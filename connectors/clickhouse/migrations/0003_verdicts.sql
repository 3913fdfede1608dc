-- A verdict tells what its rule asks for, and of personal data which kind it is.

ALTER TABLE verdicts_log
    ADD COLUMN IF NOT EXISTS action LowCardinality(String) AFTER seen_tokens,
    ADD COLUMN IF NOT EXISTS detector LowCardinality(String) AFTER action;

CREATE OR REPLACE VIEW verdicts AS
SELECT * FROM (SELECT event_id, * FROM verdicts_log FINAL) AS v LEFT ANY JOIN owners AS o USING (id, tenant);
