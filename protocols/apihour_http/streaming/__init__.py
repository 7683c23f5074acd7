"""Answers that are made while they are sent: streams from an async iterator, and events."""
