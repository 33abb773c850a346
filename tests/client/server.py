"""The real server in a process of its own: the embedded mode, or one program of the suite."""

import os
import pathlib
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from parlance_client import Client, mint, open_channel

ROOT = pathlib.Path(__file__).resolve().parents[2]
TENANT = "acme"
START_DEADLINE = 60.0
STOP_DEADLINE = 60.0
_binary = None


def binary(program="parlance"):
    """A program, built from what stands in the tree."""
    global _binary
    if _binary is None:
        given = os.environ.get("TEST_PARLANCE_BINARY")
        _binary = pathlib.Path(given) if given else _build()
    return _binary.with_name(program)


def _build():
    print("building the server", file=sys.stderr)
    build = [ROOT / "scripts" / "build-programs"]
    built = subprocess.run(build, stdout=subprocess.PIPE, text=True, check=True).stdout
    return pathlib.Path(built.strip()) / "parlance"


def environment():
    """Our own environment without the settings of a server."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PARLANCE_")}


class Server:
    """A server on a port of its own and in a folder of its own."""

    program = "parlance"

    def __init__(self, store=None, options=(), own_key=True, files=None):
        """Without a key of our own the server makes one beside its data; with `files` it may
        not have more."""
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="parlance-test-"))
        self.data = self.folder / "data"
        self.log = self.folder / "server.log"
        self._key = self.folder / "auth.key"
        self._key.write_text(secrets.token_hex(32))
        self._store = store or f"sqlite://{self.data}"
        self._options = list(options)
        self._limited = ["prlimit", f"--nofile={files}"] if files else []
        if own_key:
            self._options += ["--auth-key", f"hs256:{self._key}"]
        self._process = None
        self._channels = []
        self.address = "127.0.0.1:0"

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_):
        for channel in self._channels:
            channel.close()
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self):
        """Starts it, on the address it had before if there was one, and waits until it serves."""
        with self.log.open("ab") as log:
            begin = log.tell()
            self._process = subprocess.Popen(
                self._limited
                + [binary(self.program), "run", "--store", self._store, "--listen", self.address]
                + self._options,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment(),
                cwd=self.folder,
            )
        deadline = time.monotonic() + START_DEADLINE
        if self.address.endswith(":0"):
            self.address = self._until(deadline, lambda: self._announced(begin))
        self._until(deadline, lambda: self.health() == "SERVING")
        return self

    def _announced(self, begin):
        text = self.log.read_bytes()[begin:].decode(errors="replace")
        found = re.search(r"\b127\.0\.0\.1:([1-9]\d*)\b", text)
        return found and found.group(0)

    def _until(self, deadline, probe):
        while True:
            found = probe()
            if found:
                return found
            if self._process.poll() is not None:
                raise RuntimeError(f"the server stopped: {self.tail()}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"the server did not start: {self.tail()}")
            time.sleep(0.02)

    def tail(self):
        return self.log.read_text(errors="replace")[-4000:]

    def health(self, service=""):
        """What the health service says, or None while nobody answers."""
        with open_channel(self.address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            try:
                reply = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=2)
            except grpc.RpcError as error:
                if error.code() == grpc.StatusCode.NOT_FOUND:
                    return "NOT_FOUND"
                return None
            return health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status)

    def addresses(self):
        """Where each service is."""
        return dict.fromkeys(["message", "membership", "room", "presence"], self.address)

    def resident_mib(self):
        """What the process holds in memory."""
        status = pathlib.Path(f"/proc/{self._process.pid}/status").read_text()
        [kib] = re.findall(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
        return int(kib) / 1024

    def open_files(self):
        """How many files the process has open, connections too."""
        return len(list(pathlib.Path(f"/proc/{self._process.pid}/fd").iterdir()))

    def kill(self):
        """kill -9."""
        self._process.kill()
        self._process.wait()

    def terminate(self, how=signal.SIGTERM):
        """Asks it to stop, without waiting."""
        self._process.send_signal(how)

    def wait(self):
        """Its exit status, once it has stopped by itself."""
        return self._process.wait(STOP_DEADLINE)

    def stop(self):
        """Drains it; it must end well."""
        self.terminate()
        status = self.wait()
        assert status == 0, f"exit status {status}: {self.tail()}"

    def token(self, subject, role="user", tenant=TENANT, **claims):
        return mint(self._key.read_bytes(), tenant, subject, role, **claims)

    def channel(self):
        channel = open_channel(self.address)
        self._channels.append(channel)
        return channel

    def user(self, user_id, channel=None, tenant=TENANT):
        """A client that is a user; over a channel of its own unless one is given."""
        return Client(channel or self.channel(), self.token(user_id, tenant=tenant))

    def service(self, channel=None, tenant=TENANT, acting_user=None):
        """A client that is a backend, for the tenant or on behalf of a user."""
        token = self.token("tests", role="service", tenant=tenant)
        return Client(channel or self.channel(), token, acting_user)
