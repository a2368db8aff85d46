"""Whether a deployment is alive, as containers ask."""

from pathlib import Path

import pytest

from flowcraft_server.config.load import load_settings
from flowcraft_server.config.model import Settings
from flowcraft_server.service.health import Unhealthy, check_health, check_liveness
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
        with pytest.raises(Unhealthy, match=r"no worker serves"):
            check_health(deployment.model_copy(update={"name": env.namespace}), env.url)
        with pytest.raises(Unhealthy, match="the embedded store does not run"):
            check_health(deployment, None)


def test_the_workers_of_one_host(deployment: Settings) -> None:
    with TestEnvironment(workers=2) as env:
        settings = deployment.model_copy(update={"name": env.namespace})
        here, there = (env.keys.worker(worker.settings.worker_id) for worker in env.workers)
        env.link.redis.hset(there, "host", "there")
        env.link.redis.hset(there, "exhausted", "it has lost 9 threads")
        assert check_health(settings, env.url).startswith("healthy"), "the one here works"
        with pytest.raises(Unhealthy, match=r"no worker of .* on host 'there' runs functions any more"):
            check_health(settings, env.url, "there")
        env.link.redis.hset(here, "host", "here")
        assert check_health(settings, env.url, "here").startswith("healthy")
        with pytest.raises(Unhealthy, match=r"no worker serves .* on host 'elsewhere'"):
            check_health(settings, env.url, "elsewhere")


def test_a_worker_that_is_silent_on_its_host(deployment: Settings) -> None:
    with TestEnvironment(workers=1) as env:
        settings = deployment.model_copy(update={"name": env.namespace})
        env.link.redis.hset(env.keys.worker("gone"), "host", "there")
        an_hour_ago = env.clock.now().timestamp() * 1000 - 3_600_000  # retention removes what is silent for a day
        env.link.redis.zadd(env.keys.workers, {"gone": an_hour_ago})
        with pytest.raises(Unhealthy, match=r"on host 'there' was seen for \d+ s \(the last: gone\)"):
            check_health(settings, env.url, "there")
        assert check_health(settings, env.url).startswith("healthy")


def test_a_host_beyond_the_first_page(deployment: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowcraft_server.service.health.PAGE", 2)
    with TestEnvironment(workers=5) as env:
        settings = deployment.model_copy(update={"name": env.namespace})
        oldest = env.link.redis.zrange(env.keys.workers, 0, 0)[0].decode()
        env.link.redis.hset(env.keys.worker(oldest), "host", "there")
        assert oldest in check_health(settings, env.url, "there")


def test_liveness_does_not_fail_for_a_redis_that_is_away(deployment: Settings) -> None:
    assert check_liveness(deployment, "redis://127.0.0.1:1", "here").startswith("not known: ")
    with TestEnvironment(workers=1) as env:
        settings = deployment.model_copy(update={"name": env.namespace})
        env.link.redis.set(env.keys.workers, "no list of workers")
        assert check_liveness(settings, env.url, "here").startswith("not known: ")
        env.link.redis.delete(env.keys.workers)
        with pytest.raises(Unhealthy, match=r"no worker serves .* on host 'here'"):
            check_liveness(settings, env.url, "here")
