"""Dockerfile, compose file, Prometheus and Makefile: each parses, and they agree."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from service.observability.metrics import DEGRADED_BY, OUTCOMES, RESTART_REASONS, Metrics
from service.settings import ENVIRONMENT_PREFIX, Settings

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def compose() -> Any:
    return load(ROOT / "docker-compose.yml")


@pytest.fixture(scope="module")
def scrape() -> Any:
    (job,) = load(PROMETHEUS / "prometheus.yml")["scrape_configs"]
    return job


# --- the image ----------------------------------------------------------------------------------


def last_stage() -> str:
    return DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]


def test_the_image_is_built_in_stages_and_runs_as_nobody_special() -> None:
    assert len(re.findall(r"^FROM ", DOCKERFILE, re.MULTILINE)) >= 3
    user = re.search(r"^USER (\d+):(\d+)$", last_stage(), re.MULTILINE)
    assert user is not None
    assert int(user[1]) > 0
    assert "COPY --from=build" in last_stage()
    assert "pip" not in last_stage()


def test_the_image_says_when_it_is_ready_and_how_to_stop_it() -> None:
    assert "HEALTHCHECK" in last_stage()
    assert "/readyz" in last_stage()
    assert "STOPSIGNAL SIGTERM" in last_stage()
    assert 'ENTRYPOINT ["lookwhen"]' in last_stage()


def test_the_image_and_compose_set_only_settings_that_exist(compose: Any) -> None:
    known = {ENVIRONMENT_PREFIX + name.upper() for name in Settings.model_fields}
    used = set(re.findall(r"(?<!\w)(LOOKWHEN_[A-Z_]+)=", DOCKERFILE))
    for service in compose["services"].values():
        used |= {name for name in service.get("environment", {}) if name.startswith("LOOKWHEN_")}
    assert used
    assert used <= known


def test_the_image_is_built_from_everything_the_packages_need() -> None:
    """A wheel made from what .dockerignore lets through holds every file that is not Python's."""
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    let_through = {line[1:] for line in ignored if line.startswith("!")}
    copied = set(re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE))
    assert {name for line in copied for name in line.split()} == let_through


# --- compose ------------------------------------------------------------------------------------


