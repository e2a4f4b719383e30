"""Pictures with labels: shards of renderings, real clips with pseudo-labels, and what training does to them."""
