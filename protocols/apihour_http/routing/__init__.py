"""Which endpoint answers what, and what it is given: routes, validation, OpenAPI."""
