"""apihour_asgi."""
