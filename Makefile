# Everything happens in .venv and .cache of this folder; `make clean` leaves nothing behind.

PYTHON ?= python3
# More arguments for pytest, such as: make test ARGS='-k melt'
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
# Where the test mint's environment is kept.
WALLET_ACTIONS_CACHE ?= $(CURDIR)/.cache
export WALLET_ACTIONS_CACHE

# Constraints in the user's own configuration of pip are for other projects; ours are complete.
PIP := PIP_CONSTRAINT=/dev/null PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip
KEY := $(shell { cat pyproject.toml constraints.txt; $(PYTHON) -V; pwd; } 2>/dev/null | cksum | tr ' ' '-')
INSTALLED := $(VENV)/installed-$(KEY)

.DEFAULT_GOAL := help
.PHONY: help demo test check bench clean mint simulate

help: ## Show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile

demo: mint ## Issue and pay with a real mint, killing the wallet at every step
	@$(BIN)/wallet-actions demo

.PHONY: demo-saga
demo-saga: $(INSTALLED) ## Run sagas against a cloud, killing them at every write and every request
	@$(BIN)/wallet-actions demo-saga

.PHONY: demo-lightning
demo-lightning: $(INSTALLED) ## Pay Lightning invoices, killing the wallet at every step
	@$(BIN)/wallet-actions demo-lightning

# A test a core at a time, four at most; one after the other: make test ARGS=-n0, or a debugger: ARGS=--pdb
test: mint ## Run all tests, the real mint included (ARGS='-k …')
	@$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist worksteal $(ARGS)

check: $(INSTALLED) ## Lint, formatting, types, import rules
	@failed=; for tool in "ruff check" "ruff format --check" mypy lint-imports; do \
		echo "== $$tool"; $(BIN)/$$tool || failed="$$failed, $$tool"; \
	done; if [ -n "$$failed" ]; then echo "failed: $${failed#, }" >&2; exit 1; fi

# More choices: make bench ARGS='--only sqlite --rounds 9'
bench: mint ## Measure everything against raw SQLite and peers, and draw the plots (takes long)
	@$(BIN)/python -m benchmarks --json .cache/bench.json --plots docs $(ARGS)

.PHONY: bench-quick profile
bench-quick: mint ## Measure what has a goal (less than five minutes)
	@$(BIN)/python -m benchmarks --quick --json .cache/bench-quick.json $(ARGS)

profile: $(INSTALLED) ## Draw where the time of a transition goes, as a flame graph
	@$(BIN)/python -m benchmarks.profile .cache/profile

.PHONY: kit-check
kit-check: $(INSTALLED) ## Set the testing kit on planted bugs, and on their correct twins
	@$(BIN)/python -m tests.kit.check

# More choices: make simulate SEED=7, SECONDS=60 or COUNT=5000
simulate: $(INSTALLED) ## Try 100,000 schedules of processes, crashes and faults over the engine
	@$(BIN)/python -m wallet_actions.testing.simulate \
		$(if $(SEED),--seed $(SEED)) $(if $(SECONDS),--seconds $(SECONDS)) $(if $(COUNT),--count $(COUNT))

# A smaller choice: make sweep-cashu SAMPLE=40; another one: SEED=7; one action: ONLY=Send
.PHONY: sweep-cashu
sweep-cashu: mint ## Crash every Cashu action at every boundary and pair, at a real mint, and kill a choice of them
	@$(BIN)/python -m tests.integration.sweep_cashu $(if $(SEED),--seed $(SEED)) $(if $(SAMPLE),--sample $(SAMPLE)) $(if $(ONLY),--only "$(ONLY)")

# Another choice: make mutants SEED=7, COUNT=100 or COUNT=all, JOBS=1; one place: ONLY=sqlite/delta.py; verdicts: JSON=FILE
.PHONY: mutants
mutants: $(INSTALLED) ## Plant bugs in copies of the engine and of both stores, and see what the tests notice
	@$(BIN)/python -m tests.mutants $(if $(COUNT),--count $(COUNT)) $(if $(SEED),--seed $(SEED)) $(if $(JOBS),--jobs $(JOBS)) \
		$(if $(ONLY),--only '$(ONLY)') $(if $(JSON),--json $(JSON))

# Fewer points: make crash-matrix COUNT=100; another choice: SEED=7; one point: ONLY=ID; JOBS=1; all that was found: JSON=FILE
.PHONY: crash-matrix
crash-matrix: mint ## Let a wallet meet with every fault at every point of every operation, and count its money
	@$(BIN)/python -m tests.crash_matrix $(if $(SEED),--seed $(SEED)) $(if $(JOBS),--jobs $(JOBS)) \
		$(if $(COUNT)$(SAMPLE),--count $(or $(COUNT),$(SAMPLE))) $(if $(ONLY),--only '$(ONLY)') $(if $(JSON),--json $(JSON))

# Another choice: make soak SEED=7; fewer operations: COUNT=200
.PHONY: soak
soak: mint ## 2,000 operations by two processes that share a wallet and are killed again and again
	@$(BIN)/python -m tests.soak $(if $(SEED),--seed $(SEED)) $(if $(COUNT),--count $(COUNT))

# Another choice: make chaos SEED=7; fewer: ACTIONS=500 MINT=0; one database: ONLY=postgres; all that was found: JSON=FILE
.PHONY: chaos
chaos: mint ## Kill, freeze and cut off four workers and their database, on SQLite and on PostgreSQL, and count the money
	@$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED)) $(if $(ACTIONS),--actions $(ACTIONS)) \
		$(if $(MINT),--mint-actions $(MINT)) $(if $(ONLY),--only $(ONLY)) $(if $(JSON),--json $(JSON))

.PHONY: protos
protos: mint ## Make the messages of LND anew, from wallet_actions/lightning/lnd.proto
	@$(BIN)/python -m wallet_actions.lightning.protos "$$($(BIN)/python -c 'from wallet_actions.testing.nutshell.environment import ensure_environment as e; print(e())')"

clean: ## Remove everything that was made here
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

mint: $(INSTALLED)
	@$(BIN)/python -m wallet_actions.testing.nutshell

# An environment of another Python, or of a folder that was moved here, is made anew; else only what changed is installed.
$(INSTALLED):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "wallet_actions needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) -V 2>/dev/null || echo not there). Try: make PYTHON=python3.12 …" >&2; \
		exit 1; }
	@if ! [ "$$($(BIN)/python -V 2>/dev/null)" = "$$($(PYTHON) -V)" ] || ! grep -qF '$(CURDIR)/$(VENV)' $(VENV)/pyvenv.cfg \
			|| ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		echo "Creating $(VENV) with $$($(PYTHON) -V)"; \
		$(PYTHON) -m venv --clear $(VENV); \
	fi
	@echo "Installing wallet_actions and its tools into $(VENV) (once, less than a minute) …"
	@$(PIP) install -q -c constraints.txt -e '.[dev]'
	@rm -f $(VENV)/installed-* && touch $@
