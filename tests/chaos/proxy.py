"""A TCP way to the store on which replies get lost: the command has been applied, its reply is dropped, the connection is cut."""

import contextlib
import random
import selectors
import socket
import threading
from types import TracebackType
from typing import Self

CHUNK = 65_536


class LossyProxy:
    """Listens on a port of its own and hands everything on to a Unix socket, but for some replies.

    Args:
        target: path of the store's socket.
        seed: of what is lost.
        loss: share of the replies that are lost.
    """

    def __init__(self, target: str, seed: int, loss: float) -> None:
        self.loss = loss
        self.lost = 0
        self._script: list[bool] = []
        self._target = target
        self._chance = random.Random(seed)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._accept, daemon=True)

    @property
    def url(self) -> str:
        """For clients."""
        return f"redis://127.0.0.1:{self._listener.getsockname()[1]}"

    def lose(self, after: int, count: int) -> None:
        """Let some replies through, then lose some, whatever chance says."""
        self._script = [False] * after + [True] * count

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._listener.close()
        self._thread.join(5)

    def _accept(self) -> None:
        self._listener.settimeout(0.1)
        while not self._over.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as store, selectors.DefaultSelector() as both:
            client.settimeout(None)
            with contextlib.suppress(OSError):
                store.connect(self._target)
                both.register(client, selectors.EVENT_READ, store)
                both.register(store, selectors.EVENT_READ, client)
                while not self._over.is_set() and self._hand_on(both, store):
                    pass

    def _hand_on(self, both: selectors.BaseSelector, store: socket.socket) -> bool:
        """Hand on what has come; False when the connection is over."""
        for key, _ in both.select(0.2):
            source = key.fileobj
            assert isinstance(source, socket.socket)
            data = source.recv(CHUNK)
            if not data:
                return False
            if source is store and self._is_lost():
                self.lost += 1
                return False
            key.data.sendall(data)
        return True

    def _is_lost(self) -> bool:
        return self._script.pop(0) if self._script else self._chance.random() < self.loss
