"""The test mint itself: what it offers to other tests has to be true first."""

from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from anyio import to_thread
from anyio.streams.buffered import BufferedByteReceiveStream
from coincurve import PublicKey

from wallet_actions.testing.nutshell import MintConfig, MintError, NutshellMint, ensure_environment, environment
from wallet_actions.testing.proxy import FaultProxy, Kill, Rule

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def quiet_mint() -> AsyncIterator[NutshellMint]:
    """Where nobody leaves payments pending, which a mint settles at some time of its own choice."""
    async with NutshellMint() as mint:
        yield mint


@pytest.fixture
async def own_mint() -> AsyncIterator[NutshellMint]:
    """A second mint, of the older kind and with input fees, running beside the session's."""
    async with NutshellMint(MintConfig(input_fee_ppk=100, keyset_version=1, brr=False)) as mint:
        yield mint


def point_of(secret: str) -> PublicKey:
    """NUT-00's hash to curve: a proof for it needs no unblinding when it was minted with a blinding factor of zero."""
    seed = hashlib.sha256(b"Secp256k1_HashToCurve_Cashu_" + secret.encode()).digest()
    for counter in range(100):
        try:
            return PublicKey(b"\x02" + hashlib.sha256(seed + counter.to_bytes(4, "little")).digest())
        except ValueError:
            continue
    raise AssertionError("no point in a hundred tries")


async def post(http: httpx.AsyncClient, path: str, **body: object) -> Any:
    answer = await http.post(path, json=body)
    answer.raise_for_status()
    return answer.json()


async def active_keyset(http: httpx.AsyncClient) -> dict[str, Any]:
    keysets = (await http.get("/v1/keysets")).json()["keysets"]
    found: dict[str, Any] = next(keyset for keyset in keysets if keyset["active"])
    return found


async def mint_proof(http: httpx.AsyncClient, amount: int, secret: str) -> dict[str, Any]:
    quote = await post(http, "/v1/mint/quote/bolt11", amount=amount, unit="sat")
    assert (await http.get(f"/v1/mint/quote/bolt11/{quote['quote']}")).json()["state"] == "PAID"
    keyset = (await active_keyset(http))["id"]
    output = {"amount": amount, "id": keyset, "B_": point_of(secret).format().hex()}
    signed = await post(http, "/v1/mint/bolt11", quote=quote["quote"], outputs=[output])
    return {"amount": amount, "id": keyset, "secret": secret, "C": signed["signatures"][0]["C_"]}


async def test_a_quote_is_paid_by_itself_unless_told_otherwise(mint: NutshellMint, http: httpx.AsyncClient) -> None:
    quote = await post(http, "/v1/mint/quote/bolt11", amount=64, unit="sat")
    assert (await http.get(f"/v1/mint/quote/bolt11/{quote['quote']}")).json()["state"] == "PAID"

    await mint.set(fakewallet_brr=False)
    assert await mint.get("fakewallet_brr") is False
    quote = await post(http, "/v1/mint/quote/bolt11", amount=64, unit="sat")
    assert (await http.get(f"/v1/mint/quote/bolt11/{quote['quote']}")).json()["state"] == "UNPAID"

    await mint.reset()
    assert (await http.get(f"/v1/mint/quote/bolt11/{quote['quote']}")).json()["state"] == "PAID"


async def test_its_books_follow_what_is_issued_and_paid(quiet_mint: NutshellMint) -> None:
    """The oracle of every test about money: outstanding is issued less redeemed, whatever a payment under way holds."""
    mint = quiet_mint
    async with httpx.AsyncClient(base_url=mint.url, trust_env=False, timeout=10) as http:
        before, held = await mint.outstanding(), sum(keyset.pending for keyset in await mint.ledger())
        proof = await mint_proof(http, 64, "its books")
        assert await mint.outstanding() == before + 64

        await mint.set(fakewallet_pay_invoice_state="PENDING", fakewallet_payment_state="PENDING")
        quote = await post(http, "/v1/melt/quote/bolt11", request=await mint.invoice(40), unit="sat")
        assert (quote["amount"], quote["fee_reserve"]) == (40, 20)
        melt = await post(http, "/v1/melt/bolt11", quote=quote["quote"], inputs=[proof])
        assert melt["state"] == "PENDING"
        assert await mint.outstanding() == before + 64
        assert sum(keyset.pending for keyset in await mint.ledger()) == held + 64

        await mint.set(fakewallet_payment_state="SETTLED")
        assert (await http.get(f"/v1/melt/quote/bolt11/{quote['quote']}")).json()["state"] == "PAID"
        assert await mint.outstanding() == before
        assert sum(keyset.pending for keyset in await mint.ledger()) == held
        await mint.reset()


