"""A disk that is full under a server: writes are refused as an outage, reads go on, and all of it
heals by itself once there is room."""

import contextlib
import errno
import glob
import itertools
import pathlib
import pwd
import secrets
import socket
import subprocess
import tempfile
import time
import uuid

import grpc
import pytest
from disk import cramped
from parlance_client import DEADLINE, persist, reason, retry_after
from server import Server, binary, environment
from subscriber import Subscriber

from parlance.message.v1 import message_pb2
from parlance.message.v1 import message_service_pb2 as message_pb
from parlance.room.v1 import room_list_service_pb2 as list_pb
from parlance.room.v1 import room_service_pb2 as room_pb

SIZE = 48 * 1024 * 1024


class Disk:
    """The small file system of a process, which others reach through it."""

    def __init__(self, process, folder):
        self._filler = pathlib.Path(f"/proc/{process.pid}/root{folder}/filler")

    def fill(self, but=0):
        """To the last byte, but for so many."""
        with self._filler.open("ab", buffering=0) as filler:
            for size in (1 << 20, 1 << 12, 1):
                with contextlib.suppress(OSError):
                    while True:
                        filler.write(bytes(size))
            with pytest.raises(OSError) as full:
                filler.write(b"x")
            assert full.value.errno == errno.ENOSPC
            filler.truncate(filler.tell() - but)

    def free(self):
        self._filler.unlink()


class OnSmallDisk(Server):
    """The embedded mode, whose folder is on a small file system."""

    def __init__(self):
        super().__init__()
        folder = self.folder / "disk"
        folder.mkdir()
        self.data = folder / "data"
        self._store = f"sqlite://{self.data}"
        self._limited = cramped(SIZE, folder)

    @property
    def disk(self):
        return Disk(self._process, self.folder / "disk")


@contextlib.contextmanager
def postgres():
    """A Postgres of the test's own, with a database on a small file system: its URL, and the disk."""
    [*_, initdb] = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))
    programs = pathlib.Path(initdb).parent
    user = pwd.getpwnam("postgres")
    owner = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="parlance-disk-") as folder:
        folder = pathlib.Path(folder)
        folder.chmod(0o755)
        data, disk = folder / "data", folder / "disk"
        data.mkdir()
        disk.mkdir()
        for path in (data, disk):
            subprocess.run(["chown", "postgres", path], check=True)
        how = ["-U", "parlance", "--auth=trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        subprocess.run([*owner, initdb, "-D", data, *how], check=True, stdout=subprocess.DEVNULL, cwd="/")
        server = [*cramped(SIZE, disk, 'mkdir -m 777 "$DISK/space"; exec "$@"'.replace("$DISK", str(disk)))]
        server += [*owner, programs / "postgres", "-D", data, "-p", str(port), "-k", folder / "data"]
        with (folder / "postgres.log").open("wb") as log:
            process = subprocess.Popen(
                [*server, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"], stderr=log, stdout=log, cwd="/"
            )
        try:
            url = f"postgres://parlance@127.0.0.1:{port}/"
            ready = [programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
            give_up = time.monotonic() + 60
            while subprocess.run(ready).returncode:
                assert process.poll() is None and time.monotonic() < give_up, (folder / "postgres.log").read_text()
                time.sleep(0.05)
            # Owned by who may use it: a directory of a tablespace must be.
            space = f"/proc/{process.pid}/root{disk}/space"
            subprocess.run(["chown", "postgres", space], check=True)
            for statement in (
                f"CREATE TABLESPACE small LOCATION '{disk}/space'",
                "CREATE DATABASE parlance TABLESPACE small",
            ):
                administer = [programs / "psql", "-qX", "-v", "ON_ERROR_STOP=1", "-c", statement]
                subprocess.run([*administer, f"{url}postgres"], check=True)
            yield f"{url}parlance", Disk(process, disk)
        finally:
            process.terminate()
            process.wait()


@pytest.fixture(params=["sqlite", "postgres"])
def small(request):
    """A server on each database, and its disk."""
    if request.param == "sqlite":
        with OnSmallDisk() as server:
            yield server, server.disk
    else:
        with postgres() as (url, disk), Server(url) as server:
            yield server, disk


def send_until_refused(client, room, acknowledged):
    """Sends until there is no room for more; the refusal."""
    for number in itertools.count():
        content = message_pb2.MessageContent(text=f"{number} {secrets.token_hex(1900)}")
        request = message_pb.SendMessageRequest(
            room_id=room, content=content, request_id=uuid.uuid4().hex
        )
        try:
            reply = client.messages.SendMessage(request, timeout=DEADLINE)
        except grpc.RpcError as error:
            return request, error
        acknowledged[reply.seq] = request


def judge(error):
    assert (error.code(), reason(error)) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE"), error
    assert retry_after(error) == 1


def seqs(client, room):
    return [message.seq for message in client.history(room)]


def test_a_full_disk_is_an_outage_of_writes_and_heals_without_a_restart(small):
    server, disk = small
    server.service().upsert_users(["anna", "boris", "clara"])
    anna, boris = server.user("anna"), server.user("boris")
    room = anna.create_group("a room", ["boris"])
    acknowledged = {}
    with Subscriber(boris, rooms=[room]) as stream:
        stream.wait_attached(room)
        for _ in range(2):
            disk.fill(but=300_000)
            request, error = send_until_refused(anna, room, acknowledged)
            judge(error)
            disk.fill()
            # It is no chance: the same is refused again.
            with pytest.raises(grpc.RpcError) as again:
                anna.messages.SendMessage(request, timeout=DEADLINE)
            judge(again.value)
            # Reads go on, and so do streams, old and new.
            assert seqs(boris, room) == sorted(acknowledged)
            stream.wait_for(room, max(acknowledged))
            with Subscriber(server.user("anna"), rooms=[room]) as late:
                late.wait_for(room, max(acknowledged))
                late.wait(lambda me: me.rooms[room].is_caught_up)
            persist(boris.rooms.GetRoom, room_pb.GetRoomRequest(room_id=room))
            assert persist(boris.lists.ListMyRooms, list_pb.ListMyRoomsRequest()).rooms
            assert boris.unread(room)[1] == len(acknowledged)
            # So it is ready; why it refuses, the log says.
            assert server.health() == "SERVING"
            disk.free()
            # The same request, which was not done.
            reply = persist(anna.messages.SendMessage, request)
            acknowledged[reply.seq] = request
            anna.add(room, "clara")
            stream.wait_for(room, anna.remove(room, "clara") and anna.send(room, "done").seq)
            acknowledged[stream.seq(room)] = None
        assert not stream.faults and not stream.rooms[room].resets
        assert stream.streams == 1, "it was never cut"
    told = server.log.read_text()
    assert "database or disk is full" in told or "could not extend file" in told
    assert seqs(boris, room) == sorted(acknowledged)
    assert not boris.recount().differences
    server.stop()


def test_a_start_onto_a_full_disk_ends_and_says_why(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    for size in (4096, 64 * 1024, 300 * 1024, 700 * 1024):
        server = [binary(), "run", "--store", f"sqlite://{disk}/data", "--listen", "127.0.0.1:0"]
        start = subprocess.run(
            [*cramped(size, disk), *server],
            capture_output=True,
            env=environment(),
            text=True,
            timeout=60,
        )
        assert start.returncode == 1, start
        assert "database or disk is full" in start.stderr and start.stderr.count("\n") == 1, start
