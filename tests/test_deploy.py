"""The files in deploy/ agree with the server, with the image and with each other."""

import dataclasses
import itertools
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from app import create_app
from app.auth import PUBLIC_ROUTES
from app.config import WebConfig
from serving.config import EngineConfig
from serving.environment import BIND_VARIABLE, PREFIX, read_environment
from tests.fakes import FakeEngine

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
README = (DEPLOY / "README.md").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
NGINX = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
SERVER = COMPOSE["services"]["laconic"]
MANIFESTS = {
    manifest["kind"]: manifest
    for manifest in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text(encoding="utf-8"))
}
POD = MANIFESTS["Deployment"]["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
SETTINGS = {
    PREFIX + field.name.upper()
    for kind in (EngineConfig, WebConfig)
    for field in dataclasses.fields(kind)
} | {BIND_VARIABLE}
PORT = int(re.search(r"^EXPOSE (\d+)$", DOCKERFILE, re.MULTILINE)[1])
USER_ID = int(re.search(r"--uid (\d+)", DOCKERFILE)[1])
FILES = sorted(path for path in DEPLOY.rglob("*") if path.is_file() and "secrets" not in path.parts)


def rules():
    return {rule.rule for rule in create_app(FakeEngine()).url_map.iter_rules()}


def gunicorn_settings():
    """What gunicorn.conf.py says by itself; none of it is read from this test's environment."""
    settings = {"__file__": str(ROOT / "gunicorn.conf.py"), "__name__": "gunicorn_conf"}
    exec((ROOT / "gunicorn.conf.py").read_text(encoding="utf-8"), settings)
    return settings


def seconds(text):
    assert re.fullmatch(r"\d+s", text)
    return int(text[:-1])


def directive(name):
    """The value of a directive of nginx.conf, which must stand there once."""
    (value,) = re.findall(rf"^\s*{name}\s+([^;]+);", NGINX, re.MULTILINE)
    return value


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_can_be_read_as_what_it_is(path):
    text = path.read_text(encoding="utf-8")
    match path.suffix:
        case ".yaml" | ".yml":
            assert all(yaml.safe_load_all(text))
        case ".json":
            assert json.loads(text)
        case ".conf":
            assert text.count("{") == text.count("}") > 0
        case suffix:
            assert suffix == ".md"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_setting_that_is_named_exists(path):
    named = set(re.findall(rf"\b{PREFIX}[A-Z_]+\b", path.read_text(encoding="utf-8")))
    assert named <= SETTINGS


def test_compose_gives_settings_that_the_server_accepts():
    environment = {**SERVER["environment"]}
    _, web = read_environment(environment, EngineConfig, WebConfig)
    (secret,) = SERVER["secrets"]
    assert web.api_keys_file == Path("/run/secrets") / secret


def test_kubernetes_gives_settings_that_the_server_accepts():
    _, web = read_environment(MANIFESTS["ConfigMap"]["data"], EngineConfig, WebConfig)
    mounts = {mount["name"]: mount["mountPath"] for mount in CONTAINER["volumeMounts"]}
    assert web.api_keys_file == Path(mounts["keys"]) / "api_keys"
    assert "--from-file=api_keys=" in README


def test_the_gpu_file_adds_to_a_service_that_exists():
    extra = yaml.safe_load((DEPLOY / "compose.gpu.yaml").read_text(encoding="utf-8"))
    assert set(extra["services"]) <= set(COMPOSE["services"])
    (device,) = extra["services"]["laconic"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]  # mandatory
    read_environment(extra["services"]["laconic"]["environment"], EngineConfig, WebConfig)


def test_only_what_is_asked_for_starts_beside_the_server():
    profiles = {name: service.get("profiles") for name, service in COMPOSE["services"].items()}
    assert profiles == {"laconic": None, "prometheus": ["prometheus"], "grafana": ["grafana"]}


def test_every_port_of_compose_is_open_to_this_machine_only():
    for service in COMPOSE["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_every_volume_and_secret_of_compose_is_defined():
    for service in COMPOSE["services"].values():
        assert set(service.get("secrets", ())) <= set(COMPOSE["secrets"])
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).exists()
            else:
                assert source in COMPOSE["volumes"]
    for secret in COMPOSE["secrets"].values():
        assert secret["file"].removeprefix("./secrets/") in README


def test_secrets_stay_out_of_git():
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    assert {"deploy/secrets/", "deploy/laconic.env"} <= set(ignored)


def test_everybody_uses_the_port_of_the_image():
    assert SERVER["ports"] == [f"127.0.0.1:{PORT}:{PORT}"]
    assert CONTAINER["ports"] == [{"name": "http", "containerPort": PORT}]
    assert f"server 127.0.0.1:{PORT};" in NGINX
    annotations = MANIFESTS["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(PORT)
    prometheus = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    (scrape,) = prometheus["scrape_configs"]
    assert scrape["static_configs"] == [{"targets": [f"laconic:{PORT}"]}]
    assert scrape["metrics_path"] == annotations["prometheus.io/path"] == "/metrics"
    assert gunicorn_settings()["bind"].endswith(f":{PORT}")


def test_the_service_leads_to_the_pod():
    service = MANIFESTS["Service"]["spec"]
    assert service["selector"] == MANIFESTS["Deployment"]["spec"]["selector"]["matchLabels"]
    assert service["selector"] == MANIFESTS["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert service["ports"][0]["targetPort"] == CONTAINER["ports"][0]["name"]


def test_the_image_is_the_one_that_make_builds():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (name,) = re.findall(r"docker build -t (\S+) \.", makefile)
    assert SERVER["image"] == CONTAINER["image"] == name


def test_probes_ask_routes_that_exist_and_need_no_key():
    probes = {name: CONTAINER[f"{name}Probe"] for name in ("startup", "liveness", "readiness")}
    paths = {name: probe["httpGet"]["path"] for name, probe in probes.items()}
    assert paths == {
        "startup": "/health/ready",
        "liveness": "/health/live",
        "readiness": "/health/ready",
    }
    checked = re.search(r"http://127\.0\.0\.1:\d+(/[\w/]+)", DOCKERFILE)[1]
    assert {*paths.values(), checked} <= rules() & PUBLIC_ROUTES


def test_a_load_has_ten_minutes():
    probe = CONTAINER["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 600


def test_nobody_is_killed_while_answers_are_under_way():
    graceful = WebConfig().drain_seconds + gunicorn_settings()["_SECONDS_TO_LEAVE"]
    assert seconds(SERVER["stop_grace_period"]) > graceful
    (sleep, pause) = CONTAINER["lifecycle"]["preStop"]["exec"]["command"]
    assert sleep == "sleep"
    assert POD["terminationGracePeriodSeconds"] > graceful + int(pause)


def test_the_container_may_do_no_more_than_it_must():
    assert SERVER["cap_drop"] == ["ALL"]
    assert SERVER["read_only"] is True
    assert POD["securityContext"]["runAsUser"] == USER_ID
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert POD["automountServiceAccountToken"] is False
    limits = CONTAINER["securityContext"]
    assert limits["readOnlyRootFilesystem"] is True
    assert limits["allowPrivilegeEscalation"] is False
    assert limits["capabilities"] == {"drop": ["ALL"]}


def test_adapters_are_mounted_where_the_image_expects_them_and_cannot_be_changed():
    (place,) = re.findall(r"^VOLUME (\S+)$", DOCKERFILE, re.MULTILINE)
    mounts = {mount["name"]: mount for mount in CONTAINER["volumeMounts"]}
    assert mounts["adapters"]["mountPath"] == place
    assert mounts["adapters"]["readOnly"] is True
    assert f"../adapters/store:{place}:ro" in SERVER["volumes"]


def test_one_gpu_is_never_held_by_two_pods():
    assert MANIFESTS["Deployment"]["spec"]["strategy"] == {"type": "Recreate"}
    assert MANIFESTS["Deployment"]["spec"]["replicas"] == 1


def test_nginx_passes_streams_on_and_notices_clients_that_leave():
    assert directive("proxy_buffering") == "off"
    assert directive("proxy_ignore_client_abort") == "off"
    assert directive("proxy_http_version") == "1.1"


def test_nginx_waits_for_as_long_as_the_server_may_take():
    allowed = EngineConfig().request_timeout_seconds
    assert seconds(directive("proxy_read_timeout")) > allowed


def test_a_body_that_is_too_large_is_refused_by_the_server_which_says_why():
    size = directive("client_max_body_size")
    assert int(size.removesuffix("m")) * 2**20 > WebConfig().max_body_bytes


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_nginx_accepts_its_site(tmp_path):
    folders = "".join(
        f"{kind}_temp_path {tmp_path / kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    whole = (
        f"pid {tmp_path}/pid; error_log stderr; events {{}}"
        f"http {{ access_log off; {folders} include {DEPLOY}/nginx.conf; }}"
    )
    (tmp_path / "nginx.conf").write_text(whole)
    command = ["nginx", "-t", "-c", str(tmp_path / "nginx.conf"), "-e", "stderr"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def commands():
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize("command", commands())
def test_every_command_of_the_readme_names_what_there_is(command):
    words = shlex.split(command)
    for flag, value in itertools.pairwise(words):
        if flag == "-f":
            assert (ROOT / value).is_file()
        if flag == "--profile":
            assert value in {p for s in COMPOSE["services"].values() for p in s.get("profiles", ())}
    known = ("make image", "mkdir -p deploy/secrets", "docker compose -f deploy/compose.yaml",
             ".venv/bin/python -m app.auth ", "kubectl ")  # fmt: skip
    assert command.startswith(known)
    if words[0] == "kubectl" and "-n" in words:
        assert words[words.index("-n") + 1] == MANIFESTS["Namespace"]["metadata"]["name"]


def test_every_file_of_the_readme_exists_and_every_file_stands_there():
    tables = README.split("## Probes")[0]
    named = set(re.findall(r"^\| `([\w./]+)` \|", tables, re.MULTILINE))
    assert all((DEPLOY / name).is_file() for name in named)
    assert len(named) >= 7
    missing = {str(path.relative_to(DEPLOY)) for path in FILES} - named - {"README.md"}
    assert all(name.startswith("grafana/provisioning/") for name in missing)


def test_every_probe_and_page_of_the_readme_exists():
    assert set(re.findall(r"`(/(?:health|v2|metrics)[\w/]*)`", README)) <= rules()
