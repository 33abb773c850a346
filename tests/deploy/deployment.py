"""What tests of a suite on a control plane of Kubernetes have in common."""

import itertools
import json
import os
import pathlib
import threading
import uuid

import grpc
from control_plane import ROOT, until
from kubelet import HERE
from parlance_client import Client, mint
from suite import SERVICE_CONFIG, ByService

from parlance.message.v1 import message_pb2
from parlance.message.v1 import message_service_pb2 as message_pb

PROGRAMS = pathlib.Path(os.environ.get("TEST_PARLANCE_PROGRAMS", ROOT / "target" / "release"))
NAMESPACE = "parlance-dev"
SERVICES = ["membership", "message", "presence", "room"]
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
# As the overlay has it.
CALLERS = b"a key of callers that everybody knows"


def images():
    programs = ["parlance", *(f"parlance-{service}" for service in SERVICES)]
    found = {program: [PROGRAMS / program] for program in programs}
    return {**found, "postgres": [HERE / "postgres.sh"], "redis": []}


def deployments():
    return [f"deployment/parlance-{service}" for service in SERVICES]


def wait_for_rolls(cluster):
    for each in deployments():
        cluster.kubectl("-n", NAMESPACE, "rollout", "status", each, "--timeout=240s")


def roll(cluster):
    """Puts a new replica in the place of each, until none of the old ones is left."""
    cluster.kubectl("-n", NAMESPACE, "rollout", "restart", *deployments())
    wait_for_rolls(cluster)
    wait_for_the_end_of_those_that_go(cluster)


def wait_for_the_end_of_those_that_go(cluster):
    selector = "app.kubernetes.io/component%20in%20(membership,message,presence,room)"
    until(
        "two replicas of each service",
        lambda: len(cluster.call("GET", f"{PODS}?labelSelector={selector}")["items"]) == 2 * len(SERVICES),
    )


def pods(cluster, service):
    """Those of a service that are not on their way out."""
    selector = f"app.kubernetes.io/component%3D{service}"
    found = cluster.call("GET", f"{PODS}?labelSelector={selector}")["items"]
    return [it for it in found if "deletionTimestamp" not in it["metadata"]]


def is_ready(pod):
    says = pod["status"].get("conditions", ())
    return any(it["type"] == "Ready" and it["status"] == "True" for it in says)


class Clients:
    """Callers that know the names of the headless Services alone, with the service config. They trust
    a CA, if one is given; `key` signs their tokens."""

    def __init__(self, trusted=None, tenant=None, key=CALLERS):
        self.tenant, self.key = tenant or f"tests-{uuid.uuid4().hex}", key
        options = [
            ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.dns_min_time_between_resolutions_ms", 500),
            ("grpc.initial_reconnect_backoff_ms", 50),
            ("grpc.min_reconnect_backoff_ms", 50),
            ("grpc.max_reconnect_backoff_ms", 500),
        ]
        host = f"{NAMESPACE}.svc.cluster.local:7070"
        names = {service: f"dns:///parlance-replicas-{service}.{host}" for service in SERVICES}
        if trusted is None:
            channels = {it: grpc.insecure_channel(name, options) for it, name in names.items()}
        else:
            credentials = grpc.ssl_channel_credentials(trusted)
            channels = {it: grpc.secure_channel(name, credentials, options) for it, name in names.items()}
        self._channel = ByService(channels)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._channel.close()

    def user(self, name):
        return Client(self._channel, mint(self.key, self.tenant, name))

    def service(self):
        return Client(self._channel, mint(self.key, self.tenant, "tests", role="service"))


class Calls:
    """Users who send as fast as they are answered. Nothing is repeated but what the service config
    says, which the library does: any other failure is one."""

    def __init__(self, clients, room_id, users):
        self.clients, self.room_id = clients, room_id
        # Who follows the room meanwhile.
        self.follower = None
        self._threads = [threading.Thread(target=self._send, args=(user,)) for user in users]
        self._stop = threading.Event()
        self.sent, self.failures = [], []

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _send(self, user):
        key = None
        for number in itertools.count():
            if self._stop.is_set():
                return
            if key != self.clients.key:
                key, messages = self.clients.key, self.clients.user(user).messages
            text = f"{user} says {number}"
            request = message_pb.SendMessageRequest(
                room_id=self.room_id,
                content=message_pb2.MessageContent(text=text),
                request_id=uuid.uuid4().hex,
            )
            try:
                reply = messages.SendMessage(request, timeout=10)
            except grpc.RpcError as error:
                self.failures.append(f"{error.code().name}: {error.details()}")
                continue
            self.sent.append((reply.seq, user, text))
            # Beside this, the cluster and the suite have two cores.
            self._stop.wait(0.02)

    def go_on(self, more=100):
        """Waits until so many more were sent."""
        goal = len(self.sent) + more
        until("calls that are answered", lambda: len(self.sent) >= goal or self.failures)
        assert not self.failures
