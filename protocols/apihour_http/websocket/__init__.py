"""WebSocket endpoints (RFC 6455): what they are given, and how a request becomes one."""
