"""A real Prometheus, which scrapes processes and raises the alerts of deploy/."""

import json
import os
import pathlib
import re
import socket
import subprocess
import urllib.parse
import urllib.request

from watching import until

RULES = pathlib.Path(__file__).resolve().parents[2] / "deploy/telemetry/alerts.yaml"
# How often is scraped and judged: the shortest window of a shortened rule is 5 s.
EVERY = "500ms"
CONFIG = """
global: {{scrape_interval: {every}, scrape_timeout: {every}, evaluation_interval: {every}}}
rule_files: [{folder}/rules.yaml]
scrape_configs:
  - job_name: parlance
    file_sd_configs: [{{files: ["{folder}/targets.json"], refresh_interval: 1s}}]
"""


def shortened(rules):
    """Rules in which each minute is a second: what an alert waits for, and over what it counts."""
    return re.sub(r"(for: |\[)(\d+)m\b", r"\1\2s", rules)


class Prometheus:
    def __init__(self, folder, rules):
        self._folder, self._targets = pathlib.Path(folder), {}
        (self._folder / "rules.yaml").write_text(rules)
        config = CONFIG.format(every=EVERY, folder=self._folder)
        (self._folder / "prometheus.yml").write_text(config)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._address = "127.0.0.1:%d" % free.getsockname()[1]

    def __enter__(self):
        self._tell()
        command = ["prometheus", f"--config.file={self._folder}/prometheus.yml"]
        command += [f"--storage.tsdb.path={self._folder}/data", f"--web.listen-address={self._address}"]
        log = self._folder / "log"
        with log.open("wb") as out:
            self._process = subprocess.Popen(command, stdout=out, stderr=out)
        try:
            until(self._is_ready, what="the start of Prometheus")
        except BaseException:
            self.__exit__()
            raise AssertionError(log.read_text())
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()

    def _is_ready(self):
        try:
            with urllib.request.urlopen(f"http://{self._address}/-/ready", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def _ask(self, path, **arguments):
        url = f"http://{self._address}/api/v1/{path}?{urllib.parse.urlencode(arguments)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def _tell(self):
        file, new = self._folder / "targets.json", self._folder / "next.json"
        groups = [{"targets": [at], "labels": {"process": it}} for it, at in self._targets.items()]
        new.write_text(json.dumps(groups))
        os.replace(new, file)

    def scrape(self, **targets):
        """Scrapes these processes too, and waits until it has."""
        self._targets.update(targets)
        self._tell()
        for name in targets:
            until(lambda: self.value(f'up{{process="{name}"}}') == 1, what=f"a page of {name}")

    def forget(self, name):
        self._targets.pop(name)
        self._tell()

    def query(self, expression):
        """What an expression comes to now: values by their labels."""
        found = self._ask("query", query=expression)["result"]
        return [(each["metric"], float(each["value"][1])) for each in found]

    def value(self, expression):
        """The one value of an expression; None if there is none."""
        found = self.query(expression)
        return found[0][1] if found else None

    def firing(self):
        """The alerts that are raised now."""
        alerts = self._ask("alerts")["alerts"]
        return {each["labels"]["alertname"] for each in alerts if each["state"] == "firing"}

    def fired(self, seconds):
        """Those that were raised at any time of the last while."""
        window = f'count_over_time(ALERTS{{alertstate="firing"}}[{seconds}s])'
        return {labels["alertname"] for labels, _ in self.query(window)}

    def rules(self):
        """The health of each alert's rule, by its name."""
        groups = self._ask("rules")["groups"]
        return {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
