"""Databases of the Postgres that TEST_POSTGRES_URL names, one per server, and servers of a test's own."""

import contextlib
import glob
import os
import pathlib
import subprocess
import uuid
from urllib.parse import urlsplit, urlunsplit

WITH_POSTGRES = pathlib.Path(__file__).resolve().parents[2] / "scripts" / "with-postgres"


def run(url, statement):
    """What a statement says: a line for each row."""
    [*_, psql] = sorted(glob.glob("/usr/lib/postgresql/*/bin/psql"))
    asked = [psql, "-qXAt", "-v", "ON_ERROR_STOP=1", "-c", statement, url]
    return subprocess.run(asked, check=True, stdout=subprocess.PIPE, text=True).stdout.split("\n")[:-1]


@contextlib.contextmanager
def database(server=None):
    """The URL of a new, empty database; it is dropped in the end."""
    server = server or os.environ.get("TEST_POSTGRES_URL")
    assert server, "set TEST_POSTGRES_URL (see `make test-clients`)"
    name = f"t{uuid.uuid4().hex}"
    run(server, f"CREATE DATABASE {name}")
    try:
        yield urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
    finally:
        run(server, f"DROP DATABASE {name} WITH (FORCE)")


@contextlib.contextmanager
def own_server():
    """The URL of a server of a test's own, which may have other settings than that of all."""
    keep = 'echo "$TEST_POSTGRES_URL" && exec sleep infinity'
    running = subprocess.Popen([WITH_POSTGRES, "sh", "-c", keep], stdout=subprocess.PIPE, text=True)
    try:
        url = running.stdout.readline().strip()
        assert url, "no Postgres of its own"
        yield url
    finally:
        running.terminate()
        running.wait()
        running.stdout.close()


def give_to_postgres(*paths):
    """Lets a server that does not run as root read what a test that does has written."""
    if os.getuid() == 0:
        subprocess.run(["chown", "-R", "postgres", *paths], check=True)
