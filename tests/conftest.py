import collections
import contextlib
import functools
import os
import random

import generated  # noqa: F401  (puts the generated code on the path)
import pytest
from honest import SOAK, Colleagues, Honest
from postgres import database
from server import Server
from suite import Message, started


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


@pytest.fixture(scope="module", params=["embedded", "distributed"])
def start(request):
    """Starts servers that callers attack: the embedded mode, or a replica of message beside
    services in processes of their own."""
    if request.param == "embedded":
        yield Server
    else:
        with started(replicas=1) as (state, _):
            yield functools.partial(Message, state)


@pytest.fixture(scope="module")
def edge(start):
    """One server for the attacks of a module; it must drain well in the end."""
    with start() as running:
        yield running
        running.stop()


@pytest.fixture(scope="module")
def measured():
    """What honest clients measured, round by round of each test. How long something took
    decides in a soak alone, and there the best round, since the machine may be busy with others."""
    rounds = collections.defaultdict(list)
    yield rounds
    if SOAK:
        slow = [name for name, each in rounds.items() if not any(it.is_good for it in each)]
        assert not slow, "honest clients were slower than twice as slow"


@pytest.fixture(scope="module")
def colleagues():
    with Colleagues() as running:
        yield running


@pytest.fixture(params=range(SOAK or 1))
def beside(request, measured, colleagues):
    """Honest clients of a server, for as long as a block lasts; before it they work in quiet, in a
    soak as long as the block took in the round before."""
    name = request.node.name.replace(f"-{request.param}]", "]")

    @contextlib.contextmanager
    def honest(server):
        lasted = max((it.lasted for it in measured[name]), default=5)
        with Honest(server, colleagues, lasted if SOAK else 0) as working:
            yield working
        print(f"{name}: {working.measured}")
        measured[name].append(working.measured)

    return honest
