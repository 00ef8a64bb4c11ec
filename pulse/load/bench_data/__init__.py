"""`pulse bench-data`: months of realistic events at once, into the service's own tables."""
