"""A subscriber that does its duties and is strict about the server's.

It keeps a cursor per room, moves it after an event was handled and gives it
back when it subscribes again (docs/clients.md). Whatever the stream must never
do - skip, repeat, invert, go on after Closed - is recorded as a fault.
"""

import threading
import time
from dataclasses import dataclass, field

import grpc
from parlance_client import reason
from parlance.message.v1 import cursor_pb2
from parlance.message.v1 import stream_service_pb2 as pb


@dataclass
class Room:
    """What a subscriber knows of a room."""

    epoch: str = ""
    seq: int = 0
    # Of the event at seq, if there was one.
    time: object = None
    # The lowest seq held: the position at the first attach, plus one.
    begin: int = 1
    events: list = field(default_factory=list)
    # The head at attach time while the past is being delivered.
    catching_up: int | None = None
    # No event up to here may come any more on this stream.
    floor: int = 0
    attached: bool = False
    known: bool = False
    resets: list = field(default_factory=list)
    closed: pb.Closed | None = None

    @property
    def is_caught_up(self):
        return self.attached and self.catching_up is None


class Subscriber:
    """Follows rooms in a thread until it is stopped, reconnecting as often as needed."""

    def __init__(self, client, rooms=(), all_my_rooms=False, cursors=None, start=None, chance=None):
        """`cursors`: room → (epoch, seq). `chance`: a Random; then streams are dropped at
        random points, `drops` counts how often."""
        self._client = client
        self._all_my_rooms = all_my_rooms
        self._named = list(rooms)
        self._start = pb.STREAM_START_FROM_JOIN if start is None else start
        self._chance = chance
        self._condition = threading.Condition()
        # While it is clear, nothing is read from the stream.
        self.reading = threading.Event()
        self.reading.set()
        self._stopped = threading.Event()
        self._call = None
        self._thread = None
        self._leaving = False
        self.rooms = {}
        self.faults = []
        self.refusals = []
        self.notices = []
        self.marks = {}
        self.go_aways = []
        self.drops = 0
        self.streams = 0
        for room_id, (epoch, seq) in (cursors or {}).items():
            self.rooms[room_id] = Room(epoch=epoch, seq=seq, begin=seq + 1, known=True)

    def __enter__(self):
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        with self._condition:
            self._stopped.set()
            self.reading.set()
            if self._call is not None:
                self._call.cancel()
        if self._thread is not None:
            self._thread.join(30)
            assert not self._thread.is_alive(), "the subscriber did not stop"

    def wait(self, condition, timeout=60.0):
        """Waits until `condition(self)` holds; it is judged after every frame."""
        deadline = time.monotonic() + timeout
        with self._condition:
            while not condition(self):
                left = deadline - time.monotonic()
                if left <= 0:
                    raise AssertionError(f"not reached: {self.summary()}")
                self._condition.wait(min(left, 1.0))
        return self

    def wait_for(self, room_id, seq, timeout=60.0):
        """Waits until everything of a room up to `seq` was handled."""
        return self.wait(lambda me: me.seq(room_id) >= seq, timeout)

    def wait_attached(self, *room_ids, timeout=60.0):
        return self.wait(
            lambda me: all(room in me.rooms and me.rooms[room].attached for room in room_ids),
            timeout,
        )

    def seq(self, room_id):
        room = self.rooms.get(room_id)
        return room.seq if room else 0

    def cursor(self, room_id):
        room = self.rooms[room_id]
        return (room.epoch, room.seq)

    def messages(self, room_id):
        """The messages of a room as they were sent: (seq, sender, text)."""
        return [
            (event.seq, event.actor_id, event.message_sent.content.text)
            for event in self.rooms[room_id].events
            if event.WhichOneof("body") == "message_sent"
        ]

    def summary(self):
        rooms = {name: (room.seq, room.epoch) for name, room in self.rooms.items()}
        return f"rooms {rooms}, faults {self.faults[:5]}, refusals {self.refusals[-3:]}"

    def _run(self):
        pause = 0.02
        while not self._stopped.is_set():
            handled = self._stream_once()
            if self._named and all(self._is_closed(room) for room in self._named):
                return
            pause = 0.02 if handled else min(pause * 2, 0.5)
            wait = 0 if handled else pause
            if self._leaving:
                wait = self.go_aways[-1].after.ToTimedelta().total_seconds()
            self._stopped.wait(wait)

    def _is_closed(self, room_id):
        room = self.rooms.get(room_id)
        return room is not None and room.closed is not None

    def _request(self):
        def cursor(room_id):
            room = self.rooms.get(room_id)
            if room is None or not room.known:
                return pb.RoomCursor(room_id=room_id)
            stands = cursor_pb2.Cursor(epoch=room.epoch, seq=room.seq, time=room.time)
            return pb.RoomCursor(room_id=room_id, cursor=stands)

        names = self.rooms if self._all_my_rooms else self._named
        rooms = [cursor(name) for name in names if not self._is_closed(name)]
        return pb.SubscribeRequest(rooms=rooms, all_my_rooms=self._all_my_rooms, start=self._start)

    def _stream_once(self):
        """One stream, from Subscribe to its end. How many frames were handled."""
        frames = 0
        for room in self.rooms.values():
            room.attached, room.catching_up, room.floor = False, None, 0
        self._leaving = False
        call = self._client.streams.Subscribe(self._request())
        with self._condition:
            self._call = call
            if self._stopped.is_set():
                call.cancel()
        self.streams += 1
        # Attaching costs frames per room: leave some for events.
        longest = 60 + 6 * len(self.rooms)
        patience = self._chance.randint(1, longest) if self._chance else None
        try:
            for response in call:
                self.reading.wait()
                with self._condition:
                    self._handle(response)
                    self._condition.notify_all()
                frames += 1
                if patience is not None and frames >= patience:
                    self.drops += 1
                    call.cancel()
                    return frames
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.CANCELLED:
                with self._condition:
                    self.refusals.append((error.code().name, reason(error), error.details()))
                    self._condition.notify_all()
        return frames

    def _handle(self, response):
        if self._leaving:
            self.faults.append(f"a frame after GoAway: {response}")
        kind = response.WhichOneof("frame")
        if kind is None:
            return  # A frame of a later version.
        frame = getattr(response, kind)
        handler = getattr(self, f"_on_{kind}")
        if kind in ("heartbeat", "go_away"):
            handler(frame)
            return
        room = self.rooms.setdefault(frame.room_id, Room())
        if room.closed is not None:
            # All-my-rooms: a new membership brings the room back, by Attached.
            if kind in ("attached", "closed") and self._all_my_rooms:
                self.rooms[frame.room_id] = room = Room()
            elif kind != "notice":
                self.faults.append(f"{kind} of {frame.room_id} after Closed")
        elif not room.attached and kind in ("event", "skipped", "caught_up"):
            self.faults.append(f"{kind} of {frame.room_id} before Attached")
        handler(room, frame)

    def _on_attached(self, room, frame):
        if room.attached:
            self.faults.append(f"{frame.room_id} attached twice")
        if room.known and frame.resume_from != room.seq:
            self.faults.append(
                f"{frame.room_id} resumed from {frame.resume_from}, the cursor was {room.seq}"
            )
        if not room.known:
            room.begin = frame.resume_from + 1
        if room.seq != frame.resume_from:
            room.time = None
        room.epoch, room.seq = frame.epoch, frame.resume_from
        room.attached, room.known, room.catching_up = True, True, frame.head

    def _on_event(self, room, frame):
        self._advance(room, frame, frame.event.seq, frame.event.seq, "event")
        room.time = frame.event.time
        room.events.append(frame.event)

    def _on_skipped(self, room, frame):
        self._advance(room, frame, frame.from_seq, frame.to_seq, "skipped range")

    def _advance(self, room, frame, first, last, what):
        if first != room.seq + 1 or last < first:
            self.faults.append(f"{frame.room_id}: {what} {first}-{last} after {room.seq}")
        if first <= room.floor:
            self.faults.append(f"{frame.room_id}: {what} {first} below heartbeat {room.floor}")
        room.seq, room.time = last, None

    def _on_caught_up(self, room, frame):
        if room.catching_up is None:
            self.faults.append(f"{frame.room_id}: CaughtUp without Attached")
        elif frame.seq < room.catching_up or room.seq < room.catching_up:
            self.faults.append(
                f"{frame.room_id}: CaughtUp at {frame.seq}, handled {room.seq},"
                f" head was {room.catching_up}"
            )
        room.catching_up = None

    def _on_heartbeat(self, frame):
        for head in frame.heads:
            room = self.rooms.get(head.room_id)
            if room is not None:
                room.floor = max(room.floor, head.seq)
                if room.seq < head.seq:
                    self.faults.append(
                        f"{head.room_id}: heartbeat {head.seq} ahead of {room.seq}"
                    )

    def _on_reset(self, room, frame):
        room.resets.append(frame)
        room.events = [event for event in room.events if event.seq <= frame.keep_through]
        room.begin = min(room.begin, frame.resume_from + 1)
        room.epoch, room.seq, room.known = frame.epoch, frame.resume_from, True
        room.time = None

    def _on_closed(self, room, frame):
        room.closed, room.attached = frame, False

    def _on_go_away(self, frame):
        self._leaving = True
        self.go_aways.append(frame)
        for stands in frame.cursors:
            room = self.rooms.get(stands.room_id)
            if room is not None and room.attached and stands.cursor.seq != room.seq:
                self.faults.append(
                    f"{stands.room_id}: GoAway at {stands.cursor.seq}, handled {room.seq}"
                )

    def _on_notice(self, room, frame):
        if frame.HasField("receipts"):
            self.marks[frame.room_id] = frame.receipts.receipts
        else:
            self.notices.append(frame)
