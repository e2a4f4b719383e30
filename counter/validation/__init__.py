"""A person counts beside the sensor for an agreed window; the report says how far the two agree."""
