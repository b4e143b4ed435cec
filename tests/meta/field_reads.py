"""Which fields of which messages the code reads, found in its syntax trees.

Types are followed from annotations, assignments and loops, so that ``port.name`` of a Service is not taken for
``match.name`` of a rule. What cannot be followed (``Any``) counts by name, for spec messages only where it is the spec
of a resource: such reads are ``loose`` and prove a field to be honoured, never a mark to be wrong.
"""

from __future__ import annotations

import ast
import builtins
import collections.abc
import importlib
import inspect
import types
import typing
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from meshlib.config.resources.base import Resource
from meshlib.config.resources.kinds import KINDS

SOURCE = Path(__file__).parents[2] / "src"
Types = frozenset[Any]
NOTHING: Types = frozenset()
ANY: Types = frozenset({Any})
SPECS: Types = frozenset(kind.spec for kind in KINDS.values())
MERGING = {"meshlib.config.compile.delegates"}
"""Modules that copy all fields from message to message: what they read by computed names is not acted upon."""
_SAME = {"sorted", "reversed", "list", "tuple", "set", "frozenset", "iter", "filter", "replace", "copy", "deepcopy"}
_ELEMENT = {"next", "min", "max"}
_ITERABLES = (list, tuple, set, frozenset, collections.abc.Iterable, collections.abc.Iterator)


_FOR_TYPES: dict[str, Any] = {}
"""Names that modules import for annotations alone."""


@dataclass(frozen=True)
class Ref:
    """A value that the code names: a class, a function, a module."""

    value: Any


@dataclass(frozen=True)
class Method:
    """A method of a value of some type."""

    owner: Any
    name: str


@dataclass
class Reads:
    """What was found: (message, field); ``plain`` is the same for dataclasses, ``names`` is what has no type."""

    exact: set[tuple[type[BaseModel], str]] = field(default_factory=set)
    loose: set[tuple[type[BaseModel], str]] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    plain: set[tuple[type, str]] = field(default_factory=set)
    attributes: dict[tuple[type, str], Types] = field(default_factory=dict)


def reads_of(modules: list[str]) -> Reads:
    """All reads in the modules; attributes that constructors set are learned in a first pass."""
    found = Reads()
    parsed = [_Module(name, found) for name in modules]
    for _ in range(2):
        for module in parsed:
            module.walk()
    return found


def flat(annotation: Any) -> Types:
    """The members of a union, without None."""
    if annotation in (None, type(None)):
        return NOTHING
    if isinstance(annotation, typing.TypeVar):
        return ANY
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        return frozenset().union(*(flat(each) for each in get_args(annotation)))
    if origin is typing.Annotated:
        return flat(get_args(annotation)[0])
    if hasattr(annotation, "__value__"):
        return flat(annotation.__value__)
    return frozenset({annotation})


def elements(of: Types) -> Types:
    """What iterating yields."""
    found: Types = NOTHING
    for each in of:
        origin, arguments = get_origin(each) or each, get_args(each)
        if each is Any:
            found |= ANY
        elif isinstance(origin, type) and issubclass(origin, collections.abc.Mapping):
            found |= flat(arguments[0]) if arguments else ANY
        elif isinstance(origin, type) and issubclass(origin, collections.abc.Iterable) and arguments:
            for argument in arguments:
                found |= flat(argument) if argument is not ... else NOTHING
        elif inspect.isclass(origin) and hasattr(origin, "__iter__") and not issubclass(origin, str | bytes):
            found |= _returned(inspect.getattr_static(origin, "__iter__"), each, iterate=True)
    return found


def _returned(function: Any, owner: Any = None, *, iterate: bool = False) -> Types:
    function = getattr(function, "__func__", getattr(function, "func", function))
    try:
        hints = get_type_hints(function, localns=_names(function))
    except (NameError, TypeError):
        return ANY
    result = flat(hints.get("return", Any))
    parameters = getattr(get_origin(owner), "__parameters__", ()) if owner is not None else ()
    if parameters:
        table = dict(zip(parameters, get_args(owner), strict=False))
        result = frozenset().union(*(_substituted(hints.get("return", Any), table),))
    return elements(result) if iterate else result


def _substituted(annotation: Any, table: dict[Any, Any]) -> Types:
    if annotation in table:
        return flat(table[annotation])
    wanted = getattr(annotation, "__parameters__", ())
    if wanted and all(each in table for each in wanted):
        return flat(annotation[tuple(table[each] for each in wanted)])
    return flat(annotation)


def _for_types(tree: ast.Module) -> typing.Iterator[tuple[str, Any]]:
    """What stands under ``if TYPE_CHECKING``."""
    for node in tree.body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for each in node.body:
                if isinstance(each, ast.ImportFrom) and each.module:
                    source = importlib.import_module(each.module)
                    yield from ((alias.asname or alias.name, getattr(source, alias.name)) for alias in each.names)


