"""Names of Services, answered with the addresses of the Pods that are ready."""

import socket
import socketserver
import struct
import threading

CLUSTER = "svc.cluster.local"
TYPE_A, NO_SUCH_NAME = 1, 3


def question(packet):
    """The name that is asked for, its type, and where the question ends."""
    labels, at = [], 12
    while length := packet[at]:
        labels.append(packet[at + 1 : at + 1 + length].decode())
        at += 1 + length
    return ".".join(labels), struct.unpack_from("!H", packet, at + 1)[0], at + 5


def answer(packet, addresses):
    """The answer to a question; None: there is no such name."""
    _, kind, end = question(packet)
    found = addresses if kind == TYPE_A and addresses else []
    flags = 0x8580 | (NO_SUCH_NAME if addresses is None else 0)
    head = packet[:2] + struct.pack("!HHHHH", flags, 1, len(found), 0, 0)
    records = (
        struct.pack("!HHHIH", 0xC00C, TYPE_A, 1, 1, 4) + socket.inet_aton(it) for it in found
    )
    return head + packet[12:end] + b"".join(records)


class Names:
    def __init__(self, cluster, address):
        names = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                packet, socket_ = self.request
                addresses = names.addresses(question(packet)[0])
                socket_.sendto(answer(packet, addresses), self.client_address)

        self._cluster = cluster
        self._server = socketserver.ThreadingUDPServer((address, 53), Handler)
        self._server.daemon_threads = True

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def addresses(self, name):
        """None if there is no such Service. A Service with an address of its own is answered in
        the same way: nothing here sends on what comes to such addresses."""
        if not name.lower().endswith("." + CLUSTER):
            return None
        service, _, namespace = name.lower().removesuffix("." + CLUSTER).partition(".")
        slices = self._cluster.call(
            "GET",
            f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
            f"?labelSelector=kubernetes.io/service-name%3D{service}",
        )["items"]
        if not slices:
            return None
        ready = (
            endpoint
            for each in slices
            for endpoint in each["endpoints"] or []
            if endpoint["conditions"].get("ready")
        )
        return [endpoint["addresses"][0] for endpoint in ready]
