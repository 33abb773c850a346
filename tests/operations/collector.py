"""Traces and metrics of a suite, read back from a real Collector of OpenTelemetry, which
`scripts/setup-tests collector` builds of its modules."""

import collections
import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import uuid

import grpc
import pytest
from parlance.membership.v1 import membership_service_pb2 as membership_pb
from parlance.message.v1 import event_pb2, message_pb2
from parlance.message.v1 import message_service_pb2 as message_pb
from parlance.room.v1 import room_service_pb2 as room_pb
from parlance_client import DEADLINE, people
from subscriber import Subscriber
from suite import Suite, started
from watching import traced, until

PROGRAM = pathlib.Path(__file__).resolve().parents[2] / ".tools/collector/collector"
SERVER, CLIENT = 2, 3
SERVICES = {"parlance-room", "parlance-membership", "parlance-message", "parlance-presence"}
CONFIG = """
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: "{address}"}}}}}}}}
exporters:
  file/traces: {{path: {folder}/traces.json, flush_interval: 100ms}}
  file/metrics: {{path: {folder}/metrics.json, flush_interval: 100ms}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces: {{receivers: [otlp], exporters: [file/traces]}}
    metrics: {{receivers: [otlp], exporters: [file/metrics]}}
"""

Span = collections.namedtuple("Span", "service kind name trace id parent links said status")


def said_of(attributes):
    """Attributes by name, each as the text that it has, if it is one."""
    return {each["key"]: each["value"].get("stringValue") for each in attributes}


class Collector:
    """The real one, and what it has written so far."""

    def __init__(self, folder):
        self._folder = pathlib.Path(folder)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = "127.0.0.1:%d" % free.getsockname()[1]

    def __enter__(self):
        config = self._folder / "config.yaml"
        config.write_text(CONFIG.format(address=self.address, folder=self._folder))
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen([PROGRAM, "--config", config], stderr=log, stdout=log)
        ready = b"Everything is ready"
        try:
            until(lambda: ready in (self._folder / "log").read_bytes(), what="the start of the Collector")
        except BaseException:
            self.__exit__()
            raise AssertionError((self._folder / "log").read_text())
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait(30)

    def _resources(self, what, name):
        """Each resource that was told of, with the service that it is."""
        file = self._folder / f"{what}.json"
        # The last line may be half written.
        lines = file.read_text().split("\n")[:-1] if file.exists() else []
        for resource in (each for line in lines for each in json.loads(line)[name]):
            said = said_of(resource["resource"]["attributes"])
            yield said["service.name"], said, resource

    def spans(self):
        found = []
        for service, _, resource in self._resources("traces", "resourceSpans"):
            for span in (span for scope in resource["scopeSpans"] for span in scope["spans"]):
                links = [link["traceId"] for link in span.get("links", [])]
                said, status = said_of(span.get("attributes", [])), span.get("status", {})
                parent = span.get("parentSpanId", "")
                ids = (span["traceId"], span["spanId"], parent)
                found.append(
                    Span(service, span["kind"], span["name"], *ids, links, said, status.get("code", 0))
                )
        return found

    def of(self, trace, is_whole, patience=30):
        """The spans of a trace, once all that is looked for is there."""

        def found():
            spans = [span for span in self.spans() if span.trace == trace]
            return is_whole(spans) and spans

        try:
            return until(found, patience, f"the trace {trace}")
        except AssertionError as late:
            there = [span[:3] for span in self.spans() if span.trace == trace]
            raise AssertionError(f"{late}: {there}") from None

    def metrics(self):
        """Which metrics each service told, and what is said of the service."""
        told, said = collections.defaultdict(set), {}
        for service, about, resource in self._resources("metrics", "resourceMetrics"):
            said[service] = about
            told[service] |= {it["name"] for scope in resource["scopeMetrics"] for it in scope["metrics"]}
        return told, said


@pytest.fixture(scope="module")
def collector(tmp_path_factory):
    with Collector(tmp_path_factory.mktemp("collector")) as running:
        yield running


@pytest.fixture(scope="module")
def suite(collector):
    with contextlib.ExitStack() as stack:
        setting = stack.enter_context(pytest.MonkeyPatch.context()).setenv
        setting("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://{collector.address}")
        setting("OTEL_TRACES_SAMPLER", "parentbased_always_off")
        setting("OTEL_BSP_SCHEDULE_DELAY", "100")
        setting("OTEL_METRIC_EXPORT_INTERVAL", "500")
        state, _ = stack.enter_context(started(replicas=1))
        yield stack.enter_context(Suite(state))


def call(method, request, timeout=DEADLINE):
    """Calls as one whose trace is wanted: its id, and that of the caller's span."""
    trace, metadata = traced()
    method(request, timeout=timeout, metadata=metadata)
    return trace, metadata[0][1].split("-")[2]


def room_for(client, name, *members):
    return room_pb.CreateRoomRequest(
        room_id=name,
        kind=event_pb2.ROOM_KIND_GROUP,
        name=name,
        member_user_ids=members,
        request_id=uuid.uuid4().hex,
    )


def send(text, room="traced"):
    content = message_pb2.MessageContent(text=text)
    return message_pb.SendMessageRequest(room_id=room, content=content, request_id=uuid.uuid4().hex)


