"""apihour_tcp."""
