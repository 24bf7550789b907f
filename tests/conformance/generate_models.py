"""Writes small models with inputs and expected outputs in the form of ONNX's suite, for what the suite leaves out.

Every element function, reduction, cast and move for every type that its operator allows; the same behind a convolution,
whose result is channels-last; and what older opsets said with attributes. Expected outputs come from ONNX's reference
evaluator (python3-onnx).

Usage: generate_models.py FOLDER   (exit 77: python3-onnx or numpy is absent)
"""
import os
import shutil
import sys
import warnings

try:
    import numpy as np
    import onnx
    from onnx import helper, numpy_helper
    from onnx.reference import ReferenceEvaluator
except ImportError as error:
    print(error)
    sys.exit(77)

warnings.filterwarnings("ignore")
RNG = np.random.default_rng(1)
TYPES = {"float": np.float32, "double": np.float64, "float16": np.float16, "bool": np.bool_,
         "int8": np.int8, "int16": np.int16, "int32": np.int32, "int64": np.int64,
         "uint8": np.uint8, "uint16": np.uint16, "uint32": np.uint32, "uint64": np.uint64}
FLOATS = ("float", "double", "float16")
WRITTEN = {}


def is_float(name):
    return name in FLOATS


def values(name, shape, low=None, high=None):
    """Random numbers of a type; without bounds [-2, 2] for floats, the whole range for integers (u64: half of it)."""
    dtype = np.dtype(TYPES[name])
    if name == "bool":
        return RNG.integers(0, 2, shape).astype(dtype)
    if is_float(name):
        return RNG.uniform(-2 if low is None else low, 2 if high is None else high, shape).astype(dtype)
    info = np.iinfo(dtype)
    low = info.min if low is None else max(low, info.min)
    high = min(info.max, 2**63 - 2) if high is None else high
    return RNG.integers(low, high, shape, endpoint=True).astype(dtype)


def allowed(op, parameter=None):
    """Types that an operator's (first) type parameter allows, of those that numpy has."""
    schema = onnx.defs.get_schema(op)
    parameter = parameter or schema.inputs[0].type_str
    for constraint in schema.type_constraints:
        if constraint.type_param_str == parameter:
            return [t[7:-1] for t in constraint.allowed_type_strs if t.startswith("tensor(") and t[7:-1] in TYPES]
    return [t for t in TYPES if f"tensor({t})" == parameter]


def write(folder, model, inputs, outputs):
    data = os.path.join(folder, "test_data_set_0")
    os.makedirs(data)
    onnx.save(model, os.path.join(folder, "model.onnx"))
    for stem, arrays in (("input", inputs), ("output", outputs)):
        for i, array in enumerate(arrays):
            with open(os.path.join(data, f"{stem}_{i}.pb"), "wb") as file:
                file.write(numpy_helper.from_array(np.asarray(array)).SerializeToString())


def declare(name, array):
    array = np.asarray(array)
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)


def graph(name, nodes, inputs, constants=None, opset=22, outputs=("y",)):
    """One model; `inputs` and `constants` map names to arrays."""
    made = helper.make_graph(nodes, "g", [declare(k, v) for k, v in inputs.items()],
                             [onnx.ValueInfoProto(name=o) for o in outputs],
                             [numpy_helper.from_array(v, k) for k, v in (constants or {}).items()])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    results = ReferenceEvaluator(model).run(None, inputs)
    del model.graph.output[:]
    for output, result in zip(outputs, results):
        info = helper.make_tensor_value_info(output, helper.np_dtype_to_tensor_dtype(np.asarray(result).dtype), None)
        model.graph.output.append(info)
    try:
        onnx.shape_inference.infer_shapes(model, strict_mode=True)
    except onnx.shape_inference.InferenceError as error:  # the evaluator gives another type than the standard
        print(f"left out: {name}: {str(error).splitlines()[0]}")
        return
    assert name not in WRITTEN, name
    WRITTEN[name] = True
    write(os.path.join(sys.argv[1], "generated", name), model, list(inputs.values()), results)


