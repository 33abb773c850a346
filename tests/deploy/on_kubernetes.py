"""deploy/kubernetes on a control plane of Kubernetes: `make test-deploy`."""

import itertools
import json
import os
import pathlib
import subprocess
import sys
import threading
import urllib.error
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import generated  # noqa: F401  (puts the generated code on the path)
import grpc
import pytest
from control_plane import ROOT, ControlPlane, until
from kubelet import HERE, Kubelet
from names import Names
from parlance_client import Client, mint
from subscriber import Subscriber
from suite import SERVICE_CONFIG, ByService

from parlance.message.v1 import message_pb2
from parlance.message.v1 import message_service_pb2 as message_pb

PROGRAMS = pathlib.Path(os.environ.get("TEST_PARLANCE_PROGRAMS", ROOT / "target" / "release"))
DEV = "deploy/kubernetes/overlays/dev"
NAMESPACE = "parlance-dev"
SERVICES = ["membership", "message", "presence", "room"]
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
# As the overlay has it.
CALLERS = b"a key of callers that everybody knows"


def images():
    programs = ["parlance", *(f"parlance-{service}" for service in SERVICES)]
    found = {program: [PROGRAMS / program] for program in programs}
    return {**found, "postgres": [HERE / "postgres.sh"], "redis": []}


@pytest.fixture(scope="module")
def cluster():
    """A cluster on which the overlay for trying things out was applied."""
    with ControlPlane() as plane, Kubelet(plane, images()) as plane.kubelet, Names(plane, "10.88.0.1"):
        until("accounts", lambda: plane.call("GET", "/api/v1/namespaces/default/serviceaccounts/default"))
        plane.kubectl("apply", "-k", DEV)
        try:
            yield plane
        finally:
            for log in sorted((plane.folder / "pods").glob("*/log")):
                print(f"{log.parent.name}: {log.read_text(errors='replace')[-1500:]}")


def deployments():
    return [f"deployment/parlance-{service}" for service in SERVICES]


def wait_for_rolls(cluster):
    for each in deployments():
        cluster.kubectl("-n", NAMESPACE, "rollout", "status", each, "--timeout=240s")


def pods(cluster, service):
    """Those of a service that are not on their way out."""
    selector = f"app.kubernetes.io/component%3D{service}"
    found = cluster.call("GET", f"{PODS}?labelSelector={selector}")["items"]
    return [it for it in found if "deletionTimestamp" not in it["metadata"]]


def is_ready(pod):
    says = pod["status"].get("conditions", ())
    return any(it["type"] == "Ready" and it["status"] == "True" for it in says)


class Clients:
    """Callers that know the names of the headless Services alone, with the service config."""

    def __init__(self):
        self._tenant = f"tests-{uuid.uuid4().hex}"
        options = [
            ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.dns_min_time_between_resolutions_ms", 500),
            ("grpc.initial_reconnect_backoff_ms", 50),
            ("grpc.min_reconnect_backoff_ms", 50),
            ("grpc.max_reconnect_backoff_ms", 500),
        ]
        host = f"{NAMESPACE}.svc.cluster.local:7070"
        channels = {
            service: grpc.insecure_channel(f"dns:///parlance-replicas-{service}.{host}", options=options)
            for service in SERVICES
        }
        self._channel = ByService(channels)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._channel.close()

    def user(self, name):
        return Client(self._channel, mint(CALLERS, self._tenant, name))

    def service(self):
        return Client(self._channel, mint(CALLERS, self._tenant, "tests", role="service"))


