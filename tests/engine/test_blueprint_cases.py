"""The `tests:` of blueprints, run on the real engine: mocks, the clock, what is compared, coverage."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flowcraft_server.config.handler import Handler
from flowcraft_server.testing.case_run import CaseResult
from flowcraft_server.testing.coverage import BlueprintCoverage, Coverage
from flowcraft_server.testing.suite import Suite, load_suite

ORDER = """
id: order
inputs: {list: {type: array, default: [1, 2]}, n: {type: integer, default: 0}}
outputs: {number: parcel, items: each}
nodes:
  fetch: {uses: fetch, inputs: n, config: {maxRetries: 3, retryDelay: 10m, timeout: 5s}}
  pause: {uses: sleep, needs: fetch, params: {duration: 30d}}
  each: {uses: map, needs: pause, inputs: list, params: {uses: double, outputKey: doubled}}
  ask: {uses: wait, needs: each, params: {timeout: 7d, onTimeout: late}, next: {yes: ship, late: give_up}}
  ship: {uses: subflow, params: {blueprintId: ship, outputs: {parcel: number}}}
  give_up: {uses: note}
tests:
  - name: retries, items, an answer after two days, a mocked subflow
    mocks:
      fetch: [{error: {type: ConnectionError, message: down}}, {delay: 1m}, {output: 2, writes: {a: [1.5]}}]
      each: {items: [{output: 10}, {output: 20, delay: 3s}]}
      ask: {signal: {ok: true}, action: "yes", delay: 2d}
      ship: {output: p-1}
    expect:
      ran: [ship]
      notRan: give_up
      times: {fetch: 3, each: 2, give_up: 0}
      output: {number: p-1, items: [10, 20]}
      outputs: {each: [10, 20], ask: {ok: true}, pause: 2}
      context: {parcel: p-1, a: [1.5], doubled: [10, 20]}
  - name: nobody answers for a week
    mocks: {fetch: {output: 1}, each: {output: []}, give_up: {output: x}}
    expect: {ran: [give_up], context: {doubled: []}}
  - name: is left while it waits
    mocks: {fetch: {output: 1}}
    expect: {status: waiting, outputs: {each: [2, 4]}}
  - name: fails for good
    mocks: {fetch: {error: {type: shop.Broken, message: no such n, retryable: false}}}
    expect: {error: {type: Broken, node: fetch, message: such n}, times: {fetch: 1}}
  - name: takes longer than it may
    mocks: {fetch: {delay: 1h}}
    expect: {status: failed, error: NodeTimeout, times: {fetch: 3}}
  - name: an item fails
    mocks: {fetch: {output: 1}, each: {items: [{output: 1}, {error: broke}]}}
    expect: {error: {message: broke}}
  - name: the real subflow
    mocks: {fetch: {output: 1}, ask: {action: "yes"}}
    expect: {output: {number: packed, items: [2, 4]}}
"""
SHIP = "outputs: {number: pack}\nnodes: {pack: {uses: pack}}\n"
WRONG = """
id: wrong
nodes:
  a: {uses: double, inputs: n, next: {big: b, small: c}}
  b: {uses: broken}
  c: {uses: double, inputs: n}
tests:
  - {name: status, input: {n: 1}, mocks: {a: {action: big}}}
  - {input: {n: 1}, mocks: {a: {output: {x: [1, 2]}, action: small}}, expect: {status: failed, ran: b, notRan: [a], times: {c: 2}}}
  - name: values
    input: {n: 1}
    mocks: {a: {output: {x: [1, 2], y: true}, action: small}}
    expect: {outputs: {a: {x: [1, 3], y: 1}, b: 1}, context: {zz: 1}}
  - {name: error, mocks: {a: {error: oh no}}, expect: {error: {type: KeyError, message: oh}}}
  - {name: waits, input: {n: 1}, mocks: {a: {action: small}, c: {error: {type: UnicodeDecodeError, message: m}}}, expect: {status: waiting}}
"""
SHAPES = """
id: shapes
inputs: {count: {type: integer, default: 0}, list: {type: array, default: [1, 2, 3]}}
nodes:
  kids: {uses: map, inputs: list, params: {call: ship, outputKey: all}}
  loop: {uses: loop-controller, needs: kids, params: {condition: "count < 3"}, next: {continue: step, break: scatter}}
  step: {uses: step, next: loop}
  scatter: {uses: batch-scatter, inputs: list, params: {workerUsesKey: work, gatherNodeId: gather}}
  gather: {uses: batch-gather, next: hook}
  hook: {uses: webhook, next: done}
  done: {uses: done, config: {fallback: instead}}
  instead: {uses: instead}
