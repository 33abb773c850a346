"""What operators see from outside: the pages of the admin port, metrics, traces, alerts."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import uuid

import grpc
import pytest
from certificates import DAY, Ca, Secret
from collector import Collector
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc
from parlance.membership.v1 import membership_service_pb2 as membership_pb
from parlance.message.v1 import event_pb2, message_pb2
from parlance.message.v1 import message_service_pb2 as message_pb
from parlance.presence.v1 import session_service_pb2 as session_pb
from parlance.room.v1 import room_service_pb2 as room_pb
from parlance_client import DEADLINE, people
from server import Server, binary
from subscriber import Subscriber
from suite import Suite, started
from test_tls import Secure
from watching import families, get, traced, until

ROOT = pathlib.Path(__file__).resolve().parents[1]
NAME = re.compile(r"\b(?:parlance|rpc|target)_[a-z_]+\b(?!\.)")
SESSIONS = "parlance_presence_sessions"
PARTS = r"(?:_bucket|_sum|_count)$"
# Labels, which look like metrics.
LABELS = {"parlance_service", "parlance_task", "parlance_pool", "parlance_state", "rpc_method"}
LABELS |= {"parlance_program", "parlance_version", "rpc_response_status_code", "rpc_system_name"}
# Only a process that has a certificate to show tells until when.
OF_TLS = {"parlance_tls_certificate_end_seconds"}
# Schemas and roles.
LABELS |= {f"parlance_{name}" for name in "message membership room presence owner serves".split()}


def documented():
    page = (ROOT / "docs/operations.md").read_text()
    table = page[page.index("| metric | unit |") :].split("\n\n")[0]
    return set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))


def named(text):
    """The metrics that a text names."""
    return {re.sub(PARTS, "", name) for name in NAME.findall(text)} - LABELS


def test_dashboard_alerts_and_runbooks_name_what_there_is():
    metrics, deploy = documented(), ROOT / "deploy/telemetry"
    assert len(metrics) > 40
    dashboard = json.loads((deploy / "dashboard.json").read_text())
    shown = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(shown) >= 12 and named(" ".join(shown)) <= metrics
    alerts = (deploy / "alerts.yaml").read_text()
    assert named(alerts) <= metrics
    page = (ROOT / "docs/operations.md").read_text()
    assert named(page) <= metrics
    raised = re.findall(r"- alert: (\w+)", alerts)
    assert 8 <= len(raised) == len(set(raised))
    assert raised == re.findall(r"^### (Parlance\w+)$", page, re.MULTILINE)
    for alert in raised:
        assert f"runbook: docs/operations.md#{alert.lower()}\n" in alerts
        section = page.split(f"### {alert}\n")[1].split("\n### ")[0].split("\n## ")[0]
        assert re.search(r"grpcurl|GetCounters|healthcheck", section) and "Do not" in section, alert


def test_alerts_are_raised_when_something_is_wrong_and_not_otherwise():
    alerts = ROOT / "deploy/telemetry"
    for what, file in [("check", "alerts.yaml"), ("test", "alerts_test.yaml")]:
        run = subprocess.run(
            ["promtool", what, "rules", alerts / file], capture_output=True, text=True
        )
        assert run.returncode == 0, run.stdout + run.stderr


def test_the_page_of_a_suite_and_the_table_have_the_same_metrics():
    with started(replicas=1) as (state, _), Suite(state) as suite:
        admin = json.loads(pathlib.Path(state).read_text())["admin"]
        name_of_anna, anna = people(suite, "anna")
        room = anna.create_group("measured")
        seq = anna.send(room, "hello").seq
        with Subscriber(suite.user(name_of_anna), all_my_rooms=True) as follower:
            follower.wait_for(room, seq)
        pages = {}
        # A task looks into the outboxes, and the first look takes a moment.
        for name, address in admin.items():
            until(lambda: get(address, "/readyz")[0] == 200)
            status, pages[name] = get(address, "/metrics")
            assert status == 200
        found = set().union(*(families(page)[0] for page in pages.values()))
        assert found == documented() - OF_TLS
        _, values = families(pages["message-0"])
        sends = [
            value
            for line, value in values.items()
            if line.startswith("rpc_server_call_duration_seconds_count")
            and 'rpc_method="parlance.message.v1.MessageService/SendMessage"' in line
            and 'rpc_response_status_code="OK"' in line
        ]
        assert sends == ["1"]
        assert values["parlance_append_batch_size_count"] == "1"
        assert float(values["parlance_follow_lag_sum"]) >= float(values["parlance_follow_lag_count"]) > 0

        def sessions():
            return families(get(admin["presence-0"], "/metrics")[1])[1].get(SESSIONS)

        until(lambda: sessions() == "0")
        phone = session_pb.OpenSessionRequest(resource="phone")
        anna.sessions.OpenSession(phone, timeout=DEADLINE)
        until(lambda: sessions() == "1")
        said = "\n".join(pages.values())
        for private in [name_of_anna, room, "hello", suite._tenant]:
            assert private not in said, private

        # A database that is away makes a process not ready, and leaves it alive.
        suite.kill("postgres")
        until(lambda: get(admin["room-0"], "/readyz")[0] == 503)
        assert get(admin["room-0"], "/livez")[0] == 200
        with grpc.insecure_channel(suite.addresses["room"][0]) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            for name, status in [("readiness", "NOT_SERVING"), ("liveness", "SERVING")]:
                answer = check(health_pb2.HealthCheckRequest(service=name), timeout=DEADLINE)
                assert health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status) == status
        until(lambda: families(get(admin["room-0"], "/metrics")[1])[1]["parlance_ready"] == "0")


def test_the_admin_port_tells_what_is_alive_and_what_is_ready():
    with Server(options=["--admin-listen", "127.0.0.1:0"]) as server:
        [admin] = re.findall(r"/readyz on (127\.0\.0\.1:\d+)", server.log.read_text())
        assert get(admin, "/livez") == (200, "alive\n")
        assert get(admin, "/readyz") == (200, "ready\n")
        assert get(admin, "/metrics/")[0] == 404 and get(admin, "/")[0] == 404
        assert get(admin, "/livez", "POST")[0] == 405
        # Connections that ask for nothing take all places, and give them back in time.
        host, port = admin.split(":")
        idle = [socket.create_connection((host, int(port))) for _ in range(32)]
        assert get(admin, "/livez") == (200, "alive\n")
        for connection in idle:
            connection.close()
        server.stop()


def test_a_process_tells_until_when_it_has_a_certificate(tmp_path):
    ca = Ca(tmp_path / "ca")
    pairs = [ca.issue("localhost", "127.0.0.1", ends=days * DAY) for days in (3, 9)]
    secret = Secret(tmp_path / "secret", pairs[0])
    with Secure(ca, secret, ["--admin-listen", "127.0.0.1:0"]) as server:
        [admin] = re.findall(r"/readyz on (127\.0\.0\.1:\d+)", server.log.read_text())

        def told():
            [of_tls] = OF_TLS
            return float(families(get(admin, "/metrics")[1])[1][of_tls])

        ends = [x509.load_pem_x509_certificate(it).not_valid_after_utc.timestamp() for it, _ in pairs]
        assert told() == ends[0]
        secret.put(pairs[1])
        until(lambda: told() == ends[1])
        server.stop()


def test_one_trace_runs_through_all_services_the_batch_and_the_relay(monkeypatch):
    with Collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://{collector.address}")
        monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        with started(replicas=1) as (state, _), Suite(state) as suite:
            _, anna, boris, _, clara, _ = people(suite, "anna", "boris", "clara")

            def call(method, request, timeout=DEADLINE):
                trace, metadata = traced()
                method(request, timeout=timeout, metadata=metadata)
                return trace, metadata[0][1].split("-")[2]

            create = room_pb.CreateRoomRequest(
                room_id="traced",
                kind=event_pb2.ROOM_KIND_GROUP,
                name="traced",
                member_user_ids=[boris],
                request_id=uuid.uuid4().hex,
            )
            trace, caller = call(anna.rooms.CreateRoom, create)
            services = {"parlance-room", "parlance-membership", "parlance-message"}

            def through_all(spans):
                ids = {span.id for span in spans} | {caller}
                whole = all(span.parent in ids for span in spans)
                return whole and {span.service for span in spans} == services

            spans = collector.until(trace, through_all)
            first = [span for span in spans if span.parent == caller]
            assert [span.service for span in first] == ["parlance-room"]
            assert first[0].attributes["rpc.method"] == "parlance.room.v1.RoomService/CreateRoom"
            assert first[0].attributes["rpc.response.status_code"] == "OK"
            by_id = {span.id: span for span in spans}
            facts = [span for span in spans if span.name.endswith("/ApplyFacts")]
            assert "parlance-membership" in {by_id[span.parent].service for span in facts}

            send = message_pb.SendMessageRequest(
                room_id="traced",
                content=message_pb2.MessageContent(text="hello"),
                request_id=uuid.uuid4().hex,
            )
            trace, _ = call(anna.messages.SendMessage, send)
            spans = collector.until(trace, lambda spans: len(spans) == 2)
            append, sent = sorted(spans, key=lambda span: len(span.name))
            assert append.name == "append" and append.parent == sent.id and append.links == [trace]

            # What the request leaves behind, since message stands still, the relay brings home.
            message = suite._processes["message-0"]
            add = membership_pb.AddMembersRequest(
                room_id="traced", user_ids=[clara], request_id=uuid.uuid4().hex
            )
            trace, metadata = traced()
            os.kill(message, signal.SIGSTOP)
            try:
                with pytest.raises(grpc.RpcError):
                    anna.members.AddMembers(add, timeout=2, metadata=metadata)
            finally:
                os.kill(message, signal.SIGCONT)

            def brought_home(spans):
                drives = {span.id for span in spans if span.name == "outbox drive"}
                return any(span.parent in drives for span in spans)

            collector.until(trace, brought_home, patience=60)


def test_a_collector_that_does_not_answer_holds_up_nobody(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:%d" % silent.getsockname()[1])
        monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "16")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
        with Server() as server:
            _, anna = people(server, "anna")
            room = anna.create_group("unheard")
            for number in range(100):
                anna.send(room, f"line {number}")
            server.stop()


def test_a_variable_that_says_what_cannot_be_ends_the_start():
    wrong = {**os.environ, "OTEL_TRACES_EXPORTER": "otlp", "OTEL_TRACES_SAMPLER": "sometimes"}
    run = subprocess.run([binary(), "run"], env=wrong, capture_output=True, text=True, timeout=60)
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1 and "OTEL_TRACES_SAMPLER must be" in run.stderr
