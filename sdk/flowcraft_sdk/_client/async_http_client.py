"""The async client over HTTP."""

from pathlib import Path
from typing import Self

from flowcraft_sdk._client.async_client import AsyncClient
from flowcraft_sdk._operations.over_http import HttpOperations
from flowcraft_sdk._transport.async_http_driver import AsyncHttpDriver
from flowcraft_sdk._transport.connector import ClientSettings
from flowcraft_sdk._transport.http_connector import HttpSettings, endpoint
from flowcraft_sdk.errors import ConfigurationError


class AsyncHttpClient(AsyncClient):
    """Starts runs of a deployment and gives handles to them, through its HTTP API: for programs that cannot reach Redis.

    It has the methods of `Client` and `AsyncClient`, with the same records and errors, and needs the extra `flowcraft-sdk[http]`.
    An `HttpClient` is for threads, an `AsyncHttpClient` for asyncio. What a method may do, the role of the token says.

    Example:
        ```python
        with HttpClient("https://flows.example.org", token="...") as client:
            print(client.execute("summarize", {"text": "..."}, timeout=60))
        ```

    Args:
        url: Address of the API; by default `FLOWCRAFT_SERVER`.
        token: One of the API's tokens; by default `FLOWCRAFT_TOKEN`. It is sent to this address only, and never shown.
        settings: Timeouts and sizes.

    Raises:
        ConfigurationError: The address or the token cannot be used, or the extra is not installed.
    """

    def __init__(
        self, url: str | None = None, *, token: str | None = None, settings: HttpSettings | None = None
    ) -> None:
        http = settings or HttpSettings()
        where = endpoint(url, token)
        self.namespace = where.address
        self.settings = ClientSettings(max_outage=http.max_outage, max_value=http.max_value)
        self.driver = AsyncHttpDriver(where, http)  # type: ignore[assignment]
        self.operations = HttpOperations(where.address, http.max_outage, http.max_value)  # type: ignore[assignment]

    @classmethod
    def from_config(
        cls, path: str | Path = "flowcraft.yaml", *, profile: str | None = None, settings: ClientSettings | None = None
    ) -> Self:
        """Refuse: a `flowcraft.yaml` says where Redis is, and this client does not go there.

        Args:
            path: Path of the file.
            profile: Name of a profile in it.
            settings: Timeouts and sizes.

        Returns:
            Nothing.

        Raises:
            ConfigurationError: Always.
        """
        raise ConfigurationError(
            "a client over HTTP is made of the address of the API, and its token: see AsyncHttpClient"
        )

    def __repr__(self) -> str:
        return f"<AsyncHttpClient of {self.namespace}>"
