"""`lifespan` in flowcraft.yaml: what it yields and what handlers take are checked before anything runs."""

from collections.abc import Callable
from pathlib import Path

import pytest

from flowcraft_server.config.load import load_config

FILE = "lifespan: {lifespan}\nhandlers:\n  one: module_{number}:one\n  two: module_{number}:two\n"
HANDLERS = "def one(ctx, *, db): ...\nasync def two(ctx, *, http, retries=3): ...\n"
HEAD = (
    "from collections.abc import AsyncIterator, Iterator\nfrom contextlib import *\nfrom dataclasses import dataclass\n"
)


@pytest.fixture
def check(tmp_path: Path) -> Callable[..., list[str]]:
    def check(lifespan: str, *, name: str = "life", handlers: str = HANDLERS) -> list[str]:
        number = abs(hash((lifespan, name, handlers)))
        (tmp_path / f"module_{number}.py").write_text(HEAD + lifespan + "\n" + handlers)
        named = FILE.format(lifespan=f"module_{number}:{name}", number=number)
        (tmp_path / "flowcraft.yaml").write_text(named if name else named.partition("\n")[2])
        found = load_config(tmp_path / "flowcraft.yaml").diagnostics
        return [str(each).replace(f"module_{number}", "module").rpartition("flowcraft.yaml:")[2] for each in found]

    return check


@pytest.mark.parametrize(
    "lifespan",
    [
        "@asynccontextmanager\nasync def life():\n    yield {'db': 1, 'http': 2}",
        "@contextmanager\ndef life():\n    yield dict(db=1, http=2)",
        "@dataclass\nclass Has:\n    db: int\n    http: int\n\n@asynccontextmanager\nasync def life() -> AsyncIterator[Has]:\n    yield make()",
        "def life():\n    yield made_elsewhere()",
        "class life:\n    def __enter__(self): ...\n    def __exit__(self, *_): ...",
    ],
    ids=["written out", "dict(...)", "annotated", "not known", "a class"],
)
def test_what_is_yielded_may_be_taken(check: Callable[..., list[str]], lifespan: str) -> None:
    assert check(lifespan) == []


def test_what_is_not_yielded_is_a_mistake_with_its_place(check: Callable[..., list[str]]) -> None:
    (found,) = check("@contextmanager\ndef life():\n    yield {'db': 1, 'htpp': 2}")
    assert found.startswith("4:8   handlers.two: takes 'http' (line 8 of module.py), which lifespan 'module:life'")
    assert found.endswith("does not yield; it yields db, htpp; did you mean 'htpp'?")
    annotated = "class Has:\n    db: int\n\ndef life() -> Iterator[Has]:\n    yield Has()"
    (found,) = check(annotated)
    assert "takes 'http'" in found
    first, second = check("", name="")
    assert first.startswith("2:8   handlers.one: takes 'db'")
    assert "and there is no `lifespan` that yields it" in second


@pytest.mark.parametrize(
    ("lifespan", "message"),
    [
        ("", "1:11   lifespan: 'module' has no 'life'"),
        ("life = 3", "is of type int, not a function"),
        ("async def life(): ...", "is a coroutine function; a lifespan yields"),
        ("def life(app):\n    yield", "'module:life(app)' must take no argument"),
    ],
)
def test_what_is_no_lifespan(check: Callable[..., list[str]], lifespan: str, message: str) -> None:
    (found,) = check(lifespan, handlers="def one(ctx): ...\ndef two(ctx): ...\n")
    assert message in found


def test_a_second_argument_is_still_a_mistake(check: Callable[..., list[str]]) -> None:
    (found,) = check("def life():\n    yield {}", handlers="def one(ctx, db): ...\ndef two(ctx): ...\n")
    assert "must take exactly one argument, the context" in found
