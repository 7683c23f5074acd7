"""What all tests share: the fixtures that start daemons."""

pytest_plugins = ["apihour.testing.plugin"]
