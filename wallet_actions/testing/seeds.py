"""Drive an action in processes whose hashes differ: what is stored has to be equal to the last byte (L-S8).

    report = await hash_seeds("tests.bank:make", "tests.bank:BankWorld")
    assert report.is_ok, str(report)

The order of a set of texts is another one in each process. An action that stores a set as a list, or builds a request
from one, so makes another request after a restart, and its peer calls that a misuse of the key.

Action and world are named, as `module:attribute`, because the other processes have to import them. Two of these run
with the same seed: what differs there already is chance, and left out.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import json
import operator
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wallet_actions.checkpoint import Checkpoint
from wallet_actions.testing.boundaries import Boundary
from wallet_actions.testing.life import Life
from wallet_actions.testing.trial import Makes, starts_in
from wallet_actions.testing.world import World

SEEDS = (1, 2, 3)

Written = Mapping[str, str]
"""What one write left behind: fingerprints by field, and under `kind`, `step` and `phase` what it was."""


@dataclass(frozen=True, slots=True)
class Unstable:
    """A write that depends on the hashes of the process.

    Attributes:
        kind: of the action.
        step: the phase in which it wrote that; for its start, the phase that it begins with.
        fields: what differs, such as `phase.inputs`.
    """

    kind: str
    step: str
    fields: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind} in {self.step} writes {', '.join(self.fields)} in another way in each process"


@dataclass(slots=True)
class SeedReport:
    """What was found.

    Attributes:
        writes: how many writes were compared.
        unstable: those that differ.
    """

    writes: int = 0
    unstable: list[Unstable] = field(default_factory=list)

    @property
    def is_ok(self) -> bool:
        """Whether nothing differs."""
        return not self.unstable

    def __str__(self) -> str:
        head = f"{self.writes} writes compared over several hash seeds, {len(self.unstable)} differ"
        return "\n".join([head, *map(str, self.unstable)])


async def hash_seeds(make: str, world: str, *, seeds: Sequence[int] = SEEDS) -> SeedReport:
    """Drive an action in several processes and compare what they write.

    Args:
        make, world: what `sweep` takes, each as `module:attribute`.
        seeds: values of PYTHONHASHSEED, two at least.

    Raises:
        RuntimeError: one of the processes failed.
    """
    runs = await asyncio.gather(*(_run(make, world, seed) for seed in (seeds[0], *seeds)))
    report = SeedReport(writes=len(runs[0]))
    known: set[tuple[str, str]] = set()  # a field that differs is told once: where it was written first
    for first, *others in zip(*runs, strict=False):
        by_chance = _differing(first, others[0])
        differing = {(first["kind"], name) for other in others for name in _differing(first, other) - by_chance}
        if differing - known:
            fields = tuple(sorted(name for _, name in differing - known))
            report.unstable.append(Unstable(first["kind"], first["step"], fields))
            known |= differing
    if len({len(run) for run in runs}) > 1:
        last = max(runs, key=len)[min(map(len, runs)) - 1]
        report.unstable.append(Unstable(last["kind"], last["step"], ("another number of writes",)))
    return report


def _differing(first: Written, second: Written) -> set[str]:
    return {name for name in first.keys() | second.keys() if first.get(name) != second.get(name)}


async def _run(make: str, world: str, seed: int) -> list[Written]:
    environment = os.environ | {"PYTHONHASHSEED": str(seed), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, make, world, env=environment, stdout=asyncio.subprocess.PIPE
    )
    told, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"the process with PYTHONHASHSEED={seed} failed with status {process.returncode}")
    written: list[Written] = json.loads(told)
    return written


async def written_by(make: Makes, world: Callable[[], World[Any]]) -> list[Written]:
    """Drive an action in peace, and note what each write left behind, without telling what it says."""
    here = world()
    written: list[Written] = []
    try:
        async with here.store() as store:
            await here.prepare(store)

            async def look(boundary: Boundary) -> None:
                if boundary.site == "store" and boundary.moment == "after" and boundary.key is not None:
                    checkpoint = await store.load(boundary.key)
                    if checkpoint is not None:
                        step = boundary.step or checkpoint.phase
                        written.append({"kind": checkpoint.kind, "step": step} | _fingerprints(checkpoint))

            await here.live(Life(switch=look), await starts_in(make, here))
    finally:
        await here.close()
    return written


def _fingerprints(checkpoint: Checkpoint) -> dict[str, str]:
    state = json.loads(checkpoint.state or "{}")
    fields = {name: value for name, value in state.items() if name != "phase"}
    fields |= {f"phase.{name}": value for name, value in state.get("phase", {}).items()}
    fields["result"] = checkpoint.result
    return {
        name: hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
        for name, value in fields.items()
    }


def _named(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return operator.attrgetter(attribute)(importlib.import_module(module))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(written_by(_named(sys.argv[1]), _named(sys.argv[2])))))