def test_containers_are_confined(compose: Any) -> None:
    for name, service in compose["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        limits = service["deploy"]["resources"]["limits"]
        assert {"cpus", "memory", "pids"} <= limits.keys(), name
        for mount in service.get("tmpfs", []):
            assert "size=" in mount, name
        for port in service["ports"]:
            assert port.startswith(("127.0.0.1:", "${BIND:-127.0.0.1}:")), name


def test_pulled_images_are_pinned(compose: Any) -> None:
    pulled = [s["image"] for s in compose["services"].values() if "build" not in s]
    pulled += [
        name
        for name in re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
        if "/" in name or ":" in name
    ]
    assert pulled
    for image in pulled:
        tag = image.partition(":")[2]
        assert tag, image
        assert tag != "latest", image


def test_the_gpu_is_opt_in(compose: Any) -> None:
    assert "profiles" not in compose["services"]["lookwhen"]
    gpu = compose["services"]["lookwhen-gpu"]
    assert gpu["profiles"] == ["gpu"]
    assert gpu["build"]["args"] == {"ACCELERATOR": "cuda"}
    (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert device["driver"] == "nvidia"
    assert device["capabilities"] == ["gpu"]
    assert device["count"] == 1


def test_a_stop_leaves_time_for_accepted_requests(compose: Any) -> None:
    grace = Settings.model_fields["shutdown_grace_seconds"].default
    for name in ("lookwhen", "lookwhen-gpu"):
        assert float(compose["services"][name]["stop_grace_period"].removesuffix("s")) > grace


# --- Prometheus ---------------------------------------------------------------------------------


def test_prometheus_scrapes_what_compose_starts(compose: Any, scrape: Any) -> None:
    (discovery,) = scrape["dns_sd_configs"]
    (name,) = discovery["names"]
    gpu = compose["services"]["lookwhen-gpu"]
    assert name in compose["services"]
    assert name in gpu["networks"]["default"]["aliases"]
    for service in (compose["services"][name], gpu):
        (port,) = service["ports"]
        assert port.rsplit(":", 1)[1] == str(discovery["port"])
    assert f"LOOKWHEN_PORT={discovery['port']}" in DOCKERFILE


def test_the_service_answers_at_the_path_that_is_scraped(scrape: Any) -> None:
    routes = (ROOT / "service" / "http" / "routes.py").read_text(encoding="utf-8")
    assert f'"{scrape["metrics_path"]}"' in routes


def exported_names() -> set[str]:
    """Every sample name that the service's metrics can have."""
    metrics = Metrics(Settings().latency_buckets_seconds)
    names: set[str] = set()
    for family in metrics.registry.collect():
        names.add(family.name)
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
        names |= {family.name + s for s in suffixes.get(family.type, ("", "_info"))}
    return names


def rules(kind: str) -> list[Any]:
    """The rules that are alerts ("alert") or recordings ("record")."""
    groups = load(PROMETHEUS / "rules.yml")["groups"]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


def dashboard() -> Any:
    text = (ROOT / "deploy" / "grafana" / "dashboards" / "lookwhen.json").read_text("utf-8")
    return json.loads(text)


def expressions() -> list[str]:
    """Every query of the rules and of the dashboard."""
    shown = [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]
    return [rule["expr"] for kind in ("alert", "record") for rule in rules(kind)] + shown


def test_queries_use_only_metrics_that_exist() -> None:
    used = {n for e in expressions() for n in re.findall(r"\blookwhen[:_][\w:]+", e)}
    recorded = {rule["record"] for rule in rules("record")}
    assert len(used) > 10
    assert used - recorded - exported_names() == set()


def test_queries_use_only_label_values_that_exist() -> None:
    values = {
        value
        for expression in expressions()
        for matched in re.findall(r'(?:outcome|reason)!?=~?"([^"]+)"', expression)
        for value in matched.split("|")
    }
    assert values
    assert values <= {*OUTCOMES, *RESTART_REASONS, *DEGRADED_BY}


def test_each_alert_says_what_to_do() -> None:
    assert rules("alert")
    for alert in rules("alert"):
        assert {"summary", "action"} <= alert["annotations"].keys(), alert["alert"]
        assert alert["labels"]["severity"] in {"warning", "critical"}, alert["alert"]


def test_grafana_asks_the_prometheus_that_compose_starts(compose: Any) -> None:
    sources = load(ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml")["datasources"]
    (source,) = sources
    url = urlsplit(source["url"])
    assert url.hostname in compose["services"]
    assert any(
        port.endswith(f":{url.port}") for port in compose["services"][str(url.hostname)]["ports"]
    )
    for panel in dashboard()["panels"]:
        assert panel["datasource"]["uid"] == source["uid"], panel["title"]
    (provider,) = load(ROOT / "deploy/grafana/provisioning/dashboards/lookwhen.yml")["providers"]
    mounts = [volume.split(":")[1] for volume in compose["services"]["grafana"]["volumes"]]
    assert provider["options"]["path"] in mounts


@pytest.mark.real
@pytest.mark.parametrize(
    "arguments", [["check", "config", "prometheus.yml"], ["test", "rules", "rules.test.yml"]]
)
def test_promtool_agrees(arguments: list[str]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    checked = subprocess.run(
        [promtool, *arguments], cwd=PROMETHEUS, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


# --- Makefile -----------------------------------------------------------------------------------


def test_make_help_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", "")
    phony = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert phony is not None
    shown = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    assert targets == set(phony[1].split())
    assert set(re.findall(r"make ([a-z-]+)  ", shown)) == targets


def test_continuous_integration_is_make_test_that_skips_nothing_unnoticed() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert script.startswith("#!/usr/bin/env bash")
    (rules,) = re.findall(r"^rules='(.*)'$", script, re.MULTILINE)
    assert 'make "$lane" ARGS="$rules"' in script
    assert re.findall(r"\|\| set -- (.*)$", script, re.MULTILINE) == ["test test-real"]
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8"))
    commands = {
        job: [step["run"] for step in made["steps"] if "run" in step]
        for job, made in workflow["jobs"].items()
    }
    assert commands == {"test": [".ci/run"], "long": [".ci/run test-long"]}
    options = shlex.split(rules)
    assert options[options.index("-p") + 1] == "deploy.pytest_rules"
    assert (ROOT / options[options.index("--allowed-skips") + 1]).is_file()
