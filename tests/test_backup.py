import contextlib
import itertools
import random
import shutil
import subprocess
import threading
import uuid

import attach
from disk import cramped
from google.protobuf import field_mask_pb2
from load import Load
from parlance_client import persist
from server import Server, binary, environment
from subscriber import Subscriber
from test_restart import set_up, told

from parlance.membership.v1 import membership_service_pb2 as membership_pb
from parlance.room.v1 import room_pb2
from parlance.room.v1 import room_service_pb2 as room_pb

# What a command says last: what it left in a folder.
TELL = 'code=0; "$@" || code=$?; ls -A "$LEFT"; exit "$code"'


def parlance(server, *arguments, within=()):
    """A command with the store of a server, which may run."""
    return subprocess.run(
        [*within, binary(), *arguments, "--store", f"sqlite://{server.data}"],
        capture_output=True,
        env=environment(),
        text=True,
        timeout=120,
    )


def test_a_backup_of_a_server_that_works_has_what_was_acknowledged_before_it_began(
    sqlite_server, tmp_path
):
    """Users send and come in while the folder is copied. What the copy has begins an epoch: who
    holds more is told to discard it."""
    server, backup = sqlite_server, tmp_path / "backup"
    senders = [f"sender{number}" for number in range(3)]
    room = set_up(server, *senders, "reader")
    reader = Subscriber(server.user("reader"), rooms=[room])
    with reader:
        with Load(server, room, senders) as load:
            load.wait_for(50)
            before = set(load.messages())
            done = parlance(server, "backup", str(backup))
            assert done.returncode == 0, done.stderr
            load.wait_for(50)
        later = load.messages()[-1][0]
        reader.wait_for(room, later)
    again = parlance(server, "backup", str(backup))
    assert again.returncode == 1 and "is not empty" in again.stderr, again.stderr
    over = parlance(server, "restore", str(backup))
    assert over.returncode == 1 and "is not empty" in over.stderr, over.stderr

    server.stop()
    shutil.rmtree(server.data)
    restored = parlance(server, "restore", str(backup))
    assert restored.returncode == 0 and len(restored.stdout.strip()) == 16, restored
    server.start()
    history = server.user("sender0").history(room)
    held = told(history)
    assert before <= set(held) <= set(load.messages())
    head = history[-1].seq
    assert head < later, "it is of a moment before the end"

    cursor = {room: reader.cursor(room)}
    with Subscriber(server.user("reader"), rooms=[room], cursors=cursor) as rewound:
        rewound.wait(lambda me: me.rooms[room].resets)
        sent = server.user("sender1").send(room, "after").seq
        rewound.wait_for(room, sent)
        assert rewound.rooms[room].resets[0].keep_through <= head
    server.stop()


@contextlib.contextmanager
def busy(*works):
    """Each work is done again and again, with the number of the turn, until the block ends. Gives
    how many turns of each are done."""
    stop, done, errors = threading.Event(), [0] * len(works), []
    moved = threading.Condition()

    def run(number, work):
        try:
            for turn in itertools.count(1):
                if stop.is_set():
                    return
                work(turn)
                with moved:
                    done[number] = turn
                    moved.notify_all()
        except Exception as error:  # noqa: BLE001  (raised again below)
            with moved:
                errors.append(error)
                moved.notify_all()

    def wait_for(more):
        """Until each work is done so many times more."""
        with moved:
            goals = [turns + more for turns in done]
            reached = moved.wait_for(
                lambda: errors or all(a >= b for a, b in zip(done, goals)), 60
            )
        assert reached and not errors, errors or "the works stand still"

    threads = [threading.Thread(target=run, args=each) for each in enumerate(works)]
    for thread in threads:
        thread.start()
    try:
        yield done, wait_for
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not errors, errors


