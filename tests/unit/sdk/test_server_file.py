"""What a client reads of a server's file."""

from pathlib import Path

import pytest

from flowcraft_sdk import AsyncClient, Client, ConfigurationError
from flowcraft_sdk._client import server_file
from flowcraft_sdk._client.server_file import read_server_file
from flowcraft_sdk._config.profiles import PROFILES
from flowcraft_server.config.load import load_settings
from flowcraft_server.config.model import Settings
from flowcraft_server.config.sections import RedisSection
from flowcraft_server.config.shape import keys_of

VARIABLES = (
    "FLOWCRAFT__NAME", "FLOWCRAFT__REDIS__URL", "FLOWCRAFT__REDIS__DATADIR", "FLOWCRAFT__REDIS__DATA_DIR",
    "FLOWCRAFT_PROFILE", "FLOWCRAFT_REDIS_URL", "REDIS_URL", "SOME_URL", "SOME_NAME",
)  # fmt: skip


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def write(folder: Path, text: str) -> Path:
    path = folder / "flowcraft.yaml"
    path.write_text(text)
    return path


def test_name_and_address_come_from_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "name: agents\nredis: {url: '${SOME_URL:-redis://h:1/2}'}\n")
    assert read_server_file(path) == ("redis://h:1/2", "agents")
    monkeypatch.setenv("SOME_URL", "redis://other")
    assert read_server_file(path) == ("redis://other", "agents")
    monkeypatch.setenv("FLOWCRAFT__NAME", "mine")
    monkeypatch.setenv("FLOWCRAFT__REDIS__URL", "redis://third")
    assert read_server_file(path) == ("redis://third", "mine")


def test_both_clients_are_made_of_it(tmp_path: Path) -> None:
    path = write(tmp_path, "name: agents\nredis: {url: redis://h:1/2}\n")
    assert repr(Client.from_config(path)) == "<Client of agents at redis://h:1/2>"
    assert repr(AsyncClient.from_config(str(path))) == "<AsyncClient of agents at redis://h:1/2>"


@pytest.mark.parametrize("data_dir", [None, "elsewhere", "${SOME_DIR:-elsewhere}"])
def test_an_embedded_store_is_found_beside_the_file(tmp_path: Path, data_dir: str | None) -> None:
    text = "redis: {url: 'embedded:'}\n" if data_dir is None else f"redis: {{dataDir: '{data_dir}'}}\n"
    path = write(tmp_path, text)
    folder = tmp_path / (".flowcraft/data" if data_dir is None else "elsewhere")
    with pytest.raises(ConfigurationError, match="is not running; start it with `flowcraft-server dev`"):
        read_server_file(path)
    folder.mkdir(parents=True)
    (folder / "store.sock").touch()
    assert read_server_file(path) == (f"unix://{folder}/store.sock", "flowcraft")
    short = tmp_path / "s.sock"
    short.touch()
    (folder / "socket").write_text(f"{short}\n")
    assert read_server_file(path)[0] == f"unix://{short}"


