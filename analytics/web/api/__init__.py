"""The REST API ``/v1``: the same figures as the portal, for BI tools and building systems."""
