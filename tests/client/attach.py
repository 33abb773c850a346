"""Sends a file as an attachment, and fetches it: with a progress bar, and on from where it was cut.

    attach.py ADDRESS TOKEN send ROOM FILE
    attach.py ADDRESS TOKEN fetch ATTACHMENT_ID FILE
"""

import hashlib
import mimetypes
import pathlib
import sys
import time
import uuid

import generated  # noqa: F401  (puts the generated code on the path)
import grpc
from parlance_client import Client, open_channel, persist, reason
from tqdm import tqdm

from parlance.message.v1 import attachment_service_pb2 as pb
from parlance.message.v1 import message_pb2, message_service_pb2

CHUNK = 128 * 1024
# What goes on by another call: the stream was cut, or is older than what is stored.
AGAIN = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.OUT_OF_RANGE}


def state(client, attachment_id):
    request = pb.GetAttachmentRequest(attachment_id=attachment_id)
    return persist(client.attachments.GetAttachment, request).attachment


def chunks(attachment_id, path, offset, bar):
    """The rest of a file, as messages of an upload."""
    with open(path, "rb") as file:
        file.seek(offset)
        while data := file.read(CHUNK):
            yield pb.UploadAttachmentRequest(attachment_id=attachment_id, offset=offset, data=data)
            offset += len(data)
            bar.update(offset - bar.n)


def goes_on(error, tries):
    """Waits before the next try, if there is one to make."""
    if tries == 0 or error.code() not in AGAIN:
        raise error
    time.sleep(0.2)


def upload(client, room_id, path, tries=10):
    """Uploads a file, however often that takes, and gives the attachment."""
    path = pathlib.Path(path)
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    request = pb.CreateAttachmentRequest(
        room_id=room_id,
        name=path.name,
        size=path.stat().st_size,
        content_type=kind,
        sha256=hashlib.sha256(path.read_bytes()).digest(),
        request_id=uuid.uuid4().hex,
    )
    attachment = persist(client.attachments.CreateAttachment, request).attachment
    with tqdm(total=attachment.size, unit="B", unit_scale=True, desc=path.name) as bar:
        while not attachment.complete:
            try:
                rest = chunks(attachment.attachment_id, path, attachment.arrived, bar)
                attachment = client.attachments.UploadAttachment(rest).attachment
            except grpc.RpcError as error:
                goes_on(error, tries)
                tries -= 1
                attachment = state(client, attachment.attachment_id)
                bar.update(attachment.arrived - bar.n)
    return attachment


def send(client, room_id, path):
    """Sends a message that holds a file; gives its id and that of the attachment."""
    attachment_id = upload(client, room_id, path).attachment_id
    content = message_pb2.MessageContent(
        attachments=[message_pb2.Attachment(attachment_id=attachment_id)]
    )
    request = message_service_pb2.SendMessageRequest(
        room_id=room_id, content=content, request_id=uuid.uuid4().hex
    )
    return persist(client.messages.SendMessage, request).message_id, attachment_id


def fetch(client, attachment_id, path, tries=10):
    """Downloads an attachment, on from what of it is in the file."""
    attachment = state(client, attachment_id)
    with open(path, "ab") as file, tqdm(
        total=attachment.size, unit="B", unit_scale=True, desc=attachment.name, initial=file.tell()
    ) as bar:
        while (offset := file.tell()) < attachment.size:
            request = pb.DownloadAttachmentRequest(attachment_id=attachment_id, offset=offset)
            try:
                for chunk in client.attachments.DownloadAttachment(request):
                    file.write(chunk.data)
                    bar.update(len(chunk.data))
            except grpc.RpcError as error:
                goes_on(error, tries)
                tries -= 1
    if hashlib.sha256(pathlib.Path(path).read_bytes()).digest() != attachment.sha256:
        raise ValueError(f"{path} is not what was uploaded")


def main(address, token, do, what, path):
    client = Client(open_channel(address), token)
    try:
        if do == "send":
            print(*send(client, what, path))
        else:
            fetch(client, what, path)
    except grpc.RpcError as error:
        sys.exit(f"{error.code().name}: {reason(error)}: {error.details()}")


if __name__ == "__main__":
    main(*sys.argv[1:])
