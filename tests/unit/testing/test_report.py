"""What people get to see of a sweep that fails: a table, a page, the timeline in it."""

from __future__ import annotations

import asyncio
import re
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.crash.durable_bank import SECRET, BankWorld, forgetful, top_up
from wallet_actions.testing.life import CrashKind
from wallet_actions.testing.report import page_of, print_report, write_page
from wallet_actions.testing.sweep import SweepReport, sweep

pytestmark = pytest.mark.anyio


class Spoken(BankWorld):
    """Whose books complain with a secret, and with markup."""

    async def check(self, said: object = ()) -> list[str]:
        return [f"<script>{SECRET}</script> [red]"]


@pytest.fixture(scope="module")
def failed() -> SweepReport:
    crashes = [CrashKind.EXCEPTION]
    options: dict[str, Any] = {"has_pairs": False, "has_faults": False, "has_incidents": False}
    return asyncio.run(sweep(forgetful, BankWorld, crashes=crashes, **options))


class Page(HTMLParser):
    """Reads a page: its texts by class, and every address in it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: dict[str, list[str]] = {}
        self.addresses: list[str] = []
        self._class: str | None = None
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = dict(attrs)
        self.addresses += [value or "" for name, value in attrs if name in {"src", "href", "action", "data"}]
        if tag == "tr":
            self._class = names.get("class") or ""
            self.rows.setdefault(self._class, []).append("")
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag == "tr":
            self._class = None

    def handle_data(self, data: str) -> None:
        if self._class is not None:
            self.rows[self._class][-1] += f" {data}"


async def test_the_page_tells_the_schedule(failed: SweepReport) -> None:
    html = page_of(failed, test="tests/test_it.py::test_top_up")
    page = Page(html)
    assert page.open == [], "every tag is closed"
    assert page.addresses == [], "it asks for nothing"
    assert "default-src 'none'" in html
    (first, *_) = failed.failures
    (plan,) = first.case.plans
    assert plan.crash_at is not None
    died = page.rows["dead"]
    assert len(died) == len(failed.failures)
    assert all(("✝" in row and "bank.collect" in row) or "finish" in row for row in died)
    assert "durable_bank.py:" in died[0]
    assert "In the store before" in html
    assert "In the store after" in html
    assert f"WALLET_ACTIONS_CASE=&quot;{first.case}&quot; pytest &#x27;tests/test_it.py::test_top_up&#x27;" in html
    assert "q had 2 effects at the peer" in html
    for boundary in failed.boundaries:
        assert boundary.name in html


async def test_kinds_of_ends_are_told(tmp_path: Path) -> None:
    report = SweepReport("durable_forgetful")
    for case in ("cancellation@12", "answer_lost@3", "duplicated_late@3", "sigkill@12"):
        report.failures += (await sweep(forgetful, BankWorld, only=case)).failures
    html = write_page(report, tmp_path / "pages" / "page.html").read_text()
    for words in (
        "was cancelled",
        "with a fault of its peer: answer lost",
        "was killed with SIGKILL",
        "lived in peace",
    ):
        assert words in html
    assert Page(html).rows["fault"], "where the fault was"
    assert report.failures[-1].lives[0].plan.crash is CrashKind.SIGKILL


async def test_what_it_shows_is_escaped_and_masked(capsys: pytest.CaptureFixture[str]) -> None:
    report = await sweep(top_up, Spoken, has_pairs=False, has_faults=False, has_incidents=False)
    html = page_of(report)
    assert "<script>" not in html
    assert "&lt;script&gt;***&lt;/script&gt; [red]" in html
    assert SECRET not in html + str(report)
    print_report(report)
    printed = capsys.readouterr().out
    assert "<script>***</script> [red]" in re.sub(r"\s+", " ", printed), "markup is text"
    assert SECRET not in printed


async def test_the_table(failed: SweepReport) -> None:
    text = StringIO()
    print_report(failed, Console(file=text, width=300))
    printed = text.getvalue()
    assert f"{len(failed.failures)} failed" in printed
    assert str(failed.failures[0].case) in printed
    assert printed.count("q had 2 effects at the peer") == 1, "what is alike is one line"
    assert "died here: " in printed
    text = StringIO()
    print_report(await sweep(top_up, BankWorld, sample=2), Console(file=text, width=300))
    assert "2 cases over" in text.getvalue()
    assert "0 failed" in text.getvalue()
    assert "violated" not in text.getvalue()


async def test_a_page_of_many_failures_shows_the_first(failed: SweepReport) -> None:
    many = SweepReport("many", failed.boundaries, 50, failed.failures[:1] * 25)
    html = page_of(many)
    assert html.count("<summary>case") == 20
    assert "And 5 more." in html
    assert html.count("<details open>") == 1
