"""One module a group of pages; each registers its routes on a `Pages` with the right they need."""