@pytest.mark.parametrize(
    ("text", "published"),
    [
        ("redis: [", r"flowcraft.yaml:1:9: not valid YAML"),
        ("- a\n", "expected a mapping"),
        ("redis: here\n", "redis: expected a mapping with a url"),
        ("redis: {url: '${NOT_SET_ANYWHERE}'}\n", "environment variable NOT_SET_ANYWHERE is not set"),
        ("redis: {url: 'ftp://h'}\n", "expected an address"),
    ],
)
def test_a_file_that_cannot_be_used_says_why_in_one_line(tmp_path: Path, text: str, published: str) -> None:
    with pytest.raises(ConfigurationError, match=published) as caught:
        Client.from_config(write(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        Client.from_config(tmp_path / "flowcraft.yaml")


class TestBesideTheFile:
    """`.env`, profiles and secrets count for a client as they do for the server."""

    FILE = (
        "name: '${SOME_NAME:-plain}'\nredis: {url: '${SOME_URL}', dataDir: d}\n"
        "profiles: {prod: {name: live, redis: {url: redis://prod}}, empty: }\n"
    )

    @pytest.mark.parametrize(
        ("dotenv", "environ", "expected"),
        [
            ("SOME_URL=redis://a\n", {}, ("redis://a", "plain")),
            ("SOME_URL=redis://a\nSOME_NAME='b'\n", {"SOME_URL": "redis://shell"}, ("redis://shell", "b")),
            ("SOME_URL=redis://a\nFLOWCRAFT_PROFILE=prod\n", {}, ("redis://prod", "live")),
            ("SOME_URL=redis://a\nFLOWCRAFT_PROFILE=prod\n", {"FLOWCRAFT_PROFILE": "empty"}, ("redis://a", "plain")),
            ("FLOWCRAFT__REDIS__URL=redis://over\n", {"FLOWCRAFT__NAME": "n"}, ("redis://over", "n")),
            (None, {"FLOWCRAFT_PROFILE": "prod"}, ("redis://prod", "live")),
        ],
    )
    def test_the_same_as_the_server(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        dotenv: str | None,
        environ: dict[str, str],
        expected: tuple[str, str],
    ) -> None:
        path = write(tmp_path, self.FILE)
        if dotenv is not None:
            (tmp_path / ".env").write_text(dotenv)
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        assert read_server_file(path) == expected
        settings = load_settings(path).values
        assert (settings.get(("redis", "url")), settings.get(("name",))) == expected

    def test_a_profile_by_argument(self, tmp_path: Path) -> None:
        path = write(tmp_path, self.FILE)
        assert repr(Client.from_config(path, profile="prod")) == "<Client of live at redis://prod>"
        with pytest.raises(ConfigurationError, match="no profile 'prd'; did you mean 'prod'"):
            Client.from_config(path, profile="prd")

    def test_secrets_in_files(self, tmp_path: Path) -> None:
        (tmp_path / "url").write_text("redis://h/4\n")
        assert read_server_file(write(tmp_path, "redis: {url: '${file:url}'}\n"))[0] == "redis://h/4"
        with pytest.raises(ConfigurationError, match="file none cannot be read"):
            read_server_file(write(tmp_path, "redis: {url: '${file:none}'}\n"))

    def test_data_dir_however_its_variable_is_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "there").mkdir()
        (tmp_path / "there" / "store.sock").touch()
        monkeypatch.setenv("FLOWCRAFT__REDIS__DATA_DIR", "there")
        assert read_server_file(write(tmp_path, "name: x\n")) == (f"unix://{tmp_path}/there/store.sock", "x")

    def test_where_no_store_of_its_own_runs_the_environment_says_which(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = write(tmp_path, "name: x\n")
        monkeypatch.setenv("REDIS_URL", "redis://outside")
        assert read_server_file(path) == ("redis://outside", "x")
        (tmp_path / ".flowcraft/data").mkdir(parents=True)
        (tmp_path / ".flowcraft/data/store.sock").touch()
        assert read_server_file(path)[0].startswith("unix://")

    def test_a_lone_dollar_is_refused_as_by_the_server(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="a lone"):
            read_server_file(write(tmp_path, "redis: {url: 'redis://:a$b@h'}\n"))
        assert read_server_file(write(tmp_path, "redis: {url: 'redis://:a$$b@h'}\n"))[0] == "redis://:a$b@h"


@pytest.mark.parametrize(
    ("text", "published"),
    [
        ("nmae: shop\n", "flowcraft.yaml:1:1: nmae: unknown key; did you mean 'name'?"),
        ("name: shop\nredis:\n  urll: x\n", "flowcraft.yaml:3:3: redis.urll: unknown key; did you mean 'url'?"),
        ("executr: {}\n", "flowcraft.yaml:1:1: executr: unknown key; did you mean 'executor'?"),
        ("id: order\nnodes: {}\n", "flowcraft.yaml:1:1: id: unknown key; known: version, name, "),
    ],
)
def test_keys_that_the_server_refuses_too(tmp_path: Path, text: str, published: str) -> None:
    (tmp_path / "flowcraft.yaml").write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        Client.from_config(tmp_path / "flowcraft.yaml")
    assert published in str(caught.value)


def test_the_known_keys_are_those_of_the_servers_settings() -> None:
    assert set(server_file.SECTIONS) == {*keys_of(Settings), PROFILES}
    assert set(server_file.REDIS_KEYS) == set(keys_of(RedisSection))


@pytest.mark.parametrize("line", ["A B C", "Q='unclosed", "=3"])
def test_a_line_of_the_env_file_that_sets_nothing_is_reported(tmp_path: Path, line: str) -> None:
    path = write(tmp_path, "name: x\nredis: {url: redis://h}\nblueprints: {dirs: [.]}\n")
    (tmp_path / ".env").write_text(f"A=1\n{line}\n")
    with pytest.raises(ConfigurationError, match=r"\.env: line 2 sets no variable: expected NAME=value"):
        Client.from_config(path)
    (diagnostic, *_) = load_settings(path).diagnostics
    assert "line 2 sets no variable" in diagnostic.message
    (tmp_path / ".env").write_text("# a comment\nexport A=1\nB='x y'\nC\n\n")
    assert read_server_file(path)[1] == "x"


def test_a_file_that_is_not_utf8_is_named_with_the_place(tmp_path: Path) -> None:
    path = tmp_path / "flowcraft.yaml"
    path.write_bytes(b"name: x\n# \xe9\n")
    with pytest.raises(ConfigurationError, match=r"flowcraft.yaml:2:3: not UTF-8 text: byte 0xe9; save it as UTF-8"):
        read_server_file(path)
    path.write_text("name: x\n")
    (tmp_path / ".env").write_bytes("A=1".encode("utf-16"))
    with pytest.raises(ConfigurationError, match=r"/\.env:1:1: not UTF-8 text but UTF-16; save it as UTF-8"):
        read_server_file(path)
