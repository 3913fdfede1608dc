"""The policy: what operators tune. Typed, checked, and named by a hash of its content.

A policy is parsed data here (a dict from YAML or from the `policies` topic); reading files is a connector's work.
`tenants.NAME` overrides the top-level sections key by key.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import orjson

from processors.budgets import Budget, check_budget
from processors.costs import check_costs
from processors.errors import Invalid, convert, convert_map
from processors.guard.messages import LANGUAGES
from processors.guard.moderator import Moderator, check_moderator
from processors.identity import content_hash
from processors.prices import Prices, check_prices, to_micros
from processors.rule import Rule, check_category, check_rules

LONGEST_STREAM_S = 300
"""The longest allowed stream. topics.yaml keeps the journal at least twice as long."""
SIMULATED = "simulated:"
_OF_PARTS = frozenset(("per_million", "chars_per_token"))
"""Entries that a tenant overrides part by part: who changes one price does not make the others 0."""
Positive = Annotated[float, msgspec.Meta(gt=0)]


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    pass


S = TypeVar("S", bound=msgspec.Struct)


class Provider(_Section, frozen=True):
    """An LLM endpoint. The secret stands in the environment variable `api_key_env`, never here."""

    base_url: str
    kind: Literal["openai"] = "openai"
    api_key_env: str | None = None
    headers: dict[str, str] = {}
    ca_file: str | None = None
    prices: Prices | None = None

    def url(self, simulated: str) -> str:
        """Where it is. The base URL `simulated:` stands for this installation's simulated provider."""
        return f"{simulated}/v1" if self.base_url == SIMULATED else self.base_url


class RouteStep(_Section, frozen=True):
    provider: str
    model: str


class Moderation(_Section, frozen=True):
    hold: Literal["match", "sentence"] = "match"
    """What a reader waits for: what may still become a match, or each sentence's end."""
    dry_run: bool = False
    """Find and tell, but let everything pass: every rule only flags. Limits and budgets stop all the same."""


Reaction = Literal["ignore", "flag", "stop"]


class Degeneration(_Section, frozen=True):
    """What is done about an answer that says the same over and over; see processors.guard.loops."""

    exact: Reaction = "stop"
    """Copies that follow each other, character by character."""
    counting: Reaction = "flag"
    """Copies but for their numbers."""
    run: Reaction = "stop"
    """One character, hundreds of times."""
    drift: Reaction = "flag"
    """A sentence that goes over into another script for good."""


class LabelRule(_Section, frozen=True):
    """What is done where a classifier's score for a label is above a threshold."""

    above: Annotated[float, msgspec.Meta(ge=0, le=1)]
    action: Literal["flag", "stop"] = "flag"
    severity: Annotated[int, msgspec.Meta(ge=0, le=10)] = 5


class ClassifierRules(_Section, frozen=True):
    """Which scores of the guard's text classifier count. Without labels nothing is scored."""

    labels: dict[str, LabelRule] = {}
    window_chars: Annotated[int, msgspec.Meta(gt=0, le=4096)] = 1600
    """The end of a growing answer that is looked at."""
    stride_chars: Annotated[int, msgspec.Meta(gt=0)] = 300
    """It is looked at after so many more characters, and when the answer ends. Half of it is twice the work; with more
    than a label looks at something would be left out."""
    hold: bool = False
    """Nothing is released before it has been looked at; without scores the request fails. Not in a dry run."""


class Limits(_Section, frozen=True):
    max_output_tokens: Annotated[int, msgspec.Meta(gt=0)] = 4096
    """Of one answer, estimated; the request may ask for less."""
    max_cost: float | str | None = None
    """Of one request, all its attempts and its prompt included, in units of the price list's currency."""
    max_seconds: Positive | None = None
    """From the provider's call on; unlike a deadline it ends the answer as `stopped`, with what has been said."""
    chars_per_token: dict[str, Positive] = msgspec.field(default_factory=lambda: {"en": 4.0, "ru": 3.0})
    """Estimates tokens from characters, by language; the text's script decides (Cyrillic counts as `ru`)."""


