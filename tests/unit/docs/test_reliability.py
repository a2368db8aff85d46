"""docs/reliability.md names a test for each guarantee, and the tests are there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/reliability.md").read_text("utf-8")
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def test_each_guarantee_names_a_test() -> None:
    sections = re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
    guarantees = [section for section in sections if re.match(r"\d+\. ", section)]
    assert [int(section.partition(".")[0]) for section in guarantees] == list(range(1, 11))
    assert [section.partition("\n")[0] for section in guarantees if not NAMED.search(section)] == []


def test_each_test_that_is_named_is_there() -> None:
    missing = []
    for path, name in NAMED.findall(PAGE):
        file = ROOT / path
        if not file.exists() or not re.search(rf"def {name}\(", file.read_text("utf-8")):
            missing.append(f"{path}::{name}")
    assert missing == []
    assert len(NAMED.findall(PAGE)) == PAGE.count("`tests/"), "all are written in the same way"
