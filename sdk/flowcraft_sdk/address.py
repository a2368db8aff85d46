"""Addresses of Redis, looked over before redis-py gets them: it would raise errors of its own, or take them in silence. Pure."""

import re
from urllib.parse import parse_qsl, urlsplit

SCHEMES = ("redis", "rediss", "unix")
LONGEST = 2_000
"""Characters."""

EXPECTED = "expected an address such as redis://host:6379/0, rediss:// or unix://"
_NUMBERS = {"db", "socket_timeout", "socket_connect_timeout", "max_connections", "health_check_interval", "timeout"}
_FLAGS = {"socket_keepalive", "retry_on_timeout", "ssl_check_hostname"}
_TEXTS = {
    "username", "password", "client_name", "ssl_cert_reqs", "ssl_ca_certs", "ssl_ca_path", "ssl_ca_data", "ssl_certfile",
    "ssl_keyfile", "ssl_password",
}  # fmt: skip
_MOST_DATABASES = 1_000_000


class AddressError(ValueError):
    """An address cannot be used. The message says what was expected, and holds nothing of the address that may be secret."""


def checked_address(url: object) -> str:
    """The address in redis-py's form: `valkey` is `redis`.

    Raises:
        AddressError: it is none, or says something that would not be understood.
    """
    if not isinstance(url, str):
        raise AddressError(f"{EXPECTED}, got a {type(url).__name__}")
    if len(url) > LONGEST or not url.isprintable() or " " in url:
        raise AddressError(f"{EXPECTED}, of {LONGEST:,} characters at most and without spaces")
    if url.startswith("valkey"):
        url = "redis" + url.removeprefix("valkey")
    scheme, colon, _ = url.partition("://")
    if scheme not in SCHEMES or not colon:
        raise AddressError(EXPECTED)
    if re.search(r"%(?![0-9A-Fa-f]{2})", url):
        raise AddressError("a % stands alone in the address; in a password it is written %25")
    if "#" in url:
        raise AddressError("a # ends the address early; in a password it is written %23")
    place = re.split(r"[/?]", url.partition("://")[2], maxsplit=1)[0].rpartition("@")[2]
    if scheme != "unix" and place.count(":") > 1 and not place.startswith("["):
        raise AddressError("an IPv6 address stands in brackets: redis://[::1]:6379")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        wrong = "the port is not a number from 1 to 65535" if "ort" in str(error) else "the host cannot be read"
        raise AddressError(f"{wrong}; {EXPECTED}") from None
    if scheme == "unix":
        if not parts.path.startswith("/") or parts.path == "/":
            raise AddressError("expected the path of a socket, such as unix:///run/redis.sock")
    else:
        _check_place(host, port, parts.netloc, parts.path)
    _check_options(scheme, parts.query)
    return url


def _check_place(host: str | None, port: int | None, netloc: str, path: str) -> None:
    place = netloc.rpartition("@")[2]
    if port == 0 or (place.endswith(":") and not place.endswith("]:")) or (port is None and place.count(":") == 1):
        raise AddressError(f"the port is not a number from 1 to 65535; {EXPECTED}")
    if host is not None and len(host) > 253:
        raise AddressError("the host's name is longer than 253 characters")
    if path not in ("", "/") and not (re.fullmatch(r"/\d{1,7}", path) and int(path[1:]) < _MOST_DATABASES):
        raise AddressError("after the host stands the number of the database, such as /0")


def _check_options(scheme: str, query: str) -> None:
    seen: set[str] = set()
    for name, value in parse_qsl(query, keep_blank_values=True):
        known = _NUMBERS | _FLAGS | _TEXTS
        if name not in known:
            raise AddressError(f"no option '{name[:40]}' of a connection; there are {', '.join(sorted(known))}")
        if name in seen:
            raise AddressError(f"the option '{name}' stands twice")
        seen.add(name)
        if name.startswith("ssl_") and scheme != "rediss":
            raise AddressError(f"the option '{name}' is for rediss://")
        if name in _NUMBERS and not re.fullmatch(r"\d{1,9}(?:\.\d{1,6})?", value):
            raise AddressError(f"the option '{name}' is a number")
        if name in _FLAGS and value.lower() not in (
            "true",
            "false",
            "yes",
            "no",
            "on",
            "off",
            "1",
            "0",
            "t",
            "f",
            "y",
            "n",
        ):
            raise AddressError(f"the option '{name}' is true or false")
