"""A control plane of Kubernetes for one test: etcd, kube-apiserver, kube-controller-manager."""

import base64
import json
import os
import pathlib
import secrets
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = pathlib.Path(os.environ.get("TEST_CONTROL_PLANE", ROOT / ".tools" / "control-plane"))
# The network is the test's own, so that ports are as good as others.
ETCD, API = "http://127.0.0.1:2379", "https://127.0.0.1:6443"
PATIENCE = 120.0


def until(what, look, patience=PATIENCE):
    """Waits until `look` gives something, and returns it."""
    end = time.monotonic() + patience
    while not (found := look()):
        assert time.monotonic() < end, f"not reached: {what}"
        time.sleep(0.1)
    return found


class ControlPlane:
    def __init__(self):
        self._memory = tempfile.TemporaryDirectory(prefix="parlance-cluster-", dir="/dev/shm")
        self.folder = pathlib.Path(self._memory.name)
        self.folder.chmod(0o755)
        self._token = secrets.token_hex(16)
        self._tls = ssl.create_default_context()
        self._processes = []

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            for log in sorted(self.folder.glob("*.log")):
                print(f"{log.name}: {log.read_text(errors='replace')[-3000:]}")
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in reversed(self._processes):
            process.kill()
        for process in self._processes:
            process.wait()
        self._memory.cleanup()

    def _start(self):
        folder = self.folder
        key, tokens = folder / "accounts.key", folder / "tokens.csv"
        subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
        tokens.write_text(f"{self._token},admin,admin,system:masters\n")
        self._run(
            "etcd", "--data-dir", folder / "etcd", "--unsafe-no-fsync",
            "--listen-client-urls", ETCD, "--advertise-client-urls", ETCD,
        )  # fmt: skip
        self._run(
            PROGRAMS / "kube-apiserver", "--etcd-servers", ETCD, "--bind-address=127.0.0.1",
            "--secure-port=6443", "--advertise-address=10.88.0.1", "--cert-dir", folder / "certs",
            "--token-auth-file", tokens,
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-account-key-file", key, "--service-account-signing-key-file", key,
            "--authorization-mode=RBAC", "--service-cluster-ip-range=10.96.0.0/16",
        )  # fmt: skip
        certificate = folder / "certs" / "apiserver.crt"
        until("a certificate", lambda: certificate.exists() and certificate.stat().st_size)
        self._tls.load_verify_locations(certificate)
        self._write_kubeconfig(certificate)
        until("an API that is ready", self._is_ready)
        # There is no node whose lease anybody would renew.
        self._run(
            PROGRAMS / "kube-controller-manager", "--kubeconfig", folder / "kubeconfig",
            "--service-account-private-key-file", key, "--leader-elect=false",
            "--controllers=*,-node-lifecycle-controller",
            "--horizontal-pod-autoscaler-sync-period=1s",
        )  # fmt: skip

    def _run(self, program, *arguments):
        log = (self.folder / f"{pathlib.Path(program).name}.log").open("wb")
        self._processes.append(subprocess.Popen([program, *arguments], stdout=log, stderr=log))

    def _write_kubeconfig(self, certificate):
        authority = base64.b64encode(certificate.read_bytes()).decode()
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": "it", "cluster": {"server": API, "certificate-authority-data": authority}}
            ],
            "users": [{"name": "it", "user": {"token": self._token}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
            "current-context": "it",
        }
        (self.folder / "kubeconfig").write_text(json.dumps(config))

    def _is_ready(self):
        try:
            with self._open("GET", "/readyz") as answer:
                return answer.status == 200
        except OSError:
            return False

    def _open(self, method, path, body=None, kind="application/json", patience=30):
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": kind}
        request = urllib.request.Request(API + path, data, headers, method=method)
        return urllib.request.urlopen(request, timeout=patience, context=self._tls)

    def call(self, method, path, body=None, kind="application/json"):
        """One call of the API. None if there is no such object."""
        try:
            with self._open(method, path, body, kind) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise

    def watch(self, path):
        """What happens to the objects of a list, from its beginning, until the API goes."""
        listed = self.call("GET", path)
        for item in listed["items"]:
            yield "ADDED", item
        since = listed["metadata"]["resourceVersion"]
        changes = f"{path}?watch=1&resourceVersion={since}"
        with self._open("GET", changes, patience=None) as answer:
            for line in answer:
                event = json.loads(line)
                yield event["type"], event["object"]

    def kubectl(self, *arguments, check=True, **more):
        command = ["kubectl", "--kubeconfig", self.folder / "kubeconfig", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, **more)
        assert not check or done.returncode == 0, f"{arguments}: {done.stderr}"
        return done