class Timeouts(_Section, frozen=True):
    """Seconds. The first four end a run, `idle_s` and `deadline_s` the request."""

    connect_s: Positive = 5.0
    first_token_s: Positive = 30.0
    between_tokens_s: Positive = 20.0
    deadline_s: Annotated[float, msgspec.Meta(gt=0, le=LONGEST_STREAM_S)] = 120.0
    idle_s: Positive = 60.0
    resume_grace_s: Positive = 30.0


class Cache(_Section, frozen=True):
    ttl_s: Positive = 3600.0
    when: Literal["deterministic", "always", "never"] = "deterministic"
    """`deterministic`: only where the request says temperature 0."""


class Tenant(_Section, frozen=True):
    """Overrides of the top-level sections for one tenant: each given key replaces that key."""

    routes: dict[str, tuple[RouteStep, ...]] | None = None
    rules: tuple[Rule, ...] | None = None
    moderation: dict[str, Any] | None = None
    degeneration: dict[str, Any] | None = None
    classifier: dict[str, Any] | None = None
    moderator: dict[str, Any] | None = None
    limits: dict[str, Any] | None = None
    budgets: tuple[Budget, ...] | None = None
    timeouts: dict[str, Any] | None = None
    cache: dict[str, Any] | None = None
    prices: dict[str, Any] | None = None


class Policy(_Section, frozen=True):
    version: Literal[1]
    providers: dict[str, Provider]
    routes: dict[str, tuple[RouteStep, ...]]
    tenants: dict[str, Tenant]
    categories: tuple[Annotated[str, msgspec.Meta(min_length=1, max_length=64)], ...] = ()
    """Of rules and moderators, besides those that are known (docs/guard.md)."""
    rules: tuple[Rule, ...] = ()
    moderation: Moderation = Moderation()
    degeneration: Degeneration = Degeneration()
    classifier: ClassifierRules = ClassifierRules()
    moderator: Moderator | None = None
    limits: Limits = Limits()
    budgets: tuple[Budget, ...] = ()
    timeouts: Timeouts = Timeouts()
    cache: Cache = Cache()
    prices: Prices = Prices()


class Effective(msgspec.Struct, frozen=True):
    """What one tenant lives under: the policy with its overrides applied. `hash` names exactly this content."""

    tenant: str
    version: str
    hash: str
    routes: dict[str, tuple[RouteStep, ...]]
    rules: tuple[Rule, ...]
    moderation: Moderation
    degeneration: Degeneration
    classifier: ClassifierRules
    moderator: Moderator | None
    limits: Limits
    budgets: tuple[Budget, ...]
    timeouts: Timeouts
    cache: Cache
    prices: dict[str, Prices]
    """By provider."""
    price_list: Prices
    """Where no provider is called."""

    @property
    def scored(self) -> bool:
        """Whether its answers are scored by a classifier."""
        return bool(self.classifier.labels or (self.moderator and self.moderator.ask))


