"""Windows of shared budgets, and the accounts that a request is booked to."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.budgets import LONGEST_WINDOW, Budget, accounts, window
from processors.errors import Invalid
from processors.policy import parse_policy
from tests.samples import policy

ZONES = ("UTC", "Europe/Moscow", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia")
TIMES = st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC))
WINDOWS = st.sampled_from(("hour", "day", "month"))


def budget(**more: Any) -> Budget:
    fields: dict[str, Any] = {"id": "b", "window": "day", "timezone": "Europe/Moscow", "tokens": 100}
    return Budget(**fields | more)


class TestWindows:
    @pytest.mark.parametrize(
        ("name", "zone", "at", "begin", "end"),
        [
            ("day", "Europe/Moscow", "2026-11-27T20:59:59", "2026-11-26T21:00:00", "2026-11-27T21:00:00"),
            ("day", "Europe/Moscow", "2026-11-27T21:00:00", "2026-11-27T21:00:00", "2026-11-28T21:00:00"),
            ("month", "Europe/Moscow", "2026-12-31T21:30:00", "2026-12-31T21:00:00", "2027-01-31T21:00:00"),
            ("month", "UTC", "2028-02-29T12:00:00", "2028-02-01T00:00:00", "2028-03-01T00:00:00"),
            ("hour", "Asia/Kathmandu", "2026-11-27T12:20:00", "2026-11-27T12:15:00", "2026-11-27T13:15:00"),
            # New York turns its clocks: the day of 25 hours is one window, the hour that comes twice is two.
            ("day", "America/New_York", "2026-11-01T12:00:00", "2026-11-01T04:00:00", "2026-11-02T05:00:00"),
            ("hour", "America/New_York", "2026-11-01T05:30:00", "2026-11-01T05:00:00", "2026-11-01T06:00:00"),
            ("hour", "America/New_York", "2026-11-01T06:30:00", "2026-11-01T06:00:00", "2026-11-01T07:00:00"),
        ],
    )
    def test_known_ones(self, name: str, zone: str, at: str, begin: str, end: str) -> None:
        found = window(budget(window=name, timezone=zone), datetime.fromisoformat(at).replace(tzinfo=UTC))
        assert [one.astimezone(UTC).isoformat()[:19] for one in found] == [begin, end]

    @given(WINDOWS, st.sampled_from(ZONES), TIMES)
    def test_each_moment_lies_in_its_window_and_the_next_begins_where_it_ends(
        self, name: str, zone: str, at: datetime
    ) -> None:
        mine = budget(window=name, timezone=zone)
        begin, end = window(mine, at)
        assert begin <= at < end
        assert window(mine, end.astimezone(UTC))[0] == end
        assert end.astimezone(UTC) - begin.astimezone(UTC) <= LONGEST_WINDOW + timedelta(hours=2)

    @given(WINDOWS, st.sampled_from(ZONES), TIMES, TIMES)
    def test_one_account_a_window(self, name: str, zone: str, at: datetime, other: datetime) -> None:
        mine = budget(window=name, timezone=zone)
        same = window(mine, at) == window(mine, other)
        keys = {accounts((mine,), "demo", None, None, when)[0].key for when in (at, other)}
        assert (len(keys) == 1) == same


class TestAccounts:
    AT = datetime(2026, 11, 27, tzinfo=UTC)

    def test_a_request_has_those_of_what_it_has(self) -> None:
        mine = (budget(id="t"), budget(id="k", per="key"), budget(id="s", per="session"))
        assert [one.budget.id for one in accounts(mine, "demo", None, None, self.AT)] == ["t"]
        assert [one.budget.id for one in accounts(mine, "demo", "k1", None, self.AT)] == ["t", "k"]
        assert [one.budget.id for one in accounts(mine, "demo", "k1", "s1", self.AT)] == ["t", "k", "s"]

    @given(st.lists(st.tuples(st.text("a:%-", min_size=1, max_size=4), st.text("s:-", max_size=3)), max_size=5))
    def test_no_two_share_one(self, whose: list[tuple[str, str]]) -> None:
        mine = budget(per="session")
        keys = {accounts((mine,), tenant, None, session, self.AT)[0].key for tenant, session in whose}
        assert len(keys) == len({*whose})

    def test_other_units_and_windows_are_other_accounts(self) -> None:
        kinds = (budget(), budget(tokens=None, cost="1"), budget(window="month"), budget(id="c"))
        assert len({one.key for one in accounts(kinds, "demo", None, None, datetime(2026, 11, 1, tzinfo=UTC))}) == 4


class TestChecks:
    @pytest.mark.parametrize(
        ("changes", "path", "words"),
        [
            ({"timezone": "Moscow"}, "budgets[0].timezone", "write one as Europe/Moscow"),
            ({"timezone": "../etc/passwd"}, "budgets[0].timezone", "is no time zone"),
            ({"timezone": ""}, "budgets[0].timezone", "is no time zone"),
            ({"tokens": None}, "budgets[0]", "give either `tokens` or `cost`"),
            ({"cost": "5"}, "budgets[0]", "give either `tokens` or `cost`"),
            ({"tokens": None, "cost": "0"}, "budgets[0].cost", "more than 0"),
            ({"tokens": None, "cost": "a lot"}, "budgets[0].cost", "no decimal number"),
            ({"tokens": 0}, "budgets[0].tokens", ">= 1"),
            ({"window": "week"}, "budgets[0].window", "week"),
        ],
    )
    def test_a_mistake_is_named(self, changes: dict[str, Any], path: str, words: str) -> None:
        entry = {"id": "b", "window": "day", "timezone": "UTC", "tokens": 5} | changes
        with pytest.raises(Invalid) as caught:
            policy(budgets=[{name: value for name, value in entry.items() if value is not None}])
        assert caught.value.path == path
        assert words.replace("no decimal", "not a decimal") in str(caught.value)

    def test_the_zone_must_be_named(self) -> None:
        with pytest.raises(Invalid, match="timezone"):
            policy(budgets=[{"id": "b", "window": "day", "tokens": 5}])

    def test_two_of_one_name_are_refused_also_within_a_tenant(self) -> None:
        entry = {"id": "b", "window": "day", "timezone": "UTC", "tokens": 5}
        with pytest.raises(Invalid, match="stands twice"):
            policy(tenants={"demo": {"budgets": [entry, entry]}})

    def test_a_tenant_s_list_replaces_the_policy_s(self) -> None:
        entry = {"id": "b", "window": "day", "timezone": "UTC", "tokens": 5}
        found = policy(budgets=[entry], tenants={"demo": {"budgets": []}, "other": {}})
        views = [found.effective(name) for name in ("demo", "other")]
        assert [len(view.budgets) for view in views if view] == [0, 1]
        assert found.uses_budgets
        assert not parse_policy({"version": 1, "providers": {}, "routes": {}, "tenants": {"demo": {}}}).uses_budgets
