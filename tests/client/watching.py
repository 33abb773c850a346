"""What watches a process from outside: its pages, its metrics, traces that a caller wants."""

import re
import secrets
import time
import urllib.error
import urllib.request


def get(address, path, method="GET"):
    """The status of a page, and what stands there."""
    request = urllib.request.Request(f"http://{address}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def families(page):
    """The metrics of a page, and its values by their lines."""
    names = set(re.findall(r"^# TYPE (\S+)", page, re.MULTILINE))
    values = dict(re.findall(r"^([a-z]\S*(?:\{.*\})?) (\S+)$", page, re.MULTILINE))
    return names, values


def until(probe, patience=30, what="it"):
    """What a probe finds, once it finds something."""
    end = time.monotonic() + patience
    while not (found := probe()):
        assert time.monotonic() < end, f"{what} did not come about"
        time.sleep(0.05)
    return found


def traced():
    """The id of a trace that its caller wants, and the metadata that says so."""
    trace = secrets.token_hex(16)
    return trace, [("traceparent", f"00-{trace}-{secrets.token_hex(8)}-01")]
