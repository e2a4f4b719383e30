"""Errors as ``application/problem+json`` (RFC 9457), from every door of the service alike."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

logger = logging.getLogger(__name__)

PROBLEM_TYPE = "application/problem+json"


class Problem(BaseModel):
    """The body of every error (RFC 9457)."""

    type: str = Field(description="urn:headroom:problem:KIND, or about:blank")
    title: str
    status: int = Field(ge=400, le=599)
    detail: str = Field(description="What is wrong and what to do.")


class ProblemError(Exception):
    """Raised anywhere in a request: becomes a problem document."""

    def __init__(
        self, status: int, kind: str, detail: str, *, retry_after: float | None = None, headers: Mapping[str, str] = {}
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.headers = dict(headers)
        if retry_after is not None:
            self.headers["Retry-After"] = str(max(1, math.ceil(retry_after)))

    def body(self) -> bytes:
        return problem_body(self.status, self.detail, self.kind)

    def response(self) -> Response:
        return Response(self.body(), self.status, self.headers, PROBLEM_TYPE)


def problem_body(status: int, detail: str, kind: str | None = None) -> bytes:
    """A problem document, encoded."""
    document = {
        "type": f"urn:headroom:problem:{kind}" if kind else "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "replace")


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI description of these error statuses."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {PROBLEM_TYPE: {"schema": schema}}}
        for status in statuses
    }


def add_problem_handlers(app: FastAPI) -> None:
    """Make every error of `app` a problem document: ours, the framework's, and the ones nobody foresaw."""
    app.add_exception_handler(ProblemError, _ours)
    app.add_exception_handler(HTTPException, framework_problem)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(Exception, _unforeseen)


async def _ours(_: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    return error.response()


async def framework_problem(_: Request, error: Exception) -> Response:
    """What the framework refuses by itself, as a problem document."""
    assert isinstance(error, HTTPException)
    status = error.status_code
    body = problem_body(status, str(error.detail))
    return Response(body, status, dict(error.headers or {}), PROBLEM_TYPE)


async def _validation(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # The field and the rule, never the value: a request may hold what must not be repeated.
    first = error.errors()[0] if error.errors() else {"loc": (), "msg": "not valid"}
    place = ".".join(str(part) for part in first["loc"])
    detail = f"{place}: {first['msg']}" if place else str(first["msg"])
    return Response(problem_body(422, detail[:500], "not-valid"), 422, media_type=PROBLEM_TYPE)


async def _unforeseen(request: Request, error: Exception) -> Response:
    logger.error("unforeseen error at %s %s", request.method, request.url.path, exc_info=error)
    return Response(problem_body(500, "an error of the service; its log says more"), 500, media_type=PROBLEM_TYPE)
