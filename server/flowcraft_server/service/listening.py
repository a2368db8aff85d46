"""The socket that the HTTP API listens on."""

import socket

BACKLOG = 2048
"""Connections that wait to be taken, also while the process that takes them starts again."""


class CannotListen(Exception):
    """The address cannot be listened on; the message says why."""


def listen(host: str, port: int) -> socket.socket:
    """Listen on an address.

    Args:
        host: a name or an address.
        port: 0 for any that is free.

    Raises:
        CannotListen: it is in use, or none of this machine's.
    """
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind, protocol)
    except OSError as error:
        raise CannotListen(f"cannot listen on {shown}: {error.strerror or error}; see api.bind") from None
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(BACKLOG)
    except OSError as error:
        found.close()
        raise CannotListen(f"cannot listen on {shown}: {error.strerror or error}; see api.bind") from None
    return found


def url_of(listening: socket.socket) -> str:
    """The address of what listens, for a browser on this machine."""
    host, port = listening.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "127.0.0.1"}.get(host, host)  # noqa: S104 - compared
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"
