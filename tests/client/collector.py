"""What a collector of traces hears over OTLP: of each span what the tests look at."""

import threading
from concurrent import futures

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
FIELD = descriptor_pb2.FieldDescriptorProto
# Message: fields by name with number and type; a name of a message stands for many of it.
MESSAGES = {
    "Value": {"text": (1, "string")},
    "Attribute": {"key": (1, "string"), "value": (2, "Value")},
    "Resource": {"attributes": (1, "Attribute")},
    "Link": {"trace_id": (1, "bytes"), "span_id": (2, "bytes")},
    "Span": {
        "trace_id": (1, "bytes"),
        "span_id": (2, "bytes"),
        "parent": (4, "bytes"),
        "name": (5, "string"),
        "attributes": (9, "Attribute"),
        "links": (13, "Link"),
    },
    "OfScope": {"spans": (2, "Span")},
    "OfResource": {"resource": (1, "Resource"), "scopes": (2, "OfScope")},
    "Export": {"resources": (1, "OfResource")},
}


def _export():
    """The class of what is sent, as far as it is looked at: other fields are passed over."""
    file = descriptor_pb2.FileDescriptorProto(name="collector.proto", package="told", syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, of_type) in fields.items():
            one = message.field.add(name=field, number=number)
            one.label = FIELD.LABEL_OPTIONAL
            if of_type in MESSAGES:
                one.type, one.type_name = FIELD.TYPE_MESSAGE, f".told.{of_type}"
                if of_type not in ("Value", "Resource"):
                    one.label = FIELD.LABEL_REPEATED
            else:
                one.type = FIELD.TYPE_BYTES if of_type == "bytes" else FIELD.TYPE_STRING
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("told.Export"))


class Told:
    """A span: whose it is, and where it belongs."""

    def __init__(self, service, span):
        self.service, self.name = service, span.name
        self.trace, self.id, self.parent = (it.hex() for it in (span.trace_id, span.span_id, span.parent))
        self.links = [link.trace_id.hex() for link in span.links]
        self.attributes = {each.key: each.value.text for each in span.attributes}


class Collector:
    """Takes spans; how many there are is waited for."""

    def __enter__(self):
        self._spans, self._more = [], threading.Condition()
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        method = grpc.unary_unary_rpc_method_handler(
            self._take, request_deserializer=_export().FromString, response_serializer=bytes
        )
        service, name = EXPORT.strip("/").split("/")
        self._server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(service, {name: method})]
        )
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()
        return self

    def __exit__(self, *_):
        self._server.stop(None).wait()

    def _take(self, export, _):
        with self._more:
            for resource in export.resources:
                said = {each.key: each.value.text for each in resource.resource.attributes}
                spans = (span for scope in resource.scopes for span in scope.spans)
                self._spans += [Told(said["service.name"], span) for span in spans]
            self._more.notify_all()
        return b""

    def until(self, trace, is_there, patience=30):
        """The spans of a trace, once what is looked for is among them."""

        def found():
            return [span for span in self._spans if span.trace == trace]

        with self._more:
            assert self._more.wait_for(lambda: is_there(found()), patience), [
                (span.service, span.name, span.parent) for span in found()
            ]
            return found()