class VersionedPolicy:
    """A checked policy under its version, with the view of each tenant at hand."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.version = version_of(policy)
        self._effective = {name: self._merge(name, tenant) for name, tenant in policy.tenants.items()}

    @property
    def uses_classifier(self) -> bool:
        """Whether any tenant's answers are scored."""
        return any(view.scored for view in self._effective.values())

    @property
    def uses_budgets(self) -> bool:
        """Whether any tenant has a shared budget."""
        return any(view.budgets for view in self._effective.values())

    def effective(self, tenant: str) -> Effective | None:
        """What `tenant` lives under; None for a tenant the policy does not declare."""
        return self._effective.get(tenant)

    def _merge(self, name: str, tenant: Tenant) -> Effective:
        policy = self.policy
        prices = _override(policy.prices, tenant.prices, f"tenants.{name}.prices")
        rules = policy.rules if tenant.rules is None else tenant.rules
        view = Effective(
            tenant=name,
            version=self.version,
            hash="",
            routes=policy.routes | (tenant.routes or {}),
            rules=tuple(rule for rule in rules if not rule.tenants or name in rule.tenants),
            moderation=_override(policy.moderation, tenant.moderation, f"tenants.{name}.moderation"),
            degeneration=_override(policy.degeneration, tenant.degeneration, f"tenants.{name}.degeneration"),
            classifier=_override(policy.classifier, tenant.classifier, f"tenants.{name}.classifier"),
            moderator=_moderator(policy.moderator, tenant.moderator, f"tenants.{name}.moderator"),
            limits=_override(policy.limits, tenant.limits, f"tenants.{name}.limits"),
            budgets=policy.budgets if tenant.budgets is None else tenant.budgets,
            timeouts=_override(policy.timeouts, tenant.timeouts, f"tenants.{name}.timeouts"),
            cache=_override(policy.cache, tenant.cache, f"tenants.{name}.cache"),
            price_list=prices,
            prices={
                p: prices if tenant.prices else provider.prices or prices for p, provider in policy.providers.items()
            },
        )
        plain = msgspec.to_builtins(msgspec.structs.replace(view, version=""))
        return msgspec.structs.replace(view, hash=content_hash(orjson.dumps(plain, option=orjson.OPT_SORT_KEYS)))


def parse_policy(data: Any) -> VersionedPolicy:
    """Check parsed policy data and name its version.

    Raises:
        Invalid: with the path of the entry at fault and what would mend it.
    """
    if not isinstance(data, dict):
        raise Invalid("", "a policy is a map with version, providers, routes and tenants")
    for section, kind in (("providers", Provider), ("routes", tuple[RouteStep, ...]), ("tenants", Tenant)):
        convert_map(data.get(section, {}), kind, section)
    policy = convert(data, Policy)
    if not policy.tenants:
        raise Invalid("tenants", "is empty, so nobody could ask anything; declare one, as in `tenants: {demo: {}}`")
    _check_routes(policy.routes, policy, "routes")
    for name, tenant in policy.tenants.items():
        _check_routes(tenant.routes or {}, policy, f"tenants.{name}.routes")
        check_rules(tenant.rules or (), policy.tenants, policy.categories, f"tenants.{name}.rules")
        _check_budgets(tenant.budgets or (), f"tenants.{name}.budgets")
    check_rules(policy.rules, policy.tenants, policy.categories, "rules")
    _check_budgets(policy.budgets, "budgets")
    for name, provider in policy.providers.items():
        if not provider.base_url.startswith(("http://", "https://", SIMULATED)):
            raise Invalid(f"providers.{name}.base_url", f"{provider.base_url!r} is no http:// or https:// address")
        check_prices(provider.prices or Prices(), f"providers.{name}.prices")
    check_prices(policy.prices, "prices")
    if policy.moderator:
        _check_moderator(policy.moderator, policy, "moderator")
    versioned = VersionedPolicy(policy)
    views = [versioned._effective[name] for name in policy.tenants]
    for view in views:
        _check_view(view, policy)
    check_costs(policy, views)
    return versioned


