"""A hook: looks at messages before the server accepts them. A program to begin with."""

from concurrent import futures

import generated  # noqa: F401  (puts the generated code on the path)
import grpc
from parlance.hook.v1 import hook_service_pb2 as pb
from parlance.hook.v1 import hook_service_pb2_grpc as services

REFUSED, MASKED = {"casino"}, {"darn"}


class Hook(services.HookServiceServicer):
    def Check(self, request, context):
        words = request.content.text.split()
        if any(word.lower() in REFUSED for word in words):
            refuse = pb.Refuse(reason="ADVERTISING", text="no advertisements, please")
            return pb.CheckResponse(refuse=refuse)
        if not any(word.lower() in MASKED for word in words):
            return pb.CheckResponse(allow=pb.Allow())
        # All that is not replaced stays: its mentions, too.
        answer = pb.CheckResponse(replace=pb.Replace(content=request.content))
        masked = ("*" * len(word) if word.lower() in MASKED else word for word in words)
        answer.replace.content.text = " ".join(masked)
        return answer


def serve(address="127.0.0.1:0"):
    """Starts it; gives the server and its port."""
    server = grpc.server(futures.ThreadPoolExecutor(8))
    services.add_HookServiceServicer_to_server(Hook(), server)
    port = server.add_insecure_port(address)
    server.start()
    return server, port
