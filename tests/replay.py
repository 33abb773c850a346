#!/usr/bin/env python3
"""Replays dialogues through a server: many users send, others subscribe, drop and resume.

    tests/replay.py --all          the whole English corpus, with a summary
    tests/replay.py --suite        on a suite of its own, as `make up` starts it
    tests/replay.py --addresses    on what `make up` started
"""

import argparse
import contextlib
import pathlib
import queue
import random
import sys
import threading
import time
import uuid
from dataclasses import dataclass

sys.path.insert(0, str(pathlib.Path(__file__).parent / "client"))

import chatterbot_corpus  # noqa: E402
import generated  # noqa: E402, F401
import yaml  # noqa: E402
from parlance.message.v1 import mark_service_pb2 as mark_pb  # noqa: E402
from parlance.message.v1 import message_service_pb2 as message_pb  # noqa: E402
from parlance.message.v1 import reaction_service_pb2 as reaction_pb  # noqa: E402
from parlance_client import persist  # noqa: E402
from postgres import database  # noqa: E402
from server import Server  # noqa: E402
from subscriber import Subscriber  # noqa: E402
from suite import STATE, Suite, started  # noqa: E402
from tqdm import tqdm  # noqa: E402

CORPUS = pathlib.Path(chatterbot_corpus.__file__).parent / "data" / "english"
# Every pair of users takes one dialogue after the other and sends its lines in turn.
PAIRS = 3
# Subscribers of one room each, and subscribers of all their rooms.
READERS = 3
WATCHERS = 2
# How many of the sends are made twice.
REPEATS = 0.1
# How many lines the other side reacts to, and how many of these reactions it takes back.
REACTIONS = 0.2
TAKEN_BACK = 0.3


def dialogues(limit=None):
    """The corpus: its topics, each with its dialogues, each a list of lines."""
    topics = {}
    for file in sorted(CORPUS.glob("*.yml")):
        conversations = yaml.safe_load(file.read_text())["conversations"]
        lines = [[talk] if isinstance(talk, str) else talk for talk in conversations]
        lines = [[str(line) for line in talk if str(line).strip()] for talk in lines]
        topics[file.stem] = [talk for talk in lines if talk][:limit]
    return topics


@dataclass
class Summary:
    lines: int
    rooms: int
    users: int
    subscribers: int
    drops: int
    streams: int
    deliveries: int
    seconds: float

    def __str__(self):
        return (
            f"{self.lines} lines of {self.users} users in {self.rooms} rooms,"
            f" {self.subscribers} subscribers on {self.streams} streams ({self.drops} dropped),"
            f" {self.seconds:.1f} s: {self.lines / self.seconds:.0f} messages/s,"
            f" {self.deliveries / self.seconds:.0f} deliveries/s"
        )


class Topic:
    """A room with the dialogues of one topic."""

    def __init__(self, name, talks):
        self.name = name
        self.room_id = f"topic-{name}"
        self.talks = talks
        self.senders = [f"{name}-{side}{pair}" for pair in range(PAIRS) for side in "ab"]
        self.readers = [f"{name}-reader{number}" for number in range(READERS)]
        # seq → (sender, text), by the replies to the senders.
        self.sent = {}
        # Id of a dialogue's first line → how many lines answer it.
        self.threads = {}
        # Seqs of the lines that are liked in the end.
        self.liked = set()
        # Where the room stood once all was said.
        self.head = 0


