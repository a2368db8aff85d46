"""Errors as `application/problem+json`, with the codes of the SDK's exceptions."""

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from loguru import logger
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import Response

from flowcraft_sdk.errors import FlowcraftError

MEDIA_TYPE = "application/problem+json"

STATUS_OF_CODE = {
    "configuration": 422,
    "serialization": 422,
    "invalid_input": 422,
    "payload_too_large": 413,
    "blueprint_not_found": 404,
    "run_not_found": 404,
    "node_not_found": 404,
    "dead_letter_not_found": 404,
    "schedule_not_found": 404,
    "memory_not_found": 404,
    "no_server": 409,
    "run_expired": 410,
    "run_state": 409,
    "not_waiting": 409,
    "not_receiving": 409,
    "rerun_refused": 409,
    "run_conflict": 409,
    "run_limit": 409,
    "backend_unavailable": 503,
    "backend_refused": 503,
    "not_durable": 503,
    "protocol_mismatch": 503,
    "run_broken": 500,
    "foreign_key": 500,
}
"""Status codes by the codes of the SDK's errors."""

SHOWN_ATTRIBUTES = (
    "run_id", "status", "node_id", "waiting", "blueprint_id", "version", "known", "reason", "path", "size", "limit",
    "operation", "maybe_applied", "problem", "key", "expected", "published", "ended_at", "schedule_id", "client_version",
    "server_version", "reached", "running", "memory_id",
)  # fmt: skip
RETRY_AFTER = "2"
HEADERS_OF_CODE = {"unauthenticated": {"www-authenticate": "Bearer"}}


class ProblemDetails(BaseModel):
    """What went wrong (RFC 9457).

    Attributes:
        type: Always `about:blank`; kinds of problems differ by their `code`.
        title: Name of the status code.
        status: The status code.
        detail: What was wrong, in one line.
        code: A stable name of the kind of problem; those of the SDK's errors are the same there.
        errors: Each misfit of an input, with its place.
    """

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    errors: list[dict[str, Any]] | None = None


class Problem(HTTPException):
    """An answer that says what is wrong. As an `HTTPException` it passes FastAPI unchanged, wherever it is raised.

    Args:
        status: the status code.
        code: a stable name of the kind of problem.
        detail: what is wrong and what to do, in one line.
        headers: further headers of the answer.
        more: further members of the body.
    """

    def __init__(
        self, status: int, code: str, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(status, detail, {**HEADERS_OF_CODE.get(code, {}), **(headers or {})})
        self.status = status
        self.code = code
        self.more = more

    def response(self) -> Response:
        """The answer."""
        body = {
            "type": "about:blank", "title": HTTPStatus(self.status).phrase, "status": self.status,
            "detail": self.detail, "code": self.code, **self.more,
        }  # fmt: skip
        return Response(encoded(body), self.status, self.headers, MEDIA_TYPE)


def encoded(value: Any) -> bytes:
    """A JSON value as text; what UTF-8 cannot hold is escaped, and numbers that JSON has not are null."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (UnicodeEncodeError, ValueError):
        return json.dumps(_with_nulls(value), separators=(",", ":")).encode()


def _with_nulls(value: Any) -> Any:
    if isinstance(value, float) and not (float("-inf") < value < float("inf")):
        return None
    if isinstance(value, dict):
        return {key: _with_nulls(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_nulls(item) for item in value]
    return value


def problem_of(error: FlowcraftError) -> Problem:
    """The answer for an error of the SDK."""
    status = STATUS_OF_CODE.get(error.code, 500)
    more = {name: getattr(error, name) for name in SHOWN_ATTRIBUTES if getattr(error, name, None) is not None}
    errors = getattr(error, "errors", None)
    if errors:
        more["errors"] = _plain_errors(errors)
    headers = {"retry-after": RETRY_AFTER} if status == 503 else {}
    more.pop("status", None)
    if getattr(error, "status", None) is not None:
        more["run_status"] = str(getattr(error, "status"))  # noqa: B009 - only some errors have it
    return Problem(status, error.code, str(error), headers=headers, **jsonable_encoder(more))


def _plain_errors(errors: Sequence[Any]) -> list[dict[str, Any]]:
    return [
        {"loc": list(error.get("loc", ())), "type": str(error.get("type", "")), "msg": str(error.get("msg", ""))}
        for error in errors
        if isinstance(error, Mapping)
    ]


def answer_problems(app: FastAPI) -> None:
    """Have an application answer each error with a problem."""

    async def on_problem(_request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return error.response()

    async def on_sdk_error(_request: Request, error: Exception) -> Response:
        assert isinstance(error, FlowcraftError)
        problem = problem_of(error)
        if problem.status == 500:
            logger.warning("{}", error)
        return problem.response()

    async def on_misfit(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        errors = _plain_errors(error.errors())
        places = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in errors[:5])
        return Problem(422, "invalid_request", places or "the request is not valid", errors=errors).response()

    async def on_http(_request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code = {404: "not_found", 405: "method_not_allowed", 400: "invalid_request"}.get(error.status_code, "error")
        return Problem(error.status_code, code, str(error.detail), headers=error.headers).response()

    async def on_defect(_request: Request, error: Exception) -> Response:
        logger.opt(exception=error).error("a request failed")
        return Problem(500, "internal", "the server met an error of its own; its log has the details").response()

    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(FlowcraftError, on_sdk_error)
    app.add_exception_handler(RequestValidationError, on_misfit)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(Exception, on_defect)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Problems that a route may answer with, for the OpenAPI document; those that any may are always there."""
    every = (400, 401, 403, 413, 415, 421, 422, 429, 500, 503)
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": content} for status in sorted({*every, *statuses})
    }
