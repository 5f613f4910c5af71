"""The contract of a store, as tests to run on a store of your own.

    from pathlib import Path
    from wallet_actions.testing.store_contract import StoreContract

    class TestMyStore(StoreContract):
        def make_store(self, tmp_path: Path) -> Store:
            return MyStore(tmp_path / "wallet.mine")

        def make_orphan(self, tmp_path: Path, coin_id: str, holder: ActionKey) -> None:
            ...  # edit the file: this coin is reserved by that action

Each rule of `wallet_actions.store` has a test whose docstring says which guarantee (`G2`) and which lesson of the field
(`L-S4`) it covers. Take `StoreContract` for a store without SQL and `SqlStoreContract` for one with SQL, and add
`SharedStoreContract` for one that several workers share (`wallet_actions.fleet`). The tests are asyncio coroutines that
run by the pytest plugin which comes with anyio; they need no other.
"""

from wallet_actions.testing.contract.actions import CreateContract, SaveContract
from wallet_actions.testing.contract.base import StoreHooks
from wallet_actions.testing.contract.callers import CancelledCallerContract, CloseContract
from wallet_actions.testing.contract.coins import CoinContract
from wallet_actions.testing.contract.course import CancelContract, ChildContract, HistoryContract
from wallet_actions.testing.contract.fleet import SharedStoreContract
from wallet_actions.testing.contract.ledger import CoinQueryContract, CounterContract, FactContract
from wallet_actions.testing.contract.listing import ListContract, PruneContract, WakeContract
from wallet_actions.testing.contract.records import DurableContract, FidelityContract, NoSqlContract
from wallet_actions.testing.contract.sql import SqlContract
from wallet_actions.testing.contract.units import UnitContract

__all__ = ["SharedStoreContract", "SqlStoreContract", "StoreContract", "StoreHooks"]


class _CommonContract(
    CreateContract,
    SaveContract,
    CancelContract,
    HistoryContract,
    ChildContract,
    CoinContract,
    CoinQueryContract,
    FactContract,
    CounterContract,
    ListContract,
    WakeContract,
    PruneContract,
    UnitContract,
    CancelledCallerContract,
    CloseContract,
    FidelityContract,
    DurableContract,
):
    """What holds for every store."""


class StoreContract(_CommonContract, NoSqlContract):
    """The contract of a store without SQL. Override `make_store` and `make_orphan`."""


class SqlStoreContract(_CommonContract, SqlContract):
    """The contract of a store with SQL. Override `make_store`, `make_orphan` and `app_rows`; see `SqlContract`."""
