-- A verdict of a dry run tells what would have been done.

ALTER TABLE verdicts_log ADD COLUMN IF NOT EXISTS would LowCardinality(String) AFTER score;

CREATE OR REPLACE VIEW verdicts AS
SELECT * FROM (SELECT event_id, * FROM verdicts_log FINAL) AS v LEFT ANY JOIN owners AS o USING (id, tenant);