class Calls:
    """Users who send as fast as they are answered. Nothing is repeated but what the service config
    says, which the library does: any other failure is one."""

    def __init__(self, clients, room_id, users):
        self._clients, self._room_id = clients, room_id
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
        messages = self._clients.user(user).messages
        for number in itertools.count():
            if self._stop.is_set():
                return
            text = f"{user} says {number}"
            request = message_pb.SendMessageRequest(
                room_id=self._room_id,
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


@pytest.fixture
def calls(cluster):
    """Users who send to a room and one who follows it. In the end nothing is lost, nothing failed,
    and no process was cut or killed on its way out."""
    wait_for_rolls(cluster)
    users = [f"user-{number}" for number in range(3)]
    with Clients() as clients:
        clients.service().upsert_users(users)
        room = clients.user(users[0]).create_group("a deployment", users[1:])
        with Subscriber(clients.user(users[2]), [room]) as follower:
            with Calls(clients, room, users) as running:
                running.go_on()
                yield running
                running.go_on()
            assert running.failures == []
            sent = sorted(running.sent)
            follower.wait_for(room, sent[-1][0])
            assert follower.faults == [] and follower.messages(room) == sent
        stored = [(it.seq, it.sender_id, it.content.text) for it in clients.user(users[1]).history(room)]
        assert stored == sent
    assert [it for it in cluster.kubelet.ended if it[1] != 0] == []
    assert cluster.kubelet.failures == []


def test_one_command_gives_a_suite_whose_replicas_roll_scale_and_are_evicted_unnoticed(cluster, calls):
    cluster.kubectl("-n", NAMESPACE, "wait", "--for=condition=complete", "job", "--all", "--timeout=60s")
    any_pod = ["run", "any", "--image=redis", "--dry-run=server"]
    refused = cluster.kubectl("-n", NAMESPACE, *any_pod, check=False).stderr
    assert "violates PodSecurity" in refused
    before = {it["metadata"]["uid"] for service in SERVICES for it in pods(cluster, service)}
    assert len(before) == 2 * len(SERVICES)

    cluster.kubectl("-n", NAMESPACE, "rollout", "restart", *deployments())
    wait_for_rolls(cluster)
    calls.go_on()

    for replicas in (4, 2):
        cluster.kubectl("-n", NAMESPACE, "scale", f"--replicas={replicas}", *deployments())
        for service in SERVICES:
            until(
                f"{replicas} replicas of {service}",
                lambda service=service: [is_ready(it) for it in pods(cluster, service)] == [True] * replicas,
            )
        calls.go_on()
    assert before.isdisjoint(it["metadata"]["uid"] for service in SERVICES for it in pods(cluster, service))

    for service in SERVICES:
        first, second = (it["metadata"]["name"] for it in pods(cluster, service))
        until(f"a budget that knows the replicas of {service}", lambda first=first: evict(cluster, first))
        assert not evict(cluster, second), "the budget allows one at a time"
    wait_for_rolls(cluster)
    calls.go_on()
    until("the end of those that go", lambda: len(pods_of_all(cluster)) == 2 * len(SERVICES))


def pods_of_all(cluster):
    selector = "app.kubernetes.io/component%20in%20(membership,message,presence,room)"
    return cluster.call("GET", f"{PODS}?labelSelector={selector}")["items"]


def evict(cluster, name):
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    try:
        cluster.call("POST", f"{PODS}/{name}/eviction", eviction)
    except urllib.error.HTTPError as error:
        assert error.code == 429
        return False
    return True


def test_a_migration_that_fails_stops_the_roll_and_the_version_before_goes_on(cluster, calls):
    # As if the last migration were of the next version, and could not be run.
    applied = "parlance_presence._sqlx_migrations"
    sql(cluster, f"CREATE TABLE forgotten AS SELECT * FROM {applied}; DELETE FROM {applied}")
    manifests = cluster.kubectl("kustomize", DEV).stdout.replace("0.1.0", "0.1.1")
    cluster.kubectl("apply", "-f", "-", input=manifests)
    until("a failed Job", lambda: job(cluster)["status"].get("failed", 0) > 0)

    def restarts():
        new = [it for it in pods(cluster, "presence") if not is_ready(it)]
        return sum(it["restartCount"] for pod in new for it in pod["status"].get("containerStatuses", ()))

    until("a replica that cannot start", lambda: restarts() > 1)
    old = [it for it in pods(cluster, "presence") if is_ready(it)]
    assert [it["spec"]["containers"][0]["image"] for it in old] == ["parlance-presence:0.1.0"] * 2
    calls.go_on()

    sql(cluster, f"INSERT INTO {applied} SELECT * FROM forgotten")
    cluster.kubectl("-n", NAMESPACE, "wait", "--for=condition=complete", job_name(), "--timeout=120s")
    wait_for_rolls(cluster)
    new = [it["spec"]["containers"][0]["image"] for it in pods(cluster, "presence")]
    assert new == ["parlance-presence:0.1.1"] * 2


def job_name():
    return "job/parlance-migrate-0.1.1"


def job(cluster):
    return cluster.call("GET", f"/apis/batch/v1/namespaces/{NAMESPACE}/{job_name().replace('job', 'jobs', 1)}")


def sql(cluster, statement):
    [postgres] = cluster.call("GET", f"{PODS}?labelSelector=app.kubernetes.io/name%3Dpostgres")["items"]
    url = f"postgres://parlance:dev-only@{postgres['status']['podIP']}/parlance"
    subprocess.run(["psql", "-q", "-v", "ON_ERROR_STOP=1", url, "-c", statement], check=True)
