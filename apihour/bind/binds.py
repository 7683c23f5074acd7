"""Which server listens where: names on one side, addresses on the other.

Rules, as pure functions:

- ``binds`` on the class come first; configuration file, environment and command line
  override them by name, each level as a whole.
- A bind without a name takes its server by position, which is how lists match.
- A bind no server claims, or a server without a bind, is an error that names both sides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from apihour.bind.addresses import BindAddress, is_name, parse_address, parse_bind
from apihour.errors import AddressError, ConfigurationError
from apihour.plugins import SocketKind

__all__ = [
    "DEFAULT", "Binds", "class_binds", "is_default", "is_positional", "match_servers", "one_kind",
    "refuse_doubles", "resolve_binds",
]

DEFAULT = "127.0.0.1:8000"

Binds = dict[str, list[BindAddress]]
"""Addresses by the name of their server."""


def is_positional(name: str) -> bool:
    """Whether a bind was given without a name (its name is then its position)."""
    return name.isdigit()


def class_binds(cls: type, declared: object) -> dict[str, list[str]] | None:
    """``binds`` of a container class as texts, None for one that serves nothing.

    Raises ConfigurationError naming the class.
    """
    if declared is None:
        return None
    where = f"{cls.__module__}.{cls.__qualname__}.binds"
    if not isinstance(declared, Mapping):
        raise ConfigurationError(
            f"{where}: {declared!r}; expected a mapping of server name to address, or None "
            "where nothing is served"
        )
    found: dict[str, list[str]] = {}
    for name, value in declared.items():
        texts = list(value) if isinstance(value, list | tuple) else [value]
        try:
            if not isinstance(name, str) or not is_name(name):
                raise ConfigurationError(f"{where}: {name!r}: expected a name like 'http'")
            for text in texts:
                parse_address(text)
        except AddressError as error:
            raise ConfigurationError(f"{where}: {name!r}: {error}") from error
        if not texts:
            raise ConfigurationError(f"{where}: {name!r} has no address; expected at least one")
        found[name] = texts
    return found


def is_default(
    declared: Mapping[str, Sequence[str]] | None, levels: Iterable[Sequence[str]]
) -> bool:
    """Whether nobody says where to listen, so that it is :data:`DEFAULT`."""
    return declared is not None and not declared and not any(levels)


def resolve_binds(
    declared: Mapping[str, Sequence[str]] | None, levels: Iterable[Sequence[str]]
) -> Binds:
    """Apply the overriding levels, least important first, to what the class declares.

    None declares that nothing is served: without a level there is no bind then.
    Raises ConfigurationError for a nameless override of several declared binds and for two
    binds of one address.
    """
    serves, declared = declared is not None, declared or {}
    result: Binds = {name: [parse_address(text) for text in texts]
                     for name, texts in declared.items()}
    for level in levels:
        override: Binds = {}
        position = 0
        for text in level:
            name, address = parse_bind(text)
            if name is None and len(declared) > 1:
                raise ConfigurationError(
                    f"bind {text!r}: the container has several; "
                    f"expected NAME={text} with one of {', '.join(declared)}"
                )
            if name is None:
                position += 1
                name = next(iter(declared), str(position))
            override.setdefault(name, []).append(address)
        if any(map(is_positional, override)):
            result = {name: value for name, value in result.items() if not is_positional(name)}
        result.update(override)
    if serves and not result:
        result = {"1": [parse_address(DEFAULT)]}
    refuse_doubles(result)
    return result


def refuse_doubles(binds: Mapping[str, Iterable[BindAddress]]) -> None:
    """Raise ConfigurationError where two binds, by name, are one address."""
    seen: dict[tuple[str, str, int], str] = {}
    for name, addresses in binds.items():
        for address in addresses:
            fixed = address.port != 0 or address.family not in ("tcp", "udp")
            if fixed and address.place in seen:
                other = seen[address.place]
                both = f"binds {other!r} and {name!r} are both"
                raise ConfigurationError(
                    f"{both if other != name else f'bind {name!r} is twice'} {address}; "
                    "expected different addresses"
                )
            seen[address.place] = name


def match_servers(made: Any, binds: Sequence[str]) -> list[tuple[str, Any, list[str]]]:
    """Pair what ``make_servers()`` returned with the bind names: (name, object, binds).

    `made` is a dict by bind name or a list in the order of the binds. Raises
    ConfigurationError naming both sides when they do not match.
    """
    names = list(dict.fromkeys(binds))
    pairs = None
    if isinstance(made, list | tuple):
        pairs = _match_list(made, names)
    elif isinstance(made, Mapping):
        pairs = _match_names(made, names)
    if pairs is None:
        from apihour.bind.mismatches import mismatch  # read where there is one only

        raise mismatch(made, names)
    return pairs


def _match_list(made: Sequence[Any], names: list[str]) -> list[tuple[str, Any, list[str]]] | None:
    if len(made) == 1 and names:
        return [(names[0] if len(names) == 1 else "1", made[0], names)]
    if len(made) != len(names):
        return None
    return [(name, server, [name]) for name, server in zip(names, made, strict=True)]


def _match_names(
    made: Mapping[Any, Any], names: list[str]
) -> list[tuple[str, Any, list[str]]] | None:
    nameless = [name for name in names if is_positional(name)]
    pairs = [(str(name), server, [str(name)]) for name, server in made.items() if name in names]
    homeless = [str(name) for name in made if name not in names]
    if any(name not in made and name not in nameless for name in names):
        return None
    if len(homeless) == 1 and nameless:
        return [*pairs, (homeless[0], made[homeless[0]], nameless)]
    if len(homeless) != len(nameless):
        return None
    return pairs + [(name, made[name], [bind])
                    for name, bind in zip(homeless, nameless, strict=True)]


def one_kind(name: str, kinds: Iterable[SocketKind]) -> SocketKind:
    """The kind that all binds of a server share. Raises ConfigurationError naming it."""
    found = sorted(set(kinds))
    if len(found) != 1:
        from apihour.bind.mismatches import several_kinds

        raise several_kinds(name, found)
    return found[0]
