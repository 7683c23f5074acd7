"""The console process: the SSH shell, health and metrics; a daemon asks its ``key_files`` only."""
