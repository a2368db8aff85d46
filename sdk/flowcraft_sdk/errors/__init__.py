"""Everything the SDK raises, one module for each family. Failures of runs are data; exceptions are never sent over the wire.

Imported by: _client, _operations, _transport, node, protocol, the package itself, the server.
"""

from flowcraft_sdk.errors.backend import BackendRefusedError as BackendRefusedError
from flowcraft_sdk.errors.backend import BackendUnavailableError as BackendUnavailableError
from flowcraft_sdk.errors.backend import ForeignKeyError as ForeignKeyError
from flowcraft_sdk.errors.backend import NotDurableError as NotDurableError
from flowcraft_sdk.errors.backend import ProtocolMismatchError as ProtocolMismatchError
from flowcraft_sdk.errors.base import ConfigurationError as ConfigurationError
from flowcraft_sdk.errors.base import FlowcraftError as FlowcraftError
from flowcraft_sdk.errors.not_found import BlueprintNotFoundError as BlueprintNotFoundError
from flowcraft_sdk.errors.not_found import DeadLetterNotFoundError as DeadLetterNotFoundError
from flowcraft_sdk.errors.not_found import MemoryNotFoundError as MemoryNotFoundError
from flowcraft_sdk.errors.not_found import NodeNotFoundError as NodeNotFoundError
from flowcraft_sdk.errors.not_found import NoServerError as NoServerError
from flowcraft_sdk.errors.not_found import RunExpiredError as RunExpiredError
from flowcraft_sdk.errors.not_found import RunNotFoundError as RunNotFoundError
from flowcraft_sdk.errors.not_found import ScheduleNotFoundError as ScheduleNotFoundError
from flowcraft_sdk.errors.outcomes import RemoteError as RemoteError
from flowcraft_sdk.errors.outcomes import RunCancelledError as RunCancelledError
from flowcraft_sdk.errors.outcomes import RunFailedError as RunFailedError
from flowcraft_sdk.errors.outcomes import RunTimedOutError as RunTimedOutError
from flowcraft_sdk.errors.outcomes import RunUnsuccessfulError as RunUnsuccessfulError
from flowcraft_sdk.errors.outcomes import WaitTimeoutError as WaitTimeoutError
from flowcraft_sdk.errors.run_states import NotReceivingError as NotReceivingError
from flowcraft_sdk.errors.run_states import NotWaitingError as NotWaitingError
from flowcraft_sdk.errors.run_states import RerunRefusedError as RerunRefusedError
from flowcraft_sdk.errors.run_states import RunBrokenError as RunBrokenError
from flowcraft_sdk.errors.run_states import RunConflictError as RunConflictError
from flowcraft_sdk.errors.run_states import RunLimitError as RunLimitError
from flowcraft_sdk.errors.run_states import RunStateError as RunStateError
from flowcraft_sdk.errors.values import InvalidInputError as InvalidInputError
from flowcraft_sdk.errors.values import PayloadTooLargeError as PayloadTooLargeError
from flowcraft_sdk.errors.values import SerializationError as SerializationError
