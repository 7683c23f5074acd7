"""``apihour keys list|add|remove|rotate-host|fleet``: the command line over a keys directory.

Rules:

- One line of text per failure on stderr, exit status 1; a wrong command line is 2.
- Edits rewrite ``authorized_keys`` whole, keeping every line they are not about.
- A running console notices an edit within a second or two; nothing needs a restart.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

from apihour_console.key_files import FLEET_KEY
from apihour_console.keys.authorized import ROLES, AuthorizedKey, parse_authorized_keys
from apihour_console.keys.directory import KeyDirectory, KeysError

__all__ = ["run"]

_DEFAULT = "keys"  # as a daemon's --keys


def run(argv: Sequence[str]) -> int:
    """Run ``apihour keys`` with those arguments (without ``keys``); returns the exit status."""
    options = _parser().parse_args(list(argv))
    directory = KeyDirectory(options.keys)
    try:
        return int(options.action(directory, options))
    except KeysError as error:
        print(f"apihour keys: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    # No default: an action's would hide what was given before it.
    common.add_argument("--keys", default=argparse.SUPPRESS, metavar="DIR",
                        help="the keys directory (default: keys)")
    parser = argparse.ArgumentParser(
        prog="apihour keys", description="Who may log in to the shell of a daemon."
    )
    parser.add_argument("--keys", default=_DEFAULT, metavar="DIR", help="the keys directory")
    parser.set_defaults(action=_list, json=False)
    actions = parser.add_subparsers(metavar="list|add|remove|rotate-host|fleet")

    one = actions.add_parser("list", parents=[common], help="show the authorised keys")
    one.add_argument("--json", action="store_true")
    one.set_defaults(action=_list)

    one = actions.add_parser("add", parents=[common], help="authorise a public key")
    one.add_argument("key", help="file of a public key, the key itself, or - for stdin")
    one.add_argument("--role", choices=ROLES, default="observer")
    one.add_argument("--from", dest="source", metavar="PATTERNS", help='like "10.0.0.0/8"')
    one.add_argument("--ca", action="store_true", help="the key signs user certificates")
    one.add_argument("--principals", help="names a certificate must have one of (with --ca)")
    one.set_defaults(action=_add)

    one = actions.add_parser("remove", parents=[common], help="take a key away")
    one.add_argument("key", help="fingerprint (or its beginning), comment or line number")
    one.set_defaults(action=_remove)

    one = actions.add_parser("rotate-host", parents=[common], help="make a new host key")
    one.set_defaults(action=_rotate_host)

    one = actions.add_parser(
        "fleet", parents=[common],
        help="make fleet.key, by which the hosts of a fleet know one another")
    one.set_defaults(action=_make_fleet_key)
    return parser


def _make_fleet_key(directory: KeyDirectory, options: argparse.Namespace) -> int:
    path = directory.path / FLEET_KEY
    directory.write_new(path, f"{secrets.token_hex(32)}\n".encode())
    print(f"made {path}; copy it into the keys directory of every host, readable by the daemon's "
          "user alone")
    return 0


def _list(directory: KeyDirectory, options: argparse.Namespace) -> int:
    found = directory.read_authorized()
    rows = [_row(key) for key in found.keys]
    if options.json:
        print(json.dumps(rows))
    elif not rows:
        print(f"{directory.authorized}: no key is authorised")
    else:
        for row in rows:
            columns = ("role", "fingerprint", "comment", "options")
            print("  ".join(str(row[name]) for name in columns))
    for problem in found.problems:
        print(f"apihour keys: {problem}", file=sys.stderr)
    return 1 if found.problems else 0


def _row(key: AuthorizedKey) -> dict[str, object]:
    options = [f'{name}="{value}"' if value else name for name, value in key.options]
    return {
        "line": key.number, "role": key.role, "fingerprint": key.fingerprint,
        "algorithm": key.algorithm, "comment": key.comment,
        "options": ",".join(text for text in options if not text.startswith("role=")),
    }


def _add(directory: KeyDirectory, options: argparse.Namespace) -> int:
    text = _read_key_text(options.key)
    prefix = [f'role="{options.role}"']
    if options.source:
        prefix.append(f'from="{options.source}"')
    if options.ca:
        prefix.append("cert-authority")
    if options.principals:
        prefix.append(f'principals="{options.principals}"')
    line = f"{','.join(prefix)} {text}"
    new = parse_authorized_keys(line, options.key)
    if len(new.keys) != 1 or new.problems:
        raise KeysError(new.problems[0] if new.problems else f"{options.key}: expected one key")
    found = directory.read_authorized().find(new.keys[0].fingerprint, options.ca)
    if found is not None:
        raise KeysError(
            f"{found.fingerprint} is there already as {found.role} (line {found.number}); to "
            f"change it, first: apihour keys remove {found.fingerprint}{_place(options)}"
        )
    host_key = directory.read_host_key()  # one that cannot be used is said before the change
    directory.write_authorized([*_lines(directory), line])
    if host_key is None:
        directory.make_host_key()
    print(f"added {new.keys[0].fingerprint} as {options.role}")
    return 0


def _read_key_text(name: str) -> str:
    if name == "-":
        text = sys.stdin.read()
    elif " " in name.strip():
        text = name
    else:
        try:
            text = Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise KeysError(f"{name}: {reason}; expected a file with a public key") from error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) != 1 or "PRIVATE KEY" in text:
        raise KeysError(f"{name}: expected one line with a public key (a .pub file)")
    return lines[0]


def _remove(directory: KeyDirectory, options: argparse.Namespace) -> int:
    wanted = options.key
    matches = [
        key for key in directory.read_authorized().keys
        if wanted in (key.comment, str(key.number), key.fingerprint)
        or (len(wanted) >= 6 and key.fingerprint.removeprefix("SHA256:").startswith(
            wanted.removeprefix("SHA256:")))
    ]
    if len(matches) != 1:
        raise KeysError(
            f"{wanted!r:.80} names {len(matches) or 'no'} key{'s' * (len(matches) > 1)}; "
            "expected a fingerprint (or its first six characters), comment or line that names one, "
            f"as apihour keys list{_place(options)} shows them")
    lines = _lines(directory)
    del lines[matches[0].number - 1]
    directory.write_authorized(lines)
    print(f"removed {matches[0].fingerprint} ({matches[0].role}, {matches[0].comment})")
    return 0


def _place(options: argparse.Namespace) -> str:
    """The option that names the directory, where it is not the default one."""
    return "" if options.keys == _DEFAULT else f" --keys {options.keys}"


def _lines(directory: KeyDirectory) -> list[str]:
    if not directory.authorized.exists():
        return []
    return directory.authorized.read_text(encoding="utf-8").splitlines()


def _rotate_host(directory: KeyDirectory, options: argparse.Namespace) -> int:
    if directory.host_key.exists():
        old = directory.host_key.with_name(directory.host_key.name + ".old")
        try:
            directory.host_key.replace(old)
        except OSError as error:
            raise KeysError(f"{directory.host_key}: {error.strerror}; cannot move it") from error
    key = directory.make_host_key()
    print(f"made {directory.host_key}, {key.get_fingerprint()}; clients must accept it anew")
    return 0