def test_a_trace_goes_from_room_to_message_and_each_call_is_told_from_both_sides(collector, suite):
    _, anna, boris, _ = people(suite, "anna", "boris")
    trace, caller = call(anna.rooms.CreateRoom, room_for(anna, "through", boris))
    services = SERVICES - {"parlance-presence"}

    def whole(spans):
        ids = {span.id for span in spans} | {caller}
        return all(span.parent in ids for span in spans) and {it.service for it in spans} == services

    spans = collector.of(trace, whole)
    by_id = {span.id: span for span in spans}
    served = [span for span in spans if span.kind == SERVER]
    first, = (span for span in served if span.parent == caller)
    assert first.service == "parlance-room"
    assert first.said["rpc.method"] == "parlance.room.v1.RoomService/CreateRoom"
    between = [span for span in served if span is not first]
    assert {span.service for span in between} == {"parlance-membership", "parlance-message"}
    for span in between:
        calling = by_id[span.parent]
        assert calling.kind == CLIENT and calling.service != span.service, (calling, span)
        assert calling.said["rpc.method"] == span.said["rpc.method"] == calling.name == span.name
        assert calling.said["rpc.system.name"] == "grpc"
        assert calling.said["rpc.response.status_code"] == span.said["rpc.response.status_code"] == "OK"
        assert calling.status == span.status == 0
    # From room to membership, and from there to message.
    facts = [span for span in between if span.name.endswith("/ApplyFacts")]
    assert "parlance-membership" in {by_id[span.parent].service for span in facts}


def test_a_batch_is_in_the_trace_of_its_first_message_with_links_to_all(collector, suite):
    _, anna = people(suite, "anna")
    anna.rooms.CreateRoom(room_for(anna, "traced"), timeout=DEADLINE)
    sent, batch = {}, None
    for _ in range(20):
        calls = []
        for number in range(32):
            trace, metadata = traced()
            calls.append(anna.messages.SendMessage.future(send(f"{number}"), timeout=DEADLINE, metadata=metadata))
            sent[trace] = metadata[0][1].split("-")[2]
        for each in calls:
            each.result()
        last = trace
        collector.of(last, lambda spans: any(span.kind == SERVER for span in spans))
        batches = [span for span in collector.spans() if span.name == "append" and len(span.links) > 1]
        if batch := next((span for span in batches if set(span.links) <= set(sent)), None):
            break
    assert batch, "no two messages went together"
    assert batch.service == "parlance-message" and batch.trace == batch.links[0]
    of_first = collector.of(batch.trace, lambda spans: len(spans) >= 2)
    request, = (span for span in of_first if span.kind == SERVER)
    assert batch.parent == request.id and request.parent == sent[batch.trace]


def test_what_a_request_leaves_behind_is_brought_home_in_its_trace(collector, suite):
    _, anna, clara, _ = people(suite, "anna", "clara")
    anna.rooms.CreateRoom(room_for(anna, "later"), timeout=DEADLINE)
    add = membership_pb.AddMembersRequest(
        room_id="later", user_ids=[clara], request_id=uuid.uuid4().hex
    )
    message = suite._processes["message-0"]
    trace, metadata = traced()
    os.kill(message, signal.SIGSTOP)
    try:
        with pytest.raises(grpc.RpcError):
            anna.members.AddMembers(add, timeout=2, metadata=metadata)
    finally:
        os.kill(message, signal.SIGCONT)

    def brought_home(spans):
        by_id = {span.id: span for span in spans}
        calls = [by_id[it.parent] for it in spans if it.kind == SERVER and it.parent in by_id]
        return any(it.parent in by_id and by_id[it.parent].name == "outbox drive" for it in calls)

    spans = collector.of(trace, brought_home, patience=60)
    drive = next(span for span in spans if span.name == "outbox drive")
    assert drive.service == "parlance-membership"
    asked = [span for span in spans if span.kind == SERVER and span.service == "parlance-membership"]
    assert drive.parent in {span.id for span in asked}
    # The calls that nobody answered are told as what they were.
    failed = [span for span in spans if span.kind == CLIENT and span.status]
    assert failed and all(span.said["rpc.response.status_code"] != "OK" for span in failed)


def test_every_service_tells_its_metrics(collector, suite):
    name, anna = people(suite, "anna")
    room = anna.create_group("measured")
    seq = anna.send(room, "hello").seq
    with Subscriber(suite.user(name), all_my_rooms=True) as follower:
        follower.wait_for(room, seq)
    wanted = {
        "parlance-room": {"rpc.server.call.duration", "parlance.outbox.oldest"},
        "parlance-membership": {"rpc.server.call.duration", "parlance.outbox.logs"},
        "parlance-message": {"parlance.follow.lag", "parlance.append.commit.duration"},
        "parlance-presence": {"parlance.presence.sessions", "parlance.ready"},
    }

    def told():
        return all(names <= collector.metrics()[0][service] for service, names in wanted.items())

    until(told, what="a metric of each service")
    metrics, said = collector.metrics()
    assert set(metrics) == SERVICES
    assert all(said[service]["service.version"] for service in SERVICES)
