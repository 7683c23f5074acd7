"""The console process: the SSH shell, health and metrics; nothing imports it."""
