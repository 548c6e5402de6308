"""`pupgevent init [--from=FILE] [CONFIG]`: write a configuration that `check` accepts.

It asks nothing and takes no file's place. The text is checked as `check` does it, in memory: what
is not right is never written.
"""

import os
import re
import shlex
import stat
from typing import List

import configuration
import documents
import drafts
import first_configuration
import from_pm2
import from_procfile
import from_pup
import from_supervisord
import new_file
from drafts import Draft, Written
from errors import ConfigurationError, UsageError, counted, encoded, one_line

#: CONFIG left out.
DEFAULT = "pupgevent.toml"

_KINDS = "a Procfile, a PM2 ecosystem file as JSON, a supervisord.conf, a pup.json"

_JAVASCRIPT = (".js", ".cjs", ".mjs", ".ts")
_YAML = (".yml", ".yaml")

#: How to make JSON of what node reads, by suffix: the name is the last word of the command.
_BY_REQUIRE = "node -p 'JSON.stringify(require(require(\"path\").resolve(process.argv[1])))' %s"
_BY_IMPORT = ("node -e 'import(require(\"path\").resolve(process.argv[1]))"
              ".then(m => console.log(JSON.stringify(m.default)))' %s")
_BY_EVAL = ("node -p 'JSON.stringify(eval(\"(\" + require(\"fs\")"
            ".readFileSync(process.argv[1], \"utf8\") + \"\\n)\"))' %s")
_BY_YAML = ("python3 -c 'import sys, json, yaml; print(json.dumps(yaml.safe_load"
            "(open(sys.argv[1]))))' %s")

#: The first line of an INI file that says anything, and of a Procfile.
_LIKE_INI = re.compile(r"(?:[ \t]*(?:[;#].*)?\n)*[ \t]*\[[\w:.-]+\]")
_LIKE_PROCFILE = re.compile(r"(?:[ \t]*(?:#.*)?\n)*[A-Za-z0-9_-]+:[ \t]*\S")


def write(target: str, source: str) -> List[str]:
    """Write `target`, from `source` where that is not empty; returns what to print.

    Raises ConfigurationError for a source that cannot be read or carried over, and for a target
    that is there; PupgeventError for one that cannot be written.
    """
    if target.lower().endswith((".json", ".jsonc")):
        raise UsageError("init writes TOML: let the name of CONFIG end in .toml, and give the file"
                         " that it is made from as --from=%s" % shlex.quote(target))
    # The mistake that is made most often comes first.
    new_file.check(target)
    written = make(target, source)
    private = written.secret or (bool(source) and not _is_public(source))
    new_file.write(target, encoded(written.text), private)
    return _report(target, source, written, private)


def make(target: str, source: str) -> Written:
    """What `target` is to hold, checked; raises ConfigurationError."""
    draft = Draft(target, source)
    _say_what_it_is(draft, source)
    if source:
        _fill(draft, source)
    else:
        first_configuration.fill(draft)
    written = draft.finish()
    _check(target, source, written)
    return written


def _say_what_it_is(draft: Draft, source: str) -> None:
    name = os.path.basename(draft.target)
    made = "pupgevent init" + (" --from=%s" % source if source else "")
    draft.head.say("Made by %s." % made)
    if source:
        draft.head.say('What could not be carried over stands at its place, behind "%s".'
                       % drafts.LOST)
    draft.head.say("pupgevent check %s says what would run, pupgevent %s runs it. Relative paths"
                   " start at the folder of this file." % (name, name))


def _fill(draft: Draft, source: str) -> None:
    """Carry `source` over, as the kind that its name and its text say."""
    name = os.path.basename(source).lower()
    if name.endswith(_JAVASCRIPT):
        command = _BY_IMPORT if name.endswith(".mjs") else _BY_REQUIRE
        raise _needs_json(source, "JavaScript", command)
    if name.endswith(_YAML):
        raise _needs_json(source, "YAML", _BY_YAML)
    if name.endswith(".toml"):
        raise ConfigurationError(source, None, "it is TOML, as configurations of pupgevent are")
    text = documents.read_text(source)
    if name.endswith((".json", ".jsonc")):
        _fill_from_json(draft, source, text)
    elif "procfile" in name:
        from_procfile.fill(draft, source, text)
    elif name.endswith((".conf", ".ini")) or _LIKE_INI.match(text):
        from_supervisord.fill(draft, source, text)
    elif _LIKE_PROCFILE.match(text):
        from_procfile.fill(draft, source, text)
    else:
        raise ConfigurationError(source, None, "it is not %s" % _KINDS)


def _needs_json(source: str, what: str, command: str) -> ConfigurationError:
    stem = re.sub(r"\.\w+\Z", "", os.path.basename(source))
    name = stem + (".json" if not source.endswith(".json") else ".strict.json")
    command = "%s > %s" % (command % shlex.quote(source), shlex.quote(name))
    return ConfigurationError(
        source, None, "it is %s: make JSON of it, and give that to --from: %s" % (what, command))


def _fill_from_json(draft: Draft, source: str, text: str) -> None:
    # A list of applications is an ecosystem file, too.
    is_list = text.lstrip().startswith("[")
    try:
        document = documents.parse(source, '{"apps": %s}' % text if is_list else text)
    except ConfigurationError as error:
        if re.search(r"[{,]\s*(?:apps|name|script)\s*:", text):
            raise _needs_json(source, "JavaScript, not JSON", _BY_EVAL) from error
        raise
    if isinstance(document.values.get("processes"), list):
        from_pup.fill(draft, source, document)
    elif from_pm2.is_one(document.values):
        from_pm2.fill(draft, source, document)
    else:
        hint = ": pupgevent init alone reads a package.json" if "scripts" in document.values else ""
        raise ConfigurationError(source, None, "it is not %s%s" % (_KINDS, hint))


def _check(target: str, source: str, written: Written) -> None:
    """Raises ConfigurationError where `check` would refuse the file."""
    try:
        if len(encoded(written.text)) > documents.SIZE_LIMIT:
            raise ConfigurationError(target, None, "is larger than %d bytes" % documents.SIZE_LIMIT)
        configuration.check(target, documents.parse(target, written.text))
    except ConfigurationError as error:
        raise ConfigurationError(
            source or target, None, "check would refuse what it becomes: %s" % error.message
        ) from error


def _is_public(source: str) -> bool:
    try:
        return bool(os.stat(source).st_mode & stat.S_IROTH)
    except OSError:
        return False


def _report(target: str, source: str, written: Written, private: bool) -> List[str]:
    made = " from %s" % source if source else ""
    count = counted(written.processes, "process", "processes")
    lines = ["wrote %s%s: %s" % (target, made, count)]
    if private:
        reason = "there may be secrets in it" if written.secret else "as %s" % source
        lines.append("only you can read it (mode 0600): %s" % reason)
    if written.lost:
        them = "it" if written.lost == 1 else "them"
        lines.append("%s could not be carried over: look for \"%s\" in the file, which says what to"
                     " do about %s" % (counted(written.lost, "thing"), drafts.LOST, them))
    if not source:
        lines += ["%s lies here: pupgevent init --from=%s OTHER.toml carries it over" % (name, name)
                  for name in first_configuration.sources(os.path.dirname(target) or ".")]
    word = shlex.quote(target if re.search(r"/|\.toml\Z", target) else "./" + target)
    lines += ["next: pupgevent check %s" % word, "      pupgevent %s" % word]
    return [one_line(line) for line in lines]
