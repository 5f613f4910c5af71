"""Starts, steers, kills and restarts a Nutshell mint."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import IO, Literal, Self

import anyio
import httpx
from anyio import to_thread
from anyio.streams.buffered import BufferedByteReceiveStream

from wallet_actions.testing.nutshell.environment import ensure_environment
from wallet_actions.testing.nutshell.errors import MintError, tail

LAUNCHER = Path(__file__).with_name("launcher.py")
POLL_S = 0.02
STOP_S = 8.0
MAX_ANSWER_BYTES = 1 << 20

UNIT_PATHS = {"msat": "m/0'/1'/0'", "usd": "m/0'/2'/0'", "eur": "m/0'/3'/0'"}

Setting = bool | int | float | str | None


@dataclass(frozen=True, slots=True)
class MintConfig:
    """How a mint is to be.

    Attributes:
        input_fee_ppk: fee an input, in thousandths of a sat.
        reserve_fee_sat: the least that a melt quote keeps in reserve for the payment's fee.
        brr: incoming invoices are paid by themselves; the first look at a quote finds it PAID.
        units: what it issues: of `sat`, `msat`, `usd` and `eur` those it is to have; `sat` has to be among them.
        keyset_version: 2 for today's keyset ids (`01…`), 1 for those before (`00…`).
        data_dir: where it keeps its database, also after it ended; None takes a folder that is removed at the end.
        port: 0 lets the system choose.
        deadline: how long it may take to answer for the first time.
    """

    input_fee_ppk: int = 0
    reserve_fee_sat: int = 20
    brr: bool = True
    units: tuple[str, ...] = ("sat",)
    keyset_version: Literal[1, 2] = 2
    data_dir: Path | None = None
    port: int = 0
    deadline: timedelta = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class KeysetBalance:
    """What a mint's own books say of one keyset; amounts in its unit.

    Attributes:
        id, unit, active, input_fee_ppk: the keyset.
        issued: all that it ever signed.
        redeemed: all that was spent.
        pending: part of what is unspent that a payment under way holds.
    """

    id: str
    unit: str
    active: bool
    input_fee_ppk: int
    issued: int
    redeemed: int
    pending: int

    @property
    def outstanding(self) -> int:
        """Issued and unspent, whoever holds it."""
        return self.issued - self.redeemed


class NutshellMint:
    """A real mint on loopback, with the FakeWallet backend, for as long as `async with` lasts.

    It is ended also when the body fails or is cancelled, and ends by itself when this process dies in any way. It holds
    nothing bound to an event loop, so that one mint may serve tests that each have their own.
    """

    def __init__(self, config: MintConfig | None = None) -> None:
        self.config = config or MintConfig()
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._port = self.config.port
        self._control_port = 0

    @property
    def url(self) -> str:
        """Where it listens; the same after a restart."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def is_running(self) -> bool:
        """Whether its process lives. One that was killed from outside may be seen living for a moment more."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process. Raises MintError when there is none."""
        if self._process is None:
            raise MintError("the mint is not running")
        return self._process.pid

    @property
    def log(self) -> Path:
        """The file with its output."""
        return self._data_dir() / "mint.log"

    async def __aenter__(self) -> Self:
        self._folder = _folder(self.config.data_dir)
        try:
            await self._start()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self._stop()
            if self.config.data_dir is None and self._folder is not None:
                await to_thread.run_sync(lambda: shutil.rmtree(self._data_dir(), ignore_errors=True))

    async def set(self, **settings: Setting) -> None:
        """Change settings of the running mint, such as `fakewallet_payment_state="PENDING"`.

        Names are those of `cashu.core.settings`; they last until `reset` or a restart.

        Raises:
            MintError: there is no such setting, or the mint is not running; nothing was changed.
        """
        await self._ask({"do": "set", "settings": settings})

    async def get(self, name: str) -> Setting:
        """A setting of the running mint."""
        value = await self._ask({"do": "get", "name": name})
        if value is not None and not isinstance(value, bool | int | float | str):
            raise MintError(f"the mint's setting {name} is not a plain value")
        return value

    async def reset(self) -> None:
        """All settings as they were at the start."""
        await self._ask({"do": "reset"})

    async def ledger(self) -> tuple[KeysetBalance, ...]:
        """The mint's books by keyset, read from its own database; sorted by keyset id."""
        rows = await self._ask({"do": "ledger"})
        if not isinstance(rows, list):
            raise MintError("the mint's books could not be read")
        return tuple(KeysetBalance(row[0], row[1], bool(row[2]), *row[3:]) for row in rows)

    async def outstanding(self, unit: str = "sat") -> int:
        """The ecash that the mint has signed and that is not spent: what all wallets together must own."""
        return sum(keyset.outstanding for keyset in await self.ledger() if keyset.unit == unit)

    async def invoice(self, amount_sat: int) -> str:
        """A fresh BOLT-11 invoice of somebody else, for the mint to pay."""
        return str(await self._ask({"do": "invoice", "amount": amount_sat}))

    async def rotate_keyset(self, input_fee_ppk: int = 0, unit: str = "sat") -> str:
        """Replace the active keyset of a unit; the old one can only be spent. Returns the new keyset's id."""
        return str(await self._ask({"do": "rotate", "input_fee_ppk": input_fee_ppk, "unit": unit}))

    async def give_payments_one_fate(self) -> None:
        """Have the backend stay with what it says of an attempt to pay, also where `set` says otherwise later.

        A payment that has failed does not settle afterwards. Without this, two look-ups on both sides of a `set` hear
        of both, and the mint does both. Until the mint is started again.
        """
        await self._ask({"do": "one_fate"})

    async def pay_parts(self) -> None:
        """Have the backend pay parts of invoices, so that the mint offers NUT-15. Until the mint is started again."""
        await self._ask({"do": "pay_parts"})

    async def kill(self) -> None:
        """End it with SIGKILL, as a power cut would. Harmless when it is dead."""
        if self._process is not None:
            self._process.kill()
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(self._process.wait)
            self._forget()

    async def restart(self) -> None:
        """Start it again, after ending it if it still runs: same port, same data, settings as configured."""
        await self._stop()
        await self._start()

    async def _start(self) -> None:
        python = await to_thread.run_sync(ensure_environment)
        self._process = process = self._spawn(python)
        with anyio.move_on_after(self.config.deadline.total_seconds()):
            await self._answers(process)
            return
        raise MintError(f"The mint did not answer within {self.config.deadline}:\n{tail(self.log)}")

    def _spawn(self, python: Path) -> subprocess.Popen[bytes]:
        self._ready_file().unlink(missing_ok=True)
        with self.log.open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - our own launcher
                [str(python), "-I", "-X", "utf8", str(LAUNCHER), str(self._port), str(self._ready_file())],
                cwd=self._data_dir(),
                env=self._environment(),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                # A Ctrl-C in the terminal is for us; it would end the mint before the wallets are done with it.
                start_new_session=True,
            )

    async def _answers(self, process: subprocess.Popen[bytes]) -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
            while True:
                if process.poll() is not None:
                    raise MintError(f"The mint ended with status {process.returncode}:\n{tail(self.log)}")
                if self._read_ports() and await _is_up(client, self.url):
                    return
                await anyio.sleep(POLL_S)

    def _read_ports(self) -> bool:
        try:
            ports = json.loads(self._ready_file().read_text())
        except FileNotFoundError:
            return False
        self._port, self._control_port = ports["port"], ports["control"]
        return True

    async def _stop(self) -> None:
        process = self._process
        if process is None:
            return
        with anyio.CancelScope(shield=True):
            process.terminate()
            try:
                await to_thread.run_sync(lambda: process.wait(STOP_S))
            except subprocess.TimeoutExpired:
                process.kill()
                await to_thread.run_sync(process.wait)
        self._forget()

    def _forget(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            _close(self._process.stdin)
        self._process = None

    def _environment(self) -> dict[str, str]:
        folder = str(self._data_dir())
        environment: dict[str, str] = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": folder,
            "CASHU_DIR": folder,
            "MINT_PRIVATE_KEY": self._private_key(),
            **{f"MINT_BACKEND_BOLT11_{unit.upper()}": "FakeWallet" for unit in self.config.units},
            # The first path is that of `sat`, by itself.
            "MINT_DERIVATION_PATH_LIST": json.dumps([UNIT_PATHS[unit] for unit in self.config.units if unit != "sat"]),
            "MINT_DATABASE": f"{folder}/mint",
            "MINT_AUTH_DATABASE": f"{folder}/auth",
            "MINT_RATE_LIMIT": "FALSE",
            # It compares whole seconds with `<`: at 0 a second look within the same second is answered from memory.
            "MINT_QUOTE_BACKEND_CHECK_RATE_LIMIT": "-1",
            "MINT_INPUT_FEE_PPK": str(self.config.input_fee_ppk),
            "LIGHTNING_RESERVE_FEE_MIN": str(self.config.reserve_fee_sat * 1000),
            "FAKEWALLET_BRR": str(self.config.brr).upper(),
            "FAKEWALLET_DELAY_INCOMING_PAYMENT": "0",
            "FAKEWALLET_DELAY_OUTGOING_PAYMENT": "0",
            "LOG_LEVEL": "WARNING",
        }
        if self.config.keyset_version == 1:
            # The mint derives ids of version 1 when it takes itself for a release before 0.20.
            environment["VERSION"] = "0.19.2"
        return environment

    def _private_key(self) -> str:
        # A mint's keys follow from it: each mint has its own, and keeps it with its database.
        path = self._data_dir() / "mint.key"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(secrets.token_hex(32))
        return path.read_text()

    async def _ask(self, request: Mapping[str, object]) -> object:
        if not self.is_running:
            raise MintError("the mint is not running")
        try:
            async with await anyio.connect_tcp("127.0.0.1", self._control_port) as stream:
                await stream.send(json.dumps(request).encode() + b"\n")
                line = await BufferedByteReceiveStream(stream).receive_until(b"\n", MAX_ANSWER_BYTES)
        except (OSError, anyio.IncompleteRead, anyio.EndOfStream, anyio.BrokenResourceError) as error:
            raise MintError(f"The mint does not answer:\n{tail(self.log)}") from error
        answer = json.loads(line)
        if "error" in answer:
            raise MintError(answer["error"])
        return answer["ok"]

    def _data_dir(self) -> Path:
        if self._folder is None:
            raise MintError("the mint was never started")
        return self._folder

    def _ready_file(self) -> Path:
        return self._data_dir() / "ready.json"


def _folder(wanted: Path | None) -> Path:
    if wanted is None:
        return Path(tempfile.mkdtemp(prefix="nutshell-"))
    wanted.mkdir(parents=True, exist_ok=True)
    return wanted.absolute()


async def _is_up(client: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(f"{url}/v1/info")).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def _close(pipe: IO[bytes]) -> None:
    try:
        pipe.close()
    except BrokenPipeError:
        # Nothing is ever written to it; what a dead reader says about that does not matter.
        return
