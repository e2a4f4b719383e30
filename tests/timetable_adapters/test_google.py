"""Google Calendar. Shapes: reference of Calendar API v3 (events: list) and OAuth 2.0 for service accounts."""

from __future__ import annotations

import base64
import json
from datetime import datetime
from functools import cache
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.timetable_adapters.conformance import AdapterConformance
from tests.timetable_adapters.fake import CANARY, CANARY_MAIL, ROOMS, SECRET, FakeSystem, Reply, Request
from timetable_adapters.base import ConfigurationError
from timetable_adapters.google import GoogleAdapter


@cache
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


class Google(FakeSystem):
    def settings(self) -> dict[str, object]:
        pem = key().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        account = {"client_email": "reader@project.example", "private_key": pem.decode(), "private_key_id": SECRET}
        return {
            "service_account": json.dumps(account),
            "calendars": {f"{ref}@resource.example": name for ref, name in ROOMS.items()},
            "base_url": f"{self.url}/calendar/v3",
            "token_url": self.url,
        }

    def is_login(self, request: Request) -> bool:
        return request.path == "/token"

    def respond(self, request: Request) -> Reply:
        if self.is_login(request):
            signed, _, signature = request.form()["assertion"].rpartition(".")
            raw = base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
            key().public_key().verify(raw, signed.encode(), padding.PKCS1v15(), hashes.SHA256())
            claims = json.loads(base64.urlsafe_b64decode(signed.split(".")[1] + "=="))
            assert claims["aud"] == f"{self.url}/token" and claims["exp"] - claims["iat"] <= 3600
            return Reply.json({"access_token": SECRET})
        if request.headers.get("Authorization") != f"Bearer {SECRET}":
            return Reply.json({"error": {"code": 401, "errors": [{"reason": "authError"}]}}, 401)
        parts = request.path.split("/")
        room = parts[4].split("@")[0]
        if room not in ROOMS:
            return Reply.json({"error": {"code": 404}}, 404)
        if len(parts) == 5:
            return Reply.json({"id": parts[4], "summary": ROOMS[room]})
        start, end = (datetime.fromisoformat(request.query[name]) for name in ("timeMin", "timeMax"))
        events = [e for e in self.events if e.room == room and e.start < end and e.end > start]
        first = int(request.query.get("pageToken", 0))
        # An empty page that is not the last one: Google's documentation says that this happens.
        page: dict[str, Any] = {"items": [self._event(e) for e in events[first - 1 : first]] if first else []}
        if first < len(events):
            page["nextPageToken"] = str(first + 1)
        return Reply.json(page)

    def _event(self, event: Any) -> dict[str, Any]:
        return {
            "id": event.id,
            "etag": '"1"',
            "status": "cancelled" if event.cancelled else "confirmed",
            "summary": f"{event.title} ({CANARY})" if event.id == "e2" else event.title,
            "start": {"dateTime": event.start.isoformat(), "timeZone": "Europe/Amsterdam"},
            "end": {"dateTime": event.end.isoformat(), "timeZone": "Europe/Amsterdam"},
            "organizer": {"displayName": CANARY, "email": CANARY_MAIL},
            "creator": {"email": CANARY_MAIL},
            "attendees": [{"email": CANARY_MAIL}, {"resource": True, "email": f"{event.room}@resource.example"}],
        }


class TestGoogle(AdapterConformance):
    kind = "google-calendar"
    system = Google


@pytest.mark.parametrize("text", ["", "{}", '{"private_key": "-----BEGIN", "client_email": "a"}', SECRET])
def test_a_wrong_key_file_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(ConfigurationError, match="not the JSON key file") as caught:
        GoogleAdapter.from_mapping("x", {"service_account": text, "calendars": {"a": "b"}})
    assert SECRET not in str(caught.value)
