"""Applications made by a function, and configurations that want what a test leaves out."""

import pytest

from tests.system.support import get, run


@pytest.mark.parametrize(("words", "made"), [
    (["made:init_app"], "awaited"), (["made:create_app", "--factory"], "called"),
    (["made:create_app()"], "called"), (["made:init_app", "--factory"], "awaited"),
])
def test_a_function_makes_the_application(apihour_daemon, system_apps, words, made):
    daemon = apihour_daemon(*words, "-b", "http=127.0.0.1:0", cwd=system_apps)
    assert get(daemon) == {"made": made}
    assert daemon.reload().ok
    assert get(daemon) == {"made": made}
    checked = run("check", *words, "-b", "http=127.0.0.1:0", cwd=system_apps)
    assert checked.returncode == 0, checked.stderr
    assert "http     127.0.0.1:0" in checked.stdout


def test_health_of_the_configuration_is_no_obstacle_to_a_test(
    apihour_daemon, system_apps, tmp_path
):
    (tmp_path / "conf.py").write_text("health = '127.0.0.1:0'\n")
    words = ("echo:Container", "-c", tmp_path / "conf.py", "--keys", tmp_path / "keys")
    daemon = apihour_daemon(*words, cwd=system_apps, workers=1)
    assert "health 127.0.0.1:0: off, the console process serves it (--no-console)" in daemon.log
    assert daemon.reload().ok
    served = apihour_daemon(*words, "--console", "127.0.0.1:0", cwd=system_apps, workers=1)
    assert served.address("@health")
    checked = run("check", *words, cwd=system_apps)
    assert "--health" in checked.stdout
    refused = run(*words, "--health", "127.0.0.1:0", "--no-console", cwd=system_apps)
    assert refused.returncode == 1
