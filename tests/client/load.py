"""Users who keep sending while something happens to the server."""

import queue
import threading
import uuid

import grpc
from parlance_client import reason


class Load:
    """Users who send, each with a request id of its own, until they are told to stop."""

    def __init__(self, server, room_id, users, ends=None, text=""):
        """`ends`: user → the refusal that ends their sending as expected. `text` is added to
        what everybody says."""
        self._server, self._room_id = server, room_id
        self._ends, self._text = ends or {}, text
        self._threads = [threading.Thread(target=self._send, args=(user,)) for user in users]
        self._stop = threading.Event()
        self._lock = threading.Condition()
        self._errors = queue.SimpleQueue()
        # (user, request_id, text) → the first reply.
        self.acknowledged = {}

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *failure):
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if failure == (None, None, None) and not self._errors.empty():
            raise self._errors.get()

    def _send(self, user):
        client, number = self._server.user(user), 0
        try:
            while not self._stop.is_set():
                text, request_id = f"{user} says {number}{self._text}", uuid.uuid4().hex
                reply = client.send(self._room_id, text, request_id)
                with self._lock:
                    self.acknowledged[user, request_id, text] = reply
                    self._lock.notify_all()
                number += 1
        except grpc.RpcError as error:
            if reason(error) != self._ends.get(user, ""):
                self._errors.put(error)
        except Exception as error:  # noqa: BLE001  (judged by who waits)
            self._errors.put(error)

    def wait_for(self, more):
        """Waits until so many more sends were acknowledged."""
        with self._lock:
            goal = len(self.acknowledged) + more
            reached = self._lock.wait_for(
                lambda: len(self.acknowledged) >= goal or not self._errors.empty(), 120
            )
        if not self._errors.empty():
            raise self._errors.get()
        assert reached, "the sends stand still"

    def messages(self):
        """What must be in the log: (seq, sender, text), in order."""
        return sorted(
            (reply.seq, user, text) for (user, _, text), reply in self.acknowledged.items()
        )