def _names(function: Any) -> dict[str, Any]:
    """Names for the annotations of a function: its module's before those of others."""
    return {**_FOR_TYPES, **getattr(inspect.unwrap(function), "__globals__", {})}


class _Module:
    def __init__(self, name: str, found: Reads) -> None:
        self.module, self.found = importlib.import_module(name), found
        self.tree = ast.parse(Path(self.module.__file__ or "").read_text("utf-8"))
        self.space = {**vars(builtins), **vars(typing), **vars(self.module)}
        for name, value in _for_types(self.tree):
            self.space.setdefault(name, value)
            _FOR_TYPES.setdefault(name, value)
        self.texts = {node.value for node in ast.walk(self.tree) if isinstance(node, ast.Constant)}

    def walk(self) -> None:
        self.block(self.tree.body, {}, None)

    # Statements -----------------------------------------------------------------------------------------------------

    def block(self, body: list[ast.stmt], env: dict[str, Types], owner: type | None) -> None:
        for statement in body:
            self.statement(statement, env, owner)

    def statement(self, node: ast.stmt, env: dict[str, Types], owner: type | None) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            self.function(node, env, owner)
        elif isinstance(node, ast.ClassDef):
            own = self.space.get(node.name)
            self.block(node.body, dict(env), own if isinstance(own, type) else None)
        elif isinstance(node, ast.Assign):
            value = self.expression(node.value, env)
            for target in node.targets:
                self.bind(target, value, env)
        elif isinstance(node, ast.AnnAssign):
            if node.value is not None:
                self.expression(node.value, env)
            self.bind(node.target, self.annotation(node.annotation), env)
        elif isinstance(node, ast.For | ast.AsyncFor):
            self.bind(node.target, elements(self.expression(node.iter, env)), env)
            self.block([*node.body, *node.orelse], env, owner)
        else:
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.expr):
                    self.expression(child, env)
                elif isinstance(child, ast.stmt):
                    self.statement(child, env, owner)
                elif isinstance(child, ast.ExceptHandler):
                    self.block(child.body, env, owner)
                elif isinstance(child, ast.withitem):
                    self.expression(child.context_expr, env)
                elif isinstance(child, ast.match_case):
                    self.block(child.body, env, owner)

    def function(self, node: Any, env: dict[str, Types], owner: type | None) -> None:
        inner = dict(env)
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        for argument in arguments:
            inner[argument.arg] = self.annotation(argument.annotation) if argument.annotation else ANY
        if owner is not None and arguments and arguments[0].annotation is None:
            inner[arguments[0].arg] = frozenset({owner})
        if node.args.vararg is not None:
            inner[node.args.vararg.arg] = frozenset({tuple[Any, ...]})
        env[node.name] = frozenset({Ref(node.name)}) if node.returns is None else frozenset()
        if node.returns is not None:
            made = typing.Callable[..., Any]
            result = self.annotation(node.returns)
            env[node.name] = frozenset({typing.Callable[..., one] for one in result}) or frozenset({made})  # type: ignore[misc]
        self.block(node.body, inner, None)

    def annotation(self, node: ast.expr) -> Types:
        text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ast.unparse(node)
        try:
            return flat(eval(text, self.space))
        except (NameError, TypeError, AttributeError):
            return ANY

    def bind(self, target: ast.expr, value: Types, env: dict[str, Types]) -> None:
        if isinstance(target, ast.Name):
            env[target.id] = value | (env.get(target.id, NOTHING) - ANY if value == ANY else NOTHING)
        elif isinstance(target, ast.Tuple | ast.List):
            for number, part in enumerate(target.elts):
                self.bind(part, _at(value, number), env)
        elif isinstance(target, ast.Starred):
            self.bind(target.value, frozenset({list[Any]}), env)
        elif isinstance(target, ast.Attribute):
            for each in self.expression(target.value, env):
                if isinstance(each, type) and not issubclass(each, BaseModel):
                    known = self.found.attributes.get((each, target.attr), NOTHING)
                    self.found.attributes[each, target.attr] = known | value
        else:
            self.expression(target, env)

    # Expressions ----------------------------------------------------------------------------------------------------

    def expression(self, node: ast.expr, env: dict[str, Types]) -> Types:
        handler = getattr(self, f"_{type(node).__name__}", None)
        if handler is not None:
            return typing.cast("Types", handler(node, env))
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self.expression(child, env)
        return NOTHING

    def _Name(self, node: ast.Name, env: dict[str, Types]) -> Types:
        if node.id in env:
            return env[node.id]
        return frozenset({Ref(self.space[node.id])}) if _hashable(self.space.get(node.id)) else ANY

    def _Attribute(self, node: ast.Attribute, env: dict[str, Types]) -> Types:
        return self.attribute(self.expression(node.value, env), node.attr)

    def attribute(self, of: Types, name: str) -> Types:
        found: Types = NOTHING
        loose = len([each for each in of if _is_message(each) and name in each.model_fields]) > 1
        for each in of:
            found |= self.attribute_of(each, name, loose)
        return found

    def attribute_of(self, each: Any, name: str, loose: bool) -> Types:
        if each is Any:
            self.found.names.add(name)
            return ANY
        if isinstance(each, Ref):
            value = getattr(each.value, name, None)
            return frozenset({Ref(value)}) if _hashable(value) else ANY
        origin = get_origin(each) or each
        if _is_message(origin):
            return self.message(origin, name, loose)
        if origin is Resource and name == "spec":
            (argument,) = get_args(each) or (Any,)
            return SPECS if argument is Any or isinstance(argument, typing.TypeVar) else flat(argument)
        if is_dataclass(origin) and isinstance(origin, type):
            self.found.plain.add((origin, name))
        for owner in origin.__mro__ if isinstance(origin, type) else ():
            if (owner, name) in self.found.attributes:
                return self.found.attributes[owner, name]
        return _member(origin, name, each)

    def message(self, of: type[BaseModel], name: str, loose: bool) -> Types:
        if name in of.model_fields:
            (self.found.loose if loose else self.found.exact).add((of, name))
            return flat(of.model_fields[name].annotation)
        return frozenset({Method(of, name)})

    def _Call(self, node: ast.Call, env: dict[str, Types]) -> Types:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        given = [self.expression(each, env) for each in node.args]
        for keyword in node.keywords:
            self.expression(keyword.value, env)
        if name == "getattr" and len(given) >= 2:
            return self.getattr(given[0], node.args[1])
        if name == "enumerate":
            return frozenset({list[tuple[int, _union(elements(given[0]))]]})  # type: ignore[misc]
        if name == "zip":
            parts = [_union(elements(each)) for each in given]
            return frozenset({list[tuple[tuple(parts)]]})
        if name in _SAME and given:
            return given[0]
        if name in _ELEMENT and given:
            return elements(given[0]).union(*given[1:]) if len(given) == 1 or name == "next" else given[0].union(*given)
        called = self.expression(node.func, env)
        return frozenset().union(*(self.called(each, given) for each in called))

    def getattr(self, of: Types, name: ast.expr) -> Types:
        if isinstance(name, ast.Constant):
            return self.attribute(of, str(name.value))
        if self.module.__name__ in MERGING:
            return ANY
        found: Types = NOTHING
        for each in of:
            if _is_message(each):
                for one in each.model_fields.keys() & self.texts:
                    found |= self.message(each, one, loose=False)
        return found

    def called(self, each: Any, given: list[Types]) -> Types:
        if isinstance(each, Ref):
            if isinstance(each.value, type):
                return frozenset({each.value})
            return _returned(each.value) if callable(each.value) else ANY
        if isinstance(each, Method):
            return _method(each, given)
        if get_origin(each) is collections.abc.Callable:
            return flat(get_args(each)[-1])
        return ANY if each is Any else NOTHING

    def _Subscript(self, node: ast.Subscript, env: dict[str, Types]) -> Types:
        of = self.expression(node.value, env)
        self.expression(node.slice, env)
        if isinstance(node.slice, ast.Slice):
            return of
        number = node.slice.value if isinstance(node.slice, ast.Constant) else None
        return frozenset().union(*(_item(each, number) for each in of))

    def _BoolOp(self, node: ast.BoolOp, env: dict[str, Types]) -> Types:
        return frozenset().union(*(self.expression(each, env) for each in node.values))

    def _IfExp(self, node: ast.IfExp, env: dict[str, Types]) -> Types:
        self.expression(node.test, env)
        return self.expression(node.body, env) | self.expression(node.orelse, env)

    def _NamedExpr(self, node: ast.NamedExpr, env: dict[str, Types]) -> Types:
        value = self.expression(node.value, env)
        self.bind(node.target, value, env)
        return value

    def _Tuple(self, node: ast.Tuple, env: dict[str, Types]) -> Types:
        parts = [self.expression(each, env) for each in node.elts]
        return frozenset({tuple[tuple(map(_union, parts))]}) if parts else NOTHING

    def _List(self, node: ast.List, env: dict[str, Types]) -> Types:
        parts = [self.expression(each, env) for each in node.elts]
        return frozenset({list[_union(frozenset().union(*parts))]})

    _Set = _List

    def _Starred(self, node: ast.Starred, env: dict[str, Types]) -> Types:
        return elements(self.expression(node.value, env))

    def _Lambda(self, node: ast.Lambda, env: dict[str, Types]) -> Types:
        inner = {**env, **{each.arg: ANY for each in node.args.args}}
        return frozenset({typing.Callable[..., _union(self.expression(node.body, inner))]})  # type: ignore[misc]

    def _GeneratorExp(self, node: Any, env: dict[str, Types]) -> Types:
        inner = dict(env)
        for part in node.generators:
            self.bind(part.target, elements(self.expression(part.iter, inner)), inner)
            for condition in part.ifs:
                self.expression(condition, inner)
        if isinstance(node, ast.DictComp):
            self.expression(node.key, inner)
            return frozenset({dict[Any, _union(self.expression(node.value, inner))]})  # type: ignore[misc]
        return frozenset({list[_union(self.expression(node.elt, inner))]})  # type: ignore[misc]

    _ListComp = _SetComp = _DictComp = _GeneratorExp


