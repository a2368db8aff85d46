"""What handlers import: the context of a node, the decorator, and the language model they may call.

Imported by: the package itself, the server.
"""

from flowcraft_sdk.node.budget import BudgetExceededError as BudgetExceededError
from flowcraft_sdk.node.context import AsyncNodeContext as AsyncNodeContext
from flowcraft_sdk.node.context import AsyncRunContext as AsyncRunContext
from flowcraft_sdk.node.context import BaseNodeContext as BaseNodeContext
from flowcraft_sdk.node.context import DynamicNode as DynamicNode
from flowcraft_sdk.node.context import NodeCancelled as NodeCancelled
from flowcraft_sdk.node.context import NodeContext as NodeContext
from flowcraft_sdk.node.context import NodeResult as NodeResult
from flowcraft_sdk.node.context import NonRetryableError as NonRetryableError
from flowcraft_sdk.node.context import ReportedProgress as ReportedProgress
from flowcraft_sdk.node.context import RunContext as RunContext
from flowcraft_sdk.node.handler_spec import HandlerSpec as HandlerSpec
from flowcraft_sdk.node.handler_spec import handler as handler
from flowcraft_sdk.node.language_model import AsyncLanguageModel as AsyncLanguageModel
from flowcraft_sdk.node.language_model import LanguageModel as LanguageModel
from flowcraft_sdk.node.step_errors import StepLimitError as StepLimitError
from flowcraft_sdk.node.step_errors import StepMismatchError as StepMismatchError
from flowcraft_sdk.node.step_errors import StepTimeoutError as StepTimeoutError
