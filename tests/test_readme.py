import os
import pathlib
import re
import subprocess

import pytest
from server import Server, binary, environment

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = (ROOT / "README.md").read_text()
# How grpcurl ends when -max-time is over, and how `timeout` does.
TIME_IS_OVER = (68, 124)


def blocks(language, page=PAGE):
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.DOTALL | re.MULTILINE)


def section(title):
    [text] = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    return text


def commands(title):
    """Every line of a section that a reader may paste, continued lines joined."""
    lines = re.sub(r"\\\n *", "", "".join(blocks("sh", section(title)))).splitlines()
    return [line for line in lines if line.strip()]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder that looks like the checkout to who follows README: the program is where cargo
    puts it, and the server's data where `make run` keeps it."""
    folder = tmp_path_factory.mktemp("readme")
    program = folder / "target/debug/parlance"
    program.parent.mkdir(parents=True)
    program.symlink_to(binary())
    with Server(store=f"sqlite://{folder / 'data'}", own_key=False) as server:
        yield folder, server
        server.stop()


def test_every_line_for_one_server_can_be_pasted(place):
    """Variables are those that README defines; only the address is the test's own. What is for
    the suite is shown by test_suite.py."""
    folder, server = place
    exports, outputs = [], {}
    for line in commands("Use it"):
        line = re.sub(r"^export ADDR=.*", f"export ADDR={server.address}", line)
        path = f"{ROOT / '.tools/bin'}:{os.environ['PATH']}"
        ran = subprocess.run(
            ["bash", "-euc", "\n".join([*exports, line])],
            cwd=folder,
            env={**environment(), "PATH": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        accepted = (0, *TIME_IS_OVER) if "-max-time" in line else (0,)
        assert ran.returncode in accepted, f"{line}\n{ran.stdout}\n{ran.stderr}"
        if line.startswith("export "):
            exports.append(line)
        else:
            assert ran.stdout.strip(), f"{line}: printed nothing"
            outputs[re.findall(r"\S+$", line)[0].rsplit("/", 1)[-1]] = ran.stdout
    assert len(outputs) > 6
    assert "parlance.message.v1.StreamService" in outputs["list"]
    for seen in ("Is the kettle on?", "roomCreated", "membersJoined", "caughtUp"):
        assert seen in outputs["Subscribe"]
    assert "Is the kettle on?" in outputs["ListMessages"]
    # The system's message came after Boris read.
    assert '"unread": "1"' in outputs["GetUnread"]


def test_every_line_to_paste_is_run_by_a_test():
    titles = re.findall(r"^## (.+)$", PAGE, re.MULTILINE)
    run = [title for title in titles if commands(title)]
    assert run == ["Use it", "Run it as a suite"]


def test_the_make_targets_that_readme_names_exist():
    named = set(re.findall(r"\bmake ([a-z-]+)\b", "".join(blocks("console"))))
    named |= set(re.findall(r"`make ([a-z-]+)`", PAGE))
    assert {"run", "demo", "test", "replay"} <= named
    for target in named:
        dry = subprocess.run(
            ["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True
        )
        assert dry.returncode == 0, dry.stderr


def test_make_alone_prints_help():
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("run", "demo", "test", "lint", "replay"):
        assert f"make {target} " in shown


def test_the_demo_tells_its_story_to_the_end():
    told = subprocess.run(
        [binary(), "demo"],
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    for rpc in ("CreateRoom", "SendMessage", "Subscribe", "RemoveMembers", "GetUnread"):
        assert rpc in told.stdout
    assert "Closed" in told.stdout
