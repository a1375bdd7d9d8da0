"""Have a real Prometheus, with the shipped rules, scrape a running service.

    make check-prometheus PORT=8000
    make check-prometheus PORT=8000 KEY=lw_...

Starts Prometheus on a port of its own with a data directory that is thrown away, waits until it has
scraped the service and evaluated its rules, compares what it stored with what the service exports,
and asks it every question of the dashboard. Exit status: 0 all is there, 1 something is not, 77 no
Prometheus is installed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import yaml
from prometheus_client.parser import text_string_to_metric_families

RULES = Path(__file__).resolve().parent / "prometheus"
DASHBOARD = RULES.parent / "grafana" / "dashboards" / "lookwhen.json"
DEADLINE_SECONDS = 60
SKIPPED = 77


class CheckError(Exception):
    """What Prometheus does not see."""


def configuration(service: str, key: str | None) -> dict[str, Any]:
    """The shipped configuration, with the service itself as the only target and no waiting."""
    config: dict[str, Any] = yaml.safe_load((RULES / "prometheus.yml").read_text(encoding="utf-8"))
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    (job,) = config["scrape_configs"]
    del job["dns_sd_configs"]
    job["static_configs"] = [{"targets": [urlsplit(service).netloc]}]
    if key:
        job["authorization"] = {"credentials": key}
    return config


@contextlib.contextmanager
def prometheus(program: str, service: str, key: str | None) -> Iterator[httpx.Client]:
    """A running Prometheus, as a client of its API."""
    with tempfile.TemporaryDirectory(prefix="lookwhen-prometheus-") as directory:
        config = Path(directory, "prometheus.yml")
        config.write_text(yaml.safe_dump(configuration(service, key)), encoding="utf-8")
        shutil.copy(RULES / "rules.yml", directory)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with Path(directory, "log").open("w+", encoding="utf-8") as log:
            process = subprocess.Popen(
                [
                    program,
                    f"--config.file={config}",
                    f"--storage.tsdb.path={directory}/data",
                    f"--web.listen-address=127.0.0.1:{port}",
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            try:
                with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
                    if not wait_for(lambda: process.poll() is not None or is_ready(client)):
                        raise CheckError("Prometheus does not get ready")
                    if process.poll() is not None:
                        log.seek(0)
                        raise CheckError(f"Prometheus ended at once:\n{log.read()}")
                    yield client
            finally:
                process.terminate()
                process.wait(timeout=30)


def is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/-/ready").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def wait_for(condition: Any) -> bool:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.3)
    return True


def query(client: httpx.Client, expression: str) -> list[dict[str, Any]]:
    answer = client.get("/api/v1/query", params={"query": expression}).raise_for_status().json()
    result: list[dict[str, Any]] = answer["data"]["result"]
    return result


def check(client: httpx.Client, service: str, key: str | None) -> None:
    """Compare what Prometheus stored with what the service exports, and print both.

    Raises:
        CheckError: a scrape fails, a series is missing, or a rule cannot be evaluated.
    """
    if not wait_for(lambda: query(client, 'up{job="lookwhen"} == 1')):
        (target,) = client.get("/api/v1/targets").json()["data"]["activeTargets"]
        raise CheckError(f"Prometheus cannot scrape {target['scrapeUrl']}: {target['lastError']}")

    headers = {"authorization": f"Bearer {key}"} if key else {}
    text = httpx.get(f"{service}/metrics", headers=headers).raise_for_status().text
    families = [f for f in text_string_to_metric_families(text) if f.name.startswith("lookwhen")]
    # a histogram's time of creation is not a series that anybody asks for
    names = {s.name for f in families for s in f.samples if not s.name.endswith("_created")}
    stored = {row["metric"]["__name__"] for row in query(client, '{__name__=~"lookwhen_.+"}')}
    if missing := names - stored:
        raise CheckError(f"exported but not stored: {', '.join(sorted(missing))}")
    (series,) = query(client, 'count({__name__=~"lookwhen_.+"})')
    print(f"{len(names)} metrics in {series['value'][1]} series are scraped")

    groups: list[Any] = []

    def evaluated() -> bool:
        groups[:] = client.get("/api/v1/rules").json()["data"]["groups"]
        return all(rule["health"] != "unknown" for group in groups for rule in group["rules"])

    wait_for(evaluated)
    rules = [rule for group in groups for rule in group["rules"]]
    broken = [
        f"{rule['name']}: {rule.get('lastError')}" for rule in rules if rule["health"] != "ok"
    ]
    if not rules or broken:
        raise CheckError("rules that cannot be evaluated: " + ("; ".join(broken) or "none loaded"))
    firing = [rule["name"] for rule in rules if rule.get("state") == "firing"]
    print(f"{len(rules)} rules are evaluated; firing: {', '.join(firing) or 'none'}")

    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    shown = [target["expr"] for panel in panels for target in panel["targets"]]
    # an expression that cannot be evaluated ends in an HTTP error
    filled = sum(bool(query(client, e.replace("$__rate_interval", "1m"))) for e in shown)
    print(f"{len(shown)} queries of the dashboard are answered, {filled} of them with data")

    for expression in (
        "lookwhen_ready",
        "sum by (outcome) (lookwhen_classifications_total) > 0",
        "lookwhen_model_info",
    ):
        for row in query(client, expression):
            hidden = {"__name__", "instance", "job"}
            labels = {k: v for k, v in row["metric"].items() if k not in hidden}
            print(f"  {expression}: {labels} = {row['value'][1]}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--service", default="http://127.0.0.1:8000", help="the running service")
    parser.add_argument("--key", help="where the service asks for one")
    options = parser.parse_args(arguments)
    program = shutil.which("prometheus")
    if program is None:
        print("skipped: no prometheus on PATH (Debian: apt-get install prometheus)")
        return SKIPPED
    try:
        with prometheus(program, options.service, options.key) as client:
            check(client, options.service, options.key)
    except (CheckError, httpx.HTTPError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
