"""``POST /v1/care`` for FastAPI: a sensor's report through the counts' door, and its orders back."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Request, Response

from analytics.care import Care
from analytics.domain.model import Sensor
from analytics.ingest.door import Arrival, IngestDoor
from analytics.ingest.router import arrival
from analytics.web.problems import ProblemError, problem_responses
from uplink.care import CARE_PATH, MAX_CARE_BYTES, CareOrder, decode_report


def care_router(door: IngestDoor, care: Care) -> APIRouter:
    """The router; `door` proves who reports, by the way it came and by the sensor's signature."""
    router = APIRouter(tags=["sensors"])

    @router.post(
        CARE_PATH,
        response_model=CareOrder,
        responses=problem_responses(400, 401, 403, 413, 429, 503),
        openapi_extra={"security": [{"sensorSignature": []}]},
        summary="Report a sensor's own state, fetch its orders",
    )
    async def post_care(request: Request) -> Response:
        """About once a minute, at most 16 KiB. The report is an allow-list: anything else is refused whole."""
        departure = await door.take(arrival(request), partial(_take, care))
        return Response(departure.body, departure.status, departure.headers, departure.media_type)

    return router


def _take(care: Care, _: Arrival, sensor: Sensor, body: bytes) -> bytes:
    if len(body) > MAX_CARE_BYTES:
        raise ProblemError(413, "too-large", f"a report has at most {MAX_CARE_BYTES} bytes")
    try:
        report = decode_report(body)
    except ValueError as error:
        raise ProblemError(400, "not-a-report", str(error)) from None
    return care.take(sensor.org_id, sensor.id, report).model_dump_json(exclude_none=True).encode()
