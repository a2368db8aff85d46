"""Whether a deployment is alive, as containers ask."""

from pathlib import Path

import pytest

from flowcraft_server.config.load import load_settings
from flowcraft_server.config.model import Settings
from flowcraft_server.service.health import Unhealthy, check_health
from flowcraft_server.testing import TestEnvironment


@pytest.fixture
def deployment(tmp_path: Path) -> Settings:
    (tmp_path / "flowcraft.yaml").write_text("name: x\n")
    settings = load_settings(tmp_path / "flowcraft.yaml").settings
    assert settings is not None
    return settings


def test_workers_that_run_no_function_any_more(deployment: Settings) -> None:
    with TestEnvironment(workers=2) as env:
        settings = deployment.model_copy(update={"name": env.namespace})
        assert check_health(settings, env.url).startswith("healthy")
        names = [env.keys.worker(worker.settings.worker_id) for worker in env.workers]
        env.link.redis.hset(names[0], "exhausted", "it has lost 9 threads")
        assert check_health(settings, env.url).startswith("healthy"), "the other one works"
        env.link.redis.hset(names[1], "exhausted", "it has lost 9 threads")
        with pytest.raises(Unhealthy, match="runs functions any more: it has lost 9 threads"):
            check_health(settings, env.url)


def test_a_deployment_that_nobody_serves(deployment: Settings) -> None:
    with TestEnvironment(workers=0) as env:
        with pytest.raises(Unhealthy, match="no worker serves"):
            check_health(deployment.model_copy(update={"name": env.namespace}), env.url)
        with pytest.raises(Unhealthy, match="the embedded store does not run"):
            check_health(deployment, None)
