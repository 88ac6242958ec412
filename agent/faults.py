"""What a validator found wrong, in our own words: one plain sentence a fault, with the key's path."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

Location = tuple[int | str, ...]

NUMBER = "must be a number, without quotes"
WHOLE_NUMBER = "must be a whole number, without quotes"
TEXT = "must be a text in quotes"
TRUTH = "must be true or false, without quotes"
TIME = "must be a date and time with an offset, like 2026-12-24T00:00:00Z, without quotes"
TABLE = "must be a table of keys"
LIST = 'must be a list, like ["a", "b"]'

_SENTENCES: Mapping[str, str] = {
    "missing": "is required",
    "bool_type": TRUTH,
    "bool_parsing": TRUTH,
    "float_type": NUMBER,
    "float_parsing": NUMBER,
    "int_type": WHOLE_NUMBER,
    "int_parsing": WHOLE_NUMBER,
    "int_from_float": WHOLE_NUMBER,
    "finite_number": "must be a finite number",
    "string_type": TEXT,
    "path_type": "must be a path in quotes",
    "datetime_type": TIME,
    "datetime_parsing": TIME,
    "datetime_from_date_parsing": TIME,
    "dict_type": TABLE,
    "mapping_type": TABLE,
    "model_type": TABLE,
    "model_attributes_type": TABLE,
    "list_type": LIST,
    "tuple_type": LIST,
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
    "greater_than": "must be more than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "holds what is not allowed there: it must match {pattern}",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "union_tag_not_found": "is required",
    "union_tag_invalid": "must be one of {expected_tags}",
    "value_error": "{error}",
    "json_invalid": "is not JSON: {error}",
}
"""By the type of pydantic's error; what is in braces stands in the error's context."""

TAG = "kind"
"""The key that tells which of several kinds of table one is."""

_UNITS = {"_w": "watts", "_s": "seconds", "_hz": "hertz", "_v": "volts", "_bytes": "bytes"}


def faults_of(
    error: ValidationError, model: type[BaseModel] | None = None, prefix: str = ""
) -> Iterator[str]:
    """One sentence a fault. `model`, where given, tells which keys there are; `prefix` says where in
    the file that stands which was validated.
    """
    for fault in error.errors(include_url=False):
        location = fault["loc"]
        of_a_key = location[-1:] == ("[key]",)
        place = location[:-1] if of_a_key else location
        if fault["type"].startswith("union_tag_"):
            place = (*place, TAG)
        if fault["type"] == "extra_forbidden":
            text = _unknown(place, model, prefix)
        elif of_a_key and fault["type"] == "int_parsing":
            text = "the key must be a whole number"
        else:
            text = _sentence(fault, place, model, prefix)
        path = path_of(prefix, _untagged(place, model))
        yield f"{path}: {text or fault['msg']}" if path else text or fault["msg"]


def path_of(prefix: str, location: Location) -> str:
    """A place in the file as people write it: `ven[0].name`."""
    path = prefix
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path


def _sentence(
    fault: ErrorDetails, location: Location, model: type[BaseModel] | None, prefix: str
) -> str:
    """What is wrong, in our words; empty when there are none for it."""
    text = _SENTENCES.get(fault["type"], "").format(**fault.get("ctx", {}))
    names = (prefix.partition("[")[0], *location)
    name = ".".join(part for part in names if isinstance(part, str) and part)
    if text == TABLE and isinstance(fault["input"], list):
        return f"there is one only: write [{name}], not [[{name}]]"
    if text == LIST and _are_tables(_type_at(model, location)):
        return f"there may be several: write [[{name}]], not [{name}]"
    key = str(location[-1]) if location else ""
    unit = next((unit for end, unit in _UNITS.items() if key.endswith(end)), None)
    return text if unit is None else text.replace("number,", f"number of {unit},")


def _unknown(location: Location, model: type[BaseModel] | None, prefix: str) -> str:
    table = _type_at(model, location[:-1])
    if not _is_model(table):
        return "unknown key"
    known = [field.alias or name for name, field in table.model_fields.items()]
    close = get_close_matches(str(location[-1]), known, n=1)
    if close:
        place = _untagged((*location[:-1], close[0]), model)
        return f"unknown key; did you mean {path_of(prefix, place)}?"
    return f"unknown key; allowed: {', '.join(known)}"


def _type_at(model: type[BaseModel] | None, location: Location) -> Any:
    """The type of what stands at a place of a model; None when that cannot be told."""
    here: Any = model
    for part in location:
        if isinstance(part, int):
            here = next(iter(get_args(here)), None)
        elif _is_union(here):
            here = _member(here, part)
        elif _is_model(here):
            fields = {field.alias or name: field for name, field in here.model_fields.items()}
            here = fields[part].annotation if part in fields else None
        else:
            return None
        here = _plain(here)
    return here


def _untagged(location: Location, model: type[BaseModel] | None) -> Location:
    """A place without what pydantic puts in it for the kind of table that stands there."""
    return tuple(
        part
        for i, part in enumerate(location)
        if part == TAG or not _is_union(_type_at(model, location[:i]))
    )


def _member(union: Any, tag: str) -> Any:
    """The kind of table that a tag means."""
    tables = (table for table in get_args(union) if _is_model(table))
    return next((t for t in tables if tag in get_args(t.model_fields[TAG].annotation)), None)


def _is_union(annotation: Any) -> bool:
    """Whether it is one of several kinds of table."""
    return get_origin(annotation) is UnionType and all(map(_is_model, get_args(annotation)))


def _plain(annotation: Any) -> Any:
    """A type without what is annotated to it."""
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _are_tables(annotation: Any) -> bool:
    """Whether it is a list of tables."""
    if get_origin(annotation) not in (list, tuple):
        return False
    inner = _plain(get_args(annotation)[0])
    return _is_model(inner) or _is_union(inner) or get_origin(inner) is dict
