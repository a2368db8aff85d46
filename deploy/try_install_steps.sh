#!/usr/bin/env bash
# Runs the COPY and pip steps of the Dockerfile in a temporary folder, with the Python at hand, and tries what they made.
# Needs bash, Python 3.11 to 3.13 with pip, and an index to install from; changes nothing outside of the folder.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$(command -v "${PYTHON:-python3}")
[[ $python == /* ]] || python=$PWD/$python
target=$(mktemp -d)
processes=()
trap 'kill "${processes[@]}" 2> /dev/null || true; rm -rf "$target"' EXIT

# `python`, as the image calls it. Debian without python3-venv makes environments without pip: then any other pip fills it.
mkdir "$target/bin"
cat > "$target/bin/python" <<SH
#!/bin/sh
python=$python
"\$python" "\$@" && exit
[ "\$1 \$2" = "-m venv" ] || exit
"\$python" -m venv --clear --without-pip "\$3"
for other in "\$python" python3.11 python3.12 python3.13 python3; do
  "\$other" -m pip --python "\$3/bin/python" install -q --disable-pip-version-check pip 2>/dev/null && exit
done
exit 1
SH
chmod +x "$target/bin/python"
"$python" -m deploy.check_dockerfile --steps "$target" > "$target/steps.sh"
echo "== the steps of the Dockerfile"
PATH="$target/bin:$PATH" bash "$target/steps.sh" > "$target/log" 2>&1 || { cat "$target/log"; exit 1; }

echo "== nothing is installed as a link into the tree"
"$target/opt/venv/bin/python" - "$target" <<'PY'
import importlib.metadata, importlib.resources, pathlib, sys

home = pathlib.Path(sys.argv[1], "opt/venv").resolve()
for name in ("flowcraft-sdk", "flowcraft-server"):
    module = __import__(name.replace("-", "_"))
    assert home in pathlib.Path(module.__file__).resolve().parents, module.__file__
    print(name, importlib.metadata.version(name))
pinned = dict(line.split("==") for line in pathlib.Path("constraints.txt").read_text().split())
pinned = {name.lower().replace("_", "-"): version for name, version in pinned.items()}
for found in importlib.metadata.distributions():
    name = found.metadata["Name"].lower().replace("_", "-")
    if name not in ("pip", "setuptools", "flowcraft-sdk", "flowcraft-server"):
        assert pinned.get(name) == found.version, f"{name} {found.version} is not what constraints.txt pins"
PY

echo "== the wheels hold what is no Python"
PIP_CONSTRAINT="$PWD/constraints.txt" "$target/opt/venv/bin/pip" --no-cache-dir wheel -q --disable-pip-version-check \
  --no-deps -w "$target/wheels" "$target/src/sdk" "$target/src"
"$python" - "$target" <<'PY'
import pathlib, sys, zipfile

target = pathlib.Path(sys.argv[1])
sdk, server = sorted((target / "wheels").glob("*.whl"))
names, inside = (set(zipfile.ZipFile(wheel).namelist()) for wheel in (sdk, server))
for script in sorted((target / "src/sdk").rglob("*.lua")):
    assert script.relative_to(target / "src/sdk").as_posix() in names, f"{script.name} is not in {sdk.name}"
for wheel, found, package in ((sdk, names, "flowcraft_sdk"), (server, inside, "flowcraft_server")):
    assert f"{package}/py.typed" in found, f"py.typed is not in {wheel.name}"
    assert any(name.endswith("licenses/LICENSE") for name in found), f"LICENSE is not in {wheel.name}"
assert not any(name.startswith(("handlers/", "blueprints/", "tests/", "flowcraft_sdk/")) for name in inside), server.name
print(f"{sdk.name}: {sum(name.endswith('.lua') for name in names)} scripts, py.typed; {server.name}: {len(inside)} files")
PY

echo "== the programs"
cd "$target/app"
unset FLOWCRAFT_CONFIG FLOWCRAFT_PROFILE REDIS_URL FLOWCRAFT_REDIS_URL
"$target/opt/venv/bin/flowcraft-server" --help | head -3
"$target/opt/venv/bin/flowcraft" --version
"$target/opt/venv/bin/flowcraft-server" check
"$target/opt/venv/bin/flowcraft-server" health && exit 1 || test $? -eq 1  # no server runs: it must say so

chmod -R go+rX "$target"
# As root, the image's command is tried as the image's user, if that one finds this Python and its library.
as=()
unprivileged=(setpriv --reuid=10001 --regid=10001 --clear-groups --no-new-privs)
which_one='import sys; print(sys.version, sys.base_prefix)'
if [[ $(id -u) == 0 ]] && said=$("${unprivileged[@]}" "$(readlink -f "$python")" -c "$which_one" 2> /dev/null) &&
  [[ $said == "$("$python" -c "$which_one")" ]]; then
  as=("${unprivileged[@]}")
fi
echo "== the image's command, on a Redis of its own${as[*]:+, as uid 10001}"
redis=unix://$target/redis/redis.sock
server=$("$target/opt/venv/bin/python" -c 'from flowcraft_server.store.binary import find_server; print(find_server())')
mkdir -m 755 "$target/redis"
"$server" --port 0 --unixsocket "$target/redis/redis.sock" --unixsocketperm 777 --save "" --appendonly no \
  --maxmemory-policy noeviction --dir "$target/redis" > "$target/redis/log" 2>&1 &
processes+=($!)
REDIS_URL=$redis "${as[@]}" "$target/opt/venv/bin/flowcraft-server" run > "$target/run.log" 2>&1 &
run=$!
processes+=("$run")
healthy=no
for _ in {1..100}; do
  REDIS_URL=$redis "${as[@]}" "$target/opt/venv/bin/flowcraft-server" health 2> /dev/null && healthy=yes && break
  kill -0 "$run" 2> /dev/null || break
done
kill -TERM "$run" 2> /dev/null || true
code=0
wait "$run" || code=$?
[[ $healthy$code == yes0 ]] || { cat "$target/run.log"; echo "healthy: $healthy, exit code $code" >&2; exit 1; }
echo "== all steps work"
