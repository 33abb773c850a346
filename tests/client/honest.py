"""Users of other tenants who work while somebody does their worst. They are in a process of
their own, so that what they measure is not the attacker's work."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import uuid

import generated  # noqa: F401  (puts the generated code on the path)
from parlance_client import Client, open_channel
from suite import ByService

from parlance.message.v1 import inbox_service_pb2 as inbox_pb
from parlance.message.v1 import message_pb2
from parlance.message.v1 import message_service_pb2 as message_pb
from parlance.room.v1 import room_service_pb2 as room_pb

# How many rounds a soak has; none otherwise.
SOAK = int(os.environ.get("PARLANCE_SOAK", "0"))

TENANTS = ("calm", "steady")
# How often each of them works before anything happens.
QUIET = 20

# By how much the memory of a server may have grown afterwards, in MiB, and its files: those
# of connections to a database, which a pool makes when they are first needed.
GROWTH = 64
FILES = 32
# For a call, and until all is given back.
PATIENCE = 60.0

# By how much the slowest calls in a hundred may be slower beside an attack, whatever they
# took before. The attacker, the servers and those who measure share two cores, so that each hop
# of a call (a client, a service, Postgres, and back) waits some turns of a few milliseconds.
SLACK = 0.1


def percentile(times, of):
    return sorted(times)[min(len(times) * of // 100, len(times) - 1)]


class Measured:
    """How long calls took without and beside an attack, in seconds."""

    def __init__(self, quiet, busy, lasted):
        self.quiet, self.busy, self.lasted = quiet, busy, lasted

    @property
    def is_good(self):
        return percentile(self.busy, 99) <= 2 * percentile(self.quiet, 99) + SLACK

    def __str__(self):
        def tell(times):
            halves = f"p50 {percentile(times, 50) * 1000:.0f} ms, p99 {percentile(times, 99) * 1000:.0f} ms"
            return f"{halves} of {len(times)} calls"

        return f"quiet {tell(self.quiet)}; beside {self.lasted:.1f} s of attack {tell(self.busy)}"


class Colleagues:
    """The process in which workers work. It is told a line at a time what to do."""

    def __init__(self):
        pipe = subprocess.PIPE
        self._process = subprocess.Popen([sys.executable, __file__], stdin=pipe, stdout=pipe, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.wait()

    def tell(self, **order):
        print(json.dumps(order), file=self._process.stdin, flush=True)

    def answer(self):
        """How long the calls took; an error is raised."""
        answer = json.loads(self._process.stdout.readline())
        assert not answer["errors"], answer["errors"][0]
        return answer["times"]


class Honest:
    """A worker of each tenant. They work for a while in quiet, then as long as the block
    lasts; after it the server has given back what it took meanwhile."""

    def __init__(self, server, colleagues, quiet_for=0.0):
        self._server, self._colleagues, self._quiet_for = server, colleagues, quiet_for
        self.measured = None

    def __enter__(self):
        workers = []
        for tenant in TENANTS:
            name = f"worker-{uuid.uuid4().hex[:6]}"
            self._server.service(tenant=tenant).upsert_users([name])
            room = self._server.user(name, tenant=tenant).create_group("work")
            workers.append({"token": self._server.token(name, tenant=tenant), "room": room})
        addresses = self._server.addresses()
        self._colleagues.tell(workers=workers, addresses=addresses, quiet_for=self._quiet_for)
        self._quiet = self._colleagues.answer()
        self._memory, self._files = self._server.resident_mib(), self._server.open_files()
        self._colleagues.tell(go_on=True)
        self._began = time.monotonic()
        return self

    def __exit__(self, *failure):
        lasted = time.monotonic() - self._began
        self._colleagues.tell(go_on=False)
        with contextlib.nullcontext() if failure[0] is None else contextlib.suppress(AssertionError):
            self.measured = Measured(self._quiet, self._colleagues.answer(), lasted)
        if failure[0] is None:
            self._until("memory", lambda: self.grown() < GROWTH)
            self._until("files", lambda: self._server.open_files() <= self._files + FILES)

    def grown(self):
        """What the server holds more than before the attack, in MiB."""
        return self._server.resident_mib() - self._memory

    @staticmethod
    def _until(what, given_back):
        end = time.monotonic() + PATIENCE
        while not given_back():
            assert time.monotonic() < end, f"{what} is not given back"
            time.sleep(0.05)


class Worker:
    """One who writes, reads and asks. Every call must succeed within its deadline."""

    def __init__(self, channel, token, room):
        self._client, self._room = Client(channel, token), room
        self.times, self.errors = [], []

    def work_while(self, goes_on):
        content = message_pb2.MessageContent(text="as always")
        send = message_pb.SendMessageRequest(room_id=self._room, content=content)
        unread = inbox_pb.GetUnreadRequest(room_ids=[self._room])
        get = room_pb.GetRoomRequest(room_id=self._room)
        calls = [
            lambda: self._client.messages.SendMessage(send, timeout=PATIENCE),
            lambda: self._client.inbox.GetUnread(unread, timeout=PATIENCE),
            lambda: self._client.rooms.GetRoom(get, timeout=PATIENCE),
        ]
        while goes_on(self):
            for call in calls:
                began = time.monotonic()
                try:
                    call()
                except Exception as error:  # noqa: BLE001  (raised by who told us to work)
                    self.errors.append(f"after {time.monotonic() - began:.1f} s: {error}")
                    return
                self.times.append(time.monotonic() - began)


def start(workers, goes_on):
    threads = [threading.Thread(target=it.work_while, args=(goes_on,)) for it in workers]
    for thread in threads:
        thread.start()
    return threads


def finish(workers, threads):
    """Tells what the workers found once they are done."""
    for thread in threads:
        thread.join()
    times = [time for it in workers for time in it.times]
    errors = [error for it in workers for error in it.errors]
    print(json.dumps({"times": times, "errors": errors}), flush=True)
    for it in workers:
        it.times, it.errors = [], []


def main():
    for line in sys.stdin:
        order = json.loads(line)
        with contextlib.ExitStack() as stack:
            addresses = order["addresses"]
            channels = {it: stack.enter_context(open_channel(it)) for it in set(addresses.values())}
            channel = ByService({service: channels[it] for service, it in addresses.items()})
            workers = [Worker(channel, **each) for each in order["workers"]]
            end = time.monotonic() + order["quiet_for"]
            finish(workers, start(workers, lambda it: len(it.times) < 3 * QUIET or time.monotonic() < end))
            if not sys.stdin.readline():
                return
            done = threading.Event()
            threads = start(workers, lambda it: not it.times or not done.is_set())
            sys.stdin.readline()
            done.set()
            finish(workers, threads)


if __name__ == "__main__":
    main()
