"""Runs that handlers start: below their own run, each once, whatever becomes of the attempt."""

import hashlib
import threading
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from flowcraft_sdk import Client
from flowcraft_sdk._operations.start import OnParentCancel
from flowcraft_sdk.protocol.bounds import LONGEST_NAME, check_text
from flowcraft_sdk.protocol.partitions import root_of
from flowcraft_server.engine.attempt import Attempt


class ChildRuns:
    """Starts runs for handlers. Thread-safe.

    Args:
        url: of Redis.
        namespace: the deployment's name.
    """

    def __init__(self, url: str, namespace: str) -> None:
        self._url = url
        self._namespace = namespace
        self._client: Client | None = None
        self._lock = threading.Lock()

    def start(
        self,
        attempt: Attempt,
        blueprint_id: str,
        context: Any,
        key: str | None,
        tags: Iterable[str],
        run_timeout: float | timedelta | str | None,
        on_parent_cancel: OnParentCancel,
    ) -> str:
        """Start a run below that of an attempt; returns its id.

        Args:
            key: distinguishes it from others that the node starts; None for the number of the call in the attempt.
        """
        attempt.child_runs += 1
        name = str(attempt.child_runs) if key is None else "=" + check_text(key, "key", LONGEST_NAME)
        # The same at each attempt, so that the run which an earlier one has started is found again.
        mark = hashlib.sha256(f"{attempt.claim.idempotency_key}\n{name}".encode()).hexdigest()[:24]
        run_id = attempt.claim.run_id
        handle = self._get_client().start(
            blueprint_id,
            context,
            run_id=f"{root_of(run_id)}~s{mark}",
            parent=run_id,
            tags=tags,
            run_timeout=run_timeout,
            on_parent_cancel=on_parent_cancel,
        )
        return handle.run_id

    def result(self, run_id: str) -> tuple[Any] | None:
        """The result of a run, None while it has not ended.

        Raises:
            RunUnsuccessfulError: it has not completed.
        """
        handle = self._get_client().get_handle(run_id)
        return (handle.result(),) if handle.done() else None

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _get_client(self) -> Client:
        with self._lock:
            if self._client is None:
                self._client = Client(self._url, namespace=self._namespace)
            return self._client