def case(name, op, arrays, attributes=None, opset=22, outputs=1):
    """A model of one node; None stands for an omitted input."""
    names = [f"x{i}" if a is not None else "" for i, a in enumerate(arrays)]
    results = ["y"] + [f"y{i}" for i in range(1, outputs)]
    graph(name, [helper.make_node(op, names, results, **(attributes or {}))],
          {n: a for n, a in zip(names, arrays) if n}, opset=opset, outputs=results)


UNARY = ("Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Ceil Celu Cos Cosh Elu Erf Exp Floor Gelu HardSigmoid HardSwish "
         "Hardmax Identity IsInf IsNaN LeakyRelu Log LogSoftmax Mish Neg Not Reciprocal Relu Round Selu Shrink Sigmoid "
         "Sign Sin Sinh Softmax Softplus Softsign Sqrt Tan Tanh ThresholdedRelu Transpose Flatten NonZero").split()
DOMAINS = {"Log": (0.1, 3), "Sqrt": (0.1, 3), "Acos": (-.9, .9), "Asin": (-.9, .9), "Atanh": (-.9, .9), "Acosh": (1.1, 4)}
# The evaluator computes these in several roundings of float16, or returns float32.
ROUNDS_OFTEN = {"Elu", "Gelu", "HardSigmoid", "HardSwish"}


def unary():
    for op in UNARY:
        for t in allowed(op):
            if t == "float16" and op in ROUNDS_OFTEN:
                continue
            low, high = DOMAINS.get(op, (None, None))
            if op in ("Abs", "Neg", "Shrink") and not is_float(t):
                low, high = -100, 100
            case(f"{op}_{t}", op, [values(t, (2, 3, 4), low, high)])
    for op in ("Abs", "Neg"):
        case(f"{op}_int64_large", op, [values("int64", (5,), -2**62, 2**62)])
    for t in allowed("EyeLike"):
        case(f"EyeLike_{t}", "EyeLike", [values(t, (3, 4))], {"k": 1})
    for t in ("float", "double"):
        case(f"Det_{t}", "Det", [values(t, (2, 3, 3))])


BINARY = ("Add Sub Mul Div Mod And Or Xor Equal Less LessOrEqual Greater GreaterOrEqual BitwiseAnd BitwiseOr BitwiseXor PRelu "
          "Max Min Sum Mean").split()


def binary_operands(op, t):
    if is_float(t) or t == "bool" or op.startswith("Bitwise"):
        return values(t, (2, 3, 4)), values(t, (3, 1))
    if op in ("Div", "Mod"):
        sign = 1 if op == "Div" or t[0] == "u" else RNG.choice([-1, 1])  # Div of the evaluator rounds down, not to zero
        return values(t, (2, 3, 4), -9 if op == "Mod" else 0, 9), values(t, (3, 1), 1, 4) * np.array(sign, TYPES[t])
    if op in ("Add", "Mul"):
        return values(t, (2, 3, 4), 0, 9), values(t, (3, 1), 0, 9)
    if op == "Sub":
        return values(t, (2, 3, 4), 20, 29), values(t, (3, 1), 0, 9)
    return values(t, (2, 3, 4), -100, 100), values(t, (3, 1), -1, 1)


