import generated
import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha import reflection_pb2
from parlance_client import details, reason
from server import TENANT

from parlance.message.v1 import inbox_service_pb2, message_pb2, message_service_pb2

INTERNAL = set(generated.internal())
PUBLIC = sorted(service.full_name for service in generated.services() if service.full_name not in INTERNAL)


def reflect(server, version, **request):
    """One question to the reflection service; v1 and v1alpha have the same messages."""
    ask = server.channel().stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    question = reflection_pb2.ServerReflectionRequest(**request)
    metadata = [("authorization", f"Bearer {server.token('tests')}")]
    return next(ask(iter([question]), metadata=metadata, timeout=10))


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_lists_the_services_and_describes_them(server, version):
    reply = reflect(server, version, list_services="")
    listed = {service.name for service in reply.list_services_response.service}
    assert set(PUBLIC) <= listed
    for symbol in [*PUBLIC, "google.rpc.ErrorInfo", "google.rpc.BadRequest", "google.rpc.RetryInfo"]:
        reply = reflect(server, version, file_containing_symbol=symbol)
        assert not reply.HasField("error_response"), f"{symbol}: {reply.error_response}"
        files = reply.file_descriptor_response.file_descriptor_proto
        packages = {descriptor_pb2.FileDescriptorProto.FromString(file).package for file in files}
        assert symbol.rsplit(".", 1)[0] in packages


@pytest.mark.parametrize("service", ["", *PUBLIC])
def test_every_service_has_a_health_of_its_own(server, service):
    assert server.health(service) == "SERVING"
    assert server.health("parlance.none.v1.NoService") == "NOT_FOUND"


def send(client, **fields):
    request = message_service_pb2.SendMessageRequest(**fields)
    with pytest.raises(grpc.RpcError) as refused:
        client.messages.SendMessage(request, timeout=10)
    return refused.value


def test_a_refusal_carries_details_that_decode(server):
    """B-184, B-186, B-216: a typed reason under its code, and the field that is wrong."""
    text = message_pb2.MessageContent(text="hello")
    error = send(server.user("anna"), room_id="", content=text)
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    found = details(error)
    assert found["ErrorInfo"].reason == "INVALID_FIELD"
    assert found["ErrorInfo"].domain == "parlance"
    assert [violation.field for violation in found["BadRequest"].field_violations] == ["room_id"]
    error = send(server.user("anna"), room_id="nowhere", content=text)
    assert (error.code(), reason(error)) == (grpc.StatusCode.NOT_FOUND, "ROOM_NOT_FOUND")
    theirs = server.user("anna").create_group("not for boris")
    error = send(server.user("boris"), room_id=theirs, content=text)
    assert (error.code(), reason(error)) == (grpc.StatusCode.PERMISSION_DENIED, "NOT_A_MEMBER")


def test_a_call_without_a_good_token_is_unauthenticated(server):
    """B-172, B-183."""
    stubs = server.user("anna")
    for claims, expected in (
        ({"lifetime": -600}, "TOKEN_EXPIRED"),
        ({"aud": "somebody"}, "TOKEN_INVALID"),
        ({"iss": "somebody"}, "TOKEN_INVALID"),
        ({"tenant": ""}, "TOKEN_INVALID"),
    ):
        given = {"tenant": TENANT, **claims}
        token = server.token("anna", **given)
        client = type(stubs)(server.channel(), token)
        error = send(client, room_id="r", content=message_pb2.MessageContent(text="x"))
        assert error.code() == grpc.StatusCode.UNAUTHENTICATED, claims
        assert reason(error) == expected, claims
    stub = server.channel().unary_unary(
        "/parlance.message.v1.InboxService/GetUnread",
        request_serializer=inbox_service_pb2.GetUnreadRequest.SerializeToString,
        response_deserializer=inbox_service_pb2.GetUnreadResponse.FromString,
    )
    with pytest.raises(grpc.RpcError) as refused:
        stub(inbox_service_pb2.GetUnreadRequest(), timeout=10)
    assert reason(refused.value) == "TOKEN_MISSING"
