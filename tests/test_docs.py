import datetime
import itertools
import pathlib
import re
import subprocess
import sys
import threading
import time
from concurrent import futures

import generated  # noqa: F401
import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status
from parlance_client import open_channel, reason

from parlance.errors.v1 import reason_pb2
from parlance.message.v1 import event_pb2
from parlance.message.v1 import cursor_pb2
from parlance.message.v1 import stream_service_pb2 as pb
from parlance.message.v1 import stream_service_pb2_grpc as services

ROOT = pathlib.Path(__file__).resolve().parents[1]
ROW = re.compile(r"^\| ([A-Z_]+) \| ([A-Z_]+) \| (\S.*) \| (\S.*) \|$", re.MULTILINE)


def test_every_reason_is_documented_with_its_code_and_no_other_is():
    """B-216."""
    check = subprocess.run(
        [sys.executable, ROOT / "scripts/errors", "--check"], capture_output=True, text=True
    )
    assert check.returncode == 0, check.stderr
    defined = {name.removeprefix("REASON_") for name in reason_pb2.Reason.keys()}
    page = (ROOT / "docs/errors.md").read_text()
    documented = {reason for reason, code, _, _ in ROW.findall(page) if code in code_pb2.Code.keys()}
    assert len(documented) > 30
    assert documented == defined - {"UNSPECIFIED"}


def test_every_behaviour_is_shown_by_a_test_that_exists():
    check = subprocess.run(
        [sys.executable, ROOT / "scripts/behaviours", "--check"], capture_output=True, text=True
    )
    assert check.returncode == 0, check.stderr


def test_every_file_that_the_page_for_contributors_names_is_there():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = set(re.findall(r"`((?:proto|services|crates|docs|deploy|tests|scripts)/[\w./-]+)`", text))
    assert len(named) > 15
    assert not [path for path in named if not (ROOT / path).exists()]


# Options of the programs that bound nothing which a caller holds.
NO_BOUND = set(
    "config listen admin-listen store attachments bus bus-tag auth-key issuer audience leeway message membership internal-key-file"
    " hook hook-tenants no-migrate reflection head-check deleted-retention drain log-format log-filter"
    " tls-cert tls-key tls-ca tls-peer bus-ca grpc-web grpc-web-origins".split()
)
# What bounds something in the code; the row that tells of it, or why there is none.
BOUND = re.compile(
    r"Semaphore::new\(|\bchannel\([A-Za-z]|sync_channel\([A-Za-z]|Turns::new\(|Queue::new\(|Ledger::new\("
    r"|Cache::(?:new|builder)\(|: Share \{|\bconst (?:MOST|HELD|WAITING|LANES|AT_ONCE|OPEN_STREAMS): "
)
ROWS = {
    "crates/db/src/shares.rs": "connections for reads",
    "crates/follow/src/hub/mod.rs": "rings",
    "crates/log/src/write/lanes.rs": "lanes",
    "crates/log/src/write/mod.rs": "places in a queue",
    "crates/log/src/write/queue.rs": "places in a queue",
    "crates/rpc/src/account.rs": "calls without a token",
    "crates/rpc/src/admin.rs": "connections to the admin port",
    "crates/rpc/src/auth/keyring.rs": "calls that wait for the keys",
    "crates/rpc/src/balance.rs": "calls to a service below",
    "crates/rpc/src/shed.rs": "calls that are handled",
    "crates/telemetry/src/lines.rs": "log lines",
    "services/message/src/attachment/blobs.rs": "copies of attachments",
    "services/message/src/attachment/grpc.rs": "uploads and downloads of attachments",
    "services/message/src/attachment/url.rs": "copies of attachments",
    "services/message/src/filter/mod.rs": "words of a content filter",
    "services/message/src/hook/mod.rs": "messages of which a hook is asked",
    "services/presence/src/options.rs": "presence streams",
    "services/presence/src/wire.rs": "presence streams",
}
NO_ROW = {
    "a cache: what falls out is read anew": {
        "crates/log/src/room_id.rs",
        "crates/rpc/src/auth/keys.rs",
        "services/message/src/mark/mod.rs",
        "services/presence/src/session/last_seen.rs",
        "services/presence/src/session/mod.rs",
        "services/room/src/wire.rs",
    },
    "hints: what is lost is read from the log": {
        "crates/bus/src/fanout.rs",
        "crates/bus/src/redis/mod.rs",
    },
    "part of a connection, a stream, a ring or a page, each of which has its bound": {
        "crates/follow/src/lost.rs",
        "crates/follow/src/ongoing.rs",
        "crates/follow/src/told.rs",
        "crates/rpc/src/gather.rs",
        "services/message/src/inbox/walk.rs",
    },
    "part of a call that handles a bounded list": {
        "services/room/src/room/delete.rs",
        "services/room/src/room/get.rs",
    },
    "work of a service's own": {
        "services/parlance/src/tenant_rate.rs",
        "services/presence/src/presence/watch.rs",
        "services/presence/src/seat/mod.rs",
        "services/room/src/room/follow.rs",
        "services/room/src/room/janitor.rs",
    },
    "a text": {"crates/db/src/conn.rs"},
}


