import contextlib
import os
import random

import generated  # noqa: F401  (puts the generated code on the path)
import pytest
from postgres import database
from server import Server


@contextlib.contextmanager
def serving(store):
    """A server on SQLite or on a database of its own of the tests' Postgres."""
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(database()) if store == "postgres" else None
        yield stack.enter_context(Server(url))


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def server(request):
    """A server for the tests of one module; it must drain well in the end."""
    with serving(request.param) as running:
        yield running
        running.stop()


@pytest.fixture(params=["sqlite", "postgres"])
def own_server(request):
    """A server for one test, which may kill it."""
    with serving(request.param) as running:
        yield running


@pytest.fixture
def sqlite_server():
    """A server for one test, which may touch its files."""
    with serving("sqlite") as running:
        yield running


@pytest.fixture
def chance():
    """Randomness that can be had again: TEST_SEED is printed when a test fails."""
    seed = int(os.environ.get("TEST_SEED", random.SystemRandom().randrange(2**32)))
    print(f"TEST_SEED={seed}")
    return random.Random(seed)
