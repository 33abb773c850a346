"""What lies between a process and its Postgres: TLS of a private CA, and poolers."""

import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time
from urllib.parse import urlsplit, urlunsplit

import pytest
from certificates import Ca
from parlance_client import people
from postgres import database, give_to_postgres, own_server, run
from server import Server, binary, environment

PATIENCE = 30

# Less than a start waits for a server that may be about to come.
SOON = 8


def until(holds):
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it does not come to be"
        time.sleep(0.05)


@pytest.fixture
def folder():
    """A folder that a server of another user may come into."""
    with tempfile.TemporaryDirectory(prefix="parlance-test-") as name:
        os.chmod(name, 0o755)
        yield pathlib.Path(name)


@pytest.fixture
def key(folder):
    path = folder / "callers.key"
    path.write_text("a secret of the callers of these services")
    return path


def at(url, **more):
    """The same database with another host, port or query."""
    parts = urlsplit(url)
    host, port = more.get("host", parts.hostname), more.get("port", parts.port)
    place = f"{parts.username}@{host}:{port}"
    return urlunsplit(parts._replace(netloc=place, query=more.get("query", "")))


def ended(command, store, key):
    """The exit code of a command, what it says of what went wrong, and how long that took."""
    begun = time.monotonic()
    asked = [binary(), command, "--store", store, "--auth-key", f"hs256:{key}"]
    if command == "run":
        asked += ["--listen", "127.0.0.1:0", "--log-filter", "error"]
    done = subprocess.run(
        asked, env=environment(), capture_output=True, text=True, timeout=2 * PATIENCE
    )
    assert done.stderr.count("\n") == 1, done.stderr
    return done.returncode, done.stderr.strip(), time.monotonic() - begun


def made(url):
    """What there is in a database beside what belongs to Postgres."""
    return run(
        url,
        "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"
        " UNION ALL SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
        " WHERE nspname = 'public'",
    )


@contextlib.contextmanager
def secured(ca, folder):
    """A database of a server that speaks TLS as `localhost`."""
    pair = ca.issue("localhost")
    files = [folder / "server.crt", folder / "server.key"]
    for path, content in zip(files, pair):
        path.write_bytes(content)
        path.chmod(0o600)
    give_to_postgres(*files)
    with own_server() as server:
        run(server, f"ALTER SYSTEM SET ssl_cert_file = '{files[0]}'")
        run(server, f"ALTER SYSTEM SET ssl_key_file = '{files[1]}'")
        run(server, "ALTER SYSTEM SET ssl = on")
        run(server, "SELECT pg_reload_conf()")
        until(lambda: run(server, "SHOW ssl") == ["on"])
        with database(server) as url:
            yield url


def test_postgres_is_known_by_its_ca_and_its_name(folder, key):
    """What is wrong is said at once, not waited for; and what is right is spoken to over TLS alone."""
    ca, other = Ca(folder / "ca"), Ca(folder / "other", "another CA")
    with secured(ca, folder) as plain:
        trusting = f"sslmode=verify-full&sslrootcert={ca.path}"
        store = at(plain, host="localhost", query=trusting)
        for wrong, says in (
            (f"sslmode=verify-full&sslrootcert={other.path}", r"invalid peer certificate: UnknownIssuer"),
            ("sslmode=verify-full", r"invalid peer certificate: UnknownIssuer"),
            (f"sslmode=verify-full&sslrootcert={folder}/none.pem", "No such file"),
        ):
            is_refused(at(plain, host="localhost", query=wrong), key, says)
        # An address instead of the name.
        is_refused(at(plain, query=trusting), key, "certificate not valid for name")
        # A server that speaks no TLS.
        port = urlsplit(os.environ["TEST_POSTGRES_URL"]).port
        is_refused(at(plain, host="localhost", port=port, query=trusting), key, "does not support TLS")
        assert made(plain) == ["public"]
        with Server(store, own_key=True) as server:
            _, anna = people(server, "anna")
            anna.send(anna.create_group("over TLS"), "hello")
            how = "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)"
            how += " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            assert run(plain, how) == ["t"]


def is_refused(store, key, says):
    """Whether a store is refused at once, in a sentence that says why and what to look at."""
    code, sentence, took = ended("run", store, key)
    assert code == 1 and says in sentence and "sslrootcert must be" in sentence, sentence
    assert took < SOON


@contextlib.contextmanager
def pooler(folder, server, mode, more=""):
    """pgbouncer in front of a server: its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = folder / f"pgbouncer-{port}.ini"
    host = urlsplit(server)
    settings.write_text(
        f"[databases]\n* = host={host.hostname} port={host.port} user={host.username}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = any\npool_mode = {mode}\nmax_client_conn = 200\ndefault_pool_size = 50\n{more}\n"
    )
    command = [shutil.which("pgbouncer") or "/usr/sbin/pgbouncer", settings]
    if os.getuid() == 0:
        command[1:1] = ["-u", "postgres"]
    with (folder / f"pgbouncer-{port}.log").open("w") as log:
        running = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        until(lambda: not socket.socket().connect_ex(("127.0.0.1", port)))
        yield port
    finally:
        running.terminate()
        running.wait()


@pytest.mark.parametrize("more", ["", "ignore_startup_parameters = extra_float_digits,options"])
@pytest.mark.parametrize("mode", ["session", "transaction", "statement"])
def test_a_start_through_a_pooler_is_refused_and_makes_nothing(folder, key, mode, more):
    with database() as url, pooler(folder, url, mode, more) as port:
        through = at(url, port=port)
        assert run(through, "SELECT 1") == ["1"], "it passes on what others ask"
        for command in ("run", "migrate"):
            code, sentence, took = ended(command, through, key)
            assert code == 1 and "a pooler in between" in sentence, sentence
            assert took < SOON
        assert made(url) == ["public"]
