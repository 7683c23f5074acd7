"""HTTP/2 (RFC 9113): many requests on one connection, for all that HTTP/1 serves; by an extra."""
