import asyncio
import os
import time
from pathlib import Path

import pytest
from loguru import logger

from flowcraft_server.llm import LLMSettingsError, Scripted
from flowcraft_server.llm import scripted as scripted_module

SCRIPT = r"""
replies:
  - match: classify
    reply: bug
  - match: [summarise, '/about (?P<topic>\w+) and (\w+)/']
    reply: "{{ topic }} / {{2}} / {{ nothing }}"
  - match: slow
    reply: at last
    latency: 60ms
  - match: yes or no
    reply: true
  - match: cats
    reply: meow
default: no idea
"""


def provider(tmp_path: Path, text: str = SCRIPT, name: str = "demo") -> Scripted:
    path = tmp_path / "replies.yaml"
    path.write_text(text)
    return Scripted.from_file(name, path)


def test_the_first_rule_that_matches_wins(tmp_path: Path) -> None:
    demo = provider(tmp_path)
    assert demo.complete("Please CLASSIFY this about cats") == "bug"
    assert demo.complete("all about cats") == "meow"
    assert demo.complete("summarise nothing") == "no idea"
    assert demo.complete("yes or no?") == "true"


def test_the_system_message_is_matched_where_a_rule_says_so(tmp_path: Path) -> None:
    demo = provider(
        tmp_path,
        "replies: [{system: [judge, '/as a (?P<who>\\w+)/'], match: text, reply: '{{ who }}: good'}, {system: judge, reply: bad}]"
        "\ndefault: x",
    )
    assert demo.complete("the text", system="You JUDGE as a critic") == "critic: good"
    assert demo.complete("the text", system="You judge") == "bad"
    assert demo.complete("judge this text") == "x"
    assert asyncio.run(demo.asynchronous.complete("nothing", system="judge")) == "bad"


def test_groups_fill_the_reply_and_unknown_names_stay(tmp_path: Path) -> None:
    demo = provider(tmp_path)
    assert demo.complete("Summarise the text about cats and dogs") == "cats / dogs / {{ nothing }}"


def test_values_from_the_prompt_are_not_searched_for_names_again(tmp_path: Path) -> None:
    demo = provider(tmp_path, "replies: [{match: '/say (?P<a>.*) end (?P<b>.*)/', reply: '{{a}}'}]\ndefault: x")
    assert demo.complete("say {{ b }} end secret") == "{{ b }}"


def test_plain_and_asynchronous_calls_agree_and_take_their_latency(tmp_path: Path) -> None:
    demo = provider(tmp_path)
    before = time.perf_counter()
    assert demo.complete("slow") == "at last"
    between = time.perf_counter()
    assert asyncio.run(demo.asynchronous.complete("slow")) == "at last"
    assert between - before >= 0.06
    assert time.perf_counter() - between >= 0.06


def test_says_once_per_provider_that_no_model_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripted_module, "_announced", set())
    lines: list[str] = []
    sink = logger.add(lines.append, format="{level} {message}")
    try:
        for name in ("one", "one", "two"):
            demo = provider(tmp_path, name=name)
            demo.complete("x")
            asyncio.run(demo.acomplete("x"))
    finally:
        logger.remove(sink)
    assert [line.split(":")[0] for line in lines] == ["WARNING llm.providers.one", "WARNING llm.providers.two"]
    assert "no model is called" in lines[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a", "expected a mapping"),
        ("replies: []", "default: missing"),
        ("{replies: [{match: a, reply: b, delay: 1s}], default: x}", r"replies\[0\]\.delay: unknown key"),
        ("{replies: [{reply: b}], default: x}", r"replies\[0\]\.match: expected a text"),
        ("{replies: [{match: [], reply: b}], default: x}", r"replies\[0\]\.match: expected a text"),
        ("{replies: [{system: 3, reply: b}], default: x}", r"replies\[0\]\.system: expected a text"),
        ("{replies: [{match: a}], default: x}", r"replies\[0\]\.reply: expected a text"),
        ("{replies: [{match: '/(/', reply: b}], default: x}", r"replies\[0\]\.match: /\(/"),
        ("{replies: [{match: a, reply: b, latency: 5}], default: x}", r"replies\[0\]\.latency: expected a time"),
        ("{replies: 3, default: x}", "replies: expected a list"),
        ("{replys: [], default: x}", "replys: unknown key"),
        ("a: [", r"replies\.yaml:\d+:\d+: not valid YAML"),
        ("{replies: [{match: '/(a)\\1/', reply: b}], default: x}", r"replies\.yaml:1:20: replies\[0\]\.match"),
        (
            "replies: []\ndefault: {reply: x, latency: 99999s}",
            r"replies\.yaml:2:30: default\.latency: .*an hour at most",
        ),
        ("default: x\ndefault: y", r"replies\.yaml:2:1: duplicate key 'default'"),
        ("[" * 2000, "nested more than"),
        ("a: &a [*a]\ndefault: x", "holds itself"),
    ],
)
def test_mistakes_in_the_file_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(LLMSettingsError, match=message) as caught:
        provider(tmp_path, text)
    assert "replies.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LLMSettingsError, match=r"nowhere\.yaml: cannot be read"):
        Scripted.from_file("demo", tmp_path / "nowhere.yaml")


def test_an_impossible_date_is_a_text(tmp_path: Path) -> None:
    assert provider(tmp_path, "default: 2024-99-99").complete("hello") == "2024-99-99"


def test_a_pattern_that_would_go_back_for_ever_takes_no_time(tmp_path: Path) -> None:
    """Python's own engine would take longer than the universe is old."""
    scripted = provider(tmp_path, "{replies: [{match: '/(a+)+$/', reply: b}], default: none}")
    assert scripted.complete("a" * 5_000 + "!") == "none"
    assert scripted.complete("a" * 5_000) == "b"


def test_a_file_that_is_none_is_not_waited_at(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(LLMSettingsError, match=r"pipe\.yaml: cannot be read: it is no regular file"):
        Scripted.from_file("demo", tmp_path / "pipe.yaml")
    with pytest.raises(LLMSettingsError, match="cannot be read: it is no regular file"):
        Scripted.from_file("demo", Path("/dev/zero"))
