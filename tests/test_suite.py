import json
import os
import pathlib
import subprocess

import pytest
from neighbours import Neighbours
from replay import Replay, dialogues
from server import environment
from suite import Suite, started
from test_readme import commands


@pytest.mark.parametrize(("redis", "talks"), [("single", 6), ("cluster", 3)])
def test_a_replay_goes_on_when_a_replica_of_each_service_is_killed(redis, talks, chance):
    """B-100, B-123, B-124: subscribers on another replica than senders, whose own is
    killed in the middle of the conversation; history, streams and unread agree."""
    topics = dialogues(limit=talks)
    some = {name: topics[name] for name in ["ai", "botprofile", "greetings", "humor"]}
    lines = sum(len(talk) for talks in some.values() for talk in talks)
    victims = ["message-0", "membership-1", "room-0", "presence-1"]
    every, sent = lines // (len(victims) + 1), 0

    with started(redis) as (state, _), Suite(state) as suite, Neighbours(suite) as neighbours:

        def progress():
            nonlocal sent
            sent += 1
            if sent % every == 0 and victims:
                suite.kill(victims.pop())

        neighbours.wait_for(1)
        summary = Replay(suite, some, chance.randrange(2**32), progress).run()
        print(summary)
        assert not victims
        assert summary.lines == lines
        # With what is left, every service goes on.
        neighbours.wait_for(2)
        survivor = suite.counters(1)
        assert survivor.bus_up
        assert survivor.healing.resets == 0


def left_of(state):
    """Processes and folders of a suite that was ended."""
    folders = [*state["folders"], str(pathlib.Path(state["key"]).parent)]
    pids = {each["pid"] for each in state["processes"]}
    left = [folder for folder in folders if pathlib.Path(folder).exists()]
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            gone = process.joinpath("stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
            command = process.joinpath("cmdline").read_bytes().replace(b"\0", b" ").decode()
            where = os.readlink(process / "cwd")
        except OSError:
            continue  # It ended, or is not ours to look into.
        # Postgres has children, which work in its folder.
        ours = int(process.name) in pids or any(where.startswith(folder) for folder in folders)
        if ours and not gone:
            left.append(command)
    return left


def test_what_up_prints_can_be_pasted_and_down_leaves_nothing():
    with started() as (path, printed):
        state = json.loads(path.read_text())
        assert len(left_of(state)) > len(state["processes"])
        for service, addresses in state["addresses"].items():
            assert f"{service:<12}{' '.join(addresses)}\n" in printed
        lines = [line for line in printed.splitlines() if line.startswith(("export", "grpcurl"))]
        assert set(commands("Run it as a suite")) <= set(lines)
        ran = subprocess.run(
            ["bash", "-euc", "\n".join(lines)],
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert ran.returncode == 0, ran.stderr
        for seen in ('"seq": "3"', '"name": "Tea"', "AVAILABILITY_ONLINE"):
            assert seen in ran.stdout
    assert left_of(state) == []
