"""The page for operators, walked: its commands are run as they stand there.

What needs more than one process is walked by operations/page.py.
"""

import json
import re

import pytest
from certificates import Ca
from walk import command, commands, run, walked
from server import Server
from test_restart import set_up, told
from test_tls import Secure

# Commands that no test reads from the page, and why.
ELSEWHERE = {
    "kubectl apply -k deploy/kubernetes/overlays/dev": "deploy/on_kubernetes.py applies it",
    "kubectl apply -k": "deploy/on_kubernetes.py applies a version after another",
    "kubectl rollout status": "it watches; deploy/on_kubernetes.py reads the same state itself",
    "kubectl logs job/parlance-migrate-VERSION": "the kubelet of the tests keeps logs as files",
    "kubectl rollout restart": "deploy/on_kubernetes.py restarts each Deployment as it does",
    "make images": "deploy/of_images.py builds them",
    "socat TCP-LISTEN:7071,fork TCP:127.0.0.1:7070,bind=127.0.0.3": "test_connections.py connects from other addresses itself",
}


def test_every_command_of_the_page_is_run_by_a_test_or_has_its_reason():
    found = set(commands())
    assert len(found) > 25
    run_here = set(walked("test_operations.py", "operations/page.py"))
    assert found - run_here == set(ELSEWHERE)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A server of an operator who runs the embedded mode, and the settings that it has."""
    folder = tmp_path_factory.mktemp("page")
    with Server(store=f"sqlite://{folder / 'data'}", own_key=False) as server:
        yield folder, server, {"PARLANCE_STORE": f"sqlite://{folder / 'data'}", "PARLANCE_LISTEN": server.address}


def test_a_server_is_looked_at(place):
    folder, server, settings = place
    run(command("parlance healthcheck"), folder, **settings)
    run(command("parlance healthcheck --listen", ADDRESS=server.address), folder)
    checked = run(command("parlance check"), folder, **settings).splitlines()
    assert checked and all(re.match(r"(ok|warning) ", line) for line in checked), checked
    token = [command("TOKEN=$(parlance")]
    line = command('grpcurl -plaintext -H "authorization: Bearer $TOKEN" 127.0.0.1:7070')
    line = line.replace("127.0.0.1:7070", server.address)
    assert json.loads(run(line, folder, token, **settings))["tasks"]
    line = command('grpcurl -plaintext -H "authorization: Bearer $TOKEN" ADDRESS', ADDRESS=server.address)
    for service in ("message", "membership", "room"):
        assert json.loads(run(line.replace("SERVICE", service), folder, token, **settings))["tasks"]
    line = command('grpcurl -plaintext -H "authorization: Bearer $TOKEN" -d', ADDRESS=server.address)
    assert json.loads(run(line, folder, token, **settings)) == {"status": "SERVING"}


def test_what_alerts_ask_for_can_be_asked(place):
    folder, *_ = place
    expressions = [command("sum by"), command("topk(5,")]
    rules = [{"record": f"asked:{number}", "expr": each} for number, each in enumerate(expressions)]
    path = folder / "rules.json"
    path.write_text(json.dumps({"groups": [{"name": "page", "rules": rules}]}))
    run(f"promtool check rules {path}", folder)


def test_a_backup_is_made_and_put_back(tmp_path):
    with Server() as server:
        room = set_up(server, "anna")
        server.user("anna").send(room, "kept")
        history = told(server.user("anna").history(room))
        run(command("parlance backup", FOLDER=tmp_path / "kept", DATA=server.data), tmp_path)
        server.stop()
        server.data.rename(server.data.with_name("before"))
        run(command("parlance restore", FOLDER=tmp_path / "kept", DATA=server.data), tmp_path)
        epoch = run(command("parlance restored"), tmp_path, PARLANCE_STORE=f"sqlite://{server.data}")
        assert re.fullmatch(r"[0-9a-f]{16}\n", epoch), epoch
        server.start()
        assert told(server.user("anna").history(room)) == history
        server.stop()


def test_a_server_speaks_tls(tmp_path):
    ca = Ca(tmp_path)
    certificate, key = ca.issue("chat.example.org", "localhost")
    (tmp_path / "tls.crt").write_bytes(certificate)
    (tmp_path / "tls.key").write_bytes(key)
    line = command("parlance run --tls-cert").replace("/etc/parlance", str(tmp_path))
    call = command("grpcurl -cacert ca.pem")
    with Secure(ca, Flags(line)) as server:
        # It is there by another address, and its name is looked at all the same.
        to = f"-authority chat.example.org {server.address}"
        call = call.replace("chat.example.org:7070", to)
        token = f"TOKEN={server.token('me', role='operator')}"
        assert json.loads(run(call, tmp_path, [token])) == {"status": "SERVING"}
        server.stop()


class Flags:
    """Those of a line that starts a server."""

    def __init__(self, line):
        self._line = line

    def options(self):
        assert self._line.startswith("parlance run ")
        return self._line.split()[2:]
