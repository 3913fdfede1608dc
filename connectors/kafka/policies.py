"""Publishing a policy to the compacted topic `policies`, from which every stage switches."""

import msgspec
from confluent_kafka import KafkaException

from connectors.kafka.writer import DeliveryFailed, Writer
from processors.codec import encode
from processors.events import PolicyPublished
from processors.policy import VersionedPolicy

TOPIC = "policies"
CURRENT = "current"
"""The key of the policy in force; each version also stands under its own, for streams that began under it."""


def publish_policy(bootstrap: str, policy: VersionedPolicy) -> None:
    """Put the policy in force; returns once the broker has it.

    The version's own record goes first: whoever reads `current` finds the version it names.

    Raises:
        DeliveryFailed: the broker did not take it; publish it again, for it may be in force or the one before it.
    """
    content = msgspec.to_builtins(policy.policy)
    value = encode(PolicyPublished(version=policy.version, policy=content))
    writer = Writer(bootstrap, "sluice-policy")
    for key in (policy.version, CURRENT):
        try:
            writer.send(TOPIC, key, value)
        except KafkaException as error:  # too large to be queued at all
            raise DeliveryFailed(f"{len(value)} bytes: {error.args[0].str()}") from None
        writer.flush()