class Changing:
    """A room of which everything changes: who is in it, its name, and what it holds of files."""

    def __init__(self, server, number, folder):
        self.owner, self.guest = f"owner{number}", f"guest{number}"
        self.client = server.user(self.owner)
        self.room = self.client.create_group("0", [])
        self.file = folder / f"{self.room}.bin"
        self.file.write_bytes(random.randbytes(300_000 + number))

    def change(self, turn):
        """A member more or less, and another name: each is in its own service, and in the log."""
        (self.client.add if turn % 2 else self.client.remove)(self.room, self.guest)
        request = room_pb.UpdateRoomRequest(
            room=room_pb2.Room(room_id=self.room, name=str(turn)),
            update_mask=field_mask_pb2.FieldMask(paths=["name"]),
            request_id=uuid.uuid4().hex,
        )
        persist(self.client.rooms.UpdateRoom, request)
        if turn % 3 == 0:
            self.client.create_group(f"beside {turn}", [self.guest])

    def upload(self, _):
        attach.send(self.client, self.room, self.file)

    def judge(self, restored, turns, uploads, folder):
        """What a server has that was put back after so many turns: the log, the members and the
        room say the same, and nothing is missing that was there when the backup began."""
        client = restored.user(self.owner)
        held = list(self.rooms(client))
        with Subscriber(client, all_my_rooms=True) as logs:
            logs.wait(lambda me: all(room in me.rooms and me.rooms[room].is_caught_up for room in held))
            for room in held:
                self.judge_room(client, room, logs.rooms[room].events)
        assert int(self.name(client, self.room)) >= turns, "an acknowledged name is in the backup"
        messages = client.history(self.room)
        files = [each.attachment_id for it in messages for each in it.content.attachments]
        assert len(files) >= uploads, "an acknowledged file is in the backup"
        for number in {0, len(files) - 1} if files else ():
            fetched = folder / f"{self.room} {turns} {number}"
            attach.fetch(client, files[number], fetched)
            assert fetched.read_bytes() == self.file.read_bytes()

    @staticmethod
    def rooms(client):
        request = membership_pb.ListUserMembershipsRequest(page_size=100)
        while True:
            page = persist(client.members.ListUserMemberships, request)
            yield from (each.room_id for each in page.memberships)
            request.page_token = page.next_page_token
            if not page.next_page_token:
                return

    @staticmethod
    def name(client, room):
        return persist(client.rooms.GetRoom, room_pb.GetRoomRequest(room_id=room)).room.name

    def judge_room(self, client, room, events):
        request = membership_pb.ListRoomMembersRequest(room_id=room)
        members = {each.user_id for each in persist(client.members.ListRoomMembers, request).members}
        name, users = None, set()
        for event in events:
            users |= {each.user_id for each in event.effects.gained}
            users -= set(event.effects.lost_user_ids)
            kind = event.WhichOneof("body")
            if kind in ("room_created", "room_updated"):
                name = getattr(event, kind).name
        assert members == users, "the members are those of the log"
        # The name that a room was made with comes before who is told.
        assert name in (None, self.name(client, room)), "the name is that of the log"


def test_a_backup_has_of_members_settings_and_files_what_its_logs_have(sqlite_server, tmp_path):
    """Users come and go, rooms are made and named, files are sent, while the folder is copied
    again and again. Each copy starts, and has all that was acknowledged before it began."""
    server, backups = sqlite_server, []
    server.service().upsert_users([f"{who}{number}" for who in ("owner", "guest") for number in range(3)])
    rooms = [Changing(server, number, tmp_path) for number in range(3)]
    with busy(*(room.change for room in rooms), rooms[0].upload) as (done, wait_for):
        for number in range(2):
            wait_for(2)
            before, folder = list(done), tmp_path / f"backup{number}"
            made = parlance(server, "backup", str(folder))
            assert made.returncode == 0, made.stderr
            backups.append((folder, before))
    for folder, (*turns, uploads) in backups:
        with Server() as restored:
            restored.stop()
            shutil.rmtree(restored.data)
            put = parlance(restored, "restore", str(folder))
            assert put.returncode == 0, put.stderr
            restored.start()
            for room, turn in zip(rooms, turns):
                room.judge(restored, turn, uploads if room is rooms[0] else 0, tmp_path)
            restored.stop()
    server.stop()


def test_a_backup_onto_a_full_disk_says_so_and_leaves_nothing(sqlite_server, tmp_path):
    """Whatever it was writing when the disk was full: a file's bytes, a database, the checks."""
    server, disk = sqlite_server, tmp_path / "disk"
    disk.mkdir()
    anna = server.user("anna")
    room = set_up(server, "anna")
    file = tmp_path / "file.bin"
    file.write_bytes(random.randbytes(300_000))
    attach.send(anna, room, file)
    whole = parlance(server, "backup", str(tmp_path / "backup"))
    assert whole.returncode == 0, whole.stderr
    sizes = {path: path.stat().st_size for path in (tmp_path / "backup").rglob("*") if path.is_file()}
    files = sum(size for path, size in sizes.items() if "attachments" in path.parts)
    total = sum(sizes.values())
    assert files >= 300_000
    for size in (files // 2, files + 100_000, total - 50_000, total + 8192):
        within = cramped(size, disk, TELL.replace("$LEFT", str(disk)))
        made = parlance(server, "backup", str(disk / "backup"), within=within)
        assert (made.returncode, made.stdout) == (1, ""), made
        assert made.stderr.count("\n") == 1 and f"{disk}/backup.unfinished" in made.stderr, made
    assert anna.send(room, "still there").seq
    assert server.health() == "SERVING"
    server.stop()
