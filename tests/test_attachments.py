"""Attachments, end to end: files that are sent, cut off, gone on with, fetched and deleted."""

import hashlib
import threading
import time

import attach
import grpc
import pytest
from parlance_client import people, persist, reason, refused
from server import Server

from parlance.message.v1 import attachment_service_pb2 as pb
from parlance.message.v1 import message_service_pb2 as message_pb

PART = 256 * 1024


@pytest.fixture(params=["sqlite", "postgres"])
def keeping(request, tmp_path):
    """A server that keeps attachments in a folder, on each database."""
    from postgres import database

    options = ["--attachments", f"file://{tmp_path / 'kept'}"]
    if request.param == "sqlite":
        with Server(options=options) as server:
            yield server
            server.stop()
    else:
        with database() as url, Server(url, options=options) as server:
            yield server
            server.stop()


def written(path, size, chance):
    path.write_bytes(chance.randbytes(size))
    return path


def kept(tmp_path):
    """The files of all attachments."""
    return [path for path in (tmp_path / "kept").rglob("*") if path.is_file()]


def test_a_file_is_sent_fetched_and_gone_with_its_message(keeping, tmp_path, chance):
    """B-169, B-170, B-206: with GetAttachment, UploadAttachment and DownloadAttachment."""
    _, anna, boris_id, boris = people(keeping, "anna", "boris")
    _, clara = people(keeping, "clara")
    room = anna.create_group("Tea", [boris_id])
    file = written(tmp_path / "tea.png", 3 * PART + 11, chance)
    message_id, attachment_id = attach.send(anna, room, file)
    message = persist(boris.messages.GetMessage, message_pb.GetMessageRequest(message_id=message_id))
    [held] = message.message.content.attachments
    assert (held.attachment_id, held.name, held.content_type) == (attachment_id, "tea.png", "image/png")
    assert held.size == file.stat().st_size
    fetched = tmp_path / "fetched.png"
    # A part of it is there already.
    fetched.write_bytes(file.read_bytes()[: PART + 5])
    attach.fetch(boris, attachment_id, fetched)
    assert fetched.read_bytes() == file.read_bytes()
    get = pb.GetAttachmentRequest(attachment_id=attachment_id)
    assert refused(clara.attachments.GetAttachment, get) == "NOT_A_MEMBER"
    persist(anna.messages.DeleteMessage, message_pb.DeleteMessageRequest(message_id=message_id))
    assert refused(boris.attachments.GetAttachment, get) == "ATTACHMENT_NOT_FOUND"
    with pytest.raises(grpc.RpcError) as error:
        attach.fetch(boris, attachment_id, tmp_path / "again.png")
    assert reason(error.value) == "ATTACHMENT_NOT_FOUND"
    assert kept(tmp_path), "the bytes go a little later"


def test_an_upload_goes_on_after_the_client_was_cut_off(keeping, tmp_path, chance):
    _, anna = people(keeping, "anna")
    room = anna.create_group("Tea")
    content = chance.randbytes(3 * PART)
    create = pb.CreateAttachmentRequest(room_id=room, name="tea", size=len(content))
    attachment = persist(anna.attachments.CreateAttachment, create).attachment
    ended = threading.Event()

    def some():
        for offset in range(0, 2 * PART, PART // 2):
            data = content[offset : offset + PART // 2]
            yield pb.UploadAttachmentRequest(
                attachment_id=attachment.attachment_id, offset=offset, data=data
            )
        # Never closed: the client goes away.
        ended.wait(60)

    call = anna.attachments.UploadAttachment.future(some())
    until = time.monotonic() + 60
    while attach.state(anna, attachment.attachment_id).arrived < 2 * PART:
        assert time.monotonic() < until
        time.sleep(0.02)
    call.cancel()
    ended.set()
    rest = pb.UploadAttachmentRequest(
        attachment_id=attachment.attachment_id, offset=2 * PART, data=content[2 * PART : 2 * PART + PART // 2]
    )
    last = pb.UploadAttachmentRequest(offset=2 * PART + PART // 2, data=content[2 * PART + PART // 2 :])
    uploaded = anna.attachments.UploadAttachment(iter([rest, last]), timeout=30).attachment
    assert uploaded.complete and uploaded.sha256 == hashlib.sha256(content).digest()


def test_attachments_survive_a_kill_of_the_server(keeping, tmp_path, chance):
    _, anna = people(keeping, "anna")
    room = anna.create_group("Tea")
    file = written(tmp_path / "tea.bin", 40 * PART, chance)
    done = []
    sending = threading.Thread(target=lambda: done.append(attach.upload(anna, room, file, tries=300)))
    sending.start()
    until = time.monotonic() + 60
    while len(kept(tmp_path)) < 3:
        assert time.monotonic() < until
        time.sleep(0.005)
    keeping.kill()
    keeping.start()
    sending.join(120)
    [attachment] = done
    assert attachment.complete and attachment.size == file.stat().st_size
    attach.fetch(anna, attachment.attachment_id, tmp_path / "fetched.bin")


def test_a_small_part_of_a_large_attachment_is_in_memory(sqlite_server, tmp_path, chance):
    """B-206: a download that nobody reads holds what is on its way, not the file."""
    _, anna = people(sqlite_server, "anna")
    room = anna.create_group("Tea")
    size = 64 * 1024 * 1024
    file = written(tmp_path / "large.bin", size, chance)
    before = sqlite_server.resident_mib()
    attachment = attach.upload(anna, room, file)
    request = pb.DownloadAttachmentRequest(attachment_id=attachment.attachment_id)
    streams = [anna.attachments.DownloadAttachment(request) for _ in range(10)]
    for stream in streams:
        next(stream)
    more = sqlite_server.resident_mib() - before
    assert more < 48, f"{more:.0f} MiB for an upload and ten downloads of 64 MiB"
    attach.fetch(anna, attachment.attachment_id, tmp_path / "fetched.bin")
    for stream in streams:
        stream.cancel()


def test_without_a_place_for_bytes_calls_say_so(tmp_path):
    with Server(options=["--attachments", "none"]) as server:
        _, anna = people(server, "anna")
        create = pb.CreateAttachmentRequest(room_id="any", name="tea", size=3)
        assert refused(anna.attachments.CreateAttachment, create) == "ATTACHMENTS_OFF"
