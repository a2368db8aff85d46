"""The steps of a Dockerfile that need no root: what COPY takes, what ENV sets, and what is refused."""

from pathlib import Path

import pytest

from deploy.image import build as building
from deploy.image.build import BuildError, Image, build


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    for name in ("sdk/code.py", "sdk/deep/__pycache__/code.pyc", "sdk/.env", "tests/test.py", "a.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / ".dockerignore").write_text("# all but\n*\n!sdk\n!a.txt\n**/__pycache__\n**/.env\n")
    (tmp_path / "base/etc").mkdir(parents=True)
    return folder


def made(context: Path, text: str) -> Image:
    file = context / "Dockerfile"
    file.write_text(text)
    work = context.parent / "work"
    work.mkdir()
    return build(file, context, context.parent / "base", work)


def test_copy_takes_what_dockerignore_leaves(context: Path) -> None:
    image = made(
        context, "FROM x AS one\nWORKDIR /src\nCOPY a.txt ./\nCOPY sdk ./sdk\nFROM x\nCOPY --from=one /src /there\n"
    )
    found = sorted(path.relative_to(image.root).as_posix() for path in image.root.rglob("*") if path.is_file())
    assert found == ["there/a.txt", "there/sdk/code.py"]


def test_what_changes_no_file_is_kept_for_the_container(context: Path) -> None:
    image = made(
        context,
        "FROM x\nENV PATH=/opt/bin:$PATH \\\n    NAME='of two words'\nWORKDIR /app\nUSER 7:8\nSTOPSIGNAL SIGINT\n"
        'HEALTHCHECK --retries=3 CMD ["is", "well"]\nENTRYPOINT ["first", "--"]\nCMD ["run"]\n',
    )
    assert image.env["PATH"].startswith("/opt/bin:/usr/local/bin")
    assert image.env["NAME"] == "of two words"
    assert (image.workdir, image.user, image.stop_signal) == ("/app", "7:8", "SIGINT")
    assert (image.entrypoint, image.command, image.healthcheck) == (["first", "--"], ["run"], ["is", "well"])


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("COPY tests ./", "line 2: tests is not there, or .dockerignore leaves it out"),
        ("COPY nothing ./", "line 2: nothing is not there"),
        ("COPY --from=other /a /b", "line 2: no stage 'other'"),
        ("COPY --chown=1:1 sdk /b", "line 2: COPY --chown=1:1 is not supported"),
        ("CMD run", "line 2: CMD in shell form"),
        ("VOLUME /x", "line 2: VOLUME is not supported"),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_line(context: Path, step: str, message: str) -> None:
    with pytest.raises(BuildError, match=message):
        made(context, f"FROM x\n{step}\n")


def test_a_step_that_fails_shows_its_output(context: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "_index_paths", list)
    with pytest.raises(BuildError, match="failed with exit code"):
        made(context, "FROM x\nRUN false\n")
