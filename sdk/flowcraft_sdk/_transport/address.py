"""Addresses of Redis, looked over before redis-py gets them: it would raise errors of its own, or take them in silence. Pure."""

import re
from collections.abc import Callable, Mapping
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

if TYPE_CHECKING:  # an address is looked over without redis-py, which takes longer to load than all the rest
    from flowcraft_sdk._transport.cluster import ClusterAddress
    from flowcraft_sdk._transport.sentinel import SentinelAddress

SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")
VALKEY_SCHEMES = ("valkey", "valkeys", "valkey+sentinel", "valkeys+sentinel", "valkey+cluster", "valkeys+cluster")
REDIS_PORT = 6_379
MOST_NODES = 1_000
SENTINEL_PORT = 26_379
MOST_SENTINELS = 50
LONGEST = 2_000
"""Characters."""

EXPECTED = "expected an address such as redis://host:6379/0, rediss:// or unix://"

LARGEST_PORT = 65_535
MOST_DATABASES = 1_000_000
MOST_CONNECTIONS = 100_000
LONGEST_TIME = 86_400
"""Seconds that a time-out in an address may have."""

EXPECTED_SENTINEL = "expected an address such as redis+sentinel://host1:26379,host2:26379/NAME/0"
EXPECTED_CLUSTER = "expected an address such as redis+cluster://host1:6379,host2:6379"
_SERVICE = re.compile(r"[A-Za-z0-9._-]{1,100}")
_BRACKETS = "an IPv6 address stands in brackets: redis://[::1]:6379"
_ENCODED = "in a user or password / is written %2F, ? %3F, # %23, @ %40, % %25"
_HOST = re.compile(r"[\w.-]+")
_WHOLE = re.compile(r"[0-9]{1,9}")
_TIME = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,6})?")
_HARMLESS = re.compile(r"[A-Za-z+]{0,20}(?:://)?[\w.-]{0,80}(?::[0-9]{1,9})?(?:/[0-9]{0,9})?")


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
    if url.startswith(tuple(f"{scheme}://" for scheme in VALKEY_SCHEMES)):
        url = "redis" + url.removeprefix("valkey")
    scheme, colon, rest = url.partition("://")
    if scheme in ("http", "https") and colon:
        raise AddressError(f"{EXPECTED}; {scheme}:// is the HTTP API's: that is for HttpClient, or for --server")
    if scheme not in SCHEMES or not colon:
        raise AddressError(EXPECTED)
    _check_characters(url)
    before, _, query = rest.partition("?")
    netloc, slash, path = before.partition("/")
    if scheme == "unix":
        _check_socket(netloc, slash + path)
    elif scheme.endswith("+sentinel"):
        _check_sentinels(netloc.rpartition("@")[2], path)
        _check_options(scheme, query, in_path="/" in path)
        return url
    elif scheme.endswith("+cluster"):
        _check_nodes(netloc.rpartition("@")[2], path)
        _check_options(scheme, query, in_path=False)
        return url
    else:
        if "@" in path or ("@" not in netloc and _may_be_split(netloc, query)):
            raise AddressError(f"the host cannot be distinguished from the password: {_ENCODED}")
        _check_place(netloc.rpartition("@")[2])
        if path and not (_WHOLE.fullmatch(path) and int(path) < MOST_DATABASES):
            raise AddressError("after the host stands the number of the database, such as /0")
    _check_options(scheme, query, in_path=scheme != "unix" and path != "")
    try:
        urlsplit(url).port  # noqa: B018 (a property that raises): redis-py reads it so
    except ValueError:
        raise AddressError(f"the host cannot be read; {EXPECTED}") from None
    return url


def shown_if_harmless(url: object) -> str:
    """`; got ` and the address, if nothing in it can be a part of a user, password or option; else nothing."""
    return f"; got {url}" if isinstance(url, str) and url and _HARMLESS.fullmatch(url) else ""


def _check_characters(url: str) -> None:
    if re.search(r"%(?![0-9A-Fa-f]{2})", url):
        raise AddressError("a % stands alone in the address; in a password it is written %25")
    if "#" in url:
        raise AddressError("a # ends the address early; in a password it is written %23")
    try:
        plain = unquote(url, errors="strict")
    except UnicodeDecodeError:
        raise AddressError("the address holds percent-encoded bytes that are not UTF-8") from None
    if "\x00" in plain:
        raise AddressError("the address holds %00, which is in no host, path or password")


