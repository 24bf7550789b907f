"""Numpy arrays to and from the protocol's datatypes and raw contents (little-endian, row-major)."""
from __future__ import annotations

import struct
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

_NUMPY_OF = {
    "BOOL": "?", "INT8": "i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8", "UINT8": "u1", "UINT16": "<u2",
    "UINT32": "<u4", "UINT64": "<u8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}
_DATATYPE_OF = {np.dtype(code): name for name, code in _NUMPY_OF.items()}
# Where a server answers with typed contents in place of raw ones. FP16 and BF16 have none.
_CONTENTS_OF = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents"}


def to_wire(name: str, array: Array) -> tuple[str, bytes]:
    """(datatype, raw contents) of an input. Strings and bytes objects become BYTES.

    Errors: TypeError for a dtype that the protocol lacks, naming the input.
    """
    array = np.asarray(array)
    if array.dtype.kind in "SUO":
        return "BYTES", _join(name, array)
    datatype = _DATATYPE_OF.get(array.dtype.newbyteorder("<"))
    if datatype is None:
        raise TypeError(f"input '{name}' has dtype {array.dtype}; the protocol has {', '.join(_NUMPY_OF)} and BYTES")
    return datatype, array.astype(_NUMPY_OF[datatype], copy=False).tobytes()


def from_raw(datatype: str, shape: tuple[int, ...], raw: bytes) -> Array:
    """A read-only view of `raw`; BF16 becomes float32, BYTES an object array of bytes.

    Errors: ValueError when bytes, shape and datatype disagree, or for an unknown datatype.
    """
    elements = int(np.prod(shape, dtype=np.int64))
    if datatype == "BYTES":
        return _split(shape, elements, raw)
    if datatype == "BF16":
        halves = np.frombuffer(raw, dtype="<u2")
        return _shaped(datatype, (halves.astype(np.uint32) << 16).view(np.float32), shape, elements)
    if datatype not in _NUMPY_OF:
        raise ValueError(f"unknown datatype '{datatype}'")
    dtype = np.dtype(_NUMPY_OF[datatype])
    if len(raw) != elements * dtype.itemsize:
        raise ValueError(f"{datatype} of shape {list(shape)} takes {elements * dtype.itemsize} bytes, got {len(raw)}")
    return np.frombuffer(raw, dtype=dtype).reshape(shape)


def from_contents(datatype: str, shape: tuple[int, ...], contents: Any) -> Array:
    """The same from typed contents. Errors: ValueError."""
    if datatype not in _CONTENTS_OF:
        raise ValueError(f"datatype '{datatype}' has no typed contents")
    values = getattr(contents, _CONTENTS_OF[datatype])
    dtype = object if datatype == "BYTES" else _NUMPY_OF[datatype]
    return _shaped(datatype, np.array(list(values), dtype=dtype), shape, int(np.prod(shape, dtype=np.int64)))


def _shaped(datatype: str, values: Array, shape: tuple[int, ...], elements: int) -> Array:
    if values.size != elements:
        raise ValueError(f"{datatype} of shape {list(shape)} has {elements} elements, got {values.size}")
    return values.reshape(shape)


def _join(name: str, array: Array) -> bytes:
    parts = []
    for item in array.ravel():
        if isinstance(item, str):
            item = item.encode()
        if not isinstance(item, bytes):
            raise TypeError(f"input '{name}' holds a {type(item).__name__}; an object array holds str or bytes")
        parts.append(struct.pack("<I", len(item)) + item)
    return b"".join(parts)


def _split(shape: tuple[int, ...], elements: int, raw: bytes) -> Array:
    values = np.empty(elements, dtype=object)
    at = 0
    for i in range(elements):
        if at + 4 > len(raw):
            raise ValueError(f"BYTES of shape {list(shape)} ends after {i} of {elements} elements")
        (size,) = struct.unpack_from("<I", raw, at)
        at += 4
        if at + size > len(raw):
            raise ValueError(f"element {i} of BYTES says {size} bytes, {len(raw) - at} are left")
        values[i] = raw[at:at + size]
        at += size
    if at != len(raw):
        raise ValueError(f"BYTES of shape {list(shape)} leaves {len(raw) - at} bytes over")
    return values.reshape(shape)
