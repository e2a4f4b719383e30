"""The HTTP side of the service: the composition root, the API and the portal."""
