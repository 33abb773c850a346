"""The commands of docs/operations.md, as they stand there."""

import ast
import os
import re
import subprocess

from server import ROOT, binary, environment

PAGE = (ROOT / "docs/operations.md").read_text()
# What a command in a sentence begins with, or an expression for another program.
PROGRAM = re.compile(r"(parlance|grpcurl|redis-cli|kubectl|make|socat) \S|topk\(|sum by|SELECT ")


def commands():
    """Each line that stands by itself, and each command in a sentence, once."""
    prose = re.sub(r"^ *```.*?^ *```$", "", PAGE, flags=re.DOTALL | re.MULTILINE)
    lines = re.findall(r"^    (\S.*)$", prose, re.MULTILINE)
    words = [each for each in re.findall(r"`([^`\n]+)`", prose) if PROGRAM.match(each)]
    return list(dict.fromkeys([*lines, *words]))


def command(start, **places):
    """The command that is this, or the only one that begins so; with something else in place of the
    words that stand for what an operator has."""
    found = [each for each in commands() if each == start]
    [found] = found or [each for each in commands() if each.startswith(f"{start} ")]
    for word, value in places.items():
        assert word in found, f"{word} is not in {found}"
        found = found.replace(word, str(value))
    return found


def walked(*names):
    """The commands that these tests read from the page."""
    for name in names:
        for node in ast.walk(ast.parse((ROOT / "tests" / name).read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "command":
                yield command(ast.literal_eval(node.args[0]))


def run(line, folder, exports=(), **more):
    """Runs a line in the shell of an operator who has the programs; it must end well. What it
    printed."""
    path = f"{binary().parent}:{ROOT / '.tools/bin'}:{os.environ['PATH']}"
    ran = subprocess.run(
        ["bash", "-euc", "\n".join([*exports, line])],
        cwd=folder,
        env={**environment(), "PATH": path, **{name: str(value) for name, value in more.items()}},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, f"{line}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout
