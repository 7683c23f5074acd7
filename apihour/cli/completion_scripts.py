"""``apihour completion bash|zsh|fish``: a script that completes this command in a shell.

Rules:

- The options are those of the option table, so they are never listed twice.
- A script is static: what it offers was known when it was made. Only the words of ``ctl``, which a
  running daemon knows, are asked for, and the targets, which are the Python files here.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from apihour.cli.brought import command_names
from apihour.cli.new.making import PARTS
from apihour.config.helptext import explain
from apihour.config.settings import HostConfig
from apihour.errors import UsageError
from apihour.ipc.private import parser_options

__all__ = ["CompletedOption", "completed_options", "completion"]

_SHELLS = ("bash", "zsh", "fish")
_HOW = {
    "bash": "apihour completion bash > ~/.local/share/bash-completion/completions/apihour",
    "zsh": "apihour completion zsh > DIR/_apihour, with DIR in $fpath before compinit",
    "fish": "apihour completion fish > ~/.config/fish/completions/apihour.fish",
}
_USAGE = "usage: apihour completion bash|zsh|fish\n\nA script that completes apihour there:\n" + (
    "".join(f"\n  {how}" for how in _HOW.values()))
_KINDS = {"FILE": "file", "FILES": "file", "CONFIG": "file", "DIR": "dir"}
_LEVELS = ("debug", "info", "warning", "error", "critical")
_SERVING = ("run", "dev", "check")  # with the options of the table
_WORDS = {
    "completion": _SHELLS,
    "keys": ("list", "add", "remove", "rotate-host", "fleet"),
}
_KEYS = "keys"


@dataclass(frozen=True)
class CompletedOption:
    """One option: its names, what comes after it (`kind`) and its help.

    `kind` is ``flag`` (nothing comes), ``file``, ``dir``, ``choice`` or ``value``.
    """

    names: tuple[str, ...]
    kind: str
    help: str = ""
    choices: tuple[str, ...] = ()


def completion(words: Sequence[str]) -> int:
    """Print the script for a shell. Raises UsageError for another word."""
    if list(words) in (["-h"], ["--help"]):
        print(_USAGE)
        return 0
    if len(words) != 1 or words[0] not in _SHELLS:
        raise UsageError(f"completion: {' '.join(words) or 'no shell'}; "
                         f"expected {', '.join(_SHELLS)}")
    print({"bash": _bash, "zsh": _zsh, "fish": _fish}[words[0]](), end="")
    return 0


def completed_options() -> list[CompletedOption]:
    """The options of ``run``, ``dev`` and ``check``; those that are refused are left out."""
    settings = HostConfig("apihour", prog="apihour")
    parser = settings.parser()
    explain(parser, settings.settings)
    return [_option(action) for action in parser_options(parser)
            if action.option_strings and action.help != argparse.SUPPRESS]


def _option(action: argparse.Action) -> CompletedOption:
    summary = (action.help or "").replace("%%", "%").partition(". ")[0].rstrip(".")
    names = tuple(action.option_strings)
    if action.nargs == 0:
        return CompletedOption(names, "flag", summary)
    if "--log-level" in names:
        return CompletedOption(names, "choice", summary, _LEVELS)
    kind = "dir" if "--chdir" in names else _KINDS.get(str(action.metavar), "value")
    return CompletedOption(names, kind, summary)


def _commands() -> list[str]:
    from apihour.cli.main import commands  # which imports this module when it is asked for

    return sorted({*commands(), *command_names()})


def _of_kind(kind: str) -> str:
    return "|".join(name for one in completed_options() if one.kind == kind for name in one.names)


_TARGETS = r"""
_apihour_targets() {
    grep -lE '^class Container\b' /dev/null *.py */__init__.py */container.py 2>/dev/null |
        sed -nE 's#\.py$##; s#/(__init__|container)$##; s#/#.#g; s#^[A-Za-z0-9_.]+$#&:Container#p' |
        sort -u
}
"""
_BASH = r"""
# bash completion of apihour: %(how)s

_apihour() {
    local line=${COMP_LINE:0:COMP_POINT} words=() word before command=run found=() part
    read -ra words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    word=${words[-1]} before=${words[-2]}
    [[ $word == --*=* ]] && before=${word%%%%=*} word=${word#*=}
    if (( ${#words[@]} > 2 )); then
        case ${words[1]} in (%(commands)s) command=${words[1]} ;; esac
    fi
    case $command:$before in
        (keys:--keys) mapfile -t found < <(compgen -d -- "$word") ;;
        (keys:--role) found=(observer operator admin) ;;
        (new:--directory|new:--apihour) mapfile -t found < <(compgen -f -- "$word") ;;
        (new:--with) found=(%(parts)s) ;;
        (new:*) found=(--with --apihour --directory --help) ;;
        (ctl:--instance) ;;
        (ctl:ctl|ctl:help)
            found=($("${words[0]}" ctl help 2>/dev/null | sed -n 's/^  \([a-z-]*\) .*/\1/p')) ;;
%(words)s
        (run:*|dev:*|check:*)
            case $before in
                (%(files)s) mapfile -t found < <(compgen -f -- "$word") ;;
                (%(dirs)s) mapfile -t found < <(compgen -d -- "$word") ;;
                (--log-level) found=(%(levels)s) ;;
                (%(values)s) ;;
                (*) case $word in
                        (-*) found=(%(options)s) ;;
                        (*) found=($(_apihour_targets))
                            (( ${#words[@]} == 2 )) && found+=(%(names)s) ;;
                    esac ;;
            esac ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "${found[*]@Q}" -- "$word")
    # The shell takes what stands after : and = for a word of its own.
    part=${word%%"${word##*[:=]}"}
    [[ -n $part && $COMP_WORDBREAKS == *:* ]] && COMPREPLY=("${COMPREPLY[@]#"$part"}")
}

%(targets)s
complete -o filenames -o nosort -F _apihour apihour
"""


def _bash() -> str:
    options = [name for one in completed_options() for name in one.names if name[:2] == "--"]
    words = "\n".join(
        f"        ({command}:{command}) found=({' '.join(given)}) ;;"
        for command, given in _WORDS.items())
    return _BASH.lstrip() % {
        "how": _HOW["bash"], "words": words, "parts": " ".join(PARTS), "targets": _TARGETS.lstrip(),
        "commands": "|".join(_commands()), "names": " ".join(_commands()),
        "files": _of_kind("file"), "dirs": _of_kind("dir"), "values": _of_kind("value"),
        "levels": " ".join(_LEVELS), "options": " ".join(options),
    }


_ZSH = r"""
#compdef apihour
# zsh completion of apihour: %(how)s

_apihour() {
    local -a commands
    commands=(%(names)s)
    local command=run
    if (( CURRENT > 2 )) && (( ${commands[(Ie)$words[2]]} )); then
        command=$words[2]
        shift words
        (( CURRENT-- ))
    else
        commands=($commands $(_apihour_targets))
        (( CURRENT == 2 )) && [[ $words[2] != -* ]] && compadd -- $commands && return
    fi
    case $command in
        (keys) _arguments '--keys=[the keys directory]:directory:_files -/' \
                '--role=[what it may do]:role:(observer operator admin)' \
                '1:action:(%(keys)s)' '*:key:_files' ;;
        (new) _arguments '--with=[what it serves]:part:_values -s , part %(parts)s' \
                '--apihour=[where it gets apihour from]:version or path:_files' \
                '--directory=[make that directory]:directory:_files -/' '1:name: ' ;;
        (completion) _arguments '1:shell:(%(shells)s)' ;;
        (ctl) (( CURRENT == 2 )) && compadd -- \
                $(apihour ctl help 2>/dev/null | sed -n 's/^  \([a-z-]*\) .*/\1/p') ;;
        (run|dev|check) _arguments -s \
%(options)s
                '*:target:_apihour_add_targets' ;;
    esac
}

_apihour_add_targets() { compadd -- $(_apihour_targets) }

%(targets)s
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _apihour "$@"
else
    compdef _apihour apihour
fi
"""


def _zsh() -> str:
    return _ZSH.lstrip() % {
        "how": _HOW["zsh"], "names": " ".join(_commands()), "shells": " ".join(_SHELLS),
        "parts": " ".join(PARTS),
        "keys": " ".join(_WORDS[_KEYS]), "targets": _TARGETS.lstrip(),
        "options": "\n".join(f"                {shlex.quote(_zsh_option(name, one))} \\"
                             for one in completed_options() for name in one.names),
    }


def _zsh_option(name: str, one: CompletedOption) -> str:
    """As _arguments takes it (zshcompsys(1)): ``--keys=[help]:DIR:_files -/``."""
    said = one.help
    for char in "\\[]:":
        said = said.replace(char, f"\\{char}")
    after = {"flag": "", "value": ":value: ", "file": ":file:_files", "dir": ":directory:_files -/",
             "choice": f":level:({' '.join(one.choices)})"}[one.kind]
    joined = "=" if after and name.startswith("--") else "+" if after and len(name) == 2 else ""
    return f"{name}{joined}[{said}]{after}"


_FISH = r"""
# fish completion of apihour: %(how)s

function __apihour_targets
    set -l files *.py */__init__.py */container.py
    grep -lE '^class Container\b' /dev/null $files 2>/dev/null |
        sed -nE 's#\.py$##; s#/(__init__|container)$##; s#/#.#g; s#^[A-Za-z0-9_.]+$#&:Container#p' |
        sort -u
end

function __apihour_serves
    not __fish_seen_subcommand_from %(others)s
end

complete -c apihour -f
complete -c apihour -n __fish_use_subcommand -a '%(names)s'
complete -c apihour -n __apihour_serves -a '(__apihour_targets)'
complete -c apihour -n '__fish_seen_subcommand_from completion' -a '%(shells)s'
complete -c apihour -n '__fish_seen_subcommand_from keys' -a '%(keys)s'
complete -c apihour -n '__fish_seen_subcommand_from keys' -l keys -x \
    -a '(__fish_complete_directories)'
complete -c apihour -n '__fish_seen_subcommand_from keys' -l role -x -a 'observer operator admin'
complete -c apihour -n '__fish_seen_subcommand_from new' -l with -x -a '%(parts)s'
complete -c apihour -n '__fish_seen_subcommand_from new' -l apihour -r -F
complete -c apihour -n '__fish_seen_subcommand_from new' -l directory -r -F
complete -c apihour -n '__fish_seen_subcommand_from ctl' \
    -a '(apihour ctl help 2>/dev/null | sed -n "s/^  \([a-z-]*\) .*/\1/p")'
%(options)s
"""


def _fish() -> str:
    return _FISH.lstrip() % {
        "how": _HOW["fish"], "names": " ".join(_commands()), "shells": " ".join(_SHELLS),
        "parts": " ".join(PARTS),
        "keys": " ".join(_WORDS[_KEYS]),
        "others": " ".join(one for one in _commands() if one not in _SERVING),
        "options": "\n".join(map(_fish_option, completed_options())),
    }


def _fish_option(one: CompletedOption) -> str:
    named = " ".join(
        f"-l {name[2:]}" if name[:2] == "--" else f"-s {name[1]}" if len(name) == 2
        else f"-o {name[1:]}" for name in one.names)
    after = {"flag": "", "value": " -x", "file": " -r -F",
             "dir": " -x -a '(__fish_complete_directories)'",
             "choice": f" -x -a '{' '.join(one.choices)}'"}[one.kind]
    said = one.help.replace("\\", "\\\\").replace("'", "\\'")
    return f"complete -c apihour -n __apihour_serves {named}{after} -d '{said}'"