tests:
  - name: all
    mocks:
      kids: {items: [{output: a}, {output: b, delay: 1h}, {output: c}]}
      step: [{writes: {count: 1}}, {writes: {count: 2}, delay: 5m}, {writes: {count: 3}}]
      scatter: {items: [{output: 1}, {output: 2}, {output: 3}]}
      hook: {signal: {x: 1}, delay: 3d}
      done: {error: {type: pkg.Bad, message: no}}
      instead: {output: fallback}
    expect:
      times: {step: 3, kids: 3, scatter: 3, loop: 4}
      outputs: {gather: [1, 2, 3], kids: [a, b, c], instead: fallback, hook: {x: 1}}
      context: {all: [a, b, c], count: 3}
  - name: real kids
    mocks: {step: {writes: {count: 9}}, scatter: {items: [{output: 1}, {output: 2}, {output: 3}]}}
    expect: {status: waiting, outputs: {kids: [{number: packed}, {number: packed}, {number: packed}]}}
  - name: too few
    mocks: {kids: {items: [{output: a}]}}
    expect: {error: {type: NoAnswer, message: there is no answer for item}}
"""
HANDLERS = """
def double(ctx):
    return ctx.input * 2

def pack(ctx):
    return "packed"
"""
FILE = """
handlers: {double: case_handlers_a:double, pack: case_handlers_a:pack, fetch: no_such_module:fetch, broken: no_such_module:x,
           note: case_handlers_a:nothing}
blueprints: {dirs: [flows]}
executor: {queue: other}
"""


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    (folder / "flows").mkdir()
    for name, text in (("order", ORDER), ("ship", SHIP), ("wrong", WRONG), ("shapes", SHAPES)):
        (folder / "flows" / f"{name}.yaml").write_text(text)
    (folder / "case_handlers_a.py").write_text(HANDLERS)
    (folder / "flowcraft.yaml").write_text(FILE)
    return folder


Ran = tuple[dict[str, CaseResult], dict[str, BlueprintCoverage], Suite]


@pytest.fixture(scope="module")
def ran(deployment: Path) -> Iterator[Ran]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(deployment))
        suite = load_suite(deployment / "flowcraft.yaml")
        coverage = Coverage()
        with suite.runner(coverage) as runner:
            results = {case.id: runner.run(case.blueprint, case.index) for case in suite.cases}
        yield results, {one.blueprint_id: one for one in coverage.of(suite.blueprints)}, suite


def test_all_that_was_expected(ran: Ran) -> None:
    results, _, suite = ran
    assert suite.diagnostics == ()
    mine = [result for name, result in results.items() if name.startswith("order::")]
    assert len(mine) == 7
    assert [(result.name, result.mismatches, result.problem) for result in mine if not result.passed] == []


def test_loops_batches_of_handlers_and_of_subflows_webhooks_and_fallbacks(ran: Ran) -> None:
    mine = [result for name, result in ran[0].items() if name.startswith("shapes::")]
    assert [(result.name, result.mismatches, result.problem) for result in mine if not result.passed] == []
    assert len(mine) == 3
    assert ran[1]["shapes"].edges_missed == ()


def test_months_take_no_time(ran: Ran) -> None:
    assert sum(result.seconds for name, result in ran[0].items() if name.startswith("order::")) < 600


def shown(result: CaseResult) -> dict[str, Any]:
    return {".".join(map(str, mismatch.path)): mismatch.message for mismatch in result.mismatches}


def test_a_handler_that_cannot_be_imported_says_so_where_it_runs(ran: Ran) -> None:
    message = shown(ran[0]["wrong::status"])["status"]
    assert message.startswith(
        "expected completed, the run is failed: node 'b' failed with HandlerMissing: handler 'broken'"
    )
    assert "No module named 'no_such_module'" in message
    assert message.endswith("mock node 'b' in the test")


def test_what_ran_otherwise_than_expected(ran: Ran) -> None:
    result = ran[0]["wrong::#2"]
    assert shown(result) == {
        "status": "expected failed, the run is completed",
        "ran": "b did not run; these ran: a, c",
        "notRan": "a ran",
        "times.c": "expected c to run 2 times, it ran 1",
    }
    assert [result.place_of(mismatch).rpartition("wrong.yaml:")[2] for mismatch in result.mismatches][:2] == [
        "9:88",
        "9:101",
    ]


def test_values_are_shown_with_their_difference(ran: Ran) -> None:
    result = ran[0]["wrong::values"]
    assert shown(result) == {
        "outputs.a": "differs",
        "outputs.b": "'b' has no output",
        "context.zz": "'zz' is not in the context",
    }
    first = next(mismatch for mismatch in result.mismatches if mismatch.path == ("outputs", "a"))
    lines = [line for line in first.difference if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    assert lines == ["-    3", "+    2", '-  "y": 1', '+  "y": true']
    assert first.can_update
    assert first.actual == {"x": [1, 2], "y": True}


def test_an_error_of_another_type(ran: Ran) -> None:
    assert shown(ran[0]["wrong::error"]) == {
        "error": "expected an error with type 'KeyError', message 'oh'; node 'a' failed with Exception: oh no"
    }
    assert "UnicodeDecodeError: m" in shown(ran[0]["wrong::waits"])["status"]


def test_coverage_of_nodes_and_edges(ran: Ran) -> None:
    _, coverage, _ = ran
    assert coverage["order"].nodes_missed == ()
    assert coverage["order"].edges_missed == ()
    assert coverage["ship"] == BlueprintCoverage("ship", 1, 0, (), ())
    assert (coverage["wrong"].nodes, coverage["wrong"].edges, coverage["wrong"].edges_missed) == (3, 2, ())


def test_tests_are_no_part_of_what_is_published() -> None:
    from flowcraft_server.blueprints.compiling.compiler import compile_blueprint
    from flowcraft_server.blueprints.loading.loader import load_text

    hashes = set()
    for text in (SHIP, SHIP + "tests: [{name: x, mocks: {pack: [{output: 1}, {error: {type: E}}]}}]\n"):
        blueprint, _ = load_text(text)
        assert blueprint is not None
        hashes.add(compile_blueprint(blueprint).hash)
    assert len(hashes) == 1


def test_without_a_deployment_all_is_mocked(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(
        "nodes: {a: {uses: x, next: {l: b, r: c}}, b: {uses: y}, c: {uses: z}}\n"
        "tests: [{name: one, mocks: {a: {action: l}, b: {output: 1}}, expect: {ran: b}}, {name: two, mocks: {a: {action: r}}}]\n"
    )
    suite = load_suite(None, [tmp_path / "one.yaml"])
    coverage = Coverage()
    with suite.runner(coverage) as runner:
        one, two = (runner.run(case.blueprint, case.index) for case in suite.cases)
    assert one.passed, one
    assert "handler 'z' cannot be used (there is no flowcraft.yaml that names it)" in shown(two)["status"]
    assert [covered.nodes_missed for covered in coverage.of(suite.blueprints)] == [()]


def test_a_run_that_does_not_end_is_given_up(tmp_path: Path) -> None:
    loop = "nodes: {a: {uses: x, config: {timeout: 1h}}}\ntests: [{name: one}]\n"
    (tmp_path / "loop.yaml").write_text(loop)
    suite = load_suite(None, [tmp_path / "loop.yaml"])
    with suite.runner(Coverage(), timeout=0.3) as runner:
        runner._env.handlers["x"] = Handler("x", hang, is_async=True)
        result = runner.run(suite.cases[0].blueprint, 0)
    assert result.problem.startswith("still at work when its time was over: running:")


async def hang(ctx: Any) -> None:
    import asyncio

    await asyncio.Event().wait()


LIFESPAN = """
from contextlib import contextmanager

