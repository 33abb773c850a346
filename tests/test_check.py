"""`parlance check`: what it says where all is well, and of each thing that is not."""

import contextlib
import os
import pathlib
import re
import socket
import subprocess
import urllib.request

import pytest
from certificates import DAY, Ca, Secret
from server import binary, environment
from test_tls import Secure, until

PAGE = pathlib.Path(__file__).resolve().parents[1] / "docs" / "operations.md"


@pytest.fixture
def check(tmp_path):
    """Checks a folder that is not there yet, with these settings beside it."""

    def checked(*options, program="parlance", store=f"sqlite://{tmp_path}/data", **more):
        command = [binary(program), "check", "--store", store, *options]
        env = {**environment(), **more}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
        lines = done.stdout.splitlines()
        assert bool(done.returncode) == any(line.startswith("wrong ") for line in lines), done
        return lines

    return checked


def says(lines, word, sentence):
    """Whether a line begins with the word and has the sentence in it."""
    found = [line for line in lines if sentence in line]
    assert [line.split()[0] for line in found] == [word], lines


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    return Ca(tmp_path_factory.mktemp("ca"))


def test_a_certificate_is_judged_by_its_time_its_key_and_its_names(check, ca, tmp_path):
    secret = Secret(tmp_path / "secret", ca.issue("localhost", ends=19.5 * DAY))
    says(check(*secret.options()), "ok", "tls.crt holds for 19 d")
    for when, word, sentence in (
        ({"ends": 9.5 * DAY}, "warning", "tls.crt ends in 9 d"),
        ({"begins": -5 * DAY, "ends": -2.5 * DAY}, "wrong", "tls.crt expired 2 d ago"),
        ({"begins": 1.5 * DAY, "ends": 30 * DAY}, "wrong", "does not hold for another 1 d"),
    ):
        secret.put(ca.issue("localhost", **when))
        says(check(*secret.options()), word, sentence)
    secret.put((ca.issue("localhost")[0], ca.issue("localhost")[1]))
    says(check(*secret.options()), "wrong", "is not that of the certificate in")

    secret.put(ca.issue("localhost", "spiffe://example.org/room", ends=20 * DAY))
    suite = [*secret.options(), "--tls-ca", ca.path, "--tls-peer"]
    says(check(*suite, "spiffe://example.org/room"), "ok", "know the certificate as spiffe://example.org/room")
    says(check(*suite, "message.internal"), "warning", "none of the names in tls-peer (message.internal)")
    suite[suite.index(ca.path)] = Ca(tmp_path / "other").path
    says(check(*suite, "spiffe://example.org/room"), "warning", "is not of the CA in")


def test_a_service_that_is_called_over_tls_must_be_whom_it_is_taken_for(check, ca, tmp_path):
    name = "spiffe://example.org/message"
    secret = Secret(tmp_path / "secret", ca.issue("localhost", name, ends=20 * DAY))
    with Secure(ca, secret) as server:
        port = server.address.rsplit(":", 1)[1]
        hook = ["--hook", f"https://localhost:{port}", "--tls-ca"]
        says(check(*hook, ca.path), "ok", f"hook at localhost:{port} can be reached")
        says(check(*hook, Ca(tmp_path / "other").path), "wrong", f"hook at localhost:{port} cannot be reached")
        hook[1] = f"https://127.0.0.1:{port}"
        says(check(*hook, ca.path), "wrong", "not valid for name")

        key = tmp_path / "callers.key"
        key.write_text("a secret of the callers of these services")
        # A server without TLS, so that nothing is asked of it.
        store = os.environ["TEST_POSTGRES_URL"] + "?sslmode=require"
        own = {"program": "parlance-membership", "store": store}
        asked = ["--auth-key", f"hs256:{key}", *secret.options(), "--tls-ca", ca.path]
        asked += ["--message", f"https://127.0.0.1:{port}", "--tls-peer"]
        says(check(*asked, name, **own), "ok", f"message at 127.0.0.1:{port} can be reached")
        says(check(*asked, "room.internal", **own), "wrong", f"message at 127.0.0.1:{port} cannot be reached")
    says(check(*hook, ca.path), "wrong", f"hook at 127.0.0.1:{port} cannot be reached: Connection refused")


