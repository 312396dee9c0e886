"""Fingerprint of what a traced function computes: its ops, constants and captured state.

It is the same in every process, although names of nodes and functions contain counters, and
although edits of the source that leave the ops alone, such as comments, change line numbers.
It differs as soon as an op, its attributes, a constant or a lookup table differs.
"""

import graphlib
import hashlib
from collections.abc import Iterable, Mapping

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.attr_value_pb2 import AttrValue, NameAttrList
from tensorflow.core.framework.function_pb2 import FunctionDef
from tensorflow.core.framework.node_def_pb2 import NodeDef

# Attributes that name resources, or say where and by which executor an op runs. So do
# attributes that start with an underscore.
_IGNORED = {"shared_name", "container", "debug_name", "config_proto", "executor_type"}


def fingerprint(concrete: tf.types.experimental.ConcreteFunction, owner: tf.Module) -> str:
    """Returns the SHA-256 of what a traced function computes.

    Args:
        concrete: The function.
        owner: The module whose lookup tables the function uses.

    Raises:
        ValueError: The function uses a resource that is neither a variable nor a lookup table
            of the module.
    """
    library = concrete.graph.as_graph_def().library.function
    bodies = _Bodies({function.signature.name: function for function in library})
    structure = tf.nest.map_structure(lambda _: 0, concrete.structured_outputs)
    outputs = [_spec(value) for value in tf.nest.flatten(concrete.structured_outputs)]
    variables = {id(variable.handle): variable for variable in concrete.variables}
    tables = {
        id(part.resource_handle): part
        for part in tf.train.TrackableView(owner).descendants()
        if hasattr(part, "resource_handle") and hasattr(part, "key_dtype")
    }
    captures = []
    for tensor in concrete.captured_inputs:
        if tensor.dtype != tf.resource:
            captures.append(_hash_of_array(tensor.numpy()))
        elif id(tensor) in variables:
            captures.append(_hash_of_array(variables[id(tensor)].numpy()))
        elif id(tensor) in tables:
            captures.append(_hash_of_table(tables[id(tensor)]))
        else:
            raise ValueError(
                f"{concrete.name} uses {tensor!r}, which is neither a variable nor a lookup table "
                f"of {type(owner).__name__}."
            )
    definition = bodies.hash_of_definition(concrete.function_def)
    return _hash(definition, structure, *outputs, *captures)


class _Bodies:
    """Hashes of function bodies, which call one another by name."""

    def __init__(self, definitions: Mapping[str, FunctionDef]):
        self._definitions = definitions
        self._hashes: dict[str, str] = {}

    def hash_of(self, name: str) -> str:
        """Returns the hash of the function of a name."""
        if name not in self._hashes:
            self._hashes[name] = self.hash_of_definition(self._definitions[name])
        return self._hashes[name]

    def hash_of_definition(self, definition: FunctionDef) -> str:
        """Returns the hash of a function: of its outputs, and of the ops with side effects.

        The hash of a node covers its op, its attributes and, through their hashes, its inputs,
        so that neither the names of nodes nor their order matter.
        """
        nodes = {node.name: node for node in definition.node_def}
        arguments = {argument.name: i for i, argument in enumerate(definition.signature.input_arg)}
        hashes = {
            name: _hash("argument", i, definition.signature.input_arg[i].type)
            for name, i in arguments.items()
        }
        dependencies = {
            name: {_source(value) for value in node.input} for name, node in nodes.items()
        }
        for name in graphlib.TopologicalSorter(dependencies).static_order():
            if name in nodes:
                hashes[name] = self._hash_of_node(nodes[name], hashes)
        outputs = [definition.ret[output.name] for output in definition.signature.output_arg]
        effects = sorted(hashes[name] for name in definition.control_ret.values())
        return _hash("function", *(_reference(output, hashes) for output in outputs), *effects)

    def _hash_of_node(self, node: NodeDef, hashes: Mapping[str, str]) -> str:
        data = [_reference(value, hashes) for value in node.input if value[0] != "^"]
        control = sorted(hashes[_source(value)] for value in node.input if value[0] == "^")
        attributes = [
            _hash(name, self._hash_of_attribute(node.attr[name]))
            for name in sorted(node.attr)
            if name not in _IGNORED and name[0] != "_"
        ]
        return _hash("node", node.op, *data, "control", *control, "attributes", *attributes)

    def _hash_of_attribute(self, value: AttrValue) -> str:
        kind = value.WhichOneof("value")
        if kind == "func":
            return self._hash_of_call(value.func)
        if kind == "list" and value.list.func:
            return _hash("functions", *map(self._hash_of_call, value.list.func))
        return _hash(kind, value.SerializeToString(deterministic=True))

    def _hash_of_call(self, call: NameAttrList) -> str:
        name = self.hash_of(call.name) if call.name in self._definitions else call.name
        return _hash("call", name, *self._hashes_of_attributes(call))

    def _hashes_of_attributes(self, call: NameAttrList) -> Iterable[str]:
        names = sorted(name for name in call.attr if name not in _IGNORED and name[0] != "_")
        return [_hash(name, self._hash_of_attribute(call.attr[name])) for name in names]


def _source(value: str) -> str:
    """Returns the node or argument of an input such as `node:output:0`, `argument` or `^node`."""
    return value.removeprefix("^").partition(":")[0]


def _reference(value: str, hashes: Mapping[str, str]) -> str:
    """Returns the hash of an input: of the node or argument, and of which of its outputs."""
    name, _, output = value.partition(":")
    return _hash(hashes[name], output)


def _spec(value: tf.Tensor | tf.TypeSpec) -> str:
    spec = value if isinstance(value, tf.TypeSpec) else tf.type_spec_from_value(value)
    return _hash(spec.dtype.name, spec.shape, getattr(spec, "ragged_rank", 0))


def _hash_of_table(table: tf.lookup.StaticHashTable) -> str:
    """Returns the hash of the entries of a table; their order in memory does not matter."""
    keys, values = tf.raw_ops.LookupTableExportV2(
        table_handle=table.resource_handle, Tkeys=table.key_dtype, Tvalues=table.value_dtype
    )
    order = np.argsort(keys.numpy(), kind="stable")
    return _hash("table", *(_hash_of_array(array.numpy()[order]) for array in (keys, values)))


def _hash_of_array(array: np.ndarray) -> str:
    array = np.asarray(array)
    if array.dtype == object:  # strings
        return _hash("strings", array.shape, *array.ravel().tolist())
    return _hash("array", array.dtype, array.shape, array.tobytes())


def _hash(*parts: object) -> str:
    """Returns the SHA-256 of parts, each preceded by its length."""
    digest = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode()
        digest.update(b"%d " % len(data))
        digest.update(data)
    return digest.hexdigest()
