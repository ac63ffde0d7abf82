"""How every test runs: markers by directory, loops, profiles, budgets.

Tests outside ``tests/`` (``bench/micro``) are not touched by this file.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import uvloop
from hypothesis import HealthCheck, settings

from tests.budget import Budget, budgets_s
from tests.tools import CI, DEEP

HERE = Path(__file__).parent
DIRECTORIES = frozenset(
    {"cluster", "hostile", "property", "sim", "tidy", "unit", "vectors"},
)

# Of one test in a deep run, where loops are whole.
DEEP_TIMEOUT_S = 900

# A slow machine is no counterexample, so no profile has a deadline.
settings.register_profile("dev", deadline=None, max_examples=100)
settings.register_profile(
    "ci", deadline=None, max_examples=50, derandomize=True, print_blob=True
)
settings.register_profile(
    "deep",
    deadline=None,
    max_examples=2_000,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("deep" if DEEP else "ci" if CI else "dev")


@pytest.fixture(autouse=True)
def log_as_it_was() -> Iterator[None]:
    """A command run in this process says how it logs; other tests log otherwise."""
    _log_as_a_library()
    yield
    _log_as_a_library()


def _log_as_a_library() -> None:
    logging.disable(logging.NOTSET)
    logger = logging.getLogger("barrel_p2p")
    logger.setLevel(logging.NOTSET)
    logger.handlers, logger.propagate = [], True


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell has begun us in the background. Commands that tests interrupt would
        # inherit that, and never end.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not _is_worker(config):
        budgets = budgets_s(HERE / "budget.toml", deep=DEEP)
        config.pluginmanager.register(Budget(budgets), "budget")


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Mark by directory; drop what this run may not do; put timing tests last."""
    kept: list[pytest.Item] = []
    dropped: list[pytest.Item] = []
    for item in items:
        if item.path.is_relative_to(HERE):
            _mark_by_directory(item)
            if DEEP and item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(DEEP_TIMEOUT_S))
        (dropped if _is_out_of_place(config, item) else kept).append(item)
    if dropped:
        config.hook.pytest_deselected(items=dropped)
    kept.sort(key=lambda item: item.get_closest_marker("serial") is not None)
    items[:] = kept


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Uvloop, and the stock loop too for tests marked ``every_loop``."""
    if item.get_closest_marker("every_loop") is None:
        return {"uvloop": uvloop.new_event_loop}
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.SelectorEventLoop}


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _mark_by_directory(item: pytest.Item) -> None:
    directory = item.path.relative_to(HERE).parts[0]
    if directory in DIRECTORIES:
        item.add_marker(directory)


def _is_out_of_place(config: pytest.Config, item: pytest.Item) -> bool:
    # A timing test beside another test measures the other one.
    if _is_worker(config) and item.get_closest_marker("serial") is not None:
        return True
    return item.get_closest_marker("deep") is not None and not DEEP
