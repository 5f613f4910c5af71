"""The wallet's command line against a real mint: the main path in processes of its own, killed, and interrupted."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from anyio import to_thread
from typer.testing import CliRunner

from tests.unit.ops.kit import MAIN, Ran, assert_one_line
from wallet_actions.cashu.proofs import proof_of
from wallet_actions.ops.program import app
from wallet_actions.store import open_store
from wallet_actions.testing.nutshell import MintConfig, NutshellMint
from wallet_actions.testing.proxy import FaultProxy, Kill, LoseAnswer, Rule, Status

pytestmark = pytest.mark.anyio

SWAP = r"/v1/swap$"
EXPIRED = (
    "lnbc50n1p04uyqqdqvv4u8q6tjv4jqpp594c3vs4hy6cygqtz0j5lhtpj7hy9xra3jq7vfkczykr30ys6fzqssp5587wgd3c2nlc3r8lfw88sawkq"
    "rpxsgusgy4geaumxlgtzy2gkraqxqzpuy6sg4ltvud8q3cgwtvf5ecwngu9k8qjrn30mkc0wu8d7pe66w2tsmgd6286uvklursfpnndfaylyvy4z0n"
    "67xhkgajxzp28yhaz79gsqap0wql"
)
"""An invoice of 5 sat from 2020."""


class Person:
    """Somebody with a wallet, and everything that was ever said to him."""

    def __init__(self, folder: Path, name: str) -> None:
        self.db = str(folder / f"{name}.db")
        self.folder = folder
        self.said: list[tuple[tuple[str, ...], Ran]] = []

    @property
    def words(self) -> str:
        return Path(f"{self.db}.seed").read_text().strip()

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("WALLET_ACTIONS")}
        return {**kept, "COLUMNS": "200", "HOME": str(self.folder)}

    async def spawn(self, *args: str, **pipes: Any) -> asyncio.subprocess.Process:
        """The command line in a process of its own."""
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", MAIN, "cashu", *args, "--db", self.db),
            **{"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE, **pipes},
            stderr=asyncio.subprocess.PIPE,
            env=self.environment,
            cwd=self.folder,
        )

    async def run(self, *args: str, given: str = "") -> Ran:
        """In a process of its own, to its end."""
        process = await self.spawn(*args)
        out, err = await process.communicate(given.encode())
        return self._heard(args, Ran(process.returncode or 0, out.decode(), err.decode()))

    async def call(self, *args: str, given: str = "") -> Ran:
        """In this process, which is quicker."""

        def invoke() -> Ran:
            environment = {name: None for name in os.environ if name.startswith("WALLET_ACTIONS_M")}
            result = CliRunner().invoke(
                app, ["cashu", *args, "--db", self.db], input=given, env={"COLUMNS": "200", **environment}
            )
            assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
            return Ran(result.exit_code, result.stdout, result.stderr)

        return self._heard(args, await to_thread.run_sync(invoke))

    def _heard(self, args: tuple[str, ...], ran: Ran) -> Ran:
        assert "Traceback" not in ran.err
        self.said.append((args, ran))
        return ran

    async def init(self, mint: str) -> None:
        assert (await self.call("init", "--mint", mint)).status == 0

    async def balance(self) -> tuple[int, int]:
        """Spendable and held, at the one mint there is."""
        balances = (await self.call("balance", "--json")).json["balances"]
        return (balances[0]["spendable"], balances[0]["held"]) if balances else (0, 0)

    async def history(self) -> list[tuple[str, int, str]]:
        rows = (await self.call("history", "--json")).json["history"]
        return [(row["operation"], row["amount"], row["state"]) for row in rows]

    async def fund(self, amount: int) -> None:
        assert (await self.call("issue", str(amount))).out.endswith(f"issued {amount} sat\n")

    async def token(self, *args: str) -> str:
        ran = await self.call("send", *args)
        assert ran.status == 0, ran.err
        return ran.out.splitlines()[0]


@pytest.fixture
def alice(tmp_path: Path) -> Person:
    return Person(tmp_path, "alice")


@pytest.fixture
def bob(tmp_path: Path) -> Person:
    return Person(tmp_path, "bob")


@pytest.fixture
async def proxy(mint: NutshellMint) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(mint.url) as proxy:
        yield proxy


async def test_the_main_path(tmp_path: Path, mint: NutshellMint, alice: Person, bob: Person) -> None:
    """Issue, send, receive, swap, pay, look back, and restore from the words alone."""
    before = await mint.outstanding()
    await alice.init(mint.url)
    issued = await alice.run("issue", "100")
    assert issued.out.startswith("lnbc1u1")
    assert issued.out.endswith("issued 100 sat\n")

    sent = await alice.run("send", "21", "--memo", "for \x1b[31mtea\x07")
    token = sent.out.strip()
    assert token.startswith("cashuB")
    assert "Whoever has this token has the 21 sat" in sent.err
    (row,) = (await alice.call("pending", "--json")).json["pending"]
    assert (row["operation"], row["state"], row["amount"], row["unit"]) == ("send", "token_created", 21, "sat")
    listed = await alice.call("pending")
    assert "unclaimed" in listed.out
    assert "send --revoke ID" in listed.out
    assert (await alice.call("pending", "--token", row["id"][:8])).out.strip() == token

    assert (await bob.call("init")).status == 0
    refused = await bob.call("receive", "-", given=token)
    assert_one_line(refused, f"a mint that this wallet has nothing of: --mint {mint.url} receives it")
    received = await bob.run("receive", "-", "--mint", mint.url, given=f"{token}\n")
    assert received.out == "received 21 sat\nmemo: for \\x1b[31mtea\\x07\n"

    swapped = await alice.call("swap", "--denominations", "1x5,2", "--json")
    assert swapped.json["coins"] >= 6
    invoice = await mint.invoice(30)
    assert_one_line(await alice.call("melt", invoice, "--json"), "NotConfirmedError")
    asked = await alice.call("melt", invoice)
    assert asked.status == 2
    assert f"{mint.url} pays 30 sat for a fee of at most 20 sat." in asked.err
    assert "add --yes" in asked.err
    paid = await alice.run("melt", f"LIGHTNING:{invoice.upper()}", "--yes")
    assert paid.out == "paid 30 sat, for a fee of 1\n"

    assert await alice.history() == [
        ("melt", 30, "done"),
        ("swap", swapped.json["amount"], "done"),
        ("send", 21, "done"),
        ("issue", 100, "done"),
    ]
    shown = await alice.call("history", "--limit", "3")
    assert [line.split()[2] for line in shown.out.splitlines()[1:]] == ["melt", "swap", "send"]
    assert "for \\x1b[31mtea\\x07" in shown.out
    assert "\x1b" not in shown.out
    assert (await alice.balance(), await bob.balance()) == ((48, 0), (21, 0))
    assert await mint.outstanding() - before == 48 + 21

    carol = Person(tmp_path, "carol")
    assert (await carol.call("init", "--mnemonic-stdin", "--mint", mint.url, given=alice.words)).status == 0
    restored = await carol.run("restore", "--json")
    assert restored.json["amounts"] == {"sat": 48}
    assert await carol.balance() == (48, 0)
    assert (await carol.call("restore")).out.startswith("nothing to restore")
    for person in (alice, bob, carol):
        await _check_secrets(person, token)


async def _check_secrets(person: Person, token: str) -> None:
    """A token, a phrase, a quote: only where it was asked for."""
    secrets = {*await _secrets(person.db), token, person.words}
    for args, ran in person.said:
        is_asked_for = args[0] in {"send", "init"} or args[:2] == ("pending", "--token")
        text = ran.err if is_asked_for else ran.out + ran.err
        told = [secret for secret in secrets if secret in text]
        assert not told, f"{len(told)} secrets were told by {args[:2]}"


async def _secrets(db: str) -> set[str]:
    found: set[str] = set()
    async with open_store(f"sqlite:///{db}?read_only=true") as store:
        for coin in await store.coins():
            proof = proof_of(coin)
            found |= {proof.secret, proof.C}
        for row in await store.list_actions():
            state, result = json.loads(row.state or "{}"), json.loads(row.result or "{}")
            found |= {secret for secret in (state.get("quote"), (result or {}).get("preimage")) if secret}
    assert len(found) > 2
    return found


@pytest.fixture(scope="module")
async def dear_mint() -> AsyncIterator[NutshellMint]:
    """A mint at which spending a coin costs a tenth of a satoshi."""
    async with NutshellMint(MintConfig(input_fee_ppk=100)) as mint:
        yield mint


async def test_the_main_path_where_spending_coins_costs(dear_mint: NutshellMint, alice: Person, bob: Person) -> None:
    """NUT-02: every fee is told where it arises, and what is left is what the mint owes, to the satoshi."""
    before = await dear_mint.outstanding()
    await alice.init(dear_mint.url)
    await bob.init(dear_mint.url)
    await alice.fund(100)
    token = await alice.token("21")
    assert (await bob.call("receive", token)).out == "received 20 sat, after a fee of 1\n"
    token = await alice.token("21", "--include-fee")
    assert (await bob.call("receive", token)).out == "received 21 sat, after a fee of 1\n"
    swapped = await alice.call("swap", "--denominations", "1x4,8")
    assert swapped.out.endswith(", for a fee of 1\n")

    invoice = await dear_mint.invoice(30)
    paid = await alice.call("melt", invoice, "--yes")
    assert "pays 30 sat for a fee of at most 21 sat." in paid.err
    assert paid.out == "paid 30 sat, for a fee of 2\n"
    assert_one_line(await alice.call("melt", invoice, "--yes"), "this wallet has paid this invoice already: melt ")
    assert (await alice.call("swap")).out.endswith(", for a fee of 1\n")

    made = await alice.call("send", "6", "--json")
    name = json.loads(made.out)["id"]
    taken = await alice.call("send", "--revoke", name)
    assert taken.out == "taken back, for a fee of 2\n"
    left = 100 - (21 + 1) - (22 + 1) - 1 - (30 + 2) - 1 - 2
    spendable, _ = await alice.balance()  # that a token was claimed may not have been looked up yet
    assert (spendable, await bob.balance()) == (left, (41, 0))
    assert await dear_mint.outstanding() - before == left + 41
    for command, key, least in (("balance", "balances", 1), ("pending", "pending", 0), ("history", "history", 7)):
        for url, count in ((dear_mint.url, least), ("http://127.0.0.1:9", 0)):
            shown = (await alice.call(command, "--mint", url, "--json")).json[key]
            assert {row["mint"] for row in shown} <= {url}
            assert len(shown) >= count
    assert len((await alice.call("history", "--mint", dear_mint.url, "--limit", "2")).out.splitlines()) == 3
    rows = (await alice.call("history", "--json")).json["history"]
    assert [(row["operation"], row["fee"]) for row in rows] == [
        ("send", 2),
        ("swap", 1),
        ("melt", 2),
        ("swap", 1),
        ("send", 2),
        ("send", 1),
        ("issue", 0),
    ]


async def test_killed_in_the_middle_of_a_swap(
    mint: NutshellMint, proxy: FaultProxy, alice: Person, bob: Person
) -> None:
    """The mint has done it, and nobody has read its answer: the next command, whichever it is, has the coins (L-P2)."""
    await alice.init(proxy.url)
    await bob.init(proxy.url)
    await alice.fund(64)
    token = await alice.token("10")
    processes: list[asyncio.subprocess.Process] = []
    proxy.use(Rule(Kill(lambda: processes[0].kill()), path=SWAP))
    processes.append(await bob.spawn("receive", token))
    await processes[0].communicate()
    assert processes[0].returncode == -signal.SIGKILL
    proxy.use()
    looked = await bob.call("balance")
    assert looked.err == "Taken up from before: 1 done.\n"
    assert looked.out.split()[-4:] == [proxy.url, "10", "0", "sat"]
    assert await bob.history() == [("receive", 10, "done")]
    assert (await bob.call("pending")).err == ""


async def test_ctrl_c_leaves_an_issue_under_way(mint: NutshellMint, alice: Person) -> None:
    await alice.init(mint.url)
    await mint.set(fakewallet_brr=False)
    process = await alice.spawn("issue", "10")
    assert process.stdout is not None
    assert process.stderr is not None
    invoice = (await process.stdout.readline()).decode()
    told = (await process.stderr.readline()).decode()
    name = told.rpartition(" ")[2].rstrip(".\n")
    process.send_signal(signal.SIGINT)
    out, err = await process.communicate()
    assert (process.returncode, out) == (130, b"")
    assert err.decode() == (
        f"wallet-actions: interrupted; issue {name} goes on with the next command: "
        f"`wallet-actions cashu issue --resume {name} --db {alice.db}`\n"
    )
    late = await alice.call("issue", "--resume", name[:6], "--timeout", "1s")
    assert late.status == 1
    assert late.out == invoice
    assert f"issue {name} is still under way; it goes on with the next command" in late.err
    await mint.set(fakewallet_brr=True)
    resumed = await alice.call("issue", "--resume", name, "--json")
    assert json.loads(resumed.out.splitlines()[-1]) == {
        "id": name,
        "state": "done",
        "amount": 10,
        "unit": "sat",
        "mint": mint.url,
    }
    assert (await alice.call("issue", "--resume", name)).out == "issued 10 sat\n"


async def test_an_issue_that_nobody_waits_for(mint: NutshellMint, alice: Person) -> None:
    await alice.init(mint.url)
    await mint.set(fakewallet_brr=False)
    begun = await alice.call("issue", "10", "--no-wait", "--qr")
    assert begun.status == 0
    assert begun.out.startswith("lnbc100n1")
    assert "█▀" in begun.out
    (row,) = (await alice.call("pending", "--json")).json["pending"]
    assert row["state"] == "unpaid"
    await mint.set(fakewallet_brr=True)
    assert (await alice.call("issue", "--resume", row["id"])).out.endswith("issued 10 sat\n")


async def test_a_closed_pipe_loses_nothing(mint: NutshellMint, alice: Person) -> None:
    await alice.init(mint.url)
    await alice.fund(64)
    reader, writer = os.pipe()
    os.close(reader)
    process = await alice.spawn("send", "10", stdout=writer)
    os.close(writer)
    _, err = await process.communicate()
    assert process.returncode == 1
    assert b"Traceback" not in err
    assert await alice.balance() == (54, 10)
    (row,) = (await alice.call("pending", "--json")).json["pending"]
    assert (await alice.call("pending", "--token", row["id"])).out.startswith("cashuB")


async def test_two_processes_on_one_file(mint: NutshellMint, alice: Person) -> None:
    await alice.init(mint.url)
    await alice.fund(30)
    both = await asyncio.gather(alice.run("send", "5"), alice.run("issue", "20"))
    assert [ran.status for ran in both] == [0, 0]
    assert await alice.balance() == (45, 5)


async def test_a_token_that_is_taken_back(mint: NutshellMint, alice: Person, bob: Person) -> None:
    await alice.init(mint.url)
    await bob.init(mint.url)
    await alice.fund(64)
    made = await alice.call("send", "10", "--v3", "--json")
    created = json.loads(made.out)
    assert created["token"].startswith("cashuA")
    assert (created["state"], created["amount"], created["mint"]) == ("created", 10, mint.url)
    assert (await alice.call("send", "--revoke", created["id"])).out == "taken back\n"
    assert await alice.balance() == (64, 0)
    again = await alice.call("send", "--revoke", created["id"])
    assert_one_line(again, "is cancelled already; there is nothing to take back", status=1)
    gone = await bob.call("receive", created["token"])
    assert gone.status == 1
    assert gone.err.splitlines()[-1].endswith("the token has been spent already")
    assert await bob.balance() == (0, 0)

    token = await alice.token("10")
    assert (await bob.call("receive", token)).status == 0
    (row,) = (await alice.call("history", "--limit", "1", "--json")).json["history"]
    late = await alice.call("send", "--revoke", row["id"])
    assert late.status == 1
    assert "was claimed first" in late.err or "is claimed already" in late.err
    assert_one_line(await bob.call("receive", token), "has received the token already: 10 sat", status=1)
    assert (await alice.balance(), await bob.balance()) == ((54, 0), (10, 0))


async def test_locked_tokens(mint: NutshellMint, alice: Person, bob: Person) -> None:
    await alice.init(mint.url)
    await bob.init(mint.url)
    await alice.fund(64)
    key = (await bob.call("receive", "--new-key")).out.strip()
    token = await alice.token("5", "--lock", key)
    locked = await alice.call("receive", token)
    assert locked.status == 1
    assert (await bob.call("receive", token)).out == "received 5 sat\n"

    preimage = "07" * 32
    digest = hashlib.sha256(bytes.fromhex(preimage)).hexdigest()
    token = await alice.token("6", "--hash", digest, "--locktime", "24h", "--refund", key)
    assert (await bob.call("receive", token)).status == 1
    opened = await bob.call("receive", token, "--preimage", preimage, "--json")
    assert (opened.json["amount"], opened.json["unit"], opened.json["memo"]) == (6, "sat", None)
    assert preimage not in opened.out


async def test_a_send_that_waits_for_its_claim(mint: NutshellMint, alice: Person, bob: Person) -> None:
    await alice.init(mint.url)
    await bob.init(mint.url)
    await alice.fund(64)
    process = await alice.spawn("send", "64", "--wait")
    assert process.stdout is not None
    token = (await process.stdout.readline()).decode()
    assert (await bob.call("receive", "-", given=token)).status == 0
    out, _ = await process.communicate()
    assert (process.returncode, out) == (0, b"claimed: 64 sat\n")


async def test_what_the_mint_or_the_wallet_refuses(mint: NutshellMint, alice: Person) -> None:
    """One line, status 1, and everything is as it was."""
    await alice.init(mint.url)
    await alice.fund(8)
    invoice = await mint.invoice(100)
    for args, part in (
        (("send", "9"), "not enough funds: 9 needed, 8 available; nothing was changed"),
        (("melt", invoice, "--yes"), "not enough funds: 120 needed, 8 available"),
        (("melt", invoice, "--yes", "--max-fee", "1"), "accept it with --max-fee"),
        (("issue", "10", "--unit", "eur"), "no keyset in use for the unit 'eur'"),
        (("send", "1", "--unit", "eur"), "nothing was changed"),
        (("issue", "10", "--mint", f"{mint.url}/nowhere"), "the mint refused: Not Found"),
        (("swap",), "nothing to swap"),
        (("melt", "lnbc10n1" + "q" * 60, "--yes"), "the mint refused"),
    ):
        assert_one_line(await alice.call(*args), part, status=1)
    assert await alice.balance() == (8, 0)
    assert (await alice.call("pending")).out == "nothing is under way\n"
    assert await alice.history() == [("issue", 8, "done")]


async def test_payments_that_fail(mint: NutshellMint, alice: Person) -> None:
    await alice.init(mint.url)
    await alice.fund(64)
    late = await alice.call("melt", EXPIRED, "--yes")
    assert late.status == 1
    assert late.err.endswith("the mint's offer has expired; its coins are free again\n")
    await mint.set(fakewallet_pay_invoice_state="FAILED", fakewallet_payment_state="FAILED")
    failed = await alice.call("melt", await mint.invoice(5), "--yes", "--json")
    assert (failed.status, failed.out) == (1, "")
    assert failed.error["error"]["type"] == "ActionFailedError"
    assert "; its coins are free again" in failed.error["error"]["message"]
    assert await alice.balance() == (64, 0)


async def test_a_payment_that_stays_pending(mint: NutshellMint, alice: Person) -> None:
    """It is under way at the mint: neither failed nor to be paid again."""
    await alice.init(mint.url)
    await alice.fund(64)
    await mint.set(fakewallet_pay_invoice_state="PENDING", fakewallet_payment_state="PENDING")
    waiting = await alice.call("melt", await mint.invoice(5), "--yes", "--timeout", "1s", "--json")
    assert waiting.status == 1
    assert waiting.error["error"]["type"] == "StillUnderWayError"
    assert (await alice.balance())[1] == 64
    (row,) = (await alice.call("pending", "--json")).json["pending"]
    assert (row["operation"], row["state"]) == ("melt", "payment_pending")


async def test_a_mint_that_goes_down_on_the_way(proxy: FaultProxy, alice: Person, bob: Person) -> None:
    """What was begun is safe, is said to be, and is taken up by asking again."""
    await alice.init(proxy.url)
    await bob.init(proxy.url)
    await alice.fund(64)
    token = await alice.token("10")
    proxy.use(Rule(LoseAnswer(), path=SWAP), Rule(Status(), once=False, path=r"/v1/(swap|checkstate|restore)$"))
    waiting = await bob.call("receive", token, "--timeout", "1s")
    assert waiting.status == 1
    assert "; trying again\n" in waiting.err
    assert "is still under way (" in waiting.err
    assert "it goes on with the next command" in waiting.err
    proxy.use()
    assert (await bob.call("receive", token)).out == "received 10 sat\n"
    assert await bob.balance() == (10, 0)
    assert await bob.history() == [("receive", 10, "done")]