def binary():
    for op in BINARY:
        for t in allowed(op):
            a, b = binary_operands(op, t)
            case(f"{op}_{t}", op, [a, b], {"fmod": 1} if op == "Mod" and is_float(t) else {})
            if op in ("Max", "Min"):
                case(f"{op}_{t}_three", op, [a, b, values(t, (4,))])
                case(f"{op}_{t}_one", op, [a])
            if op in ("Add", "Equal", "Less", "Greater", "Max", "Min") and t in ("int64", "uint64"):
                large = values(t, (2, 3), 2**53, 2**53 + 2)
                case(f"{op}_{t}_large", op, [large, large[::-1].copy()])
    for t in allowed("Pow"):
        for e in allowed("Pow", "T1"):
            case(f"Pow_{t}_{e}", "Pow", [values(t, (2, 3), 0.1 if is_float(t) else 1, 3), values(e, (3,), 0, 4)])
    for t in allowed("BitShift"):
        for direction in ("LEFT", "RIGHT"):
            case(f"BitShift_{t}_{direction}", "BitShift", [values(t, (2, 3), 0, 100), values(t, (3,), 0, 5)],
                 {"direction": direction})
    for t in allowed("Where", "T"):
        case(f"Where_{t}", "Where", [values("bool", (2, 1, 4)), values(t, (2, 3, 4)), values(t, (3, 1))])
    for t in allowed("Clip"):
        x = values(t, (3, 4)) if is_float(t) else values(t, (3, 4), -100, 100)
        low, high = (np.array(v, TYPES[t]) for v in ((-1, 0.5) if is_float(t) else (5, 50)))
        for name, bounds in (("both", [low, high]), ("high", [None, high]), ("low", [low]), ("none", [])):
            case(f"Clip_{t}_{name}", "Clip", [x] + bounds)


REDUCE = ["Reduce" + s for s in "L1 L2 LogSum LogSumExp Max Mean Min Prod Sum SumSquare".split()]


def reductions():
    for op in REDUCE:
        for t in allowed(op):
            if op in ("ReduceLogSum", "ReduceLogSumExp", "ReduceL2") and not is_float(t):
                continue  # the evaluator gives reals
            if op == "ReduceSumSquare" and t in ("int32", "uint32"):
                continue  # and 64 bits here
            case(f"{op}_{t}", op, [values(t, (2, 3, 4), 1, 4)], {"keepdims": 0})
    for op in ("ReduceMax", "ReduceMin", "ReduceSum"):
        for t in ("int64", "uint64"):
            case(f"{op}_{t}_large", op, [values(t, (2, 3), 2**53, 2**53 + 9)])
    for op in ("ArgMax", "ArgMin"):
        for t in allowed(op):
            case(f"{op}_{t}", op, [values(t, (2, 3, 4))], {"axis": 1})
            case(f"{op}_{t}_last", op, [values(t, (2, 3, 4), 0, 2)], {"axis": -1, "select_last_index": 1})


def moves():
    ints = lambda *v: np.array(v, np.int64)
    for t in allowed("Concat"):
        case(f"Concat_{t}", "Concat", [values(t, (2, 3)), values(t, (2, 2))], {"axis": 1})
    for t in allowed("Gather"):
        case(f"Gather_{t}", "Gather", [values(t, (4, 3)), np.array([[0, 3], [-1, 1]], np.int32)])
    for t in allowed("Trilu"):
        case(f"Trilu_{t}", "Trilu", [values(t, (2, 3, 4)), np.array(1, np.int64)])
    for t in allowed("Slice"):
        case(f"Slice_{t}", "Slice", [values(t, (4, 6)), ints(1), ints(100), ints(1), ints(2)])
    for t in allowed("Pad"):
        case(f"Pad_{t}", "Pad", [values(t, (2, 3)), ints(1, 0, 0, 2), np.array(1, TYPES[t])])
    for t in allowed("Split"):
        case(f"Split_{t}", "Split", [values(t, (2, 6))], {"axis": 1, "num_outputs": 3}, outputs=3)
    for t in allowed("Expand"):
        case(f"Expand_{t}", "Expand", [values(t, (2, 1, 3)), ints(2, 2, 1)])
        case(f"Tile_{t}", "Tile", [values(t, (2, 1, 3)), ints(2, 2, 1)])
    cast = helper.make_node
    for op, constant, attributes in (("Transpose", None, {"perm": [1, 0]}), ("Reshape", ints(5, 3), {}),
                                     ("Pad", ints(1, 0, 0, 1), {}), ("Unsqueeze", ints(0), {})):
        x = RNG.integers(-8, 8, (3, 5)).astype(np.float32)
        nodes = [cast("Cast", ["x"], ["a"], to=onnx.TensorProto.INT4),
                 cast(op, ["a"] + (["c"] if constant is not None else []), ["b"], **attributes),
                 cast("Cast", ["b"], ["y"], to=onnx.TensorProto.INT32)]
        graph(f"{op}_int4", nodes, {"x": x}, {"c": constant} if constant is not None else {})