def _may_be_split(netloc: str, query: str) -> bool:
    """Whether a `?` in a password may have ended the place, so that what is behind it are no options: `redis://:a?b@host`."""
    return "@" in query and (":" in netloc or "=" not in query.partition("@")[0])


def _check_socket(netloc: str, path: str) -> None:
    if netloc.rpartition("@")[2] or path in ("", "/"):
        raise AddressError("expected the path of a socket, such as unix:///run/redis.sock with three slashes")


def _check_sentinels(places: str, path: str) -> None:
    hosts = places.split(",")
    if not all(hosts) or len(hosts) > MOST_SENTINELS:
        raise AddressError(f"{EXPECTED_SENTINEL}, with 1 to {MOST_SENTINELS} Sentinels")
    for place in hosts:
        _check_place(place)
    service, slash, number = path.partition("/")
    if not _SERVICE.fullmatch(service):
        raise AddressError(f"{EXPECTED_SENTINEL}; NAME is what Sentinel calls the primary")
    if slash and not (_WHOLE.fullmatch(number) and int(number) < MOST_DATABASES):
        raise AddressError("after the name stands the number of the database, such as /0")


def sentinel_address(url: str) -> "SentinelAddress | None":
    """What a checked `redis+sentinel://` address says; None for another kind of address."""
    scheme, _, rest = url.partition("://")
    if not scheme.endswith("+sentinel"):
        return None
    from flowcraft_sdk._transport.sentinel import SentinelAddress

    before, _, query = rest.partition("?")
    netloc, _, path = before.partition("/")
    user, at, places = netloc.rpartition("@")
    service, _, database = path.partition("/")
    own = {name: value for name, value in parse_qsl(query) if name.startswith("sentinel_")}
    others = "&".join(part for part in query.split("&") if part and not part.startswith("sentinel_"))
    tls = scheme.startswith("rediss")
    plain = f"{'rediss' if tls else 'redis'}://{user}{at}primary/{database or 0}" + (f"?{others}" if others else "")
    sentinels = tuple(_host_and_port(place, SENTINEL_PORT) for place in places.split(","))
    sentinel_options = {name.removeprefix("sentinel_"): value for name, value in own.items()}
    return SentinelAddress(sentinels, service, _connection_options(plain), sentinel_options, tls)


def _check_nodes(places: str, path: str) -> None:
    hosts = places.split(",")
    if not all(hosts) or len(hosts) > MOST_NODES:
        raise AddressError(f"{EXPECTED_CLUSTER}, with 1 to {MOST_NODES:,} nodes")
    for place in hosts:
        _check_place(place)
    if path not in ("", "0"):
        raise AddressError(f"a cluster has one database, number 0; {EXPECTED_CLUSTER}")


def cluster_address(url: str) -> "ClusterAddress | None":
    """What a checked `redis+cluster://` address says; None for another kind of address."""
    scheme, _, rest = url.partition("://")
    if not scheme.endswith("+cluster"):
        return None
    from flowcraft_sdk._transport.cluster import ClusterAddress

    before, _, query = rest.partition("?")
    user, at, places = before.partition("/")[0].rpartition("@")
    tls = scheme.startswith("rediss")
    return ClusterAddress(
        tuple(_host_and_port(place, REDIS_PORT) for place in places.split(",")),
        _connection_options(f"{'rediss' if tls else 'redis'}://{user}{at}node" + (f"?{query}" if query else "")),
        tls,
    )


def _host_and_port(place: str, port: int) -> tuple[str, int]:
    parts = urlsplit(f"redis://{place}")
    return parts.hostname or "localhost", parts.port or port


def _connection_options(plain: str) -> dict[str, Any]:
    """The options of an address of one server, without where it is."""
    from redis.connection import parse_url

    options = dict(parse_url(plain))  # type: ignore[no-untyped-call]
    for name in ("host", "port", "connection_class"):
        options.pop(name, None)
    return options


