"""A client that does what no stock client does: HTTP/2 frames by hand."""

import collections
import contextlib
import socket
import struct
import threading
import time

import hpack

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
INITIAL_WINDOW_SIZE = 4
PATIENCE = 60.0
CANCEL = 8


def message(encoded):
    """A request as gRPC frames it."""
    return struct.pack(">BI", 0, len(encoded)) + encoded


class Hostile:
    """One connection, with the window that it gives to each answer."""

    def __init__(self, server, window=65_535, source=None):
        host, port = server.address.rsplit(":", 1)
        self._socket = socket.create_connection(
            (host, int(port)), PATIENCE, (source, 0) if source else None
        )
        self._socket.settimeout(None)
        self._encoder = hpack.Encoder()
        self._next = 1
        self._changed = threading.Condition()
        self._writing = threading.Lock()
        # What came of each call.
        self.status = {}
        self.resets = {}
        self.data = collections.Counter()
        self.began = set()
        self.closed = False
        self._send(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            + self._frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW_SIZE, window))
        )
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    @staticmethod
    def _frame(kind, flags, stream, content=b""):
        return struct.pack(">I", len(content))[1:] + struct.pack(">BBI", kind, flags, stream) + content

    def _send(self, frames):
        with contextlib.suppress(OSError), self._writing:
            self._socket.sendall(frames)

    def call(self, path, request=None, token=None, ends=True, cancels=False, **headers):
        """Begins a call; without a request only its headers are sent. Returns its number."""
        stream, self._next = self._next, self._next + 2
        fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "server"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ]
        if token is not None:
            fields.append(("authorization", f"Bearer {token}"))
        fields += [(name.replace("_", "-"), value) for name, value in headers.items()]
        frames = self._frame(HEADERS, END_HEADERS, stream, self._encoder.encode(fields))
        if request is not None:
            for at in range(0, len(request), 16_384):
                frames += self._frame(DATA, 0, stream, request[at : at + 16_384])
            if ends:
                frames += self._frame(DATA, END_STREAM, stream)
        if cancels:
            frames += self._frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL))
        self._send(frames)
        return stream

    def grant(self, stream, size=1 << 20):
        """Opens the window of a call."""
        self._send(self._frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", size)))

    def ended(self, streams):
        """Those of the calls that were answered to their end, or reset."""
        return [stream for stream in streams if stream in self.status or stream in self.resets]

    def wait(self, done, patience=PATIENCE):
        """Waits until something came that makes it so."""
        give_up = time.monotonic() + patience
        with self._changed:
            while not done():
                left = give_up - time.monotonic()
                assert left > 0 and self._changed.wait(left), "it does not come"

    def _receive(self, size):
        content = b""
        while len(content) < size:
            part = self._socket.recv(size - len(content))
            if not part:
                raise OSError("closed")
            content += part
        return content

    def _read(self):
        decoder = hpack.Decoder()
        with contextlib.suppress(OSError):
            while True:
                head = self._receive(9)
                size, (kind, flags, stream) = int.from_bytes(head[:3], "big"), struct.unpack(">BBI", head[3:])
                content = self._receive(size)
                if kind == SETTINGS and not flags & ACK:
                    self._send(self._frame(SETTINGS, ACK, 0))
                elif kind == PING and not flags & ACK:
                    self._send(self._frame(PING, ACK, 0, content))
                with self._changed:
                    if kind == HEADERS:
                        self.began.add(stream)
                        fields = dict(decoder.decode(content))
                        if "grpc-status" in fields:
                            self.status[stream] = int(fields["grpc-status"])
                    elif kind == DATA:
                        self.data[stream] += size
                    elif kind == RST_STREAM:
                        self.resets[stream] = struct.unpack(">I", content)[0]
                    self._changed.notify_all()
        with self._changed:
            self.closed = True
            self._changed.notify_all()
