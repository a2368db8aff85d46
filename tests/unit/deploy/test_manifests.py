"""The manifests in deploy/ agree with the programs and settings that they name."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from flowcraft_server import __version__
from flowcraft_server.cli.server import main
from flowcraft_server.config.load import load_settings
from flowcraft_server.config.sections import ExecutorSection

DEPLOY = Path(__file__).parents[3] / "deploy"
DRAIN = ExecutorSection().drain_timeout or 0.0


def manifest(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text())


@pytest.fixture
def pod() -> Any:
    return manifest("kubernetes/deployment.yaml")["spec"]["template"]["spec"]


def test_what_stops_a_server_leaves_it_the_time_to_drain(pod: Any) -> None:
    assert pod["terminationGracePeriodSeconds"] > DRAIN
    for name in ("compose.yaml", "compose.sentinel.yaml"):
        assert int(manifest(name)["services"]["server"]["stop_grace_period"].removesuffix("s")) > DRAIN
    unit = (DEPLOY / "systemd/flowcraft-server.service").read_text()
    assert int(re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)[0]) > DRAIN


def test_probes_are_commands_that_exist(pod: Any) -> None:
    (container,) = pod["containers"]
    probes = [container[name]["exec"]["command"] for name in ("startupProbe", "readinessProbe", "livenessProbe")]
    dockerfile = (DEPLOY.parent / "Dockerfile").read_text()
    probes.append(re.findall(r'"([^"]+)"', dockerfile.partition("HEALTHCHECK")[2].splitlines()[0]))
    for program, *arguments in probes:
        assert program == "flowcraft-server"
        result = CliRunner().invoke(main, [*arguments, "--help"])
        assert result.exit_code == 0, result.output
        assert "No such option" not in result.output
        for option in (word for word in arguments if word.startswith("--")):
            assert option in result.output


def test_the_image_has_the_version_of_the_release() -> None:
    (image,) = manifest("kubernetes/kustomization.yaml")["images"]
    assert image["newTag"] == __version__
    (container,) = manifest("kubernetes/deployment.yaml")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"flowcraft-server:{__version__}"


def test_a_pod_has_no_more_rights_than_the_image_needs(pod: Any) -> None:
    (container,) = pod["containers"]
    dockerfile = (DEPLOY.parent / "Dockerfile").read_text()
    user = pod["securityContext"]
    assert f"USER {user['runAsUser']}:{user['runAsGroup']}" in dockerfile
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_the_api_is_reachable_with_a_token_only(pod: Any) -> None:
    """The profile that the manifests choose binds all addresses, and needs the token that they hand over."""
    environ = manifest("kubernetes/config-map.yaml")["data"]
    file = DEPLOY.parent / "flowcraft.yaml"
    without = load_settings(file, environ=environ)
    assert ["FLOWCRAFT_API_TOKEN is not set" in str(each) for each in without.errors] == [True]
    api = load_settings(file, environ={**environ, "FLOWCRAFT_API_TOKEN": "0123456789abcdef"}).settings.api
    assert (api.bind, [token.role for token in api.auth.tokens]) == ("0.0.0.0:8088", ["admin"])
    assert api.allowed_hosts == (manifest("kubernetes/service.yaml")["metadata"]["name"],)
    assert "FLOWCRAFT_API_TOKEN" in manifest("kubernetes/secret.example.yaml")["stringData"]
    (container,) = pod["containers"]
    (port,) = manifest("kubernetes/service.yaml")["spec"]["ports"]
    ports = {container["ports"][0]["containerPort"], port["port"], api.port}
    ports.add(int(re.findall(r"^EXPOSE (\d+)$", (DEPLOY.parent / "Dockerfile").read_text(), re.MULTILINE)[0]))
    assert ports == {8088}
    assert port["targetPort"] == container["ports"][0]["name"]
    for name in ("compose.yaml", "compose.sentinel.yaml"):
        server = manifest(name)["services"]["server"]
        assert server["environment"]["FLOWCRAFT_PROFILE"] == environ["FLOWCRAFT_PROFILE"]
        assert all(each.startswith("127.0.0.1:") and each.endswith(":8088") for each in server["ports"])
