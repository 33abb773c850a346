"""TLS, with certificates that change, and clients that are wrong about something."""

import contextlib
import http.client
import socket
import ssl
import subprocess
import threading
import time

import grpc
import pytest
from certificates import DAY, Ca, Secret
from grpc_health.v1 import health_pb2, health_pb2_grpc
from parlance.message.v1 import operator_service_pb2 as operator_pb
from parlance.message.v1 import operator_service_pb2_grpc
from parlance.message.v1 import stream_service_pb2 as stream_pb
from parlance.presence.v1 import availability_pb2
from parlance.presence.v1 import presence_service_pb2 as presence_pb
from parlance.presence.v1 import session_service_pb2 as session_pb
from parlance_client import DEADLINE, people, persist
from postgres import database
from server import Server, binary, environment
from suite import ByService

PATIENCE = 30


class Secure(Server):
    """A server whose port speaks TLS, called by the name that its certificate has."""

    def __init__(self, ca, secret, options=(), store=None):
        super().__init__(store, [*secret.options(), *options], own_key=store is None)
        self.trusted = grpc.ssl_channel_credentials(ca.pem)

    def health(self, service=""):
        return health_of(self.open(), service)

    def open(self, trusted=None, name="localhost"):
        """A connection of its own, for whoever trusts somebody and calls by a name."""
        options = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.ssl_target_name_override", name),
            ("grpc.initial_reconnect_backoff_ms", 50),
            ("grpc.max_reconnect_backoff_ms", 200),
        ]
        return grpc.secure_channel(self.address, trusted or self.trusted, options)

    def channel(self):
        self._channels.append(self.open())
        return self._channels[-1]

    def serial(self):
        """Which certificate it shows."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        host, port = self.address.split(":")
        with socket.create_connection((host, int(port)), PATIENCE) as raw:
            with context.wrap_socket(raw) as stream:
                return ssl.DER_cert_to_PEM_cert(stream.getpeercert(binary_form=True))

    def shows(self, pair):
        """Waits until it shows a certificate."""
        until(lambda: self.serial().split() == pair[0].decode().split())


def health_of(channel, service=""):
    """What the health service says, or the code of the failure."""
    with channel:
        try:
            request = health_pb2.HealthCheckRequest(service=service)
            reply = health_pb2_grpc.HealthStub(channel).Check(request, timeout=2)
        except grpc.RpcError as error:
            return error.code()
        return health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status)


def until(holds):
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it does not come to be"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    return Ca(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def secret(ca, tmp_path):
    return Secret(tmp_path / "secret", ca.issue("localhost"))


@pytest.fixture
def server(ca, secret):
    # An address may have more connections than 200 streams need, and fewer than the attack has.
    with Secure(ca, secret, ["--connections-per-address", "150"]) as server:
        yield server


def test_clients_that_are_wrong_about_tls_are_told_and_hold_nothing(server, tmp_path):
    """A wrong CA, a wrong name, plain text, and a thousand that begin and say no more."""
    assert server.health() == "SERVING"
    unavailable = grpc.StatusCode.UNAVAILABLE
    others = grpc.ssl_channel_credentials(Ca(tmp_path / "other").pem)
    assert health_of(server.open(others)) == unavailable
    assert health_of(server.open(name="example.org")) == unavailable
    assert health_of(grpc.insecure_channel(server.address)) == unavailable
    host, port = server.address.split(":")
    plain = http.client.HTTPConnection(host, int(port), timeout=PATIENCE)
    plain.request("GET", "/")
    answer = plain.getresponse()
    assert (answer.status, answer.read()) == (400, b"this port speaks TLS.\n")
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        assert speaks(server, version) == ("h2", version.name.replace("_", "."))
    before = server.open_files()
    with contextlib.ExitStack() as stack:
        for _ in range(1000):
            half = stack.enter_context(socket.create_connection((host, int(port)), PATIENCE))
            half.sendall(b"\x16\x03\x01\x02\x00\x01")
        until(lambda: server.open_files() <= before + 150)
        # Whoever has a whole handshake to make finds a place.
        _, anna = people(server, "anna")
        anna.send(anna.create_group("a place"), "hello")
    asked = ["healthcheck", "--listen", server.address, "--tls-cert", tmp_path / "none"]
    assert subprocess.run([binary(), *asked], env=environment()).returncode == 0
    assert subprocess.run([binary(), *asked[:3]], env=environment()).returncode == 1
    assert "a client spoke plain text to the port, which speaks TLS" in server.log.read_text()


def speaks(server, version):
    """What a client that knows one version of TLS comes to speak."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])
    host, port = server.address.split(":")
    with socket.create_connection((host, int(port)), PATIENCE) as raw:
        with context.wrap_socket(raw) as stream:
            return stream.selected_alpn_protocol(), stream.version()