def resources():
    """The rows of the table of what a caller can hold."""
    page = (ROOT / "docs/operations.md").read_text()
    table = page[page.index("| resource |") :].splitlines()
    lines = itertools.takewhile(lambda it: it.startswith("|"), table)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines][2:]


def test_every_resource_of_the_page_for_operators_has_a_test_that_exists():
    rows = resources()
    assert len(rows) > 20
    rust = "\n".join(path.read_text() for top in ("crates", "services") for path in (ROOT / top).rglob("*.rs"))
    for resource, *_, tests in rows:
        named = re.findall(r"`([\w./]+)(?:::\w+)*::(\w+)`", tests)
        assert named, resource
        for place, name in named:
            source = (ROOT / "tests" / place).read_text() if place.endswith(".py") else rust
            start = "def" if place.endswith(".py") else "fn"
            assert re.search(rf"\b{start} {name}\(", source), f"{resource}: {place}::{name}"


def test_every_option_that_bounds_something_stands_on_the_page_for_operators():
    settings = (ROOT / "services/parlance/src/settings.rs").read_text()
    options = {it.lower().replace("_", "-") for it in re.findall(r'env = "PARLANCE_(\w+)"', settings)}
    assert len(options) > 30 and options > NO_BOUND
    named = {it for row in resources() for it in re.findall(r"`--([a-z-]+)`", " ".join(row))}
    assert named == options - NO_BOUND


def test_everything_that_bounds_something_in_the_code_has_its_row_or_its_reason():
    found = set()
    for top in ("crates", "services"):
        for path in (ROOT / top).glob("*/src/**/*.rs"):
            code = path.read_text().split("#[cfg(test)]\nmod tests {")[0]
            name = path.relative_to(ROOT).as_posix()
            if BOUND.search(code) and not re.search(r"/testing\b|/tests\b|/tests\.rs$", name):
                found.add(name)
    assert found == set(ROWS).union(*NO_ROW.values())
    starts = [resource for resource, *_ in resources()]
    assert not [row for row in ROWS.values() if not any(it.startswith(row) for it in starts)]


def test_links_between_the_documents_lead_somewhere():
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    assert len(pages) > 8
    for page in pages:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"


class Enough(Exception):
    """Thrown by a handler to stop the subscriber, as a crash would."""


def subscriber():
    """The names that the code of docs/clients.md defines, as it stands there."""
    page = (ROOT / "docs/clients.md").read_text()
    [code] = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    space = {}
    exec(compile(code, "docs/clients.md", "exec"), space)
    return space


