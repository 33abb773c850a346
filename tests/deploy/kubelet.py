"""Stands in for the kubelet, the one part of a cluster that needs a machine of its own: it takes every
Pod, runs its container as a process with an address of its own, probes it and ends it."""

import contextlib
import itertools
import os
import pathlib
import signal
import subprocess
import threading
import time

from probes import Probe
from volumes import Volumes

HERE = pathlib.Path(__file__).parent
GATEWAY = "10.88.0.1"
NODE = "node-0"
# The longest pause before a container is started again; a cluster's is 5 minutes.
BACKOFF = 8.0


class Kubelet:
    """`images`: what an image of that name is started by."""

    def __init__(self, cluster, images):
        self.cluster, self.images = cluster, images
        self.pods, self.failures = {}, []
        self.ended = []
        self.closed = False
        self._numbers = itertools.count(2)

    def __enter__(self):
        self.cluster.call("POST", "/api/v1/nodes", {"metadata": {"name": NODE}})
        threading.Thread(target=self._follow, daemon=True).start()
        threading.Thread(target=self._follow_secrets, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.closed = True
        for pod in list(self.pods.values()):
            pod.kill()
            pod.ask_to_end(0)
        for pod in list(self.pods.values()):
            pod.join()

    def _follow(self):
        with contextlib.suppress(OSError):
            for kind, pod in self.cluster.watch("/api/v1/pods"):
                uid = pod["metadata"]["uid"]
                if uid not in self.pods and kind != "DELETED":
                    self.pods[uid] = Pod(self, pod, next(self._numbers))
                    self.pods[uid].start()
                elif "deletionTimestamp" in pod["metadata"]:
                    self.pods[uid].ask_to_end(pod["metadata"]["deletionGracePeriodSeconds"])

    def _follow_secrets(self):
        """As soon as it hears of it; a kubelet takes up to two minutes."""
        with contextlib.suppress(OSError):
            for kind, secret in self.cluster.watch("/api/v1/secrets"):
                for pod in list(self.pods.values()) if kind == "MODIFIED" else ():
                    pod.take(secret)

    def logs(self, name):
        return (self.cluster.folder / "pods" / name / "log").read_text(errors="replace")


class Pod(threading.Thread):
    """One Pod with its one container."""

    def __init__(self, kubelet, pod, number):
        super().__init__(daemon=True)
        self._kubelet, self._cluster, self._pod = kubelet, kubelet.cluster, pod
        self.name, self.namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        self.address = f"10.88.{number // 250}.{number % 250 + 1}"
        self._link = f"pod{number}"
        self._spec = pod["spec"]
        [self._container] = self._spec["containers"]
        self._path = f"/api/v1/namespaces/{self.namespace}/pods/{self.name}"
        self._folder = self._cluster.folder / "pods" / self.name
        self._volumes = Volumes(self._cluster, pod, self._folder / "volumes", GATEWAY)
        self._process, self._restarts, self._told = None, 0, None
        self._ending, self._grace = threading.Event(), None

    def run(self):
        try:
            self._live()
        except Exception as error:  # noqa: BLE001  (judged by the test)
            self._kubelet.failures.append(f"{self.name}: {error!r}")

    def take(self, secret):
        """A secret is another now."""
        if secret["metadata"]["namespace"] == self.namespace and not self._ending.is_set():
            self._volumes.refresh(secret["metadata"]["name"])

    def ask_to_end(self, grace):
        self._grace = grace
        self._ending.set()

    def kill(self):
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _live(self):
        binding = {"metadata": {"name": self.name}, "target": {"kind": "Node", "name": NODE}}
        self._cluster.call("POST", f"{self._path}/binding", binding)
        self._volumes.lay_out()
        pause = 1.0
        while True:
            began = time.monotonic()
            self._start()
            self._attend()
            if self._kubelet.closed:
                return
            if self._ending.is_set():
                self._end()
                return
            code = self._process.wait()
            if self._spec["restartPolicy"] != "Always":
                self._tell("Succeeded" if code == 0 else "Failed", code=code)
                self._ending.wait()
                self._remove()
                return
            self._restarts += 1
            self._tell("Running", code=code)
            pause = 1.0 if time.monotonic() - began > 60 else min(2 * pause, BACKOFF)
            if self._ending.wait(pause):
                self._remove()
                return

    def _environment(self):
        found = {}
        for source in self._container.get("envFrom", ()):
            files = self._volumes.files("configMap", source["configMapRef"]["name"])
            found.update({key: value.decode() for key, value in files.items()})
        found.update({it["name"]: it["value"] for it in self._container.get("env", ())})
        return found

    def _start(self):
        security = {**self._spec["securityContext"], **self._container["securityContext"]}
        root = self._folder / "root"
        root.mkdir(exist_ok=True)
        image = self._container["image"].partition(":")[0]
        command = [*self._kubelet.images[image], *self._container.get("args", ())]
        variables = [f"{key}={value}" for key, value in self._environment().items()]
        read_only = "yes" if security["readOnlyRootFilesystem"] else "no"
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["unshare", "--net", "--mount", HERE / "pod.sh", root, self._volumes.folder]
                + [read_only, str(security["runAsUser"]), str(security["runAsGroup"])]
                + ["env", "-i", "PATH=/usr/bin:/bin", *variables, *command],
                stdin=subprocess.PIPE, stdout=log, stderr=log, cwd="/", text=True,
                start_new_session=True,
            )  # fmt: skip
        self._wire()

    def _wire(self):
        """Puts one end of a wire into the network of the process, once it has one."""
        pid, near = self._process.pid, f"{self._link}n"
        own = os.readlink("/proc/self/ns/net")
        while os.readlink(f"/proc/{pid}/ns/net") == own:
            time.sleep(0.005)
        # The one of a container before this one goes with its network, though not at once.
        subprocess.run(["ip", "link", "delete", near], capture_output=True)
        for command in (
            f"link add {near} type veth peer name {self._link} netns {pid}",
            f"link set {near} master pods up",
        ):
            subprocess.run(["ip", *command.split()], check=True)
        print(self._link, self.address, GATEWAY, file=self._process.stdin, flush=True)
        self._process.stdin.close()

    def _attend(self):
        """Probes the container and tells what it finds, until it ends or is to end."""
        probes = {
            kind: Probe(self.address, self._container, self._container[f"{kind}Probe"])
            for kind in ("startup", "readiness", "liveness")
            if f"{kind}Probe" in self._container
        }
        started = "startup" not in probes
        while self._process.poll() is None and not self._ending.is_set():
            if not started:
                started = probes["startup"].look() == "good"
                if probes["startup"].state == "bad":
                    self._give_up("it did not start")
            ready = started and ("readiness" not in probes or probes["readiness"].look() == "good")
            if started and "liveness" in probes and probes["liveness"].look() == "bad":
                self._give_up("it does not live")
            self._tell("Running", ready=ready)
            self._ending.wait(0.1)

    def _give_up(self, why):
        self._kubelet.failures.append(f"{self.name}: {why}")
        self.kill()

    def _end(self):
        """preStop, SIGTERM, and SIGKILL once the grace is over."""
        end = time.monotonic() + self._grace
        hook = self._container.get("lifecycle", {}).get("preStop")
        if hook:
            time.sleep(min(hook["sleep"]["seconds"], self._grace))
        self._process.terminate()
        try:
            code = self._process.wait(max(end - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            self.kill()
            code = "killed"
        self._kubelet.ended.append((self.name, code))
        self._remove()

    def _remove(self):
        self.kill()
        if self._kubelet.closed:
            return
        this = {"uid": self._pod["metadata"]["uid"]}
        self._cluster.call("DELETE", self._path, {"gracePeriodSeconds": 0, "preconditions": this})

    def _tell(self, phase, ready=False, code=None):
        if self._told == (phase, ready, code, self._restarts):
            return
        self._told = (phase, ready, code, self._restarts)
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        says = {"Initialized": True, "PodScheduled": True, "ContainersReady": ready, "Ready": ready}
        if code is None:
            state = {"running": {"startedAt": now}}
        else:
            state = {"terminated": {"exitCode": code, "startedAt": now, "finishedAt": now}}
        container = {
            "name": self._container["name"], "image": self._container["image"], "imageID": "",
            "ready": ready, "started": code is None, "restartCount": self._restarts, "state": state,
        }  # fmt: skip
        status = {
            "phase": phase,
            "podIP": self.address,
            "podIPs": [{"ip": self.address}],
            "conditions": [
                {"type": it, "status": str(is_so), "lastTransitionTime": now}
                for it, is_so in says.items()
            ],
            "containerStatuses": [container],
        }
        kind = "application/merge-patch+json"
        self._cluster.call("PATCH", f"{self._path}/status", {"status": status}, kind)
