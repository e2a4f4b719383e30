"""``/v1/enrolment``: the door for blank sensors."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response

from analytics.enrolment import Enrolment, RefusedError
from analytics.ingest.limits import RateLimiter
from analytics.settings import Limits
from analytics.store.errors import StoreError
from analytics.web.problems import ProblemError, problem_responses
from uplink.enrolment import ENROLMENT_PATH, EnrolmentRequest, SealedMessage, ServiceHello


def enrolment_router(enrolment: Enrolment, limits: Limits) -> APIRouter:
    """The router of one service's enrolment."""
    router = APIRouter(tags=["enrolment"])
    strangers = RateLimiter(limits.stranger_rate, limits.stranger_burst)

    @router.get(ENROLMENT_PATH, summary="The service's enrolment key")
    async def hello() -> ServiceHello:
        """The first step of a blank sensor. The key need not be trusted: with a false one enrolment fails."""
        return enrolment.hello()

    @router.post(
        ENROLMENT_PATH,
        responses=problem_responses(400, 403, 422, 429, 503),
        response_model=SealedMessage,
        summary="Turn a one-time code into an enrolled sensor",
    )
    async def activate(request: Request, message: EnrolmentRequest) -> Response:
        """Both messages are those of a Noise KK handshake keyed by the code (`uplink.enrolment`)."""
        caller = request.client.host if request.client else "local"
        if wait := strangers.take(caller):
            raise ProblemError(429, "too-many-requests", "too many tries to enrol; wait", retry_after=wait)
        try:
            answer = await asyncio.to_thread(enrolment.activate, message)
        except RefusedError as error:
            raise ProblemError(403, error.kind, str(error)) from None
        except StoreError:
            raise ProblemError(503, "store-unavailable", "the store cannot answer; try again", retry_after=5) from None
        return Response(answer.model_dump_json(), headers={"Cache-Control": "no-store"}, media_type="application/json")

    return router
