"""apihour_ssh."""
