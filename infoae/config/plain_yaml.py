"""The plain part of YAML that configurations are written in: mappings, lists, text, numbers, true, false and null.

What plain values mean follows YAML 1.2, in which 1e-4 is a number and 2020-01-01, 1_000, 1:30 and yes are text. YAML
1.1, which PyYAML reads, makes dates and numbers of these. Aliases, tags and keys given twice are refused: none says
more than plain values do, and each can hide what is read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import yaml

from infoae.errors import UsageError, one_line, shown
from infoae.limits import MAX_YAML_CHARACTERS, MAX_YAML_LEVELS

_FRAME = (yaml.StreamStartEvent, yaml.StreamEndEvent, yaml.DocumentStartEvent, yaml.DocumentEndEvent)
_INTEGER = re.compile(r"[-+]?[0-9]{1,40}")  # longer ones are text, which no key takes for a number
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]{1,40}(?=[eE]))([eE][-+]?[0-9]+)?")
_MEANINGS = (
    ("~ null Null NULL", None),
    ("true True TRUE", True),
    ("false False FALSE", False),
    (".inf .Inf .INF +.inf +.Inf +.INF", math.inf),
    ("-.inf -.Inf -.INF", -math.inf),
    (".nan .NaN .NAN", math.nan),
)
_WORDS: dict[str, Any] = {"": None} | {word: meaning for words, meaning in _MEANINGS for word in words.split()}


def read(text: str, origin: str) -> Any:
    """Return the one document in `text`, None where it is empty. Raises UsageError, with `origin` and the key."""
    if len(text) > MAX_YAML_CHARACTERS:
        raise UsageError(f"{origin} has more characters than {MAX_YAML_CHARACTERS}: it is no configuration")
    events = iter(yaml.parse(text, yaml.SafeLoader))
    try:
        found = [_value(event, events, origin) for event in events if not isinstance(event, _FRAME)]
    except yaml.YAMLError as error:
        raise UsageError(f"{origin} is not valid YAML: {one_line(error)}") from None
    if len(found) > 1:
        raise UsageError(f"{origin} holds {len(found)} YAML documents: leave one")
    return found[0] if found else None


def write(value: Any) -> str:
    """Return JSON values as YAML that `read` gives back."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text


def quoted(text: str) -> str:
    """Return any text as one line that `read` takes for that text: 1, null and [a are none of YAML's own then."""
    line: str = yaml.dump(text, Dumper=_Dumper, default_style='"', width=float("inf"))
    return line.rstrip("\n")


class _Dumper(yaml.SafeDumper):
    """Puts text that YAML 1.2 reads as a number in quotes, too."""


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    # PyYAML writes line ends of Unicode into single quotes, and reads them there as one that may be folded.
    style = '"' if any(end in text for end in "\x85\u2028\u2029") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


def _value(event: yaml.Event, events: Iterator[yaml.Event], where: str, level: int = 0) -> Any:
    """Return the value that begins with `event`; `where` says of what it is, `level` in how many others it lies."""
    if isinstance(event, yaml.AliasEvent):
        raise UsageError(f"{where}: *{event.anchor} is a YAML alias, which is not read: write the value itself")
    assert isinstance(event, yaml.ScalarEvent | yaml.SequenceStartEvent | yaml.MappingStartEvent)
    if event.tag is not None:
        raise UsageError(f"{where}: {event.tag} is a YAML tag, which is not read: leave it out")
    if isinstance(event, yaml.ScalarEvent):
        return event.value if event.style else _scalar(event.value)
    if level == MAX_YAML_LEVELS:
        raise UsageError(f"{where}: more lists and mappings lie in each other than {MAX_YAML_LEVELS}")
    if isinstance(event, yaml.SequenceStartEvent):
        return [_value(item, events, where, level + 1) for item in iter(lambda: _next(events), None)]
    found: dict[str, Any] = {}
    while (key := _next(events)) is not None:
        name = key.value if isinstance(key, yaml.ScalarEvent) and key.tag is None else None
        if name is None:
            raise UsageError(f"{where}: the key in line {_line(key)} is no plain word")
        if name in found:
            raise UsageError(f"{where}: key {shown(name)} is given twice, again in line {_line(key)}")
        inside = f"{where}{'.' if level else ': '}{name if name.isidentifier() else shown(name)}"
        found[name] = _value(next(events), events, inside, level + 1)
    return found


def _next(events: Iterator[yaml.Event]) -> yaml.Event | None:
    """Return the next event, None at the end of a list or mapping."""
    event = next(events)
    return None if isinstance(event, yaml.SequenceEndEvent | yaml.MappingEndEvent) else event


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 0


def _scalar(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text
