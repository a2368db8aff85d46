import asyncio
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from flowcraft_server.config.llm_section import LLMSection
from flowcraft_server.llm import LanguageModels, LLMSettingsError, OpenAICompatible, Scripted, build_models
from flowcraft_server.llm import scripted as scripted_module


@pytest.fixture
def replies(tmp_path: Path) -> Path:
    path = tmp_path / "replies.yaml"
    path.write_text("default: scripted reply")
    return path


def endpoint(key: str = "", **more: Any) -> dict[str, Any]:
    return {"type": "openai-compatible", "model": "m", "apiKey": key, **more}


def models(replies: Path, default: str | None, **providers: dict[str, Any]) -> LanguageModels:
    scripted = {"type": "scripted", "file": replies.name}
    section = LLMSection.model_validate({"providers": {**providers, "scripted": scripted}, "default": "scripted"})
    return build_models(section.model_copy(update={"default": default}), base=replies.parent)


def test_the_named_provider_is_the_default(replies: Path) -> None:
    found = models(replies, "scripted", openai=endpoint("key"))
    assert found.names == ["openai", "scripted"]
    assert found.default is found.get("scripted")
    assert found.default.complete("x") == "scripted reply"
    assert "no model is called" in found.warnings[0]
    assert found.for_handler(awaited=False).complete("x") == "scripted reply"
    awaited: Any = found.for_handler(awaited=True)
    assert asyncio.run(awaited.complete("x")) == "scripted reply"


def test_auto_takes_the_endpoint_that_has_a_key(replies: Path) -> None:
    found = models(replies, "auto", empty=endpoint(), openai=endpoint("key"))
    assert found.default is found.get("openai")
    assert found.warnings == []


@pytest.mark.parametrize("default", ["auto", None])
def test_auto_without_a_key_is_scripted_and_says_so(replies: Path, default: str | None) -> None:
    found = models(replies, default, openai=endpoint())
    assert isinstance(found.default, Scripted)
    assert len(found.warnings) == 1
    assert "llm.providers.scripted: replies are scripted" in found.warnings[0]


def test_what_is_shown_at_the_start_is_not_shown_again_at_the_first_reply(
    replies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripted_module, "_announced", set())
    lines: list[str] = []
    sink = logger.add(lines.append, format="{message}")
    try:
        found = models(replies, "scripted")
        found.warn()
        found.default.complete("x")
    finally:
        logger.remove(sink)
    assert len(lines) == 1
    assert "no model is called" in lines[0]


def test_an_endpoint_without_a_key_stays_the_default_if_it_is_named(replies: Path) -> None:
    found = models(replies, "openai", openai=endpoint())
    assert isinstance(found.default, OpenAICompatible)
    assert "llm.providers.openai.apiKey is empty" in found.warnings[0]


def test_settings_reach_the_endpoint(replies: Path) -> None:
    found = models(
        replies,
        "local",
        local=endpoint(
            "key", baseUrl="http://127.0.0.1:1/v1", timeout=3, maxConcurrent=2, retries={"maxRetries": 7, "on": [503]}
        ),
    )
    assert isinstance(found.default, OpenAICompatible)
    used = found.default.endpoint
    assert (used.base_url, used.api_key, used.model, used.timeout) == ("http://127.0.0.1:1/v1", "key", "m", 3.0)
    assert (used.max_concurrent, used.retries.max_attempts, tuple(used.retries.on)) == (2, 7, (503,))


def test_an_unknown_name_is_an_error_with_a_near_match(replies: Path) -> None:
    with pytest.raises(LLMSettingsError, match="no provider 'opena'; did you mean 'openai'"):
        models(replies, "opena", openai=endpoint())
    with pytest.raises(LLMSettingsError, match="no provider 'x'; known: scripted"):
        models(replies, "scripted").get("x")


def test_without_any_provider_a_call_says_what_to_add() -> None:
    found = build_models(LLMSection())
    assert found.warnings == []
    with pytest.raises(LLMSettingsError, match=r"llm\.providers"):
        found.default.complete("x")
    with pytest.raises(LLMSettingsError, match=r"llm\.providers"):
        asyncio.run(found.default.asynchronous.complete("x"))
    found.close()
