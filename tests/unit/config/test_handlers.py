"""Handlers: imported by dotted path, checked, and everything that is wrong with one shown in one line."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flowcraft_server.config.load import LoadResult

Load = Callable[..., LoadResult]
Reported = Callable[..., list[str]]

USER_CODE = """
import functools
from flowcraft_sdk import AsyncNodeContext, NodeContext, handler
from pydantic import BaseModel

class Params(BaseModel):
    limit: int = 3

def plain(ctx): return 1
async def coroutine(ctx): return 1
def optional(ctx, depth=3): return 1
def none(): return 1
def two(ctx, other): return 1
def stream(ctx): yield 1
async def async_stream(ctx): yield 1
value = {}
class Kind:
    def __init__(self, ctx): pass
class Callable_:
    def __call__(self, ctx): return 1
class AsyncCallable:
    async def __call__(self, ctx): return 1
class Needy:
    def __init__(self, key): pass
    def __call__(self, ctx): return 1
class Leaving:
    def __init__(self): raise SystemExit(3)
    def __call__(self, ctx): return 1
class Failing:
    def __init__(self): raise KeyError("key")
    def __call__(self, ctx): return 1
def quiet(function):
    @functools.wraps(function)
    def inner(*args): return function(*args)
    return inner
@quiet
async def wrapped(ctx): return 1
async def with_more(ctx, other): return 1
async_partial = functools.partial(with_more, other=1)
wrapped_partial = functools.partial(quiet(with_more), other=1)
def annotated(ctx: NodeContext): return 1
async def async_annotated(ctx: "AsyncNodeContext"): return 1
def wrongly_annotated(ctx: AsyncNodeContext): return 1
async def wrongly_async(ctx: "NodeContext"): return 1
async def forgets(ctx):
    await ctx.context.get("a")
    if ctx.input:
        ctx.context.set("total", 1)
async def forgets_to_read(ctx):
    ctx.llm.stream("a")
class Group:
    @staticmethod
    def inside(ctx): return 1
instance = Callable_()
async_instance = AsyncCallable()
partial = functools.partial(two, other=1)

@handler("fetch", actions=["hit", "miss"], params=Params, timeout=5.0)
def fetch(ctx): return 1

@handler()
async def ask(ctx): return 1

