"""Users who keep every service busy while something happens to the suite."""

import threading

from parlance.presence.v1 import availability_pb2
from parlance.presence.v1 import presence_service_pb2 as pb
from parlance.presence.v1 import session_service_pb2 as session_pb
from parlance_client import persist


class Neighbours:
    """Carl, who makes room after room, lets Dora in and out, and is online all the while."""

    def __init__(self, server):
        self._carl, self._dora = server.user("carl"), server.user("dora")
        server.service().upsert_users(["carl", "dora"])
        self._thread = threading.Thread(target=self._run)
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._rounds = 0
        self._error = None

    def __enter__(self):
        persist(self._carl.sessions.OpenSession, session_pb.OpenSessionRequest(resource="phone"))
        self._thread.start()
        return self

    def __exit__(self, *failure):
        self._stop.set()
        self._thread.join()
        if failure == (None, None, None) and self._error is not None:
            raise self._error

    def wait_for(self, more):
        """Waits until so many more rounds went well."""
        with self._changed:
            goal = self._rounds + more
            reached = self._changed.wait_for(lambda: self._rounds >= goal or self._error, 60)
        assert reached and self._error is None, f"round {self._rounds}: {self._error}"

    def _run(self):
        try:
            while not self._stop.is_set():
                self._round()
                with self._changed:
                    self._rounds += 1
                    self._changed.notify_all()
        except Exception as error:  # noqa: BLE001  (raised again by who waits)
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _round(self):
        room = self._carl.create_group("a round", ["dora"])
        self._carl.remove(room, "dora")
        self._carl.add(room, "dora")
        # An OK holds on every replica at once.
        line = self._dora.send(room, "back again")
        [seen] = self._carl.history(room)
        assert (seen.seq, seen.sender_id) == (line.seq, "dora")
        persist(self._carl.sessions.Heartbeat, session_pb.HeartbeatRequest(resource="phone"))
        request = pb.BatchGetPresenceRequest(user_ids=["carl"])
        [carl] = persist(self._dora.presence.BatchGetPresence, request).presences
        assert carl.availability == availability_pb2.AVAILABILITY_ONLINE, f"carl is {carl}"
