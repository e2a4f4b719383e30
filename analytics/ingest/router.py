"""``POST /v1/counts`` for FastAPI: from a request to an `Arrival` and back."""

from __future__ import annotations

import ipaddress
from typing import Any

from fastapi import APIRouter, Request, Response

from analytics.ingest.door import Arrival, IngestDoor, IPAddress
from analytics.web.problems import problem_responses
from uplink.codec import JSON_TYPE
from uplink.messages import Batch, BatchAnswer
from uplink.sealing import SEALED_TYPE
from uplink.signing import ANSWER_HEADER, NEXT_KEY_HEADER, SCHEME

COUNTS_PATH = "/v1/counts"
_SENSOR_SCHEME = "sensorSignature"

_OPENAPI: dict[str, Any] = {
    "security": [{_SENSOR_SCHEME: []}],
    "requestBody": {
        "required": True,
        "content": {
            JSON_TYPE: {"schema": {"$ref": "#/components/schemas/Batch"}},
            SEALED_TYPE: {"schema": {"type": "string", "format": "binary"}},
        },
    },
}
SECURITY_SCHEMES = {
    _SENSOR_SCHEME: {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": f"`{SCHEME} sensor=...,generation=...,time=...,nonce=...,signature=...`: an HMAC of this very "
        "request under the sensor's own key (`uplink.signing`).",
    }
}
SCHEMAS = (Batch,)


def ingest_router(door: IngestDoor) -> APIRouter:
    """The router of one door."""
    router = APIRouter(tags=["counts"])

    @router.post(
        COUNTS_PATH,
        response_model=BatchAnswer,
        responses={
            200: {
                "description": "Stored durably. The answer is signed.",
                "headers": {
                    ANSWER_HEADER: {"schema": {"type": "string"}, "description": "HMAC of this answer."},
                    NEXT_KEY_HEADER: {"schema": {"type": "string"}, "description": "The sensor's next key, sealed."},
                },
            },
            **problem_responses(400, 401, 403, 408, 409, 413, 415, 422, 429, 503),
        },
        openapi_extra=_OPENAPI,
        summary="Deliver count records",
    )
    async def post_counts(request: Request) -> Response:
        """Up to 1,000 records and 1 MiB, plain, gzip or sealed. A bad record rejects itself, not its batch."""
        departure = await door.take(arrival(request))
        return Response(departure.body, departure.status, departure.headers, departure.media_type)

    return router


def arrival(request: Request) -> Arrival:
    """A request as the door sees it."""
    raw_path = request.scope.get("raw_path") or request.scope["path"].encode()
    query = request.scope.get("query_string", b"")
    path = (raw_path.partition(b"?")[0] + (b"?" + query if query else b"")).decode("latin-1")
    client = request.scope.get("client")
    server = request.scope.get("server")
    return Arrival(
        path=path,
        headers={name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers.raw},
        client=_address(client[0]) if client else None,
        local=_address(server[0]) if server and server[1] is not None else None,
        body=request.stream(),
    )


def _address(text: str) -> IPAddress | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