async def test_a_payment_has_one_fate_where_that_is_asked_for() -> None:
    """What has failed does not settle later, whatever the settings say then; another attempt may."""
    async with NutshellMint() as mint, httpx.AsyncClient(base_url=mint.url, trust_env=False, timeout=10) as http:
        await mint.give_payments_one_fate()
        proof = await mint_proof(http, 64, "one fate")
        quote = await post(http, "/v1/melt/quote/bolt11", request=await mint.invoice(40), unit="sat")
        await mint.set(fakewallet_pay_invoice_state="PENDING", fakewallet_payment_state="PENDING")
        body = {"quote": quote["quote"], "inputs": [proof]}
        assert (await post(http, "/v1/melt/bolt11", **body))["state"] == "PENDING"

        await mint.set(fakewallet_payment_state="FAILED")
        assert (await http.get(f"/v1/melt/quote/bolt11/{quote['quote']}")).json()["state"] == "UNPAID"
        await mint.set(fakewallet_payment_state="SETTLED", fakewallet_pay_invoice_state="FAILED")
        refused = await http.post("/v1/melt/bolt11", json=body)
        assert refused.json()["code"] == 20004, "both answers of one attempt agree"

        await mint.set(fakewallet_pay_invoice_state="SETTLED")
        assert (await post(http, "/v1/melt/bolt11", **body))["state"] == "PAID"


async def test_a_payment_that_is_being_attempted_has_not_failed() -> None:
    """A look-up that comes between the request and its payment's answer hears of neither end: L-C5."""
    async with NutshellMint() as mint, httpx.AsyncClient(base_url=mint.url, trust_env=False, timeout=30) as http:
        await mint.give_payments_one_fate()
        proof = await mint_proof(http, 64, "in the middle")
        quote = await post(http, "/v1/melt/quote/bolt11", request=await mint.invoice(40), unit="sat")
        await mint.set(
            fakewallet_delay_outgoing_payment=1.0,
            fakewallet_pay_invoice_state="SETTLED",
            fakewallet_payment_state="FAILED",
        )
        seen = set()
        async with anyio.create_task_group() as tasks:

            async def pay() -> None:
                body = {"quote": quote["quote"], "inputs": [proof]}
                seen.add(state_of(await http.post("/v1/melt/bolt11", json=body)))

            tasks.start_soon(pay)
            while "PAID" not in seen:
                state = state_of(await http.get(f"/v1/melt/quote/bolt11/{quote['quote']}"))
                assert "PENDING" not in seen or state != "UNPAID", "what is under way has not failed"
                if state != "UNPAID":
                    seen.add(state)
        assert seen - {"settled at once"} == {"PENDING", "PAID"}


def state_of(answer: httpx.Response) -> str:
    """A payment's state; or that this mint settled it twice at once, for a look-up and for whoever had it paid."""
    told = answer.json()
    if "state" not in told:
        assert "proofs_used" in told["detail"], told
        return "settled at once"
    return str(told["state"])


async def test_data_and_port_survive_a_kill(quiet_mint: NutshellMint) -> None:
    mint = quiet_mint
    async with httpx.AsyncClient(base_url=mint.url, trust_env=False, timeout=10) as http:
        await mint_proof(http, 32, "survives a kill")
        before, pid, url = await mint.outstanding(), mint.pid, mint.url
        await mint.kill()
        assert not mint.is_running
        with pytest.raises(httpx.ConnectError):
            await http.get("/v1/info")
    with pytest.raises(MintError, match="not running"):
        await mint.outstanding()

    await mint.restart()
    assert mint.pid != pid
    assert mint.url == url
    assert await mint.outstanding() == before


async def test_two_mints_do_not_meet(mint: NutshellMint, own_mint: NutshellMint) -> None:
    assert own_mint.url != mint.url
    (keyset,) = await own_mint.ledger()
    assert keyset.id not in {other.id for other in await mint.ledger()}
    assert (keyset.id[:2], keyset.input_fee_ppk, keyset.outstanding) == ("00", 100, 0)
    assert {other.id[:2] for other in await mint.ledger()} == {"01"}

    newer = await own_mint.rotate_keyset(input_fee_ppk=200)
    keysets = {keyset.id: keyset for keyset in await own_mint.ledger()}
    assert not keysets[keyset.id].active
    assert keysets[newer].active
    assert keysets[newer].input_fee_ppk == 200


