"""Variables in values: all forms of Compose, an unset one is a mistake, and nothing is looked at twice."""

from pathlib import Path

import pytest

from flowcraft_sdk._config.interpolation import Interpolation, InterpolationError

ENVIRON = {"SET": "value", "EMPTY": "", "TRICKY": "${SET}: {a: 1}\n# $SET", "N_1": "1"}


@pytest.mark.parametrize(
    ("written", "filled"),
    [
        ("plain", "plain"),
        ("${SET}", "value"),
        ("a ${SET} b ${N_1}", "a value b 1"),
        ("${EMPTY}", ""),
        ("${SET:-d}", "value"),
        ("${EMPTY:-d}", "d"),
        ("${UNSET:-d}", "d"),
        ("${UNSET:-}", ""),
        ("${UNSET:-https://h:1/p?a=b}", "https://h:1/p?a=b"),
        ("${EMPTY-d}", ""),
        ("${UNSET-d}", "d"),
        ("${SET:?needed}", "value"),
        ("${EMPTY?needed}", ""),
        ("${SET:+x}", "x"),
        ("${EMPTY:+x}", ""),
        ("${UNSET:+x}", ""),
        ("${EMPTY+x}", "x"),
        ("$$", "$"),
        ("$${SET}", "${SET}"),
        ("cost: 5$$", "cost: 5$"),
        ("${TRICKY}", "${SET}: {a: 1}\n# $SET"),
    ],
)
def test_forms(written: str, filled: str, tmp_path: Path) -> None:
    assert Interpolation(ENVIRON, tmp_path).fill(written) == filled


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("${UNSET}", "environment variable UNSET is not set (written as ${UNSET})"),
        ("${UNSET:?}", "environment variable UNSET is not set (written as ${UNSET:?})"),
        ("${UNSET?for CI}", "environment variable UNSET is not set: for CI (written as ${UNSET?for CI})"),
        ("${EMPTY:?for CI}", "environment variable EMPTY is empty: for CI"),
        ("$SET", "a lone '$'; write $$"),
        ("a$", "a lone '$'"),
        ("${SET", "is not closed"),
        ("${}", "'${}' is not a variable"),
        ("${1A}", "'${1A}' is not a variable"),
        ("${A B}", "is not a variable"),
        ("${SET:-${EMPTY}}", "holds a brace"),
        ("${file:nowhere}", "file nowhere cannot be read: No such file or directory"),
    ],
)
def test_mistakes(written: str, shown: str, tmp_path: Path) -> None:
    with pytest.raises(InterpolationError) as raised:
        Interpolation(ENVIRON, tmp_path).fill(written)
    assert shown in str(raised.value)


def test_a_file_gives_its_text_without_its_last_newline(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cr3t\n")
    interpolation = Interpolation({}, tmp_path)
    assert interpolation.fill("Bearer ${file:token}") == "Bearer s3cr3t"
    assert interpolation.fill(f"${{file:{tmp_path}/token}}") == "s3cr3t"
    assert interpolation.secrets == {"s3cr3t"}


def test_a_file_that_is_no_text_or_far_too_large(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "large").write_text("x" * (1024 * 1024 + 1))
    with pytest.raises(InterpolationError, match="binary:1:1: not UTF-8 text but UTF-16; save it as UTF-8"):
        Interpolation({}, tmp_path).fill("${file:binary}")
    with pytest.raises(InterpolationError, match="is larger than 1 MiB"):
        Interpolation({}, tmp_path).fill("${file:large}")
