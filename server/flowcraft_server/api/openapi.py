"""The OpenAPI document, and what follows from it: parameters that it does not name are refused."""

from functools import cache
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.responses import Response

from .access import PUBLIC, role_of
from .problems import Problem, ProblemDetails, documented, encoded

SECURITY = {"bearer": {"type": "http", "scheme": "bearer", "description": "A token of `api.auth.tokens`."}}


def described(app: FastAPI) -> None:
    """Give an application its OpenAPI document, at `/openapi.json`."""

    @cache
    def document() -> dict[str, Any]:
        found = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        schemas = found.setdefault("components", {}).setdefault("schemas", {})
        schemas["ProblemDetails"] = ProblemDetails.model_json_schema(ref_template="#/components/schemas/{model}")
        for unused in ("HTTPValidationError", "ValidationError"):  # FastAPI's own form of errors, which is not sent
            schemas.pop(unused, None)
        found["components"]["securitySchemes"] = SECURITY
        for route in app.routes:
            if isinstance(route, APIRoute) and route.include_in_schema:
                required = role_of(route)
                for method in route.methods or ():
                    operation = found["paths"][route.path_format][method.lower()]
                    if required is not None and required.role is not None:
                        operation["security"] = [{"bearer": []}]
                        operation["x-role"] = required.role.value
        return found

    app.openapi = document  # type: ignore[method-assign]

    @app.get("/openapi.json", dependencies=[PUBLIC], include_in_schema=False)
    async def openapi_document() -> Response:
        """The OpenAPI document."""
        return Response(encoded(app.openapi()), media_type="application/json")


async def refuse_unknown_parameters(request: Request) -> None:
    """Refuse a request with parameters that its route does not have: a misspelt filter would find too much.

    Raises:
        Problem: 422.
    """
    route = request.scope.get("route")
    if not request.query_params or not isinstance(route, APIRoute) or not route.include_in_schema:
        return
    operation = request.app.openapi()["paths"][route.path_format][request.method.lower()]
    known = [each["name"] for each in operation.get("parameters", ()) if each["in"] == "query"]
    for name in request.query_params:
        if name not in known:
            hint = f"; known: {', '.join(known)}" if known else ""
            raise Problem(422, "invalid_request", f"unknown parameter '{name[:80]}'{hint}")


def routes(prefix: str = "", *, tag: str) -> APIRouter:
    """A router of the API: its routes document their problems, and refuse parameters that they do not have.

    Args:
        tag: heading in the document.
    """
    return APIRouter(
        prefix=prefix, tags=[tag], responses=documented(), dependencies=[Depends(refuse_unknown_parameters)]
    )
