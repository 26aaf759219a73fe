"""Who serves, how many at once, and how well."""