class Replay:
    """One replay, from the empty server to the verdict."""

    def __init__(self, server, topics, seed, progress=None):
        self._server = server
        self._seed = seed
        self._chance = random.Random(seed)
        self._topics = [Topic(name, talks) for name, talks in topics.items()]
        self._progress = progress or (lambda: None)
        self._watchers = [f"watcher{number}" for number in range(WATCHERS)]
        self._channel = server.channel()
        self._errors = queue.SimpleQueue()
        self._lock = threading.Lock()

    def run(self):
        self._set_up()
        begin = time.monotonic()
        subscribers = self._subscribe()
        try:
            self._send()
            self._await(subscribers)
            seconds = time.monotonic() - begin
        finally:
            for subscriber, _ in subscribers:
                subscriber.stop()
        self._judge_streams(subscribers)
        self._judge_unread()
        return Summary(
            lines=sum(len(topic.sent) for topic in self._topics),
            rooms=len(self._topics),
            users=sum(len(topic.senders + topic.readers) for topic in self._topics) + WATCHERS,
            subscribers=len(subscribers),
            drops=sum(subscriber.drops for subscriber, _ in subscribers),
            streams=sum(subscriber.streams for subscriber, _ in subscribers),
            deliveries=sum(
                len(topic.sent) for _, followed in subscribers for topic in followed
            ),
            seconds=seconds,
        )

    def _set_up(self):
        """Users, and a room per topic that all of them are members of."""
        service = self._server.service(self._channel)
        for topic in self._topics:
            members = topic.senders + topic.readers + self._watchers
            service.upsert_users(members)
            creator = self._user(topic.senders[0])
            creator.create_group(topic.name, members[1:], topic.room_id)

    def _user(self, user_id):
        return self._server.user(user_id, self._channel)

    def _subscribe(self):
        """Starts every subscriber, with the topics that it follows."""
        started = []

        def follow(user_id, topics, **how):
            chance = random.Random(self._chance.random())
            client = self._server.user(user_id)
            subscriber = Subscriber(client, chance=chance, **how)
            started.append((subscriber.__enter__(), topics))

        for topic in self._topics:
            for reader in topic.readers:
                follow(reader, [topic], rooms=[topic.room_id])
        for watcher in self._watchers:
            follow(watcher, self._topics, all_my_rooms=True)
        return started

    def _send(self):
        threads = []
        for topic in self._topics:
            talks = queue.SimpleQueue()
            for talk in topic.talks:
                talks.put(talk)
            for pair in range(PAIRS):
                users = topic.senders[2 * pair : 2 * pair + 2]
                threads.append(threading.Thread(target=self._talk, args=(topic, users, talks)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if not self._errors.empty():
            raise self._errors.get()

    def _talk(self, topic, users, talks):
        """A pair of users: one dialogue after the other, line by line, in turn."""
        clients = [self._user(user) for user in users]
        chance = random.Random(f"{self._seed} {users[0]}")
        try:
            while True:
                try:
                    talk = talks.get_nowait()
                except queue.Empty:
                    return
                before, to = 0, ""
                for number, line in enumerate(talk):
                    side = number % 2
                    request_id = uuid.uuid4().hex
                    send = clients[side].send
                    reply = send(topic.room_id, line, request_id, reply_to=to)
                    if chance.random() < REPEATS:
                        again = send(topic.room_id, line, request_id, reply_to=to)
                        assert again == reply, f"a repeat got {again}, the first {reply}"
                    assert reply.seq > before, f"{reply.seq} after {before} was acknowledged"
                    before, to = reply.seq, reply.message_id
                    if number == 0:
                        first = reply.message_id
                    with self._lock:
                        topic.threads[first] = number
                        assert reply.seq not in topic.sent, f"two messages at {reply.seq}"
                        topic.sent[reply.seq] = (users[side], line)
                        self._progress()
                    if chance.random() < REACTIONS:
                        self._react(topic, clients[1 - side], reply, chance)
        except Exception as error:  # noqa: BLE001  (raised again by the thread that waits)
            self._errors.put(error)

    def _react(self, topic, client, line, chance):
        """Likes a line, and sometimes takes that back."""
        like = {"message_id": line.message_id, "kind": "like"}
        persist(client.reactions.AddReaction, reaction_pb.AddReactionRequest(**like))
        if chance.random() < TAKEN_BACK:
            persist(client.reactions.RemoveReaction, reaction_pb.RemoveReactionRequest(**like))
            return
        with self._lock:
            topic.liked.add(line.seq)

    def _await(self, subscribers):
        for topic in self._topics:
            request = message_pb.ListMessagesRequest(room_id=topic.room_id, page_size=1)
            reader = self._user(topic.readers[0])
            topic.head = persist(reader.messages.ListMessages, request).cursor.seq
            assert topic.head >= max(topic.sent, default=0)
        for subscriber, topics in subscribers:
            for topic in topics:
                subscriber.wait_for(topic.room_id, topic.head, timeout=120)

    def _judge_streams(self, subscribers):
        """Every line once and in order: as acknowledged, as in history, on every stream."""
        for topic in self._topics:
            expected = [(seq, *topic.sent[seq]) for seq in sorted(topic.sent)]
            history = self._user(topic.readers[0]).history(topic.room_id, page_size=37)
            told = [(message.seq, message.sender_id, message.content.text) for message in history]
            assert told == expected, f"{topic.room_id}: history differs from what was sent"
            for subscriber, followed in subscribers:
                if topic not in followed:
                    continue
                assert not subscriber.faults, subscriber.faults[:5]
                assert not subscriber.rooms[topic.room_id].resets
                assert subscriber.messages(topic.room_id) == expected, (
                    f"{topic.room_id}: a stream differs from what was sent"
                )
                threads, liked = marks(subscriber.rooms[topic.room_id].events)
                assert threads == {root: n for root, n in topic.threads.items() if n}
                assert liked == topic.liked
            for message in history:
                replies = topic.threads.get(message.message_id, 0)
                likes = [("like", 1)] if message.seq in topic.liked else []
                counted = [(counted.kind, counted.count) for counted in message.reactions]
                assert (message.reply_count, counted) == (replies, likes), message

    def _judge_unread(self):
        """Unread counts, against what others have sent since the user's mark."""
        totals = {}
        for topic in self._topics:
            marks = self._mark(topic)
            for user_id in [*topic.senders, *topic.readers, *self._watchers]:
                own = [seq for seq, (sender, _) in topic.sent.items() if sender == user_id]
                mark = max([marks.get(user_id, 0), *own])
                expected = sum(
                    seq > mark and sender != user_id
                    for seq, (sender, _) in topic.sent.items()
                )
                rooms, total = self._user(user_id).unread(topic.room_id)
                assert rooms == {topic.room_id: expected}, (
                    f"{user_id} in {topic.room_id}: {rooms}, expected {expected}"
                )
                totals.setdefault(user_id, [0, 0])
                totals[user_id] = [totals[user_id][0] + expected, total]
        for user_id, (expected, total) in totals.items():
            recount = self._user(user_id).recount()
            # The last total was read when all rooms had been judged but watchers mark none.
            assert not recount.differences, f"{user_id}: {recount}"
            assert recount.total == total == expected, f"{user_id}: {recount}, {total}, {expected}"

    def _mark(self, topic):
        """Some readers read up to some line. Their marks."""
        marks = {}
        for reader in topic.readers[1:]:
            marks[reader] = self._chance.choice(sorted(topic.sent))
            request = mark_pb.MarkReadRequest(
                room_id=topic.room_id, seq=marks[reader]
            )
            reply = persist(self._user(reader).marks.MarkRead, request)
            assert reply.read_seq == marks[reader]
        return marks


def marks(events):
    """How many replies the threads of a stream have, and what was liked in the end."""
    threads, liked = {}, set()
    for event in events:
        body = event.WhichOneof("body")
        if body == "message_sent" and event.message_sent.thread_root_id:
            root = event.message_sent.thread_root_id
            threads[root] = threads.get(root, 0) + 1
        elif body == "reaction_added":
            liked.add(event.reaction_added.message_seq)
        elif body == "reaction_removed":
            liked.remove(event.reaction_removed.message_seq)
    return threads, liked


def place(chosen, stack):
    """Where to replay, as the options say."""
    if chosen.suite:
        state, _ = stack.enter_context(started(chosen.suite))
        return Suite(state)
    if chosen.addresses:
        return Suite(chosen.addresses)
    return Server(stack.enter_context(database()) if chosen.postgres else None)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--all", action="store_true", help="the whole corpus")
    arguments.add_argument("--dialogues", type=int, default=5, help="dialogues per topic")
    where = arguments.add_mutually_exclusive_group()
    where.add_argument("--postgres", action="store_true", help="on TEST_POSTGRES_URL")
    where.add_argument(
        "--suite", nargs="?", const="single", choices=["single", "cluster"],
        help="on a suite of its own, with a Redis of this kind",
    )
    where.add_argument("--addresses", nargs="?", const=STATE, help="the file that `make up` wrote")
    arguments.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    chosen = arguments.parse_args()
    topics = dialogues(None if chosen.all else chosen.dialogues)
    lines = sum(len(talk) for talks in topics.values() for talk in talks)
    print(f"seed {chosen.seed}")
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(place(chosen, stack))
        bar = stack.enter_context(tqdm(total=lines, unit=" lines", mininterval=0.5))
        summary = Replay(server, topics, chosen.seed, bar.update).run()
        bar.close()
        server.stop()
    print(summary)


if __name__ == "__main__":
    main()
