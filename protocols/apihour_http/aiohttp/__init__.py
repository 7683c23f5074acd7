"""The full lane: an unmodified aiohttp application behind our connection."""
