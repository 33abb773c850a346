import shutil
import subprocess

from load import Load
from server import binary, environment
from subscriber import Subscriber
from test_restart import set_up, told


def parlance(server, *arguments):
    """A command with the store of a server, which may run."""
    return subprocess.run(
        [binary(), *arguments, "--store", f"sqlite://{server.data}"],
        capture_output=True,
        env=environment(),
        text=True,
        timeout=120,
    )


def test_a_backup_of_a_server_that_works_has_what_was_acknowledged_before_it_began(
    sqlite_server, tmp_path
):
    """Users send and come in while the folder is copied. What the copy has begins an epoch: who
    holds more is told to discard it."""
    server, backup = sqlite_server, tmp_path / "backup"
    senders = [f"sender{number}" for number in range(3)]
    room = set_up(server, *senders, "reader")
    reader = Subscriber(server.user("reader"), rooms=[room])
    with reader:
        with Load(server, room, senders) as load:
            load.wait_for(50)
            before = set(load.messages())
            done = parlance(server, "backup", str(backup))
            assert done.returncode == 0, done.stderr
            load.wait_for(50)
        later = load.messages()[-1][0]
        reader.wait_for(room, later)
    again = parlance(server, "backup", str(backup))
    assert again.returncode == 1 and "is not empty" in again.stderr, again.stderr
    over = parlance(server, "restore", str(backup))
    assert over.returncode == 1 and "is not empty" in over.stderr, over.stderr

    server.stop()
    shutil.rmtree(server.data)
    restored = parlance(server, "restore", str(backup))
    assert restored.returncode == 0 and len(restored.stdout.strip()) == 16, restored
    server.start()
    history = server.user("sender0").history(room)
    held = told(history)
    assert before <= set(held) <= set(load.messages())
    head = history[-1].seq
    assert head < later, "it is of a moment before the end"

    cursor = {room: reader.cursor(room)}
    with Subscriber(server.user("reader"), rooms=[room], cursors=cursor) as rewound:
        rewound.wait(lambda me: me.rooms[room].resets)
        sent = server.user("sender1").send(room, "after").seq
        rewound.wait_for(room, sent)
        assert rewound.rooms[room].resets[0].keep_through <= head
    server.stop()