@handler
def bare(ctx): return 1
"""


@pytest.fixture
def deployed(folder: Path) -> Path:
    """A package of handlers beside `flowcraft.yaml`."""
    package = folder / "deployed_handlers"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "code.py").write_text(USER_CODE)
    return package


def one(name: str) -> str:
    return f"handlers:\n  h: deployed_handlers.code:{name}\n"


@pytest.mark.usefixtures("deployed")
@pytest.mark.parametrize(
    ("name", "is_async"),
    [
        ("plain", False),
        ("coroutine", True),
        ("optional", False),
        ("instance", False),
        ("async_instance", True),
        ("Callable_", False),
        ("AsyncCallable", True),
        ("wrapped", True),
        ("async_partial", True),
        ("wrapped_partial", True),
        ("annotated", False),
        ("async_annotated", True),
        ("partial", False),
        ("Group.inside", False),
        ("fetch", False),
        ("ask", True),
        ("bare", False),
    ],
)
def test_what_can_be_a_handler(load: Load, name: str, is_async: bool) -> None:
    result = load(one(name))
    assert result.diagnostics == []
    assert result.handlers["h"].is_async is is_async
    assert callable(result.handlers["h"].function)


@pytest.mark.usefixtures("deployed")
@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plan", "'deployed_handlers.code' has no 'plan'; did you mean 'plain'?"),
        ("zzz", "'deployed_handlers.code' has no 'zzz'"),
        ("Group.insid", "has no 'Group.insid'; did you mean 'inside'?"),
        ("value", "'deployed_handlers.code:value' is of type dict, not a function"),
        ("Kind", "'deployed_handlers.code:Kind' is a class without __call__; name a function"),
        ("Needy", "'deployed_handlers.code:Needy' is a class whose __init__ takes arguments; name an instance"),
        ("Failing", "'deployed_handlers.code:Failing' is a class, and making an instance failed (KeyError: "),
        ("Leaving", "'deployed_handlers.code:Leaving' is a class, and making an instance failed (SystemExit: 3)"),
        ("wrongly_annotated", "is a plain function, whose context is a NodeContext, not an AsyncNodeContext"),
        ("wrongly_async", "is a coroutine function, whose context is an AsyncNodeContext, not a NodeContext"),
        ("forgets", "`ctx.context.set(...)` on line 48 is not awaited, so it does nothing: put `await` before it"),
        (
            "forgets_to_read",
            "`ctx.llm.stream(...)` on line 50 is not read, so it does nothing: write `async for` with it",
        ),
        ("none", "'deployed_handlers.code:none()' must take exactly one argument, the context"),
        ("two", "'deployed_handlers.code:two(ctx, other)' must take exactly one argument, the context"),
        ("stream", "is a generator; a handler returns its output"),
        ("async_stream", "is a generator; a handler returns its output"),
    ],
)
def test_what_can_not(reported: Reported, name: str, shown: str) -> None:
    (diagnostic,) = reported(one(name))
    assert diagnostic.startswith("flowcraft.yaml:2:6   handlers.h: ")
    assert shown in diagnostic


@pytest.mark.parametrize("path", ["module", "module.function", ":f", "m:", "a b:c", "m:f:g", "1m:f"])
def test_what_is_no_dotted_path(reported: Reported, path: str) -> None:
    (diagnostic,) = reported(f"handlers:\n  h: '{path}'\n")
    assert diagnostic == f"flowcraft.yaml:2:6   handlers.h: expected 'package.module:function', got '{path}'" + (
        "; did you mean 'module:function'?" if path == "module.function" else ""
    )


def test_a_file_name_is_no_module(reported: Reported) -> None:
    (diagnostic,) = reported("handlers:\n  h: deployed_handlers.py:plain\n")
    assert diagnostic.endswith("a module is named without its ending: 'deployed_handlers'")


def test_names_of_the_engine_are_taken(reported: Reported) -> None:
    assert reported("handlers: {sleep: 'json:dumps'}\n") == [
        "flowcraft.yaml:1:19   handlers.sleep: 'sleep' is built in; choose another name"
    ]


@pytest.mark.usefixtures("deployed")
def test_what_a_handler_declares_and_what_the_file_says_of_it(load: Load) -> None:
    result = load(
        "handlers:\n"
        "  a: deployed_handlers.code:fetch\n"
        "  b: {path: deployed_handlers.code:fetch, timeout: 9s, queue: io, params: {limit: 5}}\n"
        "  c: deployed_handlers.code:plain\n"
    )
    a, b, c = (result.handlers[name] for name in "abc")
    assert a.spec is not None
    assert a.spec.actions == ("hit", "miss")
    assert (a.timeout, a.queue, dict(a.params)) == (5.0, None, {})
    assert (b.timeout, b.queue, b.params) == (9.0, "io", {"limit": 5})
    assert (c.timeout, c.spec) == (None, None)


@pytest.mark.usefixtures("deployed")
def test_a_module_brings_all_handlers_that_it_declares(load: Load) -> None:
    result = load("handlerModules: [deployed_handlers.code]\n")
    assert result.diagnostics == []
    assert sorted(result.handlers) == ["ask", "bare", "fetch"]
    assert result.handlers["fetch"].timeout == 5.0


def test_two_functions_of_one_name(deployed: Path, reported: Reported, load: Load) -> None:
    (deployed / "more.py").write_text("from flowcraft_sdk import handler\n@handler('fetch')\ndef other(ctx): pass\n")
    (diagnostic,) = reported("handlerModules: [deployed_handlers.code, deployed_handlers.more]\n")
    assert diagnostic == (
        "flowcraft.yaml:1:42   handlerModules[1]: 'deployed_handlers.more': handler 'fetch' "
        "(deployed_handlers.more:other) is there already (deployed_handlers.code:fetch)"
    )
    again = load("handlers: {fetch: 'deployed_handlers.code:fetch'}\nhandlerModules: [deployed_handlers.code]\n")
    assert again.diagnostics == []


def test_all_that_is_wrong_in_a_module_is_reported_at_once(deployed: Path, reported: Reported, load: Load) -> None:
    (deployed / "several.py").write_text(
        "from flowcraft_sdk import handler\n"
        "@handler\ndef one(): pass\n"
        "@handler\ndef two(ctx): yield 1\n"
        "@handler('sleep')\ndef three(ctx): pass\n"
        "@handler\nclass four:\n  def __call__(self, ctx): pass\n"
        "class five(four): pass\n"
        "@handler\ndef six(ctx): pass\n"
    )
    text = "handlers: {four: 'deployed_handlers.several:four'}\nhandlerModules: [deployed_handlers.several]\n"
    shown = [diagnostic.partition(": ")[2] for diagnostic in reported(text)]
    assert shown == [
        "'deployed_handlers.several:one()' must take exactly one argument, the context",
        "'deployed_handlers.several:two' is a generator; a handler returns its output",
        "'deployed_handlers.several:three': 'sleep' is built in; choose another name",
    ]
    assert sorted(load(text).handlers) == ["four", "six"]
    (deployed / "other.py").write_text("from deployed_handlers.several import four\n")
    again = "handlers: {four: 'deployed_handlers.other:four'}\nhandlerModules: [deployed_handlers.other]\n"
    assert reported(again) == []


@pytest.mark.usefixtures("deployed")
@pytest.mark.parametrize(
    ("path", "near"),
    [("deployed_handlers.cod", "deployed_handlers.code"), ("deployed_handler.code", "deployed_handlers")],
)
def test_a_misspelt_module_has_a_suggestion(reported: Reported, path: str, near: str) -> None:
    (diagnostic,) = reported(f"handlers: {{h: '{path}:fetch'}}\n")
    assert diagnostic.endswith(f"; did you mean '{near}'?")


def test_an_import_that_fails_names_the_line_of_the_users_own_code(deployed: Path, reported: Reported) -> None:
    (deployed / "broken.py").write_text("import os\n\nimport httpz\n")
    (deployed / "outer.py").write_text("from . import broken\n")
    for module, place in (("broken", "broken.py:3 `import httpz`"), ("outer", "broken.py:3 `import httpz`")):
        (diagnostic,) = reported(f"handlers:\n  h: deployed_handlers.{module}:f\n")
        assert diagnostic == (
            f"flowcraft.yaml:2:6   handlers.h: cannot import 'deployed_handlers.{module}' "
            f"(ModuleNotFoundError: No module named 'httpz'), raised in deployed_handlers/{place}"
        )


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("x = (\n", "(SyntaxError: '(' was never closed), in deployed_handlers/bad.py:1 `x = (`"),
        ("1 / 0\n", "(ZeroDivisionError: division by zero), raised in deployed_handlers/bad.py:1 `1 / 0`"),
        ("import json\njson.loads('x')\n", "deployed_handlers/bad.py:2 `json.loads('x')`"),
        ("raise SystemExit(3)\n", "(SystemExit: 3), raised in deployed_handlers/bad.py:1"),
        ("raise ValueError('two\\nlines')\n", "(ValueError: two lines)"),
        ("raise KeyError\n", "(KeyError)"),
    ],
)
def test_whatever_happens_in_an_import_is_one_line(deployed: Path, reported: Reported, code: str, shown: str) -> None:
    (deployed / "bad.py").write_text(code)
    (diagnostic,) = reported("handlers:\n  h: deployed_handlers.bad:f\n")
    assert shown in diagnostic
    assert "\n" not in diagnostic


def test_a_module_that_is_not_there(reported: Reported) -> None:
    (diagnostic,) = reported("handlers:\n  h: deployed_nowhere.at_all:f\n")
    assert (
        "cannot import 'deployed_nowhere.at_all' (ModuleNotFoundError: No module named 'deployed_nowhere')"
        in diagnostic
    )


def test_the_folder_comes_last_on_the_import_path(folder: Path, load: Load) -> None:
    (folder / "deployed_single.py").write_text("def f(ctx): pass\n")
    assert load("handlers: {h: 'deployed_single:f'}\n").diagnostics == []
    assert sys.path[-1] == str(folder.resolve())
    load("handlers: {h: 'deployed_single:f'}\n")
    assert sys.path.count(str(folder.resolve())) == 1


def test_a_file_named_like_a_standard_module_is_named_not_taken(folder: Path, reported: Reported) -> None:
    (folder / "json.py").write_text("def f(ctx): pass\n")
    (diagnostic,) = reported("handlers:\n  h: json:f\n")
    assert "'json' means json.py, but " in diagnostic
    assert "json/__init__.py is found first; rename yours" in diagnostic


def test_a_package_that_hides_behind_another(folder: Path, reported: Reported) -> None:
    (folder / "email").mkdir()
    (folder / "email" / "send.py").write_text("def f(ctx): pass\n")
    (diagnostic,) = reported("handlers:\n  h: email.send:f\n")
    assert "'email.send' means email/send.py, but " in diagnostic
    assert "email/__init__.py is found first; rename yours" in diagnostic


def test_a_module_built_into_python(folder: Path, reported: Reported) -> None:
    (folder / "time.py").write_text("def f(ctx): pass\n")
    (diagnostic,) = reported("handlers:\n  h: time:f\n")
    assert "a module that is built into Python is found first" in diagnostic


def test_folders_without_init_files_are_packages_too(folder: Path, load: Load) -> None:
    (folder / "deployed_space").mkdir()
    (folder / "deployed_space" / "code.py").write_text("def f(ctx): pass\n")
    assert load("handlers: {h: 'deployed_space.code:f'}\n").diagnostics == []


def test_handlers_are_checked_beside_other_mistakes(reported: Reported) -> None:
    diagnostics = reported("handlers: {h: 'deployed_nowhere:f'}\nexecutor: {workers: x}\n")
    assert len(diagnostics) == 2
    assert "cannot import 'deployed_nowhere'" in diagnostics[0]


def test_what_a_module_prints_is_no_output_of_the_command(
    deployed: Path, load: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    (deployed / "noisy.py").write_text("print('hello')\ndef h(ctx): return 1\n")
    load("handlers: {h: 'deployed_handlers.noisy:h'}\n")
    captured = capsys.readouterr()
    assert captured.out == "" and "hello" in captured.err
