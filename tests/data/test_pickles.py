"""Pickles are read without running anything; whatever else is in a file is refused."""

from __future__ import annotations

import copyreg
import os
import pickle
import struct
from collections import OrderedDict

import pytest

from harness import DataError
from harness.data import pickles
from harness.data.pickles import CLASSES, PickledObject, kind, read_pickle

SENTINEL = "harness_pickle_sentinel"


class Calls:
    """Pickles to a call of `function` with `args`, which a plain unpickler would make."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


class NotListed:
    pass


@pytest.fixture
def sentinel(tmp_path):
    """A file that hostile pickles try to create; at the end it must not be there."""
    path = tmp_path / SENTINEL
    yield path
    assert not path.exists(), "something in the pickle was executed"


@pytest.fixture
def refused(tmp_path):
    """Reads bytes as a published pickle and returns the message of the refusal."""

    def read(content: bytes) -> str:
        path = tmp_path / "hostile.pkl"
        path.write_bytes(content)
        with pytest.raises(DataError) as refusal:
            read_pickle(path)
        assert str(path) in str(refusal.value)
        return str(refusal.value)

    return read


def text(value: str) -> bytes:
    return b"\x8c" + bytes([len(value.encode())]) + value.encode()


def name(module: str, attribute: str) -> bytes:
    """STACK_GLOBAL of one name."""
    return text(module) + text(attribute) + b"\x93"


def proto4(*parts: bytes) -> bytes:
    return b"\x80\x04" + b"".join(parts) + b"."


@pytest.mark.parametrize("protocol", range(6))
def test_a_plain_unpickler_would_run_the_command(protocol, tmp_path):
    """The refusals below are worth something only if these pickles are dangerous elsewhere."""
    path = tmp_path / SENTINEL

    pickle.loads(pickle.dumps(Calls(os.system, f"touch {path}"), protocol=protocol))

    assert path.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_a_command_is_refused_in_every_protocol(protocol, sentinel, refused):
    content = pickle.dumps(Calls(os.system, f"touch {sentinel}"), protocol=protocol)

    message = refused(content)

    assert "system" in message
    assert "Nothing in it was executed" in message


@pytest.mark.parametrize("protocol", range(6))
def test_eval_is_refused_in_every_protocol(protocol, sentinel, refused):
    code = f"open({str(sentinel)!r}, 'w')"

    assert "eval" in refused(pickle.dumps(Calls(eval, code), protocol=protocol))


@pytest.mark.parametrize("protocol", range(6))
def test_a_class_that_is_not_listed_is_refused(protocol, refused):
    content = pickle.dumps(OrderedDict(a=1), protocol=protocol)

    assert "OrderedDict" in refused(content)


@pytest.mark.parametrize(
    ("module", "attribute"),
    [
        ("posix", "system"),
        ("builtins", "getattr"),
        ("builtins", "__import__"),
        ("importlib", "import_module"),
        ("operator", "attrgetter"),
        ("copyreg", "_reconstructor"),
        ("pickle", "loads"),
        ("numpy", "load"),
        ("numpy.core.multiarray", "_reconstruct.__globals__"),
        ("pymatgen.core.structure", "Structure.from_file"),
        ("pymatgen.core.structure", "__builtins__"),
        ("pandas", "eval"),
        ("pandas.core.frame", "DataFrame.eval"),
        ("harness.data.pickles", "Record"),
    ],
)
def test_a_name_outside_the_list_is_refused_with_its_module(module, attribute, refused):
    message = refused(proto4(name(module, attribute)))

    assert f"{module}.{attribute}, which is not on the list" in message


def test_a_call_hidden_among_allowed_classes_is_refused(sentinel, refused):
    hidden = name("posix", "system") + text(f"touch {sentinel}") + b"\x85R"

    assert "posix.system" in refused(
        proto4(name("pymatgen.core.structure", "Structure"), b")\x81", hidden, b"b")
    )


def test_a_pickle_inside_a_pickle_stays_bytes(sentinel, tmp_path):
    inner = pickle.dumps(Calls(os.system, f"touch {sentinel}"), protocol=4)
    path = tmp_path / "nested.pkl"
    path.write_bytes(pickle.dumps([inner], protocol=4))

    assert read_pickle(path) == [inner]


def test_a_file_cut_anywhere_is_refused(shared, refused):
    whole = (shared / "published/structures_scalers/structures_Dataset1.pkl").read_bytes()

    for length in [0, 1, 2, 10, 11, 100, 1000, len(whole) // 2, len(whole) - 1]:
        assert "truncated or no pickle" in refused(whole[:length])


def test_something_that_is_no_pickle_is_refused(refused):
    refused(b"<!DOCTYPE html><html>404: not found</html>")


def test_a_file_over_the_size_limit_is_refused_unread(monkeypatch, refused):
    monkeypatch.setattr(pickles, "MAX_BYTES", 1000)

    assert "larger than" in refused(pickle.dumps(["x" * 1001], protocol=4))


@pytest.mark.parametrize(
    ("content", "opcode"),
    [
        (b"\x80\x04Pname\n.", "PERSID"),
        (proto4(text("name"), b"Q"), "BINPERSID"),
        (b"(ios\nsystem\n.", "INST"),
        (proto4(b"(", name("numpy", "dtype"), b"o"), "OBJ"),
        (proto4(b"Nr" + struct.pack("<I", 2**31)), "LONG_BINPUT"),
        (proto4(b"\x8b" + struct.pack("<i", 1) + b"\x00"), "LONG4"),
        (b"\x80\x05\x97.", "NEXT_BUFFER"),
    ],
)
def test_an_opcode_that_plain_objects_do_not_need_is_refused(content, opcode, refused):
    assert f"opcode {opcode}" in refused(content)


def test_an_extension_code_is_refused_even_if_it_is_registered_and_cached(refused):
    copyreg.add_extension(__name__, "NotListed", 0x7A)
    try:
        assert "opcode EXT1" in refused(proto4(b"\x82\x7a"))
    finally:
        copyreg.remove_extension(__name__, "NotListed", 0x7A)


@pytest.mark.parametrize(
    "state", [b"}" + text("__class__") + b"Ns", b"N}" + text("args") + b"Ns\x86"]
)
def test_state_is_remembered_and_sets_no_attribute(state, tmp_path):
    path = tmp_path / "state.pkl"
    path.write_bytes(proto4(name("pymatgen.core.lattice", "Lattice"), b")\x81", state, b"b"))

    record = read_pickle(path)

    assert kind(record) == "Lattice"
    assert record.args == ()
    assert record.state is not None
    assert not hasattr(record, "__dict__")


def test_state_for_a_class_instead_of_an_object_is_refused(refused):
    slots = b"N}" + text("__setstate__") + b"Ns\x86"

    assert "damaged" in refused(proto4(name("pymatgen.core.lattice", "Lattice"), slots, b"b"))
    assert "__setstate__" in vars(PickledObject)


def test_a_listed_class_is_not_imported_but_stood_in_for(tmp_path):
    for module, attribute in CLASSES:
        path = tmp_path / "class.pkl"
        path.write_bytes(proto4(name(module, attribute), b"K\x07\x85R"))

        record = read_pickle(path)

        assert isinstance(record, PickledObject)
        assert (kind(record), record.args) == (attribute, (7,))


@pytest.mark.parametrize("file", ["Dataset1", "structures_Dataset1", "MIX", "structures_MIX"])
def test_the_published_files_pass_both_fences(file, shared):
    content = read_pickle(shared / f"published/structures_scalers/{file}.pkl")

    assert kind(content) == ("list" if file.startswith("structures_") else "DataFrame")
