"""Clients in Go and Node over TLS: right, and wrong about one thing each."""

import json
import os
import shutil
import subprocess

import peer
import pytest
from certificates import DAY, Ca, Secret
from parlance_client import people
from server import Server
from suite import ROOT
from test_tls import Secure


def go(folder):
    """The command of the caller in Go."""
    [built] = peer.go(folder)
    build = ["go", "build", "-o", "tls/caller", "./tls"]
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly"}
    subprocess.run(build, cwd=built.parent, env=environment, check=True)
    return [built.parent / "tls" / "caller"]


def node(_folder):
    """The command of the caller in Node, which reads the contracts when it starts."""
    assert shutil.which("node"), "see scripts/setup-tests"
    return ["node", ROOT / "tests" / "node" / "tls.js", "--protos", ROOT / "proto"]


@pytest.fixture(scope="module", params=[go, node])
def caller(request, tmp_path_factory):
    command = request.param(tmp_path_factory.mktemp("caller"))

    def call(server, room, user_id, ca=None, name="localhost"):
        """How a call and a stream went."""
        options = ["--address", server.address, "--room", room, "--token", server.token(user_id)]
        if ca is not None:
            options += ["--ca", ca.path, "--name", name]
        done = subprocess.run(
            [*command, *options],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            timeout=60,
            env={**os.environ, "NODE_PATH": str(peer.TOOLS / "node" / "node_modules")},
        )
        told = json.loads(done.stdout)
        return told["sent"], told["heard"]

    return call


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    return Ca(tmp_path_factory.mktemp("ca"))


def refused(outcomes, *texts):
    """Whether a call and a stream both failed, as a text says that is one of these."""
    for outcome in outcomes:
        assert (outcome["code"].upper(), outcome["seq"]) == ("UNAVAILABLE", 0), outcome
        assert any(text in outcome["text"] for text in texts), outcome


def test_a_client_in_another_language_is_served_over_tls_and_told_what_is_wrong(caller, ca, tmp_path):
    secret = Secret(tmp_path / "secret", ca.issue("localhost"))
    with Secure(ca, secret) as server:
        user_id, anna = people(server, "anna")
        room = anna.create_group("over TLS")
        sent, heard = caller(server, room, user_id, ca)
        assert (sent["code"], heard["code"], heard["seq"]) == ("OK", "OK", 1), (sent, heard)
        [*_, last] = anna.history(room)
        assert (last.seq, last.sender_id) == (sent["seq"], user_id)

        other = Ca(tmp_path / "other", "another CA")
        outcomes = caller(server, room, user_id, other)
        refused(outcomes, "certificate signed by unknown authority", "unable to verify the first certificate")
        outcomes = caller(server, room, user_id, ca, "example.org")
        refused(outcomes, "certificate is valid for localhost", "does not match certificate's altnames")
        refused(caller(server, room, user_id), "is not a settings frame", "Protocol error")
        assert "a client spoke plain text to the port, which speaks TLS" in server.log.read_text()
        for when, *texts in (
            ({"begins": -2 * DAY, "ends": -DAY}, "certificate has expired"),
            ({"begins": DAY, "ends": 2 * DAY}, "is not yet valid", "is before"),
        ):
            wrong = ca.issue("localhost", **when)
            secret.put(wrong)
            server.shows(wrong)
            refused(caller(server, room, user_id, ca), *texts)
        assert anna.history(room)[-1].seq == sent["seq"], "nothing came through"


def test_a_client_that_speaks_tls_to_a_port_without_is_told(caller, ca):
    with Server() as server:
        user_id, anna = people(server, "anna")
        outcomes = caller(server, anna.create_group("in plain text"), user_id, ca)
        refused(outcomes, "first record does not look like a TLS handshake", "wrong version number")
        assert "a client spoke TLS to the port, which speaks plain text" in server.log.read_text()