def _union(of: Types) -> Any:
    kinds = [each for each in of if not isinstance(each, Ref | Method)]
    return Union[tuple(kinds)] if kinds else Any  # noqa: UP007


def _hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return value is not None


def _is_message(each: Any) -> bool:
    return isinstance(each, type) and issubclass(each, BaseModel)


def _member(origin: Any, name: str, alias: Any) -> Types:
    """An attribute of an ordinary class, by its annotations."""
    if not isinstance(origin, type):
        return NOTHING
    try:
        hints = get_type_hints(origin, localns=_FOR_TYPES)
    except (NameError, TypeError):
        hints = {}
    if name in hints:
        parameters = getattr(origin, "__parameters__", ())
        return _substituted(hints[name], dict(zip(parameters, get_args(alias), strict=False)))
    value = inspect.getattr_static(origin, name, None)
    if isinstance(value, property):
        return _returned(value.fget, alias)
    if is_dataclass(origin) or callable(value) or isinstance(value, staticmethod | classmethod):
        return frozenset({Method(alias, name)})
    return NOTHING


def _method(method: Method, given: list[Types]) -> Types:
    origin, arguments = get_origin(method.owner) or method.owner, get_args(method.owner)
    if _is_message(origin):
        return frozenset({origin}) if method.name in ("model_copy", "model_validate") else NOTHING
    if isinstance(origin, type) and issubclass(origin, collections.abc.Mapping) and len(arguments) == 2:
        key, value = arguments
        table: dict[str, Types] = {
            "items": frozenset({list[tuple[key, value]]}),
            "values": frozenset({list[value]}),
            "keys": frozenset({list[key]}),
        }
        return table.get(method.name, flat(value))
    if isinstance(origin, type) and issubclass(origin, collections.abc.Iterable) and arguments and origin in _ITERABLES:
        return elements(frozenset({method.owner}))
    return _returned(inspect.getattr_static(origin, method.name, None), method.owner)


