"""`pupgevent completion SHELL`: what lets bash, zsh or fish complete the words of the command.

The commands and options are in the scripts, made from the records in usage.py, so that no key
press waits for Python. Only the ids of processes are asked for, with `pupgevent completion PROCESS
CONFIG`, since they are in CONFIG. All three scripts do the same:

    walk over the words before the cursor: which command, which CONFIG, how many words besides;
    at the value of an option: nothing
    behind a dash: the options of the command
    where no command has been: the commands, and files that can be CONFIG
    else: what the next word of the command is (a PROCESS, a SIGNAL), and files, where CONFIG can be

Whatever fails on the way, nothing is offered then, and nothing is said.
"""

import re
import shlex
from typing import Callable, Dict, Iterator, List, Tuple

import signal_names
import usage
from exports import own_command
from usage import ALWAYS, COMMANDS, OPTIONS, RUN, SUFFIXES, Command

#: What can stand at a place of the usage; what is not here is asked for, or free.
_CHOICES: Dict[str, Tuple[str, ...]] = {
    "COMMAND": tuple(COMMANDS),
    "FORMAT": usage.FORMATS,
    "SHELL": usage.SHELLS,
    "SIGNAL": tuple(name[3:] for name in signal_names.NUMBERS if not name.startswith("SIGRT")),
}


# What the scripts have of the records


def _all_commands() -> "Dict[str, Command]":
    """With the run, "", at which a command can still be named."""
    return dict({"": RUN._replace(words=("CONFIG", "COMMAND"))}, **COMMANDS)


def _places(command: Command) -> List[str]:
    """The words besides CONFIG, with dots behind the one that repeats."""
    dots = "..." if command.repeats else ""
    return [*command.others[:-1], *(each + dots for each in command.others[-1:])]


def _config_place(command: Command) -> int:
    """Before how many words CONFIG stands; -1: nowhere."""
    return -1 if command.place is None else command.place


def _flags(command: Command) -> List[str]:
    return [*command.options, *ALWAYS]


def _with_value() -> "Tuple[List[str], str]":
    """The options that take a value: their long names, and the letters of the short ones."""
    found = [(name, each.short[1:]) for name, each in OPTIONS.items() if each.value]
    return [name for name, _ in found], "".join(letter for _, letter in found)


def _described(heading: str) -> "Dict[str, str]":
    """The first sentence about each command, or about each option, as the usage has it."""
    section = usage.USAGE.partition("\n%s:\n" % heading)[2].partition("\n\n")[0]
    found = re.findall(r"^  (?:-\w )?([\w-]+)\S*  +([^.:(]+)", section, re.MULTILINE)
    return {name: text.strip() for name, text in found}


def _filled(script: str, **parts: str) -> str:
    """The script with its parts; those that all have, besides."""
    longs, letters = _with_value()
    parts.update(
        longs="|".join(longs), letters=letters,
        suffixes="|".join(each[1:] for each in SUFFIXES))
    for name, text in parts.items():
        script = script.replace("@%s@" % name, text)
    return script


# bash

_BASH = r"""# bash completion for pupgevent, made by `pupgevent completion bash`. In ~/.bashrc:
#   source <(pupgevent completion bash)

_pupgevent_ask() {
    @own@ completion "$@" 2>/dev/null </dev/null
}

_pupgevent_files() {
    local found suffix
    mapfile -t found < <(
        compgen -d -- "$1"
        for suffix in @files@; do compgen -f -X "!*$suffix" -- "$1"; done)
    if ((${#found[@]})); then
        COMPREPLY+=("${found[@]}")
        compopt -o filenames 2>/dev/null
    fi
}

_pupgevent() {
    local words=("${COMP_WORDS[@]:0:COMP_CWORD+1}") line=${COMP_LINE:0:COMP_POINT}
    local cur last word i command='' config='' given=0 value=0 literal=0
    local flags='' kinds=() place=-1 kind='' breaks=${COMP_WORDBREAKS//[^=@:]/}
    # Readline parts words at = and @ as well.
    if [[ $line != *[\\\'\"]* ]]; then
        read -ra words <<<"$line"
        [[ $line == *[[:blank:]] ]] && words+=('')
    fi
    last=$((${#words[@]} - 1))
    cur=${words[last]}
    COMPREPLY=()
    for ((i = 1; i < last; i++)); do
        word=${words[i]}
        if ((value)); then
            value=0
        elif ((!literal)) && [[ $word == -- ]]; then
            literal=1
        elif ((!literal)) && [[ $word == -?* ]]; then
            case $word in
                @longs@) value=1 ;;
                --*) ;;
                -*[@letters@]) value=1 ;;
            esac
        elif [[ -z $config ]] && [[ $word == */* || $word == *.@(@suffixes@) ]]; then
            config=${word/#\~\//$HOME/}
        elif [[ -z $command && -z $config ]]; then
            command=$word
        else
            given=$((given + 1))
        fi
    done
    ((value)) && return
    case $command in
@commands@
        *) return ;;
    esac
    if ((!literal)) && [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$flags" -- "$cur")
    else
        if ((given < ${#kinds[@]})); then
            kind=${kinds[given]}
        elif ((${#kinds[@]})) && [[ ${kinds[${#kinds[@]} - 1]} == *... ]]; then
            kind=${kinds[${#kinds[@]} - 1]}
        fi
        [[ -z $command && -n $config ]] && kind=''
        case ${kind%...} in
@kinds@
            PROCESS | ID) kind=$(_pupgevent_ask "${kind%...}" -- ${config:+"$config"}) ;;
            *) kind='' ;;
        esac
        [[ -n $kind ]] && mapfile -t COMPREPLY < <(compgen -W "$kind" -- "$cur")
        [[ -z $config && $given == "$place" ]] && _pupgevent_files "$cur"
    fi
    if [[ -n $breaks && ${#COMPREPLY[@]} -gt 0 ]]; then
        # What is before it is on the line already. An @ begins a word, others end one.
        word=${cur%"${cur##*[$breaks]}"}
        word=${word%@}
        COMPREPLY=("${COMPREPLY[@]#"$word"}")
    fi
    return 0
}

complete -F _pupgevent pupgevent
"""


def bash() -> str:
    commands = ["        %s) flags='%s' kinds=(%s) place=%d ;;" % (
        name or "''", " ".join(_flags(command)), " ".join(_places(command)),
        _config_place(command)) for name, command in _all_commands().items()]
    kinds = ["            %s) kind='%s' ;;" % (kind, " ".join(words))
             for kind, words in _CHOICES.items()]
    return _filled(
        _BASH, own=" ".join(map(shlex.quote, own_command())), files=" ".join(SUFFIXES),
        commands="\n".join(commands), kinds="\n".join(kinds))


# zsh

_ZSH = r"""#compdef pupgevent
# zsh completion for pupgevent, made by `pupgevent completion zsh`. In ~/.zshrc, behind compinit:
#   source <(pupgevent completion zsh)
# or as the file _pupgevent in a folder of $fpath.

_pupgevent_ask() {
    @own@ completion "$@" 2>/dev/null </dev/null
}

_pupgevent() {
    local word command='' config='' kind=''
    local -a flags kinds found
    integer i given=0 value=0 literal=0 place=-1 ret=1
    for ((i = 2; i < CURRENT; i++)); do
        word=${(Q)words[i]}
        if ((value)); then
            value=0
        elif ((!literal)) && [[ $word == -- ]]; then
            literal=1
        elif ((!literal)) && [[ $word == -?* ]]; then
            case $word in
                @longs@) value=1 ;;
                --*) ;;
                -*[@letters@]) value=1 ;;
            esac
        elif [[ -z $config ]] && [[ $word == */* || $word == *.(@suffixes@) ]]; then
            config=${word/#\~\//$HOME/}
        elif [[ -z $command && -z $config ]]; then
            command=$word
        else
            given=$((given + 1))
        fi
    done
    ((value)) && return 1
    case $command in
@commands@
        *) return 1 ;;
    esac
    if ((!literal)) && [[ $PREFIX == -* ]]; then
        _describe -o -t options option flags
        return
    fi
    if ((given < $#kinds)); then
        kind=$kinds[given+1]
    elif (($#kinds)) && [[ $kinds[-1] == *... ]]; then
        kind=$kinds[-1]
    fi
    [[ -z $command && -n $config ]] && kind=''
    case ${kind%...} in
@kinds@
        PROCESS | ID) found=(${(f)"$(_pupgevent_ask ${kind%...} -- $config)"}) ;;
    esac
    if [[ $kind == COMMAND ]]; then
        _describe -t commands command found && ret=0
    elif (($#found)); then
        compadd -a found && ret=0
    fi
    if [[ -z $config && $given == $place ]]; then
        _path_files -g '*.(@suffixes@)' && ret=0
        _path_files -/ && ret=0
    fi
    return ret
}

if [[ $funcstack[1] == _pupgevent ]]; then
    _pupgevent "$@"
elif (($+functions[compdef])); then
    compdef _pupgevent pupgevent
fi
"""


