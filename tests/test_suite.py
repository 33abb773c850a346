import json
import os
import signal
import subprocess

import pytest
from replay import Replay, dialogues
from suite import ROOT, Suite


@pytest.fixture
def state(tmp_path):
    """The suite, two replicas of each service, as `make up` starts it."""
    folder = tmp_path / "up"
    script = [ROOT / "scripts" / "suite"]
    subprocess.run([*script, "up", "--folder", folder], check=True, stdin=subprocess.DEVNULL)
    try:
        yield folder / "state.json"
    finally:
        subprocess.run([*script, "down", "--folder", folder], check=True)
    assert not folder.exists()


def test_a_replay_goes_on_when_a_replica_of_each_service_is_killed(state, chance):
    """B-100, B-123, B-124: subscribers on another replica than senders, whose own is
    killed in the middle of the conversation; history, streams and unread agree."""
    processes = {each["name"]: each["pid"] for each in json.loads(state.read_text())["processes"]}
    topics = dialogues(limit=6)
    some = {name: topics[name] for name in ["ai", "botprofile", "greetings", "humor"]}
    victims = ["message-0", "membership-1", "room-0"]
    sent = 0

    def progress():
        nonlocal sent
        sent += 1
        if sent % 10 == 0 and victims:
            os.kill(processes[victims.pop()], signal.SIGKILL)

    with Suite(state) as suite:
        summary = Replay(suite, some, chance.randrange(2**32), progress).run()
    print(summary)
    assert not victims
    assert summary.lines > 40
