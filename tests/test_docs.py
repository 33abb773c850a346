import pathlib
import re
import subprocess
import sys
import threading

import generated  # noqa: F401
import pytest
from parlance.message.v1 import stream_service_pb2 as pb

ROOT = pathlib.Path(__file__).resolve().parents[1]
REASON = re.compile(r'^\s*\w+ = "([A-Z_]+)" => (\w+),', re.MULTILINE)
ROW = re.compile(r"^\| ([A-Z_]+) \| ([A-Z_]+) \| (\S.*) \| (\S.*) \|$", re.MULTILINE)


def test_every_reason_is_documented_with_its_code_and_no_other_is():
    """B-216."""

    def on_the_wire(code):
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", code).upper()

    source = (ROOT / "crates/rpc/src/reason.rs").read_text()
    defined = {reason: on_the_wire(code) for reason, code in REASON.findall(source)}
    page = (ROOT / "docs/errors.md").read_text()
    documented = {reason: code for reason, code, _, _ in ROW.findall(page)}
    assert len(defined) > 30
    assert documented == defined


def test_every_behaviour_is_shown_by_a_test_that_exists():
    check = subprocess.run(
        [sys.executable, ROOT / "scripts/behaviours", "--check"], capture_output=True, text=True
    )
    assert check.returncode == 0, check.stderr


def test_links_between_the_documents_lead_somewhere():
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    assert len(pages) > 8
    for page in pages:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"


class Enough(Exception):
    """Thrown by a handler to stop the subscriber, as a crash would."""


def subscriber():
    """`follow` of docs/clients.md, as it stands there."""
    page = (ROOT / "docs/clients.md").read_text()
    [code] = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    space = {}
    exec(compile(code, "docs/clients.md", "exec"), space)
    return space["follow"]


def test_the_subscriber_of_the_page_for_clients_resumes_where_it_stopped(server):
    follow, clara = subscriber(), server.user("clara")
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
    assert isinstance(cursors[room], pb.Cursor)
