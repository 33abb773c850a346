"""Databases of the Postgres that TEST_POSTGRES_URL names, one per server."""

import contextlib
import glob
import os
import subprocess
import uuid
from urllib.parse import urlsplit, urlunsplit


def _administer(statement):
    [*_, psql] = sorted(glob.glob("/usr/lib/postgresql/*/bin/psql"))
    url = os.environ["TEST_POSTGRES_URL"]
    subprocess.run([psql, "-qX", "-v", "ON_ERROR_STOP=1", "-c", statement, url], check=True)


@contextlib.contextmanager
def database():
    """The URL of a new, empty database; it is dropped in the end."""
    url = os.environ.get("TEST_POSTGRES_URL")
    assert url, "set TEST_POSTGRES_URL (see `make test-clients`)"
    name = f"t{uuid.uuid4().hex}"
    _administer(f"CREATE DATABASE {name}")
    try:
        yield urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
    finally:
        _administer(f"DROP DATABASE {name} WITH (FORCE)")
