"""The Flowcraft SDK: start runs, hold a handle, write handlers."""

from flowcraft_sdk.aio import AsyncClient
from flowcraft_sdk.aio_handle import AsyncHandle
from flowcraft_sdk.client import Client
from flowcraft_sdk.connection import ClientSettings
from flowcraft_sdk.errors import (
    BackendRefusedError,
    BackendUnavailableError,
    BlueprintNotFoundError,
    ConfigurationError,
    DeadLetterNotFoundError,
    FlowcraftError,
    InvalidInputError,
    NotDurableError,
    NotWaitingError,
    PayloadTooLargeError,
    ProtocolMismatchError,
    RemoteError,
    RunBrokenError,
    RunCancelledError,
    RunConflictError,
    RunExpiredError,
    RunFailedError,
    RunNotFoundError,
    RunStateError,
    RunTimedOutError,
    RunUnsuccessfulError,
    SerializationError,
    WaitTimeoutError,
)
from flowcraft_sdk.handle import Handle
from flowcraft_sdk.node import (
    AsyncLanguageModel,
    AsyncNodeContext,
    AsyncRunContext,
    DynamicNode,
    HandlerSpec,
    LanguageModel,
    NodeCancelled,
    NodeContext,
    NodeResult,
    NonRetryableError,
    RunContext,
    handler,
)
from flowcraft_sdk.operations import StartOptions
from flowcraft_sdk.records import (
    BlueprintInfo,
    CancelInfo,
    DeadLetter,
    Defect,
    NodeFailure,
    NodeSnapshot,
    NodeStatus,
    Progress,
    RunEvent,
    RunSnapshot,
    RunStatus,
    RunSummary,
    ServerInfo,
    WaitPoint,
    WorkerInfo,
)

__version__ = "0.1.0"
__all__ = [
    "AsyncClient", "AsyncHandle", "AsyncLanguageModel", "AsyncNodeContext", "AsyncRunContext",
    "BackendRefusedError", "BackendUnavailableError", "BlueprintInfo", "BlueprintNotFoundError", "CancelInfo",
    "Client", "ClientSettings", "ConfigurationError", "DeadLetter", "DeadLetterNotFoundError", "Defect",
    "DynamicNode", "FlowcraftError", "Handle", "HandlerSpec", "InvalidInputError", "LanguageModel", "NodeCancelled",
    "NodeContext", "NodeFailure", "NodeResult", "NodeSnapshot", "NodeStatus", "NonRetryableError",
    "NotDurableError", "NotWaitingError", "PayloadTooLargeError", "Progress", "ProtocolMismatchError",
    "RemoteError", "RunBrokenError", "RunCancelledError", "RunConflictError", "RunContext", "RunEvent", "RunExpiredError",
    "RunFailedError", "RunNotFoundError", "RunSnapshot", "RunStateError", "RunStatus", "RunSummary",
    "RunTimedOutError", "RunUnsuccessfulError", "SerializationError", "ServerInfo", "StartOptions", "WaitPoint",
    "WaitTimeoutError", "WorkerInfo", "handler",
]  # fmt: skip
