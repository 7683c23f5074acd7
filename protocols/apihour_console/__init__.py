"""apihour_console."""