def test_the_subscriber_of_the_page_for_clients_resumes_where_it_stopped(server):
    """B-131, B-132."""
    follow, clara = subscriber()["follow"], server.user("clara")
    server.service().upsert_users(["clara", "dora"])
    room = clara.create_group("a page", ["dora"])
    cursors, seen, discarded = {}, [], []

    def run(until, **ways):
        def handle(room_id, event):
            if len(seen) >= until:
                raise Enough
            seen.append((room_id, event.seq, event.message_sent.content.text))

        def discard(room_id, keep_through):
            discarded.append((room_id, keep_through))
            raise Enough

        channel = server.channel()
        with pytest.raises(Enough):
            follow(channel, lambda: server.token("dora"), cursors, handle, discard)
        channel.close()

    # Event 1 made the room, event 2 dora a member: that is where she begins.
    for number in range(6):
        clara.send(room, f"line {number}")
    run(until=3)
    assert cursors[room].seq == 4
    for number in range(6, 9):
        clara.send(room, f"line {number}")
    run(until=9)
    assert [seq for _, seq, _ in seen] == list(range(2, 11))
    assert [text for _, _, text in seen] == ["", *(f"line {number}" for number in range(8))]
    # The next removal ends the room for her.
    ending = threading.Timer(0.2, lambda: clara.remove(room, "dora"))
    ending.start()
    run(until=100)
    ending.join()
    assert discarded == [(room, 0)]
    assert isinstance(cursors[room], cursor_pb2.Cursor)


class Played(services.StreamServiceServicer):
    """Answers each Subscribe with the next act of a play, then refuses for good."""

    def __init__(self, *acts):
        self.acts = list(acts)
        self.requests = []
        self.tokens = []

    def Subscribe(self, request, context):
        self.requests.append({room.room_id: room.cursor for room in request.rooms})
        [token] = [value for key, value in context.invocation_metadata() if key == "authorization"]
        self.tokens.append(token)
        act = self.acts.pop(0) if self.acts else refusing("PERMISSION_DENIED", "NOT_ALLOWED")
        yield from act(context)


def refusing(code, reason=None, retry_seconds=None):
    """An act that ends with a code; without a reason as the way would word it."""

    def act(context):
        status = status_pb2.Status(code=code_pb2.Code.Value(code), message="refused")
        if reason:
            info = error_details_pb2.ErrorInfo(reason=reason, domain="parlance")
            status.details.add().Pack(info)
        if retry_seconds:
            retry = error_details_pb2.RetryInfo()
            retry.retry_delay.FromTimedelta(datetime.timedelta(seconds=retry_seconds))
            status.details.add().Pack(retry)
        if status.details:
            context.abort_with_status(rpc_status.to_status(status))
        context.abort(getattr(grpc.StatusCode, code), "refused")
        yield

    return act


def telling(*frames):
    """An act that sends frames and ends well."""
    return lambda _: (pb.SubscribeResponse(**frame) for frame in frames)


def silent(context):
    """An act that sends one frame and no more, for as long as the client waits."""
    yield pb.SubscribeResponse(heartbeat=pb.Heartbeat())
    gone = threading.Event()
    if context.add_callback(gone.set):
        gone.wait(60)


def attached(seq):
    return {"attached": pb.Attached(room_id="r", epoch="e", resume_from=seq, head=seq)}


def event(seq):
    return {"event": pb.RoomEvent(room_id="r", event=event_pb2.Event(seq=seq))}


def skipped(first, last):
    return {"skipped": pb.Skipped(room_id="r", from_seq=first, to_seq=last)}


def go_away(seconds, seq):
    stands = pb.RoomCursor(room_id="r", cursor=cursor_pb2.Cursor(epoch="e", seq=seq))
    frame = pb.GoAway(cursors=[stands])
    frame.after.FromTimedelta(datetime.timedelta(seconds=seconds))
    return {"go_away": frame}


class Clock:
    """Stands for `time`: who follows waits in no time, and what they waited is kept."""

    def __init__(self):
        self.slept = []
        self.follower = threading.current_thread()

    def monotonic(self):
        return time.monotonic()

    def sleep(self, seconds):
        if threading.current_thread() is self.follower:
            self.slept.append(seconds)
        else:
            time.sleep(0.01)


