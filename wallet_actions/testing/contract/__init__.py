"""The contract of `Store` as tests, by topic; `wallet_actions.testing.store_contract` joins them."""

import pytest

# pytest explains a failed assertion only in modules that it was told of before they were imported.
for _module in (
    "base",
    "actions",
    "callers",
    "claims",
    "coins",
    "course",
    "fleet",
    "leases",
    "ledger",
    "listing",
    "records",
    "sql",
    "turns",
    "units",
    "workers",
):
    pytest.register_assert_rewrite(f"{__name__}.{_module}")