def _check_view(view: Effective, policy: Policy) -> None:
    """What only shows once a tenant's own words stand in the policy's sections."""
    tenant, at = policy.tenants[view.tenant], f"tenants.{view.tenant}"

    def path(section: str, entry: str) -> str:
        return f"{at}.{section}.{entry}" if getattr(tenant, section) else f"{section}.{entry}"

    for prices in view.prices.values():
        check_prices(prices, f"{at}.prices")
    most = view.limits.max_cost
    if most is not None:
        to_micros(most, f"{at}.limits.max_cost" if policy.limits.max_cost != most else "limits.max_cost")
    if view.classifier.hold and not view.classifier.labels:
        raise Invalid(
            path("classifier", "hold"),
            "holds nothing without `labels` to be scored; name some, or leave it out",
        )
    for language in view.limits.chars_per_token:
        if language not in LANGUAGES:
            raise Invalid(
                path("limits", f"chars_per_token.{language}"),
                f"is no language that is told apart; known are {', '.join(LANGUAGES)}",
            )
    window, stride = view.classifier.window_chars, view.classifier.stride_chars
    if stride > window:
        raise Invalid(
            path("classifier", "stride_chars"),
            f"{stride} is more than window_chars, {window}: what lies between two windows would never be looked at",
        )
    if view.moderator:
        _check_moderator(view.moderator, policy, f"{at}.moderator")


def check_labels(policy: VersionedPolicy, known: Mapping[str, int]) -> None:
    """Whether a classifier scores all that the policy asks about: what is misspelt is never scored, and what lies
    between two windows neither. `known` tells by label how many characters of a text's end it looks at.

    Raises:
        Invalid: with the path of a label that it does not have, or of a stride that is too long for one.
    """
    asked = [("", policy.policy.classifier, policy.policy.moderator)]
    for name in policy.policy.tenants:
        view = policy.effective(name)
        assert view is not None
        asked.append((f"tenants.{name}.", view.classifier, view.moderator))
    for at, classifier, moderator in asked:
        for section, labels in (("classifier.labels", classifier.labels), ("moderator.ask", _asks(moderator))):
            for label in labels:
                if label not in known:
                    fix = f"is no label of the classifier; it has {', '.join(known)}"
                    raise Invalid(f"{at}{section}.{label}", fix)
                if classifier.stride_chars > known[label]:
                    fix = f"{label} looks at {known[label]} characters; a longer stride leaves some out"
                    raise Invalid(f"{at}classifier.stride_chars", f"{classifier.stride_chars} is too long: {fix}")


def _asks(moderator: Moderator | None) -> dict[str, Any]:
    return dict(moderator.ask) if moderator else {}


def version_of(policy: Policy) -> str:
    """The content hash that stages switch and pin by."""
    return content_hash(orjson.dumps(msgspec.to_builtins(policy), option=orjson.OPT_SORT_KEYS))[:16]


def _override(base: S, changes: dict[str, Any] | None, path: str) -> S:
    if not changes:
        return base
    merged = msgspec.to_builtins(base) | changes
    for key in _OF_PARTS.intersection(changes):
        if isinstance(changes[key], dict):
            merged[key] = msgspec.to_builtins(getattr(base, key)) | changes[key]
    return convert(merged, type(base), path)


def _moderator(base: Moderator | None, changes: dict[str, Any] | None, path: str) -> Moderator | None:
    if not changes:
        return base
    return convert((msgspec.to_builtins(base) if base else {}) | changes, Moderator, path)


def _check_moderator(moderator: Moderator, policy: Policy, path: str) -> None:
    check_moderator(moderator, policy.providers, path)
    check_category(moderator.category, policy.categories, path)


def _check_routes(routes: dict[str, tuple[RouteStep, ...]], policy: Policy, path: str) -> None:
    for model, steps in routes.items():
        if not steps:
            raise Invalid(f"{path}.{model}", "has no step; name at least one provider and model")
        for index, step in enumerate(steps):
            if step.provider not in policy.providers:
                known = ", ".join(sorted(policy.providers)) or "none"
                raise Invalid(
                    f"{path}.{model}[{index}].provider",
                    f"{step.provider!r} is not declared under providers ({known})",
                )


def _check_budgets(budgets: tuple[Budget, ...], path: str) -> None:
    seen = set()
    for index, budget in enumerate(budgets):
        check_budget(budget, f"{path}[{index}]")
        if budget.id in seen:
            raise Invalid(f"{path}[{index}].id", f"{budget.id!r} stands twice; give each budget its own id")
        seen.add(budget.id)