def watch_play(*acts):
    """What `follow` of the page does while the acts are played: the requests, the waits, the
    events handled and the refusal that ended it."""
    play, clock, seen = Played(*acts), Clock(), []
    page = subscriber()
    page["time"], page["SILENCE"] = clock, 0.3
    tokens = itertools.count()
    with futures.ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool)
        services.add_StreamServiceServicer_to_server(play, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            with open_channel(f"127.0.0.1:{port}") as channel:
                with pytest.raises(grpc.RpcError) as ended:
                    page["follow"](
                        channel,
                        lambda: f"token {next(tokens)}",
                        {},
                        lambda room, event: seen.append(event.seq),
                        lambda *_: None,
                    )
        finally:
            server.stop(None).wait()
    return play, clock.slept, seen, ended.value


def test_the_subscriber_of_the_page_comes_again_after_what_passes():
    """B-131: what the way says, what time heals, a token that expired."""
    refusals = [
        refusing("UNAVAILABLE"),
        refusing("UNAVAILABLE", "DRAINING", 1),
        refusing("RESOURCE_EXHAUSTED", "RATE_LIMITED", 30),
        refusing("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED"),
        refusing("UNKNOWN"),
        refusing("INTERNAL"),
        refusing("CANCELLED"),
        refusing("UNAUTHENTICATED", "TOKEN_EXPIRED"),
    ]
    play, slept, _, ended = watch_play(*refusals)
    assert reason(ended) == "NOT_ALLOWED"
    assert len(play.requests) == len(refusals) + 1
    # A fresh token each time.
    assert len(set(play.tokens)) == len(play.tokens)
    asked = [0, 1, 30, 0, 0, 0, 0, 0]
    for number, (waited, at_least) in enumerate(zip(slept, asked, strict=True)):
        pause = min(0.1 * 2**number, 10)
        assert at_least + pause / 2 <= waited <= at_least + pause, f"after refusal {number}"


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("RESOURCE_EXHAUSTED", "TOO_MANY_STREAMS"),
        ("UNAUTHENTICATED", "TOKEN_INVALID"),
        ("UNAUTHENTICATED", "TOKEN_MISSING"),
        ("INTERNAL", "INTERNAL"),
        ("INVALID_ARGUMENT", "INVALID_FIELD"),
        ("UNIMPLEMENTED", None),
    ],
)
def test_the_subscriber_of_the_page_stops_at_what_would_come_again(code, why):
    play, slept, _, ended = watch_play(refusing(code, why))
    assert (ended.code().name, reason(ended)) == (code, why)
    assert len(play.requests) == 1 and not slept


def test_the_subscriber_of_the_page_moves_its_cursor_only_forward():
    """B-131, B-133."""
    play, slept, seen, _ = watch_play(
        telling(attached(0), event(1), skipped(2, 5), skipped(2, 3), event(4), event(6)),
        telling(attached(6), event(7), go_away(4, 9)),
        telling(attached(9), go_away(0, 8)),
        telling(),
    )
    assert seen == [1, 6, 7], "what is not above the cursor is dropped"
    assert [given["r"].seq if given else None for given in play.requests] == [None, 6, 9, 9, 9]
    assert all(given["r"].epoch == "e" for given in play.requests[1:])
    # As long as GoAway says; then it begins anew, for something was delivered.
    assert 4.05 <= slept[1] <= 4.1
    assert [0.05 <= waited <= 0.1 for waited in (slept[0], slept[1] - 4)] == [True, True]


def test_the_subscriber_of_the_page_leaves_a_silent_stream():
    """B-131."""
    play, _, seen, ended = watch_play(silent, telling(attached(0), event(1)))
    assert seen == [1] and reason(ended) == "NOT_ALLOWED"
    assert len(play.requests) == 3
