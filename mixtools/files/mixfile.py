"""Mix files: YAML 1.2 read strictly, written for people, rewritten without losing their comments."""

from __future__ import annotations

import io
import re
from dataclasses import MISSING, fields
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from mixtools.errors import ParameterError
from mixtools.mix import Bus, Mix, Track

LARGEST_BYTES = 16 * 2**20
DEEPEST = 20
LONGEST_NUMBER = 30
ONE_LINE = 1 << 16
"""An effect stays on its line, however many controls it sets."""


def read_mix(path: str | Path) -> Mix:
    """Read and check a mix file."""
    return parse_mix(read_text(path), str(path))


def read_text(path: str | Path, what: str = "a mix file") -> str:
    """The text of a mix file, or of `what` else people write, refused when it is too large or not UTF-8."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_BYTES + 1)
    except FileNotFoundError:
        raise ParameterError(f"{path} is not there; give {what}") from None
    except IsADirectoryError:
        raise ParameterError(f"{path} is a folder; give {what}") from None
    except OSError as error:
        raise ParameterError(f"{path} cannot be read: {error.strerror}") from None
    return decode(data, str(path), what)


def decode(data: bytes, shown: str, what: str = "a mix file") -> str:
    """The text of such a file's bytes."""
    if len(data) > LARGEST_BYTES:
        raise ParameterError(f"{shown} is larger than {LARGEST_BYTES // 2**20} MiB; give {what}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ParameterError(f"{shown} is not UTF-8 text (byte {error.start}); give {what}") from None


def parse_mix(text: str, shown: str) -> Mix:
    """Check a mix file's text; `shown` names it in errors."""
    tree = plain_tree(text, shown)
    try:
        return Mix.from_plain(tree)
    except ParameterError as error:
        raise ParameterError(f"{shown}: {error}") from None


def format_mix(mix: Mix, previous: str | None = None) -> str:
    """The mix as YAML. With the text it was read from (or an older version's), comments and order there are kept."""
    yaml = _round_trip()
    plain = _lossless(mix.to_plain())
    document = _styled(plain)
    if previous is not None:
        old = yaml.load(previous)
        if isinstance(old, dict):
            _update(old, document)
            document = old
    out = io.StringIO()
    yaml.dump(document, out)
    return out.getvalue()


class _AsWritten:
    """A number in a file that somebody wrote, which keeps its spelling when the file is rewritten."""

    def __init__(self, text: str, tag: str, value: float):
        self.text = text
        self.tag = tag
        self.value = value

    def __eq__(self, other: object) -> bool:
        return not isinstance(other, bool) and self.value == other

    __hash__ = None


def _round_trip() -> Any:
    """A YAML reader and writer that keeps comments, order and the spelling of numbers."""
    from ruamel.yaml import YAML, RoundTripConstructor, RoundTripRepresenter

    class Constructor(RoundTripConstructor):
        pass

    class Representer(RoundTripRepresenter):
        pass

    def number(constructor: Any, node: Any) -> Any:
        name = str(node.tag).rpartition(":")[2]
        return _AsWritten(node.value, str(node.tag), _number(int if name == "int" else float, node.value))

    for name in ("int", "float"):
        Constructor.add_constructor(f"tag:yaml.org,2002:{name}", number)
    Representer.add_representer(_AsWritten, lambda representer, it: representer.represent_scalar(it.tag, it.text))
    yaml = YAML(typ="rt", pure=True)
    yaml.Constructor = Constructor
    yaml.Representer = Representer
    yaml.width = ONE_LINE
    yaml.preserve_quotes = True
    yaml.brace_single_entry_mapping_in_flow_sequence = True
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _number(kind: type, text: str) -> int | float:
    """The value of a YAML 1.2 number; raises `ValueError`."""
    plain = text.replace("_", "").lower()
    if kind is float:
        return float(plain.replace(".inf", "inf").replace(".nan", "nan"))
    if len(plain) > LONGEST_NUMBER:
        raise ValueError
    return int(plain, 0) if plain.lstrip("+-")[:2] in ("0x", "0o", "0b") else int(plain)


def _lossless(value: Any) -> Any:
    """Plain containers and scalars only; whole floats lose their `.0`, so that files read as people write them."""
    if isinstance(value, dict):
        return {key: _lossless(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_lossless(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return int(value)
    return value


_DEFAULTS = {
    item.name: item.default if item.default_factory is MISSING else item.default_factory()
    for kind in (Track, Bus)
    for item in fields(kind)
    if item.name != "file"
}
"""What a strip's keys are when left out: somebody who wrote them out keeps them."""


_PLAIN_WORDS = re.compile(r"\w([\w .+/()&'-]*[\w.+/()&'-])?")
"""Texts that need no quotes, unless they read as a number or a truth value: the emitter sees to those."""


def _styled(plain: dict[str, Any]) -> Any:
    """The same tree, with effects, sends and breakpoints on one line each."""
    from ruamel.yaml.comments import CommentedMap, CommentedSeq
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString

    def word(value: Any) -> Any:
        plain = not isinstance(value, str) or _PLAIN_WORDS.fullmatch(value)
        return value if plain else DoubleQuotedScalarString(value)

    def flow(value: Any) -> Any:
        if isinstance(value, dict):
            node = CommentedMap((word(key), flow(item)) for key, item in value.items())
        elif isinstance(value, list):
            node = CommentedSeq(flow(item) for item in value)
        else:
            return word(value)
        node.fa.set_flow_style()
        return node

    def block(value: Any, key: str) -> Any:
        if key == "chain":
            return CommentedSeq(CommentedMap((name, flow(item)) for name, item in effect.items()) for effect in value)
        if key == "sends":
            return flow(value)
        if isinstance(value, dict):
            return CommentedMap((word(name), block(item, name)) for name, item in value.items())
        if isinstance(value, list):
            return CommentedSeq(block(item, "") for item in value) if key == "tracks" else flow(value)
        return word(value)

    return block(plain, "")


def _update(old: Any, new: Any) -> None:
    """Make `old` say what `new` says, touching only what differs, so that comments and order stay."""
    if isinstance(old, dict):
        for key in [key for key in old if key not in new and old[key] != _DEFAULTS.get(key, ...)]:
            del old[key]
        for key, value in new.items():
            if key in old and _same_kind(old[key], value):
                _update(old[key], value)
            elif key not in old or old[key] != value:
                old[key] = value
        return
    changes = SequenceMatcher(None, [_label(item) for item in old], [_label(item) for item in new], autojunk=False)
    for _, start, stop, new_start, new_stop in reversed(changes.get_opcodes()):
        shared = min(stop - start, new_stop - new_start)
        del old[start + shared : stop]
        for i in range(new_start + shared, new_stop):
            old.insert(start + i - new_start, new[i])
        for i in range(shared):
            if _same_kind(old[start + i], new[new_start + i]):
                _update(old[start + i], new[new_start + i])
            elif old[start + i] != new[new_start + i]:
                old[start + i] = new[new_start + i]


def _label(item: Any) -> str:
    """What a list's item is known by when the list changes: a track by its file, an effect by its name."""
    if isinstance(item, dict) and item:
        return str(item.get("file", next(iter(item))))
    return ""


def _same_kind(old: Any, new: Any) -> bool:
    return (isinstance(old, dict) and isinstance(new, dict)) or (isinstance(old, list) and isinstance(new, list))


def plain_tree(text: str, shown: str) -> Any:
    """The document as plain dicts, lists and scalars; tags, anchors, aliases and repeated keys are refused."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    yaml = YAML(typ="rt", pure=True)
    try:
        return _TreeBuilder(yaml.parse(io.StringIO(text)), yaml.resolver, shown).document()
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ParameterError(f"{shown}: {place}{error.problem or error.context}; mend the YAML there") from None
    except YAMLError as error:
        line = str(error).strip().splitlines()[0]
        raise ParameterError(f"{shown} is not YAML: {line}; give a mix file") from None


class _TreeBuilder:
    """Builds the tree straight from the parser's events: nothing can construct an object or expand an alias."""

    def __init__(self, events: Any, resolver: Any, shown: str):
        self._events = events
        self._resolver = resolver
        self._shown = shown

    def document(self) -> Any:
        from ruamel.yaml import events

        tree = None
        documents = 0
        for event in self._events:
            if isinstance(event, events.DocumentStartEvent):
                documents += 1
                if event.version not in (None, (1, 2), [1, 2]):
                    raise self._error(event, "the %YAML directive asks for another version; leave it out")
                if documents > 1:
                    raise self._error(event, "a second document begins; give one mix to a file")
            elif isinstance(event, (events.ScalarEvent, events.CollectionStartEvent, events.AliasEvent)):
                tree = self._value(event, 0)
        return tree

    def _value(self, event: Any, depth: int) -> Any:
        from ruamel.yaml import events

        if isinstance(event, events.AliasEvent) or event.anchor is not None:
            name = event.anchor
            raise self._error(event, f"anchors and aliases are not taken (*{name}); write the value out")
        if event.tag is not None:
            raise self._error(event, f"tags are not taken ({event.tag}); leave it out")
        if depth > DEEPEST:
            raise self._error(event, f"nested deeper than {DEEPEST} levels; give a mix file")
        if isinstance(event, events.ScalarEvent):
            return self._scalar(event)
        if isinstance(event, events.SequenceStartEvent):
            items = []
            while not isinstance(item := next(self._events), events.SequenceEndEvent):
                items.append(self._value(item, depth + 1))
            return items
        mapping: dict[Any, Any] = {}
        while not isinstance(item := next(self._events), events.MappingEndEvent):
            key = self._value(item, depth + 1)
            if isinstance(key, (dict, list)):
                raise self._error(item, "a key is a list or a mapping; give a word")
            if key in mapping:
                raise self._error(item, f"{key} is there twice; keep one")
            mapping[key] = self._value(next(self._events), depth + 1)
        return mapping

    def _scalar(self, event: Any) -> Any:
        if event.style is not None:
            return event.value
        from ruamel.yaml.nodes import ScalarNode

        tag = str(self._resolver.resolve(ScalarNode, event.value, (True, False)))
        text = event.value
        if tag.endswith(":null"):
            return None
        if tag.endswith(":bool"):
            return text.lower() == "true"
        if not tag.endswith((":int", ":float")):
            return text
        try:
            return _number(int if tag.endswith(":int") else float, text)
        except ValueError:
            raise self._error(event, f"{text[:40]} is not a number") from None

    def _error(self, event: Any, message: str) -> ParameterError:
        mark = event.start_mark
        return ParameterError(f"{self._shown}: line {mark.line + 1}, column {mark.column + 1}: {message}")


def write_mix(mix: Mix, path: str | Path, *, force: bool = False) -> None:
    """Check a mix and write it. With `force` an existing file is rewritten, its comments and order kept."""
    from mixtools.files.outputs import write_text_atomically

    previous = read_text(path) if force and Path(path).is_file() else None
    write_text_atomically(path, format_mix(mix.check(), previous), force=force)