def casts():
    for a in TYPES:
        for b in TYPES:
            x = values(a, (3, 5))
            if is_float(a):
                x = values(a, (3, 5), 0 if b[0] == "u" else -100, 100)
            elif b == "float16" and a != "bool":
                x = values(a, (3, 5), -100, 100)
            case(f"Cast_{a}_{b}", "Cast", [x], {"to": helper.np_dtype_to_tensor_dtype(np.dtype(TYPES[b]))})
            case(f"CastLike_{a}_{b}", "CastLike", [x, values(b, (1,))])


def products():
    for t in allowed("MatMul"):
        if t != "float16":  # the evaluator sums float16 in float16
            case(f"MatMul_{t}", "MatMul", [values(t, (2, 3, 4), -9, 9), values(t, (4, 5), -9, 9)])
            case(f"Gemm_{t}", "Gemm", [values(t, (3, 4), -5, 5), values(t, (4, 2), -5, 5), values(t, (2,), -5, 5)])
    for t in ("int64", "uint64"):
        case(f"MatMul_{t}_large", "MatMul", [values(t, (2, 3, 4), 2**53, 2**53 + 9), values(t, (4, 5), 0, 3)])
    for t in ("float", "double"):
        case(f"Conv_{t}", "Conv", [values(t, (1, 2, 5, 5)), values(t, (3, 2, 3, 3)), values(t, (3,))])
        case(f"MaxPool_{t}", "MaxPool", [values(t, (1, 2, 5, 5))], {"kernel_shape": [2, 2]})
        case(f"AveragePool_{t}", "AveragePool", [values(t, (1, 2, 5, 5))], {"kernel_shape": [2, 2]})
        case(f"BatchNormalization_{t}", "BatchNormalization",
             [values(t, (2, 3, 4))] + [values(t, (3,), .5, 2) for _ in range(4)])


def behind_convolution():
    """The operator reads channels-last memory, and a second convolution reads its result."""
    node = helper.make_node
    for t in ("float", "double"):
        x = {"x": values(t, (2, 3, 8, 8), -1, 1)}
        shared = {"w": values(t, (4, 3, 3, 3), -.3, .3), "b": values(t, (4,), -1, 1), "v": values(t, (4, 4, 3, 3), -.2, .2)}
        conv = node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1])
        for op in UNARY:
            if t not in allowed(op) or op in ("NonZero", "Flatten", "Transpose", "Identity"):
                continue
            constants, nodes, source = dict(shared), [conv], "c"
            if op in DOMAINS:  # into the operator's domain
                low, high = DOMAINS[op]
                constants.update(half=np.array((high - low) / 2, TYPES[t]), middle=np.array((high + low) / 2, TYPES[t]))
                nodes += [node("Sin", ["c"], ["s"]), node("Mul", ["s", "half"], ["m"]), node("Add", ["m", "middle"], ["n"])]
                source = "n"
            graph(f"conv_{op}_{t}", nodes + [node(op, [source], ["y"])], x, constants)
            if op not in ("IsNaN", "IsInf", "Hardmax"):
                graph(f"conv_{op}_conv_{t}", nodes + [node(op, [source], ["z"]), node("Conv", ["z", "v"], ["y"], pads=[1] * 4)],
                      x, constants)
        for op in "Add Sub Mul Div Max Min PRelu Equal Less Greater Mean Sum".split():
            for shape in ((4, 1, 1), (1,), (8,), (2, 4, 8, 8), (1, 4, 1, 8)):
                other = values(t, shape, .5, 2)
                name = f"conv_{op}_{'x'.join(map(str, shape))}_{t}"
                nodes = [conv, node(op, ["c", "o"], ["y"])]
                graph(name, nodes, x, {**shared, "o": other})
                graph(name + "_computed", nodes, {**x, "o": other}, shared)
        norm = {k: values(t, (4,), .5, 2) for k in ("scale", "bias", "mean", "variance")}
        nodes = [conv, node("BatchNormalization", ["c", *norm], ["n"]), node("Conv", ["n", "v"], ["e"], pads=[1] * 4),
                 node("Add", ["e", "n"], ["f"]), node("Relu", ["f"], ["y"])]
        graph(f"residual_{t}", nodes, x, {**shared, **norm})
        graph(f"residual_{t}_computed", nodes, {**x, **norm}, shared)
        weights = {k: shared.pop(k) for k in ("w", "b")}
        graph(f"computed_weights_{t}", [conv, node("Relu", ["c"], ["r"]), node("MaxPool", ["r"], ["y"], kernel_shape=[2, 2])],
              {**x, **weights})


