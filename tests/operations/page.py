"""The page for operators, walked on: two services with roles, certificates and a Redis of few rights."""

import contextlib
import os
import re
import secrets
import signal
import subprocess
import time
from urllib.parse import urlsplit

import grpc
import pytest
from parlance_client import Client, mint, persist
from postgres import database
from server import binary, environment
from walk import PAGE, command, run

from parlance.membership.v1 import block_service_pb2 as block_pb

PATIENCE = 60
ROLES = ("parlance_owner", "parlance_serves")


@pytest.fixture
def store():
    """A database with the roles of the page: its URL, the owner's and the server's."""
    with database() as url:
        [statements] = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
        run(f"psql -qX -v ON_ERROR_STOP=1 -c '{statements}' {url}", "/")
        parts = urlsplit(url)
        at = f"{parts.hostname}:{parts.port}"
        try:
            yield url, *(parts._replace(netloc=f"{role}@{at}").geturl() for role in ROLES)
        finally:
            drop = " ".join(f"-c 'DROP OWNED BY {role}' -c 'DROP ROLE {role}'" for role in ROLES)
            run(f"psql -qX -v ON_ERROR_STOP=1 {drop} {url}", "/")


@pytest.fixture
def redis():
    """The user of the page on a Redis: the URL, with a password of its own."""
    url, password = os.environ["TEST_REDIS_URL"], secrets.token_hex(16)
    words = command("ACL SETUSER parlance", PASSWORD=password).split()
    made = subprocess.run(["redis-cli", "-u", url, *words], capture_output=True, text=True)
    assert made.stdout == "OK\n", made
    try:
        yield url.replace("redis://", f"redis://parlance:{password}@")
    finally:
        subprocess.run(["redis-cli", "-u", url, "ACL", "DELUSER", "parlance"], check=True)


@contextlib.contextmanager
def started(line, folder, exports, **settings):
    """A server that a line starts: the address that it says."""
    log = folder / f"{line.split()[0]}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["bash", "-euc", "\n".join([*exports, f"exec {line}"])],
            cwd=folder,
            env={
                **environment(),
                "PATH": f"{binary().parent}:{os.environ['PATH']}",
                "PARLANCE_LISTEN": "127.0.0.1:0",
                **settings,
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        give_up = time.monotonic() + PATIENCE
        while not (found := re.search(r"listens on (127\.0\.0\.1:\d+)", log.read_text())):
            assert process.poll() is None and time.monotonic() < give_up, log.read_text()
            time.sleep(0.02)
        yield found.group(1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0, log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_two_services_with_roles_certificates_and_a_redis_of_few_rights(store, redis, tmp_path):
    url, owner, serves = store
    # The schemas, by who may make them; then nothing is lacking.
    migrate = command("parlance migrate --store").replace("postgres://parlance_owner@...", owner)
    run(migrate, tmp_path)
    run(command("parlance migrate"), tmp_path, PARLANCE_STORE=owner)
    line = command("parlance restored --store").replace("postgres://...", serves)
    epoch = run(line, tmp_path, PARLANCE_NO_MIGRATE="true").strip()
    epochs = command("SELECT * FROM parlance_message.epochs")
    assert epoch and epoch in run(f"psql -qXt -c '{epochs}' {url}", tmp_path)
    line = command("redis-cli info replication")
    line = line.replace("redis-cli", f"redis-cli -u {os.environ['TEST_REDIS_URL']}")
    assert "role:master" in run(line, tmp_path)

    for line in (
        command("openssl req -x509"),
        command("openssl req -newkey"),
        command("printf"),
        command("openssl x509 -req"),
    ):
        run(line, tmp_path)
    exports = [command("export PARLANCE_TLS_CERT=tls.crt")]
    key = tmp_path / "callers.key"
    key.write_text(secrets.token_hex(32))
    settings = {"PARLANCE_NO_MIGRATE": "true", "PARLANCE_BUS": redis}

    def filled(line, below=""):
        line = line.replace("postgres://...", serves).replace("--auth-key ...", f"--auth-key hs256:{key}")
        return line.replace("https://message:7070", f"https://{below}")

    message = filled(command("parlance-message --store"))
    with started(message, tmp_path, exports, **settings) as below:
        membership = filled(command("parlance-membership --store"), below)
        with started(membership, tmp_path, exports, **settings) as address:
            # A block stands in the log of its user before it is answered: membership wrote it there,
            # known by its certificate alone.
            trusted = grpc.ssl_channel_credentials((tmp_path / "ca.pem").read_bytes())
            named = [("grpc.ssl_target_name_override", "parlance.internal")]
            with grpc.secure_channel(address, trusted, named) as channel:
                service = Client(channel, mint(key.read_bytes(), "acme", "tests", "service"))
                service.upsert_users(["anna", "boris"])
                anna = Client(channel, mint(key.read_bytes(), "acme", "anna"))
                persist(anna.blocks.BlockUser, block_pb.BlockUserRequest(user_id="boris"))
