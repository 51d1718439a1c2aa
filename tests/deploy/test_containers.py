"""The shipped Dockerfile and compose file: without fault for their checkers, and their parts fit each other."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from service.settings import load_settings
from tests.rigs.container import context, stages
from tests.tools import tool

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy"
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if "build" in service]


def mounts(service):
    """Give what a service mounts: source, target and mode."""
    return [(*volume.split(":"), "rw")[:3] for volume in service.get("volumes", [])]


def test_dockerfile_has_no_fault():
    """
    Hadolint finds nothing, not even to inform about.
    """
    program = Path(sys.executable).parent / "hadolint"
    done = subprocess.run(
        [program if program.exists() else tool("hadolint"), ROOT / "Dockerfile"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (0, "") == (done.returncode, done.stdout)


def test_engine_is_sent_what_the_image_needs(tmp_path):
    """
    ``.dockerignore`` leaves the packages, the locks and the settings, and nothing that was made beside them.
    """
    context(ROOT, tmp_path)
    copied = [
        name
        for stage in stages(ROOT / "Dockerfile")
        for word, text in stage.steps
        if word == "COPY"
        for name in text.split()[:-1]
        if "--from" not in text
    ]

    assert sorted({name.rstrip("/") for name in copied}) == sorted(path.name for path in tmp_path.iterdir())
    assert [] == list(tmp_path.rglob("__pycache__"))
    assert (tmp_path / "service/py.typed").exists()


def test_compose_file_is_of_the_specification():
    """
    The Compose specification's schema allows the file.
    """
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", FOLDER / "compose.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert 0 == done.returncode, done.stdout


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_mounts_is_there(name):
    """
    Files of ours that are mounted exist and cannot be written; volumes and secrets are declared.
    """
    for source, target, mode in mounts(SERVICES[name]):
        if source.startswith("."):
            assert (FOLDER / source).exists(), source
            assert "ro" == mode, target
        elif not source.startswith("/"):
            assert source in COMPOSE["volumes"]
    assert set(SERVICES[name].get("secrets", [])) <= set(COMPOSE["secrets"])


def test_nothing_is_declared_that_no_service_uses():
    """
    Each volume and each secret is somebody's; no secret is in the repository.
    """
    used = {source for service in SERVICES.values() for source, _, _ in mounts(service) if source[0] not in "./"}

    assert set(COMPOSE["volumes"]) == used
    assert set(COMPOSE["secrets"]) == {one for service in SERVICES.values() for one in service.get("secrets", [])}
    assert "/deploy/secrets/" in (ROOT / ".gitignore").read_text().splitlines()
    assert all(secret["file"].startswith("./secrets/") for secret in COMPOSE["secrets"].values())


def test_images_of_others_are_of_one_version():
    """
    What runs tomorrow is what runs today: no image is the latest of anything.
    """
    images = {name: service["image"] for name, service in SERVICES.items() if name not in OURS}

    assert [] == [image for image in images.values() if not re.fullmatch(r"[\w./-]+:v?\d+(\.\d+)+", image)]


def test_services_depend_on_services_that_start_with_them():
    """
    What a service waits for is defined, and belongs to a profile of its own.
    """
    for name, service in SERVICES.items():
        for other in service.get("depends_on", {}):
            assert set(SERVICES[other].get("profiles", [])) <= set(service.get("profiles", [])), (name, other)


def test_ports_are_published_on_this_machine_alone():
    """
    Nobody else's machine reaches a port before somebody has put a proxy in front; the two services that share one stand
    in for each other.
    """
    published = [(port.split(":"), name) for name, service in SERVICES.items() for port in service.get("ports", [])]
    hosts = {(host, port): name for (host, port, _), name in published if name != "orderbook-postgresql"}

    assert {"127.0.0.1"} == {host for host, _ in hosts}
    assert len(published) - 1 == len(hosts)
    assert SERVICES["orderbook"]["ports"] == SERVICES["orderbook-postgresql"]["ports"]


@pytest.mark.parametrize("name", OURS)
def test_service_runs_with_settings_that_there_are(name):
    """
    The variables of a service are settings or secrets that it knows, and its port is the published one.
    """
    env = {key: str(value) for key, value in SERVICES[name]["environment"].items()}
    settings = load_settings(ROOT / "settings.toml", env)
    dockerfile = (ROOT / "Dockerfile").read_text()

    assert [f"127.0.0.1:{settings.service.port}:{settings.service.port}"] == SERVICES[name]["ports"]
    assert f"EXPOSE {settings.service.port}" in dockerfile
    assert {value for value in env.values() if value.startswith("/run/secrets/")} == {
        f"/run/secrets/{secret}" for secret in SERVICES[name]["secrets"]
    }


@pytest.mark.parametrize("name", OURS)
def test_service_has_no_right_that_it_does_not_need(name):
    """
    Its root cannot be written, and it has no capability and can get none.
    """
    service = SERVICES[name]

    assert (True, ["ALL"], ["no-new-privileges:true"]) == (
        service["read_only"],
        service["cap_drop"],
        service["security_opt"],
    )
    assert ["/tmp"] == service["tmpfs"]
    assert int(service["stop_grace_period"].removesuffix("s")) > 15


def test_prometheus_scrapes_the_port_for_metrics():
    """
    The target of Prometheus is the service by the name and the port that the compose file gives it.
    """
    jobs = yaml.safe_load((FOLDER / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in jobs}

    assert [f"orderbook:{SERVICES['orderbook']['environment']['IOB_METRICS__PORT']}"] == targets["internal-orderbook"]
    assert ["orderbook"] == SERVICES["orderbook-postgresql"]["networks"]["default"]["aliases"]
    assert {"/etc/prometheus/prometheus.yml", "/etc/prometheus/alerts.yml"} <= {
        target for _, target, _ in mounts(SERVICES["prometheus"])
    }


def test_logs_and_pictures_find_each_other():
    """
    Alloy reads the containers that are labelled for it, and sends to Loki; Grafana asks Loki and Prometheus.
    """
    alloy = (FOLDER / "alloy/config.alloy").read_text()
    loki = yaml.safe_load((FOLDER / "loki/loki.yaml").read_text())["server"]["http_listen_port"]
    sources = yaml.safe_load((FOLDER / "grafana/provisioning/datasources/datasources.yaml").read_text())
    folder = yaml.safe_load((FOLDER / "grafana/provisioning/dashboards/dashboards.yaml").read_text())
    shown = [target for source, target, _ in mounts(SERVICES["grafana"]) if source.endswith("dashboard.json")]

    for name in OURS:
        assert f'"logs={SERVICES[name]["labels"]["logs"]}"' in alloy
    assert f"http://loki:{loki}/loki/api/v1/push" in alloy
    assert {"http://prometheus:9090", f"http://loki:{loki}"} == {one["url"] for one in sources["datasources"]}
    assert [folder["providers"][0]["options"]["path"]] == [str(Path(target).parent) for target in shown]