def older_opsets():
    ints = lambda *v: np.array(v, np.int64)
    x, y = values("float", (2, 3, 4)), values("float", (3, 1))
    positive = np.abs(x) + np.float32(.1)
    for o in (7, 8, 9, 10):
        case(f"Clip_opset{o}", "Clip", [x], {"min": -.2, "max": .4}, o)
        case(f"Clip_low_opset{o}", "Clip", [x], {"min": -.2}, o)
    for o in (7, 9, 11, 12):
        case(f"Squeeze_opset{o}", "Squeeze", [values("float", (1, 3, 1))], {"axes": [0]}, o)
        case(f"Unsqueeze_opset{o}", "Unsqueeze", [x], {"axes": [0, 3]}, o)
        case(f"Split_opset{o}", "Split", [values("float", (6, 2))], {"axis": 0, "split": [2, 4]}, o, outputs=2)
        for op in REDUCE:
            case(f"{op}_opset{o}", op, [positive], {"axes": [1]}, o)
        for op in ("Softmax", "LogSoftmax", "Hardmax"):  # the evaluator knows only the form along one axis
            case(f"{op}_opset{o}", op, [values("float", (2, 5))], {}, o)
        case(f"Gemm_opset{o}", "Gemm", [values("float", s) for s in ((2, 3), (3, 4), (4,))], {}, o)
        case(f"Dropout_opset{o}", "Dropout", [x], {}, o)
        case(f"Sum_opset{o}", "Sum", [x, x * y], {}, o)
        case(f"Mean_opset{o}", "Mean", [x, x * y], {}, o)
        case(f"PRelu_opset{o}", "PRelu", [x, y], {}, o)
    for o in (7, 9):
        case(f"Slice_opset{o}", "Slice", [x], {"starts": [0, 1], "ends": [2, 100], "axes": [1, 2]}, o)
        case(f"TopK_opset{o}", "TopK", [x], {"k": 2, "axis": 2}, o, outputs=2)
        case(f"Pad_opset{o}", "Pad", [values("float", (2, 3))], {"pads": [0, 1, 0, 2], "value": 1.5}, o)
    for o in (10, 11, 13):
        case(f"Slice_opset{o}", "Slice", [x, ints(0, 1), ints(2, 100), ints(1, 2)], {}, o)
        case(f"TopK_opset{o}", "TopK", [x, ints(2)], {"axis": 2}, o, outputs=2)


def main():
    shutil.rmtree(sys.argv[1], ignore_errors=True)
    for part in (unary, binary, reductions, moves, casts, products, behind_convolution, older_opsets):
        part()
    print(f"{len(WRITTEN)} models")


if __name__ == "__main__":
    main()
