"""The demo of the sagas, at some of its points: real processes, killed for real (T2); and it notices what is wrong."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from wallet_actions.demo_saga.scenario import Demo, Point, Row, Way
from wallet_actions.saga.digitalocean.sandbox import TOKEN, Cloud
from wallet_actions.testing.demos.parent import ChildError, Run

pytestmark = pytest.mark.anyio


class ShortDemo(Demo):
    """Kills at every ninth point."""

    async def _points(self, course: Way) -> Iterator[Point]:
        return iter(list(await super()._points(course))[4::9])


@pytest.mark.timeout(300)
async def test_nothing_is_leaked_and_nothing_left_unfinished() -> None:
    rows: list[Row] = []
    report = await ShortDemo(on_row=rows.append).run()
    assert (report.leaked, report.unfinished, report.missed) == (0, 0, [])
    assert report.kills == len(rows) >= 5
    assert any(row.point.request is not None for row in rows)
    assert {"done", "failed"} <= report.sagas.keys()


def finished(*snapshots: str, unfinished: int = 0) -> Run:
    return Run(lines=[{"what": "finished", "sagas": {}, "unfinished": unfinished, "snapshots": list(snapshots)}])


@pytest.mark.parametrize(
    ("ordered", "wanted", "leaked"),
    [([], [], 0), (["a"], ["a"], 0), (["a"], [], 1), ([], ["a"], 1), (["a", "b"], ["b"], 1), (["a", "a"], ["a"], 2)],
)
def test_what_is_too_much_missing_or_double_is_counted(ordered: list[str], wanted: list[str], leaked: int) -> None:
    demo = Demo()
    demo._cloud = Cloud(droplets=frozenset({1, 2}))
    for droplet, name in enumerate(ordered, start=1):
        body = f'{{"type": "snapshot", "name": "{name}"}}'.encode()
        assert demo._cloud.answer("POST", f"/v2/droplets/{droplet}/actions", body, f"Bearer {TOKEN}")[0] == 201
    demo._sum_up(finished(*wanted, unfinished=3))
    assert (demo.report.leaked, demo.report.unfinished) == (leaked, 3)


def test_a_last_process_that_says_nothing_is_an_error() -> None:
    with pytest.raises(ChildError):
        Demo()._sum_up(Run())