def zsh() -> str:
    about = _described("Options")
    commands = ["        %s) flags=(%s) kinds=(%s) place=%d ;;" % (
        name or "''", _zsh_described(_flags(command), about), " ".join(_places(command)),
        _config_place(command)) for name, command in _all_commands().items()]
    kinds = ["        %s) found=(%s) ;;" % (kind, " ".join(words))
             for kind, words in _CHOICES.items() if kind != "COMMAND"]
    kinds.append("        COMMAND) found=(%s) ;;" % (
        _zsh_described(COMMANDS, _described("Commands"))))
    return _filled(
        _ZSH, own=" ".join(map(shlex.quote, own_command())),
        commands="\n".join(commands), kinds="\n".join(kinds))


def _zsh_described(words: "Dict[str, Command] | List[str]", about: "Dict[str, str]") -> str:
    """For _describe: a word, a colon, what it is; of an option both names."""
    found = []
    for word in words:
        short = OPTIONS[word].short if word in OPTIONS else ""
        found += [each + ":" + about[word] for each in (word, short) if each]
    return " ".join(map(shlex.quote, found))


# fish

_FISH = r"""# fish completion for pupgevent, made by `pupgevent completion fish`:
#   pupgevent completion fish >~/.config/fish/completions/pupgevent.fish

function __pupgevent_ask
    @own@ completion $argv 2>/dev/null </dev/null
end

function __pupgevent_at -d 'The command, CONFIG, and the number of other words before the cursor'
    set -l command ''
    set -l config ''
    set -l given 0
    set -l value 0
    set -l literal 0
    set -l tokens (commandline -opc)
    set -e tokens[1]
    for word in $tokens
        if test $value = 1
            set value 0
        else if test $literal = 0; and test "$word" = --
            set literal 1
        else if test $literal = 0; and string match -qr '^-.' -- $word
            if string match -qr '^(@longs@|-[^-]*[@letters@])$' -- $word
                set value 1
            end
        else if test -z "$config"; and string match -qr '/|\.(@suffixes@)$' -- $word
            set config $word
        else if test -z "$command$config"
            set command $word
        else
            set given (math $given + 1)
        end
    end
    printf '%s\n' "$command" "$config" $given
end

function __pupgevent_uses -d 'Is it one of these commands?'
    set -l at (__pupgevent_at)
    contains -- "$at[1]" $argv
end

function __pupgevent_words -d 'What can stand at the cursor'
    set -l at (__pupgevent_at)
    set -l kinds
    set -l place -1
    set -l kind ''
    set -l config
    switch "$at[1]"
@commands@
    end
    set -l next (math $at[3] + 1)
    if test $next -le (count $kinds)
        set kind $kinds[$next]
    else if set -q kinds[1]; and string match -q '*...' -- $kinds[-1]
        set kind $kinds[-1]
    end
    if test -n "$at[2]"
        set config (string replace -r '^~/' $HOME/ -- $at[2])
        test -z "$at[1]"; and set kind ''
    end
    switch (string replace ... '' -- "$kind")
@kinds@
        case PROCESS ID
            __pupgevent_ask (string replace ... '' -- $kind) -- $config
    end
    if test -z "$at[2]"; and test "$at[3]" = $place
        __fish_complete_path (commandline -ct) |
            string match -r '^[^\t]*(?:/|\.(?:@suffixes@))(?:\t.*)?$'
    end
end

complete -c pupgevent -f -a '(__pupgevent_words)'
@options@
"""


def fish() -> str:
    commands = []
    for name, command in _all_commands().items():
        commands += ["        case %s" % (name or "''"),
                     "            set kinds %s" % " ".join(_places(command)),
                     "            set place %d" % _config_place(command)]
    about = _described("Commands")
    kinds = []
    for kind, words in _CHOICES.items():
        lines = [word + "\t" + about[word] for word in words] if kind == "COMMAND" else words
        kinds += ["        case " + kind,
                  "            printf '%%s\\n' %s" % " ".join(map(_fish_quoted, lines))]
    return _filled(
        _FISH, own=" ".join(map(_fish_quoted, own_command())), commands="\n".join(commands),
        kinds="\n".join(kinds), options="\n".join(_fish_options()))


def _fish_options() -> "Iterator[str]":
    about = _described("Options")
    for name, option in OPTIONS.items():
        where = "" if name in ALWAYS else "-n %s " % _fish_quoted(
            "__pupgevent_uses " + " ".join(each or "''" for each in usage.goes_with(name)))
        short = "-s %s " % option.short[1:] if option.short else ""
        value = "-x " if option.value else ""
        yield "complete -c pupgevent %s%s-l %s %s-d %s" % (
            where, short, name[2:], value, _fish_quoted(about[name]))


def _fish_quoted(word: str) -> str:
    return "'%s'" % word.replace("\\", "\\\\").replace("'", "\\'")


SHELLS: Dict[str, Callable[[], str]] = {"bash": bash, "zsh": zsh, "fish": fish}