def _check_place(place: str) -> None:
    if place.startswith("["):
        inside, closed, behind = place[1:].partition("]")
        try:
            IPv6Address(unquote(inside) if closed else "")
        except ValueError:
            raise AddressError(f"the host cannot be read: {_BRACKETS}") from None
        _, colon, port = behind.partition(":")
        if behind and not behind.startswith(":"):
            raise AddressError(f"the host cannot be read: behind the ] stands : and a port; {EXPECTED}")
    else:
        host, colon, port = place.partition(":")
        if ":" in port:
            raise AddressError(f"{_BRACKETS}; {_ENCODED}")
        if len(host) > 253:
            raise AddressError("the host's name is longer than 253 characters")
        if (host and not _HOST.fullmatch(unquote(host))) or (colon and not host):
            raise AddressError(f"the host is missing, or holds a character that is in no host's name; {EXPECTED}")
    if colon and not (_WHOLE.fullmatch(port) and 1 <= int(port) <= LARGEST_PORT):
        raise AddressError(f"the port is not a number from 1 to {LARGEST_PORT}; {EXPECTED}")


def _whole(least: int, most: int) -> Callable[[str], str]:
    def expected(value: str) -> str:
        fine = _WHOLE.fullmatch(value) and least <= int(value) <= most
        return "" if fine else f"a number from {least} to {most}"

    return expected


def _time(value: str) -> str:
    fine = _TIME.fullmatch(value) and 0 < float(value) <= LONGEST_TIME
    return "" if fine else f"a number of seconds above 0, {LONGEST_TIME} at most"


def _flag(value: str) -> str:
    # Not on and off: redis-py takes every word that it does not know for true.
    return "" if value.lower() in ("true", "false", "yes", "no", "1", "0", "t", "f", "y", "n") else "true or false"


def _text(value: str) -> str:
    return "" if value else "a text that is not empty"


def _requirement(value: str) -> str:
    return "" if value in ("none", "optional", "required") else "none, optional or required"


_FOR_ALL: Mapping[str, Callable[[str], str]] = {
    "client_name": _text,
    "db": _whole(0, MOST_DATABASES - 1),
    "health_check_interval": _whole(0, LONGEST_TIME),
    "max_connections": _whole(1, MOST_CONNECTIONS),
    "password": _text,
    "retry_on_timeout": _flag,
    "socket_connect_timeout": _time,
    "socket_timeout": _time,
    "username": _text,
}
_FOR_NODES = {name: check for name, check in _FOR_ALL.items() if name != "db"}  # a cluster has one database
_FOR_TCP: Mapping[str, Callable[[str], str]] = {"socket_keepalive": _flag}
_FOR_TLS: Mapping[str, Callable[[str], str]] = {
    "ssl_ca_certs": _text,
    "ssl_ca_data": _text,
    "ssl_ca_path": _text,
    "ssl_cert_reqs": _requirement,
    "ssl_certfile": _text,
    "ssl_check_hostname": _flag,
    "ssl_keyfile": _text,
    "ssl_password": _text,
}
_FOR_SENTINEL: Mapping[str, Callable[[str], str]] = {"sentinel_username": _text, "sentinel_password": _text}
OPTIONS: Mapping[str, Mapping[str, Callable[[str], str]]] = {
    "redis": {**_FOR_ALL, **_FOR_TCP},
    "rediss": {**_FOR_ALL, **_FOR_TCP, **_FOR_TLS},
    "unix": _FOR_ALL,
    "redis+sentinel": {**_FOR_ALL, **_FOR_TCP, **_FOR_SENTINEL},
    "rediss+sentinel": {**_FOR_ALL, **_FOR_TCP, **_FOR_TLS, **_FOR_SENTINEL},
    "redis+cluster": {**_FOR_NODES, **_FOR_TCP},
    "rediss+cluster": {**_FOR_NODES, **_FOR_TCP, **_FOR_TLS},
}
"""What may stand behind the `?` by scheme: what every connection of client and server takes, and what each value has to be."""


def _check_options(scheme: str, query: str, *, in_path: bool) -> None:
    seen = {"db"} if in_path else set()
    for name, value in parse_qsl(query, keep_blank_values=True):
        expected = OPTIONS[scheme].get(name)
        if expected is None and name in _FOR_TLS:
            raise AddressError(f"the option '{name}' is for rediss://")
        if expected is None:
            shown = f" '{name}'" if re.fullmatch(r"[a-z_]{1,40}", name) else ""  # else it may be a part of a password
            raise AddressError(f"no option{shown} of a connection; there are {', '.join(OPTIONS[scheme])}")
        if name in seen:
            raise AddressError(f"the option '{name}' stands twice")
        seen.add(name)
        if wanted := expected(value):
            raise AddressError(f"the option '{name}' is {wanted}")