def _item(each: Any, number: Any) -> Types:
    if each is Any:
        return ANY
    origin, arguments = get_origin(each), get_args(each)
    if origin is tuple and isinstance(number, int) and ... not in arguments and number < len(arguments):
        return flat(arguments[number])
    if isinstance(origin, type) and issubclass(origin, collections.abc.Mapping):
        return flat(arguments[1])
    return elements(frozenset({each}))


def _at(value: Types, number: int) -> Types:
    """One part of what is unpacked."""
    return frozenset().union(*(_item(each, number) for each in value))


def modules(*, without: tuple[str, ...]) -> list[str]:
    """The modules that a client comes to by imports, but those under ``without``: what nobody imports has no effect."""
    seen: dict[str, None] = {}
    ahead = [name for name in FACES if _path(name) is not None]
    while ahead:
        name = ahead.pop()
        path = _path(name)
        if name not in seen and path is not None and not _under(name, without):
            seen[name] = None
            ahead += _imported(ast.parse(path.read_text("utf-8")))
    return sorted(seen)


FACES = ("meshlib.mesh", "meshlib.client", "meshlib.httpx", "meshlib.httpx2", "meshlib.grpc", "meshlib.grpc.aio")
"""Where calls begin."""


def _under(name: str, folders: tuple[str, ...]) -> bool:
    return any(name == each or name.startswith(f"{each}.") for each in folders)


def _path(name: str) -> Path | None:
    base = SOURCE.joinpath(*name.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def _imported(tree: ast.Module) -> list[str]:
    """Modules that a module imports, at its head or in a function, and the packages around them."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return [name for name in found if name.startswith("meshlib")]
