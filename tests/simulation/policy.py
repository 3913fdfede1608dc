"""The policy of simulated histories: short times, a low limit, one phrase that no reader may see."""

from tests.samples import policy

LIMIT_TOKENS = 10
LIMIT_CHARS = 40
PHRASE = "blocked phrase"
DEADLINE_S, IDLE_S, GRACE_S = 20.0, 6.0, 3.0

POLICY = policy(
    limits={"max_output_tokens": LIMIT_TOKENS, "chars_per_token": {"en": 4, "ru": 3}},
    timeouts={"deadline_s": DEADLINE_S, "idle_s": IDLE_S, "resume_grace_s": GRACE_S},
    cache={"ttl_s": 60, "when": "deterministic"},
)
