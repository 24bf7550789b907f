"""Writes an ONNX file of 256 MB: x [N, 8192] times a constant [8192, 8192] f32. Protobuf's wire format by hand: no packages.

usage: large_model.py FILE
"""
import sys

WIDTH = 8192


def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out + bytes([value]))


def number(field, value):
    return varint(field << 3) + varint(value)


def head(field, size):
    return varint(field << 3 | 2) + varint(size)


def text(field, value):
    value = value.encode() if isinstance(value, str) else value
    return head(field, len(value)) + value


def value_info(name, batch):
    shape = text(1, text(2, batch)) + text(1, number(1, WIDTH))
    return text(1, name) + text(2, text(1, number(1, 1) + text(2, shape)))


def main():
    data_bytes = WIDTH * WIDTH * 4
    node = text(1, "x") + text(1, "w") + text(2, "y") + text(4, "MatMul")
    tensor = number(1, WIDTH) + number(1, WIDTH) + number(2, 1) + text(8, "w") + head(9, data_bytes)
    before = text(1, node) + text(2, "large") + head(5, len(tensor) + data_bytes) + tensor
    after = text(11, value_info("x", "N")) + text(12, value_info("y", "N"))
    model = number(1, 8) + text(8, text(1, "") + number(2, 17)) + head(7, len(before) + data_bytes + len(after))
    with open(sys.argv[1], "wb") as file:
        file.write(model + before)
        row = (b"\x00\x00\x80\x3c" * WIDTH)  # 1/64, so that no page is a hole of zeros
        for _ in range(WIDTH):
            file.write(row)
        file.write(after)


main()
