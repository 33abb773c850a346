"""What the program is made of, as cargo tells it."""

import json
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[1]
PROGRAM = "parlance"


def cargo(command, *arguments):
    run = ["cargo", command, "--locked", *arguments]
    return subprocess.run(run, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout


def packages(edges):
    """The packages that the program needs by such edges, as `cargo tree` names them: by their id, each
    with the ids of what it needs. The program is the first."""
    # The metadata alone would name what optional features of dependencies might bring.
    drawn = cargo("tree", "--package", PROGRAM, "--edges", edges, "--prefix", "none", "--format", "{p}")
    used = {tuple(line.split()[:2]) for line in drawn.splitlines() if line}
    found = json.loads(cargo("metadata", "--format-version=1"))
    made = {it["id"]: it for it in found["packages"] if (it["name"], f"v{it['version']}") in used}
    assert len(made) == len(used), "cargo tells two things"
    edges = {node["id"]: [it for it in node["dependencies"] if it in made] for node in found["resolve"]["nodes"]}
    order = sorted(made, key=lambda it: (made[it]["name"] != PROGRAM, made[it]["name"], made[it]["version"]))
    return {id_: (made[id_], edges[id_]) for id_ in order}
