"""Pages in a real browser, which call the server by gRPC-Web from where they are let, and from elsewhere."""

import base64
import contextlib
import http.server
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
import urllib.parse

import pytest
from certificates import Ca, Secret
from google.rpc import error_details_pb2, status_pb2
from parlance_client import people
from peer import TOOLS
from server import Server
from suite import ROOT
from test_tls import Secure

PATIENCE = 90
WEB = TOOLS / "web" / "node_modules"
PAGE = b'<!doctype html><meta charset="utf-8"><title>A page</title><script src="/page.js"></script>'


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """The page's script, with all that it takes in one file."""
    source = tmp_path_factory.mktemp("web") / "web"
    shutil.copytree(ROOT / "tests" / "web", source)
    (source / "node_modules").symlink_to(WEB)
    environment = {**os.environ, "PATH": f"{WEB / '.bin'}:{os.environ['PATH']}"}
    buf = TOOLS / "venv" / "bin" / "buf"
    for contracts in (ROOT, source / "proto"):
        generate = [buf, "generate", contracts, "--template", "buf.gen.yaml"]
        subprocess.run(generate, cwd=source, env=environment, check=True)
    bundle = [WEB / ".bin" / "esbuild", "page.js", "--bundle", "--outfile=bundle.js", "--log-level=error"]
    subprocess.run(bundle, cwd=source, env=environment, check=True)
    return (source / "bundle.js").read_bytes()


class Pages(http.server.ThreadingHTTPServer):
    """Serves the page, as `localhost` and as `127.0.0.1`: two origins. What it tells is queued."""

    daemon_threads = True

    def __init__(self, script):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.told = script, queue.Queue()

    def origin(self, host):
        return f"http://{host}:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        of_page = self.path.startswith("/page.js")
        content = self.server.script if of_page else PAGE
        self.answer("text/javascript" if of_page else "text/html", content)

    def do_POST(self):
        told = self.rfile.read(int(self.headers["content-length"]))
        self.server.told.put(json.loads(told))
        self.answer("text/plain", b"")

    def answer(self, kind, content):
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def pages(script):
    with Pages(script) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


@contextlib.contextmanager
def home(ca=None):
    """The home of a user whose browser trusts a CA beside those of everybody."""
    with tempfile.TemporaryDirectory(prefix="parlance-browser-", ignore_cleanup_errors=True) as folder:
        if ca is not None:
            trusted = f"{folder}/.pki/nssdb"
            os.makedirs(trusted)
            for step in (["-N", "--empty-password"], ["-A", "-n", "ca", "-t", "C,,", "-i", ca.path]):
                subprocess.run(["certutil", "-d", f"sql:{trusted}", *step], check=True)
        yield folder


def console(folder):
    """What the page said on the console of its browser."""
    return "".join(line for line in open(f"{folder}/log") if ":CONSOLE" in line)


def visit(pages, folder, host, server, room, user_id):
    """What the page tells that comes from a host: how its calls of a server went."""
    assert pages.told.empty()
    query = {"server": server[0], "room": room, "token": server[1].token(user_id)}
    url = f"{pages.origin(host)}/?{urllib.parse.urlencode(query)}"
    browser = shutil.which("chromium")
    assert browser, "see scripts/setup-tests browser"
    command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command += ["--no-first-run", "--enable-logging=stderr", f"--user-data-dir={folder}/profile", url]
    with open(f"{folder}/log", "w") as log:
        running = subprocess.Popen(
            command, env={**os.environ, "HOME": folder}, stdout=log, stderr=log, start_new_session=True
        )
        try:
            return pages.told.get(timeout=PATIENCE)
        except queue.Empty:
            raise AssertionError(console(folder)) from None
        finally:
            # The processes of the browser are those of its session.
            os.killpg(running.pid, 15)
            running.wait()


def served(told, anna, room):
    """Whether both clients were served, in turn."""
    for name in ("connect", "grpcWeb"):
        outcome, texts = told[name], [each.content.text for each in anna.history(room)]
        assert isinstance(outcome["heard"], list), told
        assert outcome["heard"][-2:] == [f"{name} calls", f"{name} hears"], outcome
        assert texts.count(f"{name} calls") == texts.count(f"{name} hears") == 1
        seqs = {each.content.text: each.seq for each in anna.history(room)}
        assert outcome["sent"] == seqs[f"{name} calls"], outcome
    assert told["connect"]["refused"]["code"] == "NotFound"
    assert told["connect"]["refused"]["reason"] == "ROOM_NOT_FOUND", told
    refused = told["grpcWeb"]["refused"]
    packed = refused["packed"]
    status = status_pb2.Status.FromString(base64.b64decode(packed + "=" * (-len(packed) % 4)))
    info = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(info) for detail in status.details), status
    assert (refused["code"], info.reason) == ("5", "ROOM_NOT_FOUND"), refused


def test_a_page_calls_from_an_origin_that_is_let_and_from_no_other(pages):
    options = ["--grpc-web", "true", "--grpc-web-origins", pages.origin("localhost")]
    with Server(options=options) as server, home() as folder:
        user_id, anna = people(server, "anna")
        room = anna.create_group("from a page")
        at = f"http://{server.address}", server
        served(visit(pages, folder, "localhost", at, room, user_id), anna, room)
        before = anna.history(room)
        told = visit(pages, folder, "127.0.0.1", at, room, user_id)
        for outcome in (each[step] for each in told.values() for step in each):
            assert outcome["code"] in ("Unknown", "14", "2"), told
        assert told["connect"]["sent"]["text"] == "Failed to fetch", told
        assert anna.history(room) == before, "the browser asked first, and did not call"


def test_a_page_calls_over_tls_whom_its_browser_trusts(pages, tmp_path):
    ca = Ca(tmp_path / "ca")
    secret = Secret(tmp_path / "secret", ca.issue("localhost"))
    options = ["--grpc-web", "true", "--grpc-web-origins", pages.origin("localhost")]
    with Secure(ca, secret, options) as server:
        user_id, anna = people(server, "anna")
        room = anna.create_group("from a page over TLS")
        at = "https://localhost:" + server.address.rsplit(":", 1)[1], server
        with home() as folder:
            told = visit(pages, folder, "localhost", at, room, user_id)
            assert told["connect"]["sent"]["text"] == "Failed to fetch", told
        with home(ca) as folder:
            served(visit(pages, folder, "localhost", at, room, user_id), anna, room)
