"""The suite as `make up` starts it: callers of many processes instead of one."""

import contextlib
import itertools
import json
import os
import pathlib
import signal
import subprocess
import tempfile
import uuid

import generated  # noqa: F401  (puts the generated code on the path)
import grpc
from parlance.message.v1 import operator_service_pb2 as operator_pb
from parlance.message.v1 import operator_service_pb2_grpc
from parlance_client import DEADLINE, Client, mint, open_channel
from server import Server

ROOT = pathlib.Path(__file__).resolve().parents[2]
STATE = ROOT / ".tools" / "up" / "state.json"
SERVICE_CONFIG = json.loads((ROOT / "deploy" / "grpc-service-config.json").read_text())


@contextlib.contextmanager
def started(redis="single", replicas=2):
    """A suite for one test: the state that `make up` would have written, and what it printed."""
    with tempfile.TemporaryDirectory(prefix="parlance-suite-") as parent:
        folder = pathlib.Path(parent) / "up"
        script = [ROOT / "scripts" / "suite"]
        how = ["--folder", folder, "--redis", redis, "--replicas", str(replicas)]
        up = subprocess.run(
            [*script, "up", *how], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )
        assert up.returncode == 0, up.stdout
        try:
            yield folder / "state.json", up.stdout
        finally:
            subprocess.run([*script, "down", "--folder", folder], check=True)


def channel_to(addresses, policy="round_robin"):
    """One channel to every replica, as deploy/grpc-service-config.json lays out, or with
    another policy: `pick_first` stays with the first one that is there."""
    config = {**SERVICE_CONFIG, "loadBalancingConfig": [{policy: {}}]}
    options = [
        ("grpc.service_config", json.dumps(config)),
        # Made of the list otherwise, and no server takes that for a name.
        ("grpc.default_authority", "parlance"),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.initial_reconnect_backoff_ms", 50),
        ("grpc.min_reconnect_backoff_ms", 50),
        ("grpc.max_reconnect_backoff_ms", 500),
    ]
    return grpc.insecure_channel("ipv4:" + ",".join(addresses), options=options)


class ByService:
    """A channel whose calls go to the process of their service."""

    def __init__(self, channels):
        self._channels = channels

    def _of(self, method):
        return self._channels[method.split(".")[1]]

    def unary_unary(self, method, *arguments, **more):
        return self._of(method).unary_unary(method, *arguments, **more)

    def unary_stream(self, method, *arguments, **more):
        return self._of(method).unary_stream(method, *arguments, **more)

    def stream_stream(self, method, *arguments, **more):
        return self._of(method).stream_stream(method, *arguments, **more)

    def close(self):
        for channel in self._channels.values():
            channel.close()


class Suite:
    """Looks like a `Server`. Subscribers are on other replicas of message than senders, as
    long as these are there; everybody is of a tenant of this run."""

    def __init__(self, state=STATE):
        state = json.loads(pathlib.Path(state).read_text())
        self.addresses = state["addresses"]
        self._processes = {each["name"]: each["pid"] for each in state["processes"]}
        self._key = pathlib.Path(state["key"]).read_bytes()
        self._tenant = f"tests-{uuid.uuid4().hex}"
        self._channels = []
        self._turn = itertools.count()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for channel in self._channels:
            channel.close()

    def stop(self):
        """Nothing: who started it ends it."""

    def kill(self, name):
        """kill -9 of one process, as `message-0`."""
        os.kill(self._processes.pop(name), signal.SIGKILL)

    def kill_message(self, address):
        """kill -9 of the replica of message that listens there."""
        self.kill(f"message-{self.addresses['message'].index(address)}")

    def token(self, user_id):
        return mint(self._key, self._tenant, user_id)

    def _channel(self, first):
        """Of message, replica `first` as long as it is there."""
        message = self.addresses["message"]
        channels = {
            "message": channel_to(message[first:] + message[:first], "pick_first"),
            "membership": channel_to(self.addresses["membership"]),
            "room": channel_to(self.addresses["room"]),
            "presence": channel_to(self.addresses["presence"]),
        }
        channel = ByService(channels)
        self._channels.append(channel)
        return channel

    def channel(self):
        """For senders."""
        return self._channel(0)

    def _elsewhere(self):
        others = len(self.addresses["message"]) - 1
        return self._channel(1 + next(self._turn) % others if others else 0)

    def user(self, user_id, channel=None):
        return Client(channel or self._elsewhere(), self.token(user_id))

    def service(self, channel=None):
        token = mint(self._key, self._tenant, "tests", role="service")
        return Client(channel or self.channel(), token)

    def counters(self, number):
        """What a replica of message counted."""
        token = mint(self._key, self._tenant, "tests", role="operator")
        with channel_to([self.addresses["message"][number]]) as channel:
            return operator_service_pb2_grpc.OperatorServiceStub(channel).GetCounters(
                operator_pb.GetCountersRequest(),
                timeout=DEADLINE,
                metadata=[("authorization", f"Bearer {token}")],
            )


class Message(Server):
    """One more replica of message of a suite that runs, with options of its own. Its calls go
    to it alone, those of the other services to the suite."""

    program = "parlance-message"

    def __init__(self, state, options=(), files=None):
        self._state = json.loads(pathlib.Path(state).read_text())
        with_suite = ["--bus", self._state["bus"], "--auth-key", f"hs256:{self._state['key']}"]
        with_suite += ["--internal-key-file", pathlib.Path(state).with_name("internal.key")]
        super().__init__(self._state["store"], [*with_suite, *options], own_key=False, files=files)
        self._key = pathlib.Path(self._state["key"])

    def addresses(self):
        others = {service: first for service, [first, *_] in self._state["addresses"].items()}
        return {**others, "message": self.address}

    def channel(self):
        channels = {service: open_channel(it) for service, it in self.addresses().items()}
        self._channels.append(ByService(channels))
        return self._channels[-1]
