"""`flowcraft test`: what it prints, writes and exits with."""

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

FLOW = """\
id: flow
nodes:
  look: {uses: look, next: {big: act, small: rest}}
  act: {uses: act}
  rest: {uses: sleep, params: {duration: 365d}}
tests:
  - name: big
    mocks: {look: {output: 9, action: big}, act: {output: {done: [1, 2]}}}
    expect:
      notRan: rest
      outputs:
        act: {done: [1]}  # what is done
  - name: small
    mocks: {look: {output: 1, action: small}}
    expect: {ran: rest}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "flow.yaml").write_text(FLOW)
    return tmp_path


def flowcraft(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("flowcraft")), "test", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_a_failing_test_and_its_update(folder: Path) -> None:
    done = flowcraft(folder, "flow.yaml", "--junit", "out.xml")
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("FAILED  flow::big  ")
    assert lines[1] == "  flow.yaml:12:14   expect.outputs.act: differs"
    assert "      +    2" in lines
    assert any(line.startswith("passed  flow::small  0.") for line in lines)
    assert "flow  nodes 3/3  edges 2/2" in lines
    assert lines[-1].startswith("1 failed, 1 passed in ")
    suites = ElementTree.parse(folder / "out.xml").getroot()
    (suite,) = suites
    assert suite.attrib | {"time": ""} == {"name": "flow", "tests": "2", "failures": "1", "errors": "0", "time": ""}
    assert [(case.get("name"), case.get("line"), len(case)) for case in suite] == [("big", "7", 1), ("small", "13", 0)]

    done = flowcraft(folder, "flow.yaml", "--update")
    assert done.returncode == 1
    assert done.stderr == "flow.yaml: 1 expected value was written anew\n"
    assert (folder / "flow.yaml").read_text() == FLOW.replace("{done: [1]}", '{"done": [1, 2]}')
    done = flowcraft(folder, ".", "-k", "big", "--json")
    assert done.returncode == 0
    report = json.loads(done.stdout)
    assert [(case["name"], case["passed"], case["place"]) for case in report["tests"]] == [
        ("big", True, "flow.yaml:7:5")
    ]
    assert report["coverage"] == [
        {
            "blueprint_id": "flow",
            "nodes": 3,
            "nodes_missed": ["rest"],
            "edges": 2,
            "edges_missed": ["look -[small]-> rest"],
        }
    ]


def test_what_cannot_be_run(folder: Path) -> None:
    for arguments, said in [
        ((), "no flowcraft.yaml here or above: name blueprint files or folders, or give --config"),
        (("none.yaml",), "none.yaml: no such file or folder"),
        (("flow.yaml", "-k", "huge"), "-k huge: chooses none of the 2 tests"),
        (("flow.yaml", "--url", "redis://localhost"), "tests run on a private server: --url has no part in it"),
    ]:
        done = flowcraft(folder, *arguments)
        assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    (folder / "flow.yaml").write_text(FLOW.replace("mocks: {look: {output: 1", "mocks: {lok: {output: 1"))
    done = flowcraft(folder, "flow.yaml")
    assert done.returncode == 2
    assert done.stderr == "flow.yaml:14:13   tests[1].mocks.lok: no node 'lok'; did you mean 'look'?\n"
