"""apihour_http."""