def test_certificates_change_under_open_streams(ca, secret, server):
    """B-175: as links are exchanged; what is of no use is told once, and the old one stays."""
    _, anna, *others = people(server, "anna", "bert", "cleo")
    room = anna.create_group("rotated", others[::2])
    request = stream_pb.SubscribeRequest(all_my_rooms=True)
    # Over a few connections: a user has a hundred streams.
    watchers = [anna, *others[1::2]]
    streams = [watchers[n % 3].streams.Subscribe(request) for n in range(200)]
    heard = [threading.Event() for _ in streams]

    def follow(stream, heard):
        with contextlib.suppress(grpc.RpcError):
            for frame in stream:
                if b"after the change" in frame.SerializeToString():
                    return heard.set()

    followers = [threading.Thread(target=follow, args=it) for it in zip(streams, heard)]
    for follower in followers:
        follower.start()
    new = ca.issue("localhost")
    secret.put(new)
    server.shows(new)
    # A key of another certificate, then half a file.
    secret.put((ca.issue("localhost")[0], new[1]))
    until(lambda: "is not that of the certificate in" in server.log.read_text())
    secret.put((new[0][:100], new[1]))
    until(lambda: "holds no certificate as PEM" in server.log.read_text())
    server.shows(new)
    assert server.health() == "SERVING"
    for when in ({"begins": -2 * DAY, "ends": -DAY}, {"begins": DAY, "ends": 2 * DAY}):
        wrong = ca.issue("localhost", **when)
        secret.put(wrong)
        server.shows(wrong)
        assert server.health() == grpc.StatusCode.UNAVAILABLE
    log = server.log.read_text()
    assert "the certificate has expired" in log and "the certificate does not hold yet" in log
    secret.put(new)
    server.shows(new)
    anna.send(room, "after the change")
    assert all(event.wait(PATIENCE) for event in heard), "streams go on"
    for stream, follower in zip(streams, followers):
        stream.cancel()
        follower.join()


@pytest.mark.parametrize(
    "pair, says",
    [
        (lambda ca: (ca.issue("localhost")[0], ca.issue("localhost")[1]), "is not that of"),
        (lambda ca: (b"nothing", ca.issue("localhost")[1]), "holds no certificate as PEM"),
        (lambda ca: (ca.issue("localhost")[0], b""), "holds no private key as PEM"),
    ],
)
def test_a_pair_that_is_of_no_use_ends_the_start(ca, tmp_path, pair, says):
    secret = Secret(tmp_path / "secret", pair(ca))
    store = ["--store", f"sqlite://{tmp_path}/data", "--listen", "127.0.0.1:0"]
    run = [binary(), "run", *store, *secret.options()]
    ended = subprocess.run(run, env=environment(), capture_output=True, text=True, timeout=PATIENCE)
    assert ended.returncode == 2 and says in ended.stderr, ended.stderr
    assert ended.stderr.count("\n") == 1 and "--tls-" in ended.stderr


