"""Each side runs and answers; nothing is asserted by the clock."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import flush
from benchmarks.ground import ROOM, ground
from benchmarks.measuring import ROOT, Rounds, Side, Spread, in_turns
from benchmarks.table import at_least, at_most, closing_line, told

SMALL = {"others": 40, "at_once": 4, "batches": 2}


def run(folder: Path, module: str, **arguments: object) -> dict[str, Any]:
    with ground() as place:
        return Side("side", f"benchmarks.sides.{module}", arguments, folder=folder).run(place, 0)


@pytest.mark.parametrize("variant", ["history", "no-history", "memory"])
def test_our_side(tmp_path: Path, variant: str) -> None:
    found = run(tmp_path, "ours", variant=variant, **SMALL)
    assert found["rate"] > 0
    assert found["p99_ms"] > 0
    assert found["commits"] == (0 if variant == "memory" else 11)


def test_the_raw_side_writes_what_ours_does(tmp_path: Path) -> None:
    assert run(tmp_path, "raw", variant="history", **SMALL)["rate"] > 0


def test_the_parked_side(tmp_path: Path) -> None:
    assert run(tmp_path, "parked", variant="open", others=40)["found"] == 20
    found = run(tmp_path, "parked", variant="memory", others=40)
    assert found["decoded"] == 20
    assert found["decoded_early"] == 0
    assert found["kept"] == 20
    assert found["bytes_each"] > 0
    assert run(tmp_path, "parked", variant="drive", others=40, at_once=2, batches=2)["cost_us"] > 0


def test_the_coins_side_releases_them(tmp_path: Path) -> None:
    assert run(tmp_path, "coins", others=10, batches=2)["held"] == 0


def test_the_imports_side(tmp_path: Path) -> None:
    assert run(tmp_path, "imports", variant="import json")["import_ms"] >= 0


def test_a_side_that_fails_is_left_out_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    with ground() as place:
        bad = Side("bad", "benchmarks.sides.imports", {"variant": "import nothing_of_the_kind"})
        found = in_turns(place, [bad, Side("good", "benchmarks.sides.imports", {"variant": "pass"})], 2)
    assert "bad" not in found
    assert len(found.answers["good"]) == 2
    assert capsys.readouterr().err.count("bad failed") == 1


def test_the_cost_of_a_flush_reaches_a_process(tmp_path: Path) -> None:
    shim = flush.build(tmp_path)
    if shim is None:
        pytest.skip("no C compiler")
    assert flush.environment(shim, 0.1) == {"LD_PRELOAD": str(shim), "BENCH_FLUSH_NS": "100000"}
    # Its flush succeeds on what no disk would flush.
    script = "import os; r, w = os.pipe(); os.fsync(w); os.fdatasync(w)"
    done = subprocess.run([sys.executable, "-c", script], env=flush.environment(shim, 0.1), capture_output=True)
    assert done.returncode == 0, done.stderr


def test_without_a_compiler_the_bare_disk_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with ground() as place:
        assert place.flushes_ms == (0.0,)
        assert place.environment(1.0) == {}
        assert "no C compiler" in place.described()


def test_without_memory_a_temporary_folder_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.ground._free", lambda folder: ROOM - 1)
    with ground() as place:
        assert not place.is_memory
        assert "temporary folder" in place.described()


def test_a_ratio_is_taken_round_by_round() -> None:
    found = Rounds({"a": [{"rate": 10}, {"rate": 30}, {"rate": 8}], "b": [{"rate": 5}, {"rate": 10}, {"rate": 8}]})
    assert found.ratio("a", "b", "rate").values == (2, 3, 1)
    assert found.ratio("a", "b", "rate").median == 2


def test_the_table_says_what_was_met() -> None:
    spread = Spread((1.0, 3.0, 2.0))
    rows = [at_least("a", spread, 2), at_least("b", spread, 2.1), at_most("c", spread, 2), told("d", spread)]
    assert [row.line().split()[-1] for row in rows] == ["met", "MISSED", "met", "(1–3)"]
    assert closing_line(rows) == "bench: 2 of 3 goals met"
    assert "2.00 (1.00–3.00)" in rows[0].line()


def test_the_exit_status_is_0_and_the_last_line_counts(tmp_path: Path) -> None:
    target = tmp_path / "found.json"
    arguments = ["--quick", "--rounds", "1", "--no-peers", "--only", "engine", "--json", str(target)]
    command = [sys.executable, "-m", "benchmarks", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("bench: ")
    found = json.loads(target.read_text())
    assert found["rows"]
    assert set(found["load"]) == {"before", "after"}
    assert {"cpu", "cores", "python", "sqlite"} <= set(found["machine"])
