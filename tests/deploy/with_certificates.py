"""deploy/kubernetes with every component on a control plane of Kubernetes: `make test-deploy`. The secrets
of certificates and keys are exchanged under load, in the order of docs/operations.md."""

import base64
import json
import re
import socket
import ssl
import urllib.request

import grpc
from certificates import Ca
from control_plane import PROGRAMS as CONTROL_PLANE
from control_plane import until
from deployment import CALLERS, NAMESPACE, SERVICES, Clients, pods, roll
from grpc_health.v1 import health_pb2, health_pb2_grpc
from parlance_client import mint

OVERLAY = "tests/deploy/overlay"
PATIENCE = 10
# As the overlay has them.
NEXT = b"another key of callers that everybody knows"
INTERNAL, NEXT_INTERNAL = "an internal key that everybody knows", "another internal key that everybody knows"
# A call that says nothing, which is refused for that, once its token was found to be good.
EMPTY_CALLS = {
    "membership": "/parlance.membership.v1.MemberService/UpdateMemberMetadata",
    "message": "/parlance.message.v1.MessageService/GetMessage",
    "presence": "/parlance.presence.v1.PresenceService/GetRoomOnlineCount",
    "room": "/parlance.room.v1.RoomService/GetRoom",
}


class Certificates:
    """The secrets with the certificates of the services: whom they trust, and what they show."""

    def __init__(self, cluster):
        self._cluster = cluster
        self.before, self.after = (Ca(cluster.folder / it, f"the CA {it}") for it in ("before", "after"))
        self.pairs = {}
        self.put(self.before, [self.before])

    def put(self, issuer, trusted):
        """Everybody trusts these, and has a new certificate of one; None: the one of before."""
        for service in SERVICES:
            if issuer:
                names = f"parlance-{service}", f"parlance-replicas-{service}.{NAMESPACE}.svc.cluster.local"
                self.pairs[service] = issuer.issue(*names)
            chain, key = self.pairs[service]
            files = {"tls.crt": chain, "tls.key": key, "ca.crt": b"".join(it.pem for it in trusted)}
            secret = {
                "apiVersion": "v1",
                "kind": "Secret",
                "type": "kubernetes.io/tls",
                "metadata": {"name": f"parlance-tls-{service}", "namespace": NAMESPACE},
                "data": {name: base64.b64encode(file).decode() for name, file in files.items()},
            }
            self._cluster.kubectl("apply", "-f", "-", input=json.dumps(secret))

    def wait_until_shown(self):
        """Until every replica shows what it should."""
        for service, pod in every_pod(self._cluster):
            expected = ssl.PEM_cert_to_DER_cert(self.pairs[service][0].decode())
            until(f"the new certificate of {service}", lambda pod=pod, it=expected: shown(pod) == it)

    def wait_until_trusted(self, ca, is_trusted=True):
        """Until every replica has read whom it is to trust."""
        pair = ca.issue("parlance-tests")
        for service, pod in every_pod(self._cluster):
            until(
                f"{service} that knows whom to trust",
                lambda service=service, pod=pod: self._admits(service, pod, pair) == is_trusted,
            )

    def _admits(self, service, pod, pair):
        """Whether a client that shows a certificate comes in."""
        with self.open(service, pod, pair) as channel:
            try:
                check = health_pb2_grpc.HealthStub(channel).Check
                check(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
            except grpc.RpcError as error:
                assert error.code() == grpc.StatusCode.UNAVAILABLE, error
                return False
        return True

    def open(self, service, pod, pair=None):
        """A connection of its own to one replica."""
        chain, key = pair or (None, None)
        credentials = grpc.ssl_channel_credentials(self.before.pem + self.after.pem, key, chain)
        options = [
            ("grpc.ssl_target_name_override", f"parlance-{service}"),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        return grpc.secure_channel(f"{address(pod)}:7070", credentials, options)


def prepare(cluster):
    cluster.kubectl("apply", "--server-side", *(f"--filename={it}" for it in CONTROL_PLANE.glob("gateway/*.yaml")))
    cluster.kubectl("wait", "--for=condition=established", "customresourcedefinition", "--all", "--timeout=60s")
    cluster.kubectl("apply", "-f", "deploy/kubernetes/overlays/dev/namespace.yaml")
    cluster.certificates = Certificates(cluster)
    cluster.trusted = cluster.certificates.before.pem + cluster.certificates.after.pem


def address(pod):
    return pod["status"]["podIP"]


def every_pod(cluster):
    return [(service, pod) for service in SERVICES for pod in pods(cluster, service)]


def shown(pod):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((address(pod), 7070), PATIENCE) as raw:
        with context.wrap_socket(raw) as stream:
            return stream.getpeercert(binary_form=True)


def admin(pod, path):
    with urllib.request.urlopen(f"http://{address(pod)}:9090{path}", timeout=PATIENCE) as answer:
        return answer.read().decode()


def put_keys(cluster, prefix, files):
    """Exchanges the keys in a secret, whose name ends with a hash."""
    path = f"/api/v1/namespaces/{NAMESPACE}/secrets"
    names = [it["metadata"]["name"] for it in cluster.call("GET", path)["items"]]
    [name] = [it for it in names if it.startswith(prefix)]
    kind = "application/merge-patch+json"
    cluster.call("PATCH", f"{path}/{name}", {"stringData": files}, kind)


def others_come_in(cluster, calls, trusted=None):
    """Callers of new connections make rooms, for which the services call each other."""
    with Clients(trusted or cluster.trusted, calls.clients.tenant, calls.clients.key) as clients:
        room = clients.user("user-0").create_group("one more", ["user-1"])
        assert clients.user("user-1").history(room) == []


def accepts(certificates, service, pod, key):
    """Whether a replica takes tokens that a key signed."""
    token = mint(key, "tests", "user-0")
    with certificates.open(service, pod) as channel:
        call = channel.unary_unary(EMPTY_CALLS[service])
        try:
            call(b"", timeout=PATIENCE, metadata=[("authorization", f"Bearer {token}")])
        except grpc.RpcError as error:
            assert error.code().name in ("INVALID_ARGUMENT", "UNAUTHENTICATED"), error
            return error.code() != grpc.StatusCode.UNAUTHENTICATED
    raise AssertionError("an empty request was answered")


def test_what_components_add_is_there(cluster, calls):
    for service, pod in every_pod(cluster):
        [container] = pod["spec"]["containers"]
        assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
        assert admin(pod, "/readyz") == "ready\n"
        build = re.search(r"^parlance_build\{.*\} 1$", admin(pod, "/metrics"), re.MULTILINE)[0]
        assert f'"parlance-{service}"' in build, build
    routes = json.loads(cluster.kubectl("-n", NAMESPACE, "get", "gateways,grpcroutes", "-o", "json").stdout)
    made = sorted((it["kind"], it["metadata"]["name"]) for it in routes["items"])
    assert made == [("GRPCRoute", f"parlance-{it}") for it in SERVICES] + [("Gateway", "parlance")]
    for route in (it for it in routes["items"] if it["kind"] == "GRPCRoute"):
        [[backend]] = [it["backendRefs"] for it in route["spec"]["rules"]]
        served = cluster.call("GET", f"/api/v1/namespaces/{NAMESPACE}/services/{backend['name']}")
        assert backend["port"] in [it["port"] for it in served["spec"]["ports"]]


def test_certificates_change_under_load_and_nobody_notices(cluster, calls):
    certificates = cluster.certificates
    streams = calls.follower.streams
    before, after = certificates.before, certificates.after
    for issuer, trusted in [(before, [before]), (None, [before, after]), (after, [before, after]), (None, [after])]:
        certificates.put(issuer, trusted)
        certificates.wait_until_shown()
        for ca in (before, after):
            certificates.wait_until_trusted(ca, ca in trusted)
        others_come_in(cluster, calls)
        calls.go_on()
    assert calls.follower.streams == streams
    # New replicas have nothing but what is new, and call the old ones.
    roll(cluster)
    others_come_in(cluster, calls, after.pem)


def test_keys_change_under_load_and_nobody_notices(cluster, calls):
    # Of the internal keys the first signs, and a start reads them: both are known before one goes.
    for first, second in [(NEXT_INTERNAL, INTERNAL), (NEXT_INTERNAL, "an internal key that nobody knows yet")]:
        put_keys(cluster, "parlance-internal", {"internal.key": first, "next.key": second})
        roll(cluster)
        others_come_in(cluster, calls)
        calls.go_on()
    # Those of callers are read as they change.
    streams = calls.follower.streams
    calls.clients.key = NEXT
    later = b"a key of callers that nobody knows yet"
    put_keys(cluster, "parlance-callers", {"callers.key": NEXT.decode(), "next.key": later.decode()})
    for service, pod in every_pod(cluster):
        for key, is_good in [(CALLERS, False), (NEXT, True), (later, True)]:
            until(
                f"{service} that knows the keys",
                lambda it=(service, pod, key), is_good=is_good: accepts(cluster.certificates, *it) == is_good,
            )
    others_come_in(cluster, calls)
    calls.go_on()
    assert calls.follower.streams == streams