async def test_it_dies_at_a_moment_of_a_request(quiet_mint: NutshellMint) -> None:
    """T2, T3: it has done what was asked, and nobody but its database knows."""
    mint = quiet_mint
    before = sum(keyset.issued for keyset in await mint.ledger())
    async with (
        FaultProxy(mint.url, Rule(Kill(mint.pid), path=r"/v1/mint/bolt11$")) as proxy,
        httpx.AsyncClient(base_url=proxy.url, trust_env=False, timeout=10) as http,
    ):
        with pytest.raises(httpx.ReadError):
            await mint_proof(http, 16, "dies at a moment")
        pid = mint.pid
        await mint.restart()
        assert mint.pid != pid
        assert sum(keyset.issued for keyset in await mint.ledger()) == before + 16


async def test_it_ends_when_its_user_is_cancelled() -> None:
    mint = NutshellMint()
    async with anyio.create_task_group() as tasks:

        async def use() -> None:
            async with mint:
                tasks.cancel_scope.cancel()
                await anyio.sleep_forever()

        tasks.start_soon(use)
    assert not mint.is_running
    assert not mint.log.parent.exists()

    mint = NutshellMint()
    with anyio.move_on_after(0.1) as scope:
        await mint.__aenter__()
    assert scope.cancelled_caught
    assert not mint.is_running
    assert not mint.log.parent.exists()


async def test_an_unknown_setting_changes_nothing(mint: NutshellMint) -> None:
    with pytest.raises(MintError, match="no setting fakewallet_generosity"):
        await mint.set(fakewallet_brr=False, fakewallet_generosity=1)
    assert await mint.get("fakewallet_brr") is True


async def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    """SIGKILL of the process that started a mint leaves nothing behind that would keep its port."""
    program = f"""
import asyncio
from pathlib import Path
from wallet_actions.testing.nutshell import MintConfig, NutshellMint

async def main():
    async with NutshellMint(MintConfig(data_dir=Path({str(tmp_path)!r}))) as mint:
        print(mint.url.rpartition(":")[2], flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""
    async with await anyio.open_process([sys.executable, "-c", program], stderr=None) as parent:
        assert parent.stdout is not None
        port = int(await BufferedByteReceiveStream(parent.stdout).receive_until(b"\n", 100))
        async with await anyio.connect_tcp("127.0.0.1", port) as connection:
            parent.kill()
            with anyio.fail_after(20), pytest.raises(anyio.EndOfStream):
                await connection.receive()


async def test_a_mint_that_cannot_start_says_why(mint: NutshellMint, tmp_path: Path) -> None:
    port = int(mint.url.rpartition(":")[2])
    with pytest.raises(MintError, match=r"ended with status 1:\n(?s:.)*in use"):
        async with NutshellMint(MintConfig(data_dir=tmp_path, port=port)):
            pass
    with pytest.raises(MintError, match="did not answer within"):
        async with NutshellMint(MintConfig(data_dir=tmp_path, deadline=timedelta(0))):
            pass


async def test_an_environment_that_cannot_be_installed_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    said: list[str] = []
    with pytest.raises(MintError, match=r"could not be installed into (?s:.)*No matching distribution"):
        await to_thread.run_sync(lambda: ensure_environment(tmp_path, say=said.append))
    assert len(said) == 1


async def test_processes_that_need_the_environment_at_once_build_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock on the file holds between threads as between processes: each opens it for itself."""
    builds: list[Path] = []
    together = threading.Barrier(4)

    def build(folder: Path, interpreter: Path) -> None:
        builds.append(folder)
        interpreter.parent.mkdir(parents=True)
        interpreter.touch()
        (folder / "ready").write_text(str(folder))

    def ask() -> Path:
        together.wait(10)
        return ensure_environment(tmp_path, say=lambda line: None)

    monkeypatch.setattr(environment, "_build", build)
    with ThreadPoolExecutor(4) as pool:
        interpreters = {future.result() for future in [pool.submit(ask) for _ in range(4)]}
    assert len(interpreters) == 1
    assert len(builds) == 1

    (builds[0] / "ready").unlink()
    monkeypatch.setattr(environment, "_build", lambda folder, interpreter: builds.append(folder))
    ensure_environment(tmp_path, say=lambda line: None)
    assert len(builds) == 2, "a build that was interrupted is begun anew"