@contextmanager
def lifespan():
    WORK
    yield {"db": {"x": 5}}

def look(ctx, *, db):
    return db["x"]
"""


@pytest.mark.parametrize("fails", [False, True])
def test_resources_of_a_lifespan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    module = f"cases_of_lifespan_{fails}"
    work = "raise RuntimeError('no database')" if fails else "pass"
    (tmp_path / f"{module}.py").write_text(LIFESPAN.replace("WORK", work))
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "one.yaml").write_text(
        "nodes: {a: {uses: look}}\n"
        "tests: [{name: mocked, mocks: {a: {output: 1}}}, {name: real, expect: {outputs: {a: 5}}}]\n"
    )
    (tmp_path / "flowcraft.yaml").write_text(
        f"handlers: {{look: {module}:look}}\nlifespan: {module}:lifespan\nblueprints: {{dirs: [flows]}}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    suite = load_suite(tmp_path / "flowcraft.yaml")
    with suite.runner(Coverage()) as runner:
        mocked, real = (runner.run(case.blueprint, case.index) for case in suite.cases)
        notes = runner.notes
    assert mocked.passed, mocked
    assert real.passed is not fails
    if fails:
        assert "takes 'db', which no lifespan has yielded" in shown(real)["status"]
        assert "no database" in notes[0] and notes[0].endswith("nodes without mocks get no resources")


def test_those_of_the_agents() -> None:
    suite = load_suite(Path(__file__).parents[2] / "flowcraft.yaml")
    with suite.runner(Coverage()) as runner:
        results = [runner.run(case.blueprint, case.index) for case in suite.cases]
    assert len(results) >= 4
    assert [(result.name, list(result.explained())) for result in results if not result.passed] == []
