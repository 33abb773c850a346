"""Probes of containers, as a kubelet makes them."""

import http.client
import socket
import time

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc


class Probe:
    """What a kubelet thinks of a container: good, bad, or as before."""

    def __init__(self, address, container, probe):
        ports = {it["name"]: it["containerPort"] for it in container.get("ports", ())}
        self._address, self._probe = address, probe
        [self._kind] = {"grpc", "httpGet", "tcpSocket"} & set(probe)
        self._port = probe[self._kind]["port"]
        self._port = ports.get(self._port, self._port)
        self._next = time.monotonic() + probe.get("initialDelaySeconds", 0)
        self._misses = self._hits = 0
        self.state = None

    def look(self):
        """Probes if it is time to, and returns what is thought."""
        if time.monotonic() < self._next:
            return self.state
        self._next = time.monotonic() + self._probe["periodSeconds"]
        ask = {"grpc": self._ask_grpc, "httpGet": self._get, "tcpSocket": self._connect}
        good = ask[self._kind]()
        self._hits, self._misses = (self._hits + 1, 0) if good else (0, self._misses + 1)
        if good:
            self.state = "good"
        elif self._misses >= self._probe["failureThreshold"]:
            self.state = "bad"
        return self.state

    def _connect(self):
        try:
            socket.create_connection((self._address, self._port), self._probe["timeoutSeconds"]).close()
        except OSError:
            return False
        return True

    def _get(self):
        """Any status from 200 to 399 is good."""
        link = http.client.HTTPConnection(self._address, self._port, self._probe["timeoutSeconds"])
        try:
            link.request("GET", self._probe["httpGet"]["path"])
            return 200 <= link.getresponse().status < 400
        except (OSError, http.client.HTTPException):
            return False
        finally:
            link.close()

    def _ask_grpc(self):
        service = self._probe["grpc"].get("service") or ""
        with grpc.insecure_channel(f"{self._address}:{self._port}") as channel:
            request = health_pb2.HealthCheckRequest(service=service)
            try:
                check = health_pb2_grpc.HealthStub(channel).Check
                reply = check(request, timeout=self._probe["timeoutSeconds"])
            except grpc.RpcError:
                return False
        return reply.status == health_pb2.HealthCheckResponse.SERVING
