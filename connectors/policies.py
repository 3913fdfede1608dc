"""Policy versions as the stages see them: the compacted topic, parsed once a version."""

import logging
import time
from typing import Any

from connectors.kafka.policies import CURRENT, TOPIC
from connectors.kafka.table import CompactedTable
from processors.errors import Invalid
from processors.events import PolicyPublished
from processors.policy import VersionedPolicy, parse_policy

log = logging.getLogger(__name__)


class Policies:
    """The published policies. A version once published stays readable, so that a stream keeps the one it began with."""

    def __init__(self, bootstrap: str) -> None:
        self._parsed: dict[str, VersionedPolicy] = {}
        self._current: VersionedPolicy | None = None
        self._table = CompactedTable(bootstrap, TOPIC, self._changed)

    def wait_current(self, timeout_s: float = 30.0) -> VersionedPolicy:
        """The policy in force, waiting for the first to be published.

        Raises:
            TimeoutError: none was published within `timeout_s`.
        """
        self._table.wait_current(timeout_s)
        give_up = time.monotonic() + timeout_s
        while self._current is None:
            if time.monotonic() > give_up:
                raise TimeoutError(f"no policy was published within {timeout_s} s; `sluice policy apply`")
            time.sleep(0.01)
        return self._current

    def current(self) -> VersionedPolicy | None:
        """The policy in force; None until the first was published."""
        return self._current

    def known(self, version: str) -> VersionedPolicy | None:
        """A version, if it has been read."""
        return self._parsed.get(version)

    def find(self, version: str, timeout_s: float) -> VersionedPolicy | None:
        """A version that is published if there is one: None says that the topic does not hold it.

        Raises:
            TimeoutError: the topic cannot be read now.
        """
        if version not in self._parsed:
            self._table.catch_up(timeout_s)
        return self._parsed.get(version)

    def close(self) -> None:
        """Stop following the topic."""
        self._table.close()

    def _changed(self, key: str, event: Any | None) -> None:
        if not isinstance(event, PolicyPublished):
            return
        try:
            parsed = self._parsed.get(event.version) or parse_policy(event.policy)
        except Invalid as error:
            log.error("published policy %s is not valid and is ignored: %s", event.version, error)
            return
        self._parsed[parsed.version] = parsed
        if key == CURRENT:
            self._current = parsed
