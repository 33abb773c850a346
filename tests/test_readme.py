import contextlib
import os
import pathlib
import re
import signal
import subprocess
import threading

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


def with_grpcurl():
    """The environment of a reader who has installed grpcurl."""
    return {**environment(), "PATH": f"{ROOT / '.tools/bin'}:{os.environ['PATH']}"}


def paste(folder, exports, line):
    """Runs a line in a shell that has run the exports."""
    return subprocess.run(
        ["bash", "-euc", "\n".join([*exports, line])],
        cwd=folder,
        env=with_grpcurl(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_every_line_for_one_server_can_be_pasted(place):
    """Variables are those that README defines; only the address is the test's own. What is for
    the suite is shown by test_suite.py."""
    folder, server = place
    exports, outputs = [], {}
    for line in commands("Use it"):
        line = re.sub(r"^export ADDR=.*", f"export ADDR={server.address}", line)
        ran = paste(folder, exports, line)
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
    assert '"created": true' in outputs["EnterRoom"]
    # The system's message came after Boris read.
    assert '"unread": "1"' in outputs["GetUnread"]


def test_every_line_to_paste_is_run_by_a_test():
    titles = re.findall(r"^## (.+)$", PAGE, re.MULTILINE)
    run = [title for title in titles if commands(title)]
    assert run == ["Use it", "Run it as a suite"]


@contextlib.contextmanager
def started(command, cwd, **more):
    """A command that goes on until it is asked to stop, and what it prints, line by line. All
    that it started has ended in the end; one that hangs is ended too."""
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env={**with_grpcurl(), **more},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    guard = threading.Timer(300, os.killpg, [process.pid, signal.SIGKILL])
    guard.start()
    try:
        yield process.stdout
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        # What is below it has the pipe too: its end is that of the last.
        process.stdout.read()
        process.wait()
        guard.cancel()


def read_until(lines, text):
    """The lines up to the first one with a text in it."""
    seen = []
    for line in lines:
        seen.append(line.rstrip("\n"))
        if text in line:
            return seen
    raise AssertionError(f"never printed {text!r}: {seen}")


def test_every_line_that_make_run_prints_can_be_pasted(tmp_path):
    """As README begins: `make run`, here on a free port and with data of its own."""
    assert blocks("console")[0] == "make run\n"
    own = {"PARLANCE_LISTEN": "127.0.0.1:0", "PARLANCE_STORE": f"sqlite://{tmp_path}/data"}
    with started(["make", "run"], ROOT, **own) as printed:
        guide = read_until(printed, "StreamService/Subscribe")
        exports = [line for line in guide if line.startswith("export ")]
        calls = [line for line in guide if line.startswith("grpcurl ")]
        assert len(exports) == 2 and len(calls) == 5
        assert not any("127.0.0.1:0 " in line for line in calls)
        *calls, follow = calls
        for line in calls:
            ran = paste(tmp_path, exports, line)
            assert ran.returncode == 0, f"{line}\n{ran.stdout}\n{ran.stderr}"
        assert "hello, Boris" in ran.stdout
        # The last line follows: what is sent meanwhile arrives.
        with started(["bash", "-euc", "\n".join([*exports, follow])], tmp_path) as frames:
            seen = read_until(frames, "caughtUp")
            assert any("hello, Boris" in line for line in seen)
            [send] = [line for line in calls if "SendMessage" in line]
            assert paste(tmp_path, exports, send).returncode == 0
            read_until(frames, "hello, Boris")


def test_the_services_that_refuse_callers_are_named():
    closed = set()
    for path in (ROOT / "proto").rglob("*_service.proto"):
        contract = re.sub(r"\n//", "", path.read_text())
        if "tokens of the internal audience" in contract:
            closed |= set(re.findall(r"^service (\w+)", contract, re.MULTILINE))
    [named] = re.findall(r"^.*for the services themselves", PAGE.replace("\n", " "), re.MULTILINE)
    named = set(re.findall(r"\b\w+Service\b", named.rsplit("`--reflection open`", 1)[-1]))
    assert named == closed


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
        ["make", "demo"],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    shown = ("CreateRoom", "SendMessage", "Subscribe", "RemoveMembers", "GetUnread", "SwitchRoom")
    for rpc in shown:
        assert rpc in told.stdout
    assert "Closed" in told.stdout
