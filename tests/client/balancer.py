"""An address that stands for several machines: connections go to them by turns."""

import contextlib
import socket
import threading


class Balancer:
    """Each of its machines is the same server here; what counts is who has how much."""

    def __init__(self, server, machines):
        host, port = server.rsplit(":", 1)
        self._server = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.address = "127.0.0.1:%d" % self._listener.getsockname()[1]
        # Open connections of each machine.
        self.machines = [0] * machines
        self._turn, self._lock = 0, threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def add(self, machines):
        with self._lock:
            self.machines += [0] * machines
            self._turn = len(self.machines) - machines

    def close(self):
        self._listener.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._server)
                with self._lock:
                    machine = self._turn % len(self.machines)
                    self._turn += 1
                    self.machines[machine] += 1
                back = threading.Thread(target=self._pass, args=(far, near), daemon=True)
                back.start()
                forth = (near, far, back, machine)
                threading.Thread(target=self._pass, args=forth, daemon=True).start()

    def _pass(self, source, sink, other=None, machine=None):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            # What goes the other way may be under way still.
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            for end in (source, sink):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        if other:
            other.join()
            source.close()
            sink.close()
            with self._lock:
                self.machines[machine] -= 1
