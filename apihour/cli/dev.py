"""``apihour dev``: one worker, started again when code, configuration or templates change."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from apihour.cli.run import run
from apihour.config.application import HostApplication
from apihour.errors import ApihourError
from apihour.ipc.bases import base_directory
from apihour.printable import printable

try:
    from watchfiles import watch
except ImportError:  # of apihour[standard]
    watch = None  # type: ignore[assignment]

__all__ = ["changed_files", "develop", "serve", "snapshot"]

_POLL = 0.3  # seconds between two looks; an editor's save takes longer to notice than this
_SUFFIXES = {
    ".py", ".yaml", ".yml", ".json", ".ini", ".cfg", ".toml", ".html", ".jinja", ".jinja2",
    ".j2", ".txt", ".css", ".js", ".sql",
}
_SKIPPED = {"__pycache__", "node_modules", "venv", "build", "dist"}
_MOST_FILES = 20000  # a directory with more is not a project


def develop(arguments: Sequence[str]) -> int:
    """Run the target with one worker and no timeouts, again after every change.

    A start that fails prints the user's file and line and waits for the next change.
    """
    app = HostApplication(arguments, "apihour dev")
    root = Path(app.cfg.chdir)
    extra = [Path(path) for path in app.cfg.reload_extra_files]
    if app.configuration.tree is not None:
        extra.append(app.configuration.tree.path)
    command = [
        sys.executable, "-m", "apihour.cli.dev", *arguments, "--workers", "1", "--timeout", "0",
        "--debug", "--boot-timeout", "3600", "--graceful-timeout", "1",
    ]
    # Python takes kept byte code for current when a file has its old size and second.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    signal.signal(signal.SIGTERM, _interrupt)
    while True:
        before = snapshot(root, extra)
        process = subprocess.Popen(command, cwd=app.directory, env=environment)
        try:
            changes = _wait_for_change(process, root, extra, before)
        except KeyboardInterrupt:
            return 130
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        print(f"apihour dev: {', '.join(changes)} changed, starting again", file=sys.stderr)


def serve(arguments: Sequence[str]) -> int:
    """In the process that is started again: ``apihour run`` with a failure told once.

    What a developer wants to see of it is the application's own lines.
    """
    try:
        run(arguments, "apihour dev")
    except ApihourError as error:
        print(f"{printable(error.detail)}apihour: error: {error.told()}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return 130
    return 0


def _interrupt(sig: int, frame: object) -> NoReturn:
    """Told to end like by Ctrl-C: what was started must not outlive this."""
    raise KeyboardInterrupt


def _wait_for_change(
    process: subprocess.Popen[bytes], root: Path, extra: Sequence[Path], before: dict[str, int]
) -> list[str]:
    told = False
    for is_worth_it in _turns([root, *extra]):
        changes = changed_files(before, snapshot(root, extra)) if is_worth_it else []
        if changes:
            return changes
        if process.poll() is not None and not told:
            told = True
            print("apihour dev: it ended; waiting for a change", file=sys.stderr)
    raise AssertionError("never ends by itself")


def _turns(paths: Sequence[Path]) -> Iterator[bool]:
    """A turn every ``_POLL`` seconds and at each change: whether it is worth a look at the files.

    Where nothing watches them (watchfiles is not installed, or the system lets nobody watch so
    many), every turn is.
    """
    if watch is not None:
        there = [path for path in paths if path.exists()]
        is_first = True  # of something that changed before it watched nothing is heard
        try:
            for changes in watch(*there, watch_filter=None, yield_on_timeout=True,
                                 rust_timeout=int(_POLL * 1000), ignore_permission_denied=True):
                yield is_first or bool(changes)
                is_first = False
        except (OSError, RuntimeError) as error:  # no watch left; no instance of inotify left
            print(f"apihour dev: files cannot be watched ({error}; sysctl fs.inotify): looking "
                  f"at each every {_POLL} s", file=sys.stderr)
    while True:
        time.sleep(_POLL)
        yield True


def snapshot(root: Path, extra: Sequence[Path] = ()) -> dict[str, int]:
    """Modification times, in nanoseconds, of the files worth watching, by path."""
    found: dict[str, int] = {}
    for path in _files(root, extra):
        try:
            found[path] = os.stat(path).st_mtime_ns
        except FileNotFoundError:
            continue  # an editor replaced it just now; the next look finds it
        if len(found) >= _MOST_FILES:
            break
    return found


def changed_files(before: dict[str, int], after: dict[str, int]) -> list[str]:
    """Names of the files that came, went or changed, at most five."""
    names = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    return sorted(os.path.basename(path) for path in names)[:5]


def _files(root: Path, extra: Sequence[Path]) -> Iterator[str]:
    for path in extra:
        if path.is_file():
            yield str(path)
    for top in [root, *(path for path in extra if path.is_dir())]:
        for directory, directories, files in os.walk(top):
            directories[:] = [
                d for d in directories if not d.startswith(".") and d not in _SKIPPED
                and not d.endswith(".egg-info") and not _is_runtime(directory, d)
            ]
            for name in files:
                if os.path.splitext(name)[1] in _SUFFIXES:
                    yield os.path.join(directory, name)


def _is_runtime(directory: str, name: str) -> bool:
    """Whether a directory is that of daemons, which write there as they run."""
    base = base_directory(os.getuid())
    return name.startswith(base.name) and os.path.realpath(directory) == os.path.realpath(
        base.parent)


if __name__ == "__main__":
    sys.exit(serve(sys.argv[1:]))
