"""Clients in other languages, as processes: tests/go, tests/node and tests/java.

What is written to a peer it sends to its room; it prints JSON lines about what it handled,
sent, and how its streams began and ended.
"""

import json
import os
import pathlib
import shutil
import subprocess
import threading

from suite import ROOT

TOOLS = ROOT / ".tools"

# What runs for seconds is not worth a thorough compilation, which takes all processors from others.
BRIEFLY = {"JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"}


def go(folder):
    """The command of the Go peer, built in `folder` with code generated from the contracts."""
    source = folder / "go"
    shutil.copytree(ROOT / "tests" / "go", source)
    environment = {
        **os.environ,
        "PATH": f"{TOOLS / 'bin'}:{os.environ['PATH']}",
        "CGO_ENABLED": "0",
        "GOFLAGS": "-mod=readonly",
    }
    buf = [TOOLS / "venv" / "bin" / "buf", "generate", ROOT, "--template", "buf.gen.yaml"]
    subprocess.run(buf, cwd=source, env=environment, check=True)
    subprocess.run(["go", "vet", "."], cwd=source, env=environment, check=True)
    subprocess.run(["go", "build", "-o", "peer", "."], cwd=source, env=environment, check=True)
    return [source / "peer"]


def node(_folder):
    """The command of the Node peer, which reads the contracts when it starts."""
    return ["node", ROOT / "tests" / "node" / "peer.js", "--protos", ROOT / "proto"]


def java(folder):
    """The command of the Java peer, built in `folder` with code generated from the contracts."""
    source = folder / "java"
    shutil.copytree(ROOT / "tests" / "java", source)
    maven = ["mvn", "--quiet", "--batch-mode", "--offline"]
    maven += [f"-Dmaven.repo.local={TOOLS / 'java' / 'm2'}", f"-Dprotos={ROOT / 'proto'}"]
    subprocess.run([*maven, "compile"], cwd=source, env={**os.environ, **BRIEFLY}, check=True)
    libraries = source / "target" / "libraries"
    return ["java", "-cp", f"{source / 'target' / 'classes'}:{libraries}/*", "Peer"]


class Peer:
    """A running peer, and what it said so far."""

    def __init__(self, command, suite, room_id, user_id):
        options = ["--addresses", ",".join(suite.addresses["message"])]
        options += ["--service-config", ROOT / "deploy" / "grpc-service-config.json"]
        options += ["--room", room_id, "--token", suite.token(user_id)]
        self._process = subprocess.Popen(
            [*command, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **BRIEFLY, "NODE_PATH": str(TOOLS / "node" / "node_modules")},
        )
        self._changed = threading.Condition()
        self._lines = []
        self._over = False
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        self._reader.join()
        self._process.stdin.close()
        self._process.stdout.close()

    def _read(self):
        for text in self._process.stdout:
            with self._changed:
                self._lines.append(json.loads(text))
                self._changed.notify_all()
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def send(self, texts):
        self._process.stdin.write("".join(f"{text}\n" for text in texts))
        self._process.stdin.flush()

    def finish(self):
        """Ends its input. It must end well."""
        self._process.stdin.close()
        assert self._process.wait(30) == 0

    def wait(self, what, condition):
        """Waits until `condition(self)` holds."""
        with self._changed:
            reached = self._changed.wait_for(lambda: condition(self) or self._over, 60)
            assert reached and not self._over, f"{what}: not before {self._lines[-5:]}"

    def told(self, kind):
        """The lines of one kind: seq, sent, stream, dropped, ended or reset."""
        return [line for line in self._lines if kind in line]

    def left(self):
        """How many events the peer will still handle before it drops its stream."""
        begins = [at for at, line in enumerate(self._lines) if "stream" in line]
        if not begins:
            return 0
        ends = self.told("ended") + self.told("dropped")
        since = self._lines[begins[-1] :]
        handled = sum("seq" in line for line in since)
        return 0 if len(ends) == len(begins) else since[0]["length"] - handled