ACL = "on >{} ~parlance:* &parlance:* +@read +@write +@pubsub +@scripting +@connection +time -@dangerous"


@contextlib.contextmanager
def redis(ca, folder, password):
    """A Redis that speaks TLS and nothing else, with a user who may do no more than they must."""
    pair = Secret(folder / "redis", ca.issue("localhost"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    users = folder / "users.acl"
    users.write_text(f"user default off\nuser parlance {ACL.format(password)}\n")
    command = ["redis-server", "--port", "0", "--tls-port", str(port), "--bind", "127.0.0.1"]
    command += ["--tls-cert-file", pair.cert, "--tls-key-file", pair.key, "--tls-ca-cert-file", ca.path]
    command += ["--tls-auth-clients", "no", "--save", "", "--dir", folder, "--aclfile", users]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        until(lambda: not socket.socket().connect_ex(("127.0.0.1", port)))
        yield port
    finally:
        process.kill()
        process.wait()


def test_a_managed_redis_is_all_that_it_takes(ca, tmp_path):
    """TLS of a private CA, a user with few rights, and a password with every sign."""
    with redis(ca, tmp_path, "p@ss:w/o#r%d?") as port:
        bus = f"rediss://parlance:p@ss:w/o#r%25d?@localhost:{port}"
        with Server(options=["--bus", bus, "--bus-ca", ca.path]) as server:
            user_id, anna = people(server, "anna")
            online = availability_pb2.AVAILABILITY_ONLINE
            opened = session_pb.OpenSessionRequest(resource="phone", availability=online)
            persist(anna.sessions.OpenSession, opened)
            asked = presence_pb.BatchGetPresenceRequest(user_ids=[user_id])
            [presence] = persist(anna.presence.BatchGetPresence, asked).presences
            assert presence.availability == online
            room = anna.create_group("over Redis")
            anna.send(room, "hello")
            operator = operator_service_pb2_grpc.OperatorServiceStub(server.channel())
            metadata = [("authorization", f"Bearer {server.token('me', 'operator')}")]
            asked = operator_pb.GetCountersRequest()
            until(lambda: operator.GetCounters(asked, timeout=DEADLINE, metadata=metadata).bus_up)
    ended = subprocess.run(
        [binary(), "run", "--bus", "redis://localhost:1", "--bus-ca", ca.path],
        env=environment(), capture_output=True, text=True, cwd=tmp_path,
    )
    assert ended.returncode == 2 and "must begin with rediss" in ended.stderr, ended.stderr


class Service(Secure):
    """One service of a suite whose services know each other by certificates alone."""

    NAMES = {name: f"spiffe://example.org/{name}" for name in ("message", "membership", "room")}

    def __init__(self, name, ca, folder, store, key, calls):
        self.program = f"parlance-{name}"
        secret = Secret(folder / name, ca.issue("localhost", self.NAMES[name]))
        options = ["--tls-ca", ca.path, "--tls-peer", ",".join(self.NAMES.values())]
        options += ["--auth-key", f"hs256:{key}"]
        for called, server in calls.items():
            options += [f"--{called}", "https://localhost:" + server.address.rsplit(":", 1)[1]]
        super().__init__(ca, secret, options, store=store)
        self._key = key


def test_services_that_know_each_other_by_certificates_need_no_secret(ca, tmp_path):
    key = tmp_path / "callers.key"
    key.write_text("a secret of the callers of these services")
    with contextlib.ExitStack() as stack:
        store, running = stack.enter_context(database()), {}
        for name in Service.NAMES:
            running[name] = stack.enter_context(
                Service(name, ca, tmp_path, store, key, dict(running))
            )
        channel = ByService({name: server.channel() for name, server in running.items()})
        room = running["room"]
        room.service(channel).upsert_users(["anna"])
        anna = room.user("anna", channel)
        anna.send(anna.create_group("without a secret"), "hello")
        log = "".join(server.log.read_text() for server in running.values())
        assert "refused a call" not in log
