"""The service: store, ingest, rooms and sensors, matching, metrics, exports, users and rights, API and portal."""