@contextlib.contextmanager
def redis(folder):
    """A Redis that keeps nothing: its port, and what asks it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def ask(*words):
        cli = ["redis-cli", "-e", "-p", str(port), *words]
        return subprocess.run(cli, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()

    try:
        until(lambda: not socket.socket().connect_ex(("127.0.0.1", port)))
        yield port, ask
    finally:
        process.kill()
        process.wait()


def test_a_redis_is_judged_by_what_it_keeps_and_by_what_its_user_may_do(check, tmp_path):
    [rights] = re.findall(r"^    ACL SETUSER parlance on >PASSWORD (.+)$", PAGE.read_text(), re.MULTILINE)
    with redis(tmp_path) as (port, ask):
        stock = ["--bus", f"redis://127.0.0.1:{port}"]
        lines = check(*stock)
        says(lines, "ok", "the user of Redis may do what it must")
        says(lines, "ok", f"Redis {ask('INFO', 'server').split('redis_version:')[1].split()[0]} takes writes")
        says(lines, "warning", "Redis keeps nothing on its disk")
        ask("CONFIG", "SET", "save", "3600 1")
        says(check(*stock), "ok", "Redis keeps what it holds on its disk")
        ask("CONFIG", "SET", "save", "")
        ask("CONFIG", "SET", "appendonly", "yes")
        says(check(*stock), "ok", "Redis keeps what it holds on its disk")

        own = ["--bus", f"redis://parlance:secret@127.0.0.1:{port}"]
        for more, word, sentence in (
            ([], "ok", "the user of Redis may do what it must"),
            ([], "ok", "Redis does not tell whether it keeps anything"),
            ([], "ok", "Redis 7"),
            (["-time"], "wrong", "the user of Redis may not use TIME:"),
            (["-zadd", "-evalsha"], "wrong", "the user of Redis may not use ZADD, EVALSHA:"),
            (["resetkeys", "~other:*"], "wrong", "may not use the keys ~parlance:*:"),
            (["resetchannels", "&other:*"], "wrong", "may not use the channels &parlance:*:"),
            (["-subscribe"], "wrong", "may not use SUBSCRIBE:"),
        ):
            ask("ACL", "SETUSER", "parlance", "reset", "on", ">secret", *rights.split(), *more)
            says(check(*own), word, sentence)
        assert ask("KEYS", "*") == "", "nothing is left"
        wrong = check("--bus", f"redis://parlance:other@127.0.0.1:{port}")
        says(wrong, "wrong", "redis cannot be reached, or refuses what is asked")


@contextlib.contextmanager
def bucket_server():
    """A server that speaks S3, without a bucket, and what asks it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    here = pathlib.Path(__file__).resolve().parents[1] / ".tools" / "venv" / "bin" / "moto_server"
    command = [os.environ.get("TEST_MOTO_SERVER", here), "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    at = f"http://127.0.0.1:{port}"

    def ask(method, path):
        with urllib.request.urlopen(urllib.request.Request(at + path, method=method), timeout=30) as answer:
            return answer.read().decode()

    try:
        until(lambda: not socket.socket().connect_ex(("127.0.0.1", port)))
        yield at, ask
    finally:
        process.kill()
        process.wait()


def test_a_store_of_attachments_must_write_read_and_remove(check, tmp_path):
    folder = tmp_path / "kept"
    in_folder = ["--attachments", f"file://{folder}"]
    says(check(*in_folder), "ok", f"the folder of attachments {folder} is not there")
    assert not folder.exists()
    folder.mkdir()
    says(check(*in_folder), "ok", "attachments are written, read and removed in file://")
    assert not list(folder.iterdir()), "nothing is left"
    folder.rmdir()
    folder.write_text("no folder")
    says(check(*in_folder), "wrong", "attachments cannot be used: cannot make the folder")

    with bucket_server() as (at, ask):
        options = {"AWS_ENDPOINT": at, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1"}
        options |= {"AWS_ACCESS_KEY_ID": "parlance", "AWS_SECRET_ACCESS_KEY": "secret"}
        in_bucket = ["--attachments", "s3://media/of/tests"]
        says(check(*in_bucket, **options), "wrong", "cannot write an object")
        ask("PUT", "/media")
        says(check(*in_bucket, **options), "ok", "attachments are written, read and removed in s3://media/of/tests")
        assert "<Key>" not in ask("GET", "/media?list-type=2"), "nothing is left"
