"""The way of the counts: messages, keys, sealed spool, sender, WireGuard tunnel and enrolment.

Runs on both the sensor and the service and imports nothing else of Headroom.
"""
