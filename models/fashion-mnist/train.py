#!/usr/bin/env python3
"""Trains the embedded Fashion-MNIST classifiers and writes them as ONNX; README.md beside each is its model card.

    /usr/bin/python3 models/fashion-mnist/train.py --network base --out models/fashion-mnist/model.onnx
    /usr/bin/python3 models/fashion-mnist/train.py --network wide --out models/fashion-mnist-wide/model.onnx
    /usr/bin/python3 models/fashion-mnist/train.py --network base --calibrate --out models/fashion-mnist/model.onnx

The wide network is the first one and a second, larger branch of another layout side by side, their logits averaged. The branch
is trained alone and loses the inner channels of its last block that matter least, so that both together stay below 4 million
weights. Its weights are stored as f16 behind Casts to f32: half the file, and every runtime computes in f32.

Label smoothing leaves a network less sure than it may be. So the logits are divided by the temperature that makes the held-out
labels likeliest (Guo et al., arXiv:1706.04599), inside the last layer's weights: the classes stay, and probabilities
are what they say. --calibrate does only that, to a file that was trained before.

Packages: deploy/packages/train.list (Debian 13). Input "image" FLOAT [N,1,28,28], pixel / 255 and nothing else, so a
client needs no constants; output "logits" FLOAT [N,10].

Split, checked before training starts: the first 55,000 training images train, the last 5,000 are held out for every
choice (epochs, which weights to keep), the 10,000 test images are read once, for the final figure.
"""
import argparse
import copy
import ctypes
import gzip
import json
import multiprocessing
import os
import pathlib
import platform
import re
import struct
import time

import numpy as np
import onnx
import torch
from torch import nn
import torch.nn.functional as F

HELD_OUT = 5000
LABELS = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
          "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]


# ---- data ----

def read_idx(path):
    """A gzip-compressed IDX file of unsigned bytes as an array."""
    with gzip.open(path, "rb") as f:
        zero, kind, rank = struct.unpack(">HBB", f.read(4))
        if zero != 0 or kind != 8:
            raise ValueError(f"{path}: not an IDX file of unsigned bytes")
        shape = struct.unpack(f">{rank}I", f.read(4 * rank))
        return np.frombuffer(f.read(), np.uint8).reshape(shape).copy()


def load_split(folder):
    """{"train", "held_out", "test"} -> (images [N,28,28] u8, labels [N] u8), after checking that they don't overlap."""
    images, labels = (read_idx(folder / f"train-{name}-ubyte.gz") for name in ("images-idx3", "labels-idx1"))
    test = tuple(read_idx(folder / f"t10k-{name}-ubyte.gz") for name in ("images-idx3", "labels-idx1"))
    if images.shape != (60000, 28, 28) or test[0].shape != (10000, 28, 28):
        raise ValueError(f"expected 60,000 and 10,000 images of 28x28, got {images.shape} and {test[0].shape}")
    held_out = (images[-HELD_OUT:], labels[-HELD_OUT:])
    # An image that occurs byte for byte in the held-out or the test part may not be trained on.
    unseen = {image.tobytes() for image in np.concatenate([held_out[0], test[0]])}
    keep = np.array([image.tobytes() not in unseen for image in images[:-HELD_OUT]])
    split = {"train": (images[:-HELD_OUT][keep], labels[:-HELD_OUT][keep]), "held_out": held_out, "test": test}
    for name, (x, y) in split.items():
        counts = np.bincount(y, minlength=10)
        if len(x) != len(y) or len(counts) != 10 or counts.min() == 0:
            raise ValueError(f"{name}: {len(x)} images, {len(y)} labels, images per class {counts.tolist()}")
        print(f"split {name:8s} {len(x):6d} images, per class {counts.min()}..{counts.max()}")
    print(f"split check: {np.count_nonzero(~keep)} training images equal to a held-out or test image were dropped")
    return split


def to_input(images):
    return torch.from_numpy(images.astype(np.float32) / 255.0).unsqueeze(1)


def augment(x):
    """Per image: horizontal flip, shift by up to 2 pixels, one erased square of 0..10 pixels filled with noise."""
    n, side = len(x), x.shape[-1]
    flip = torch.rand(n, 1) < 0.5
    grid = torch.arange(side)
    columns = torch.where(flip, side - 1 - grid, grid) + torch.randint(0, 5, (n, 1))
    rows = grid + torch.randint(0, 5, (n, 1))
    padded = F.pad(x, (2, 2, 2, 2))
    x = padded[torch.arange(n)[:, None, None], 0, rows[:, :, None], columns[:, None, :]]
    size, top, left = (torch.randint(0, limit, (n, 1)) for limit in (11, side, side))
    hole = (((grid >= top) & (grid < top + size))[:, :, None] & ((grid >= left) & (grid < left + size))[:, None, :])
    return torch.where(hole, torch.rand_like(x), x).unsqueeze(1)


# ---- network ----

def conv(cin, cout, kernel, stride=1, groups=1, relu=True):
    layers = [nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(cout)]
    return nn.Sequential(*layers, nn.ReLU()) if relu else nn.Sequential(*layers)


class Residual(nn.Module):
    """relu(x + body(x))."""

    def __init__(self, *body):
        super().__init__()
        self.body = nn.Sequential(*body)
        nn.init.zeros_(self.body[-1][1].weight)  # starts as the identity

    def forward(self, x):
        return F.relu(x + self.body(x))


class Classifier(nn.Module):
    """[N,1,28,28] -> [N,10]; dense 3x3 and 1x1 convolutions carry 99 % of the arithmetic."""

    def __init__(self):
        super().__init__()
        self.stem = conv(1, 32, 3)
        self.down1 = conv(32, 64, 3, stride=2)
        self.block1 = Residual(conv(64, 96, 1), conv(96, 96, 3, groups=96), conv(96, 64, 1, relu=False))
        self.down2 = conv(64, 128, 3, stride=2)
        self.block2 = Residual(conv(128, 128, 3), conv(128, 128, 3, relu=False))
        self.down3 = conv(128, 192, 3, stride=2)
        self.block3 = Residual(conv(192, 192, 3, groups=192), conv(192, 192, 1, relu=False))
        self.block4 = Residual(conv(192, 192, 3, groups=192), conv(192, 192, 1, relu=False))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classify = nn.Linear(192, 10)

    def forward(self, x):
        x = self.block1(self.down1(self.stem(x)))
        x = self.block2(self.down2(x))
        x = self.block4(self.block3(self.down3(x)))
        return self.classify(torch.flatten(self.pool(x), 1))


class Pooled(nn.Module):
    """3x3 convolution, 2x2 max pooling, normalization without a learned scale, ReLU.

    A positive scale and ReLU commute with a maximum. Training normalizes the four times smaller pooled values; the
    exported order is convolution (with the normalization folded into it), ReLU, pooling."""

    def __init__(self, cin, cout):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout)
        self.norm.weight.requires_grad_(False)
        self.folded = False

    def fold(self):
        self.conv = torch.nn.utils.fusion.fuse_conv_bn_eval(self.conv, self.norm)
        self.norm, self.folded = nn.Identity(), True

    def forward(self, x):
        if self.folded:
            return F.max_pool2d(F.relu(self.conv(x)), 2)
        return F.relu(self.norm(F.max_pool2d(self.conv(x), 2)))


class Branch(nn.Module):
    """[N,1,28,28] -> [N,10]; the layout of K. Jordan's "94 % on CIFAR-10 in 3.29 seconds" (arXiv 2404.00498): a 2x2 stem, then
    three times a pooled convolution and a residual pair, so that nearly all arithmetic is dense 3x3 at 13x13 and 6x6."""

    def __init__(self, widths=(96, 256, 256)):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 2), nn.ReLU())
        first, second, third = widths
        self.down1, self.down2, self.down3 = Pooled(8, first), Pooled(first, second), Pooled(second, third)
        self.block1, self.block2, self.block3 = (Residual(conv(w, w, 3), conv(w, w, 3, relu=False)) for w in widths)
        self.pool = nn.MaxPool2d(3)
        self.classify = nn.Linear(third, 10)

    def prepare(self, x):
        """Stem <- the directions of 2x2 patches, scaled to unit variance, both signs; it stays as it is."""
        patches = F.unfold(x[:5000], 2).transpose(1, 2).reshape(-1, 4)
        values, vectors = torch.linalg.eigh(torch.cov(patches.T))
        filters = (vectors / (values + 5e-4).sqrt()).T.reshape(4, 1, 2, 2)
        with torch.no_grad():
            self.stem[0].weight.copy_(torch.cat([filters, -filters]))
            self.stem[0].bias.zero_()
        self.stem[0].weight.requires_grad_(False)

    def forward(self, x):
        x = self.block1(self.down1(self.stem(x)))
        x = self.block2(self.down2(x))
        x = self.block3(self.down3(x))
        return self.classify(torch.flatten(self.pool(x), 1))


NETWORKS = {"base": {"make": Classifier, "epochs": 46, "storage": "f32", "title": "Fashion-MNIST classifier of Octet"},
            "wide": {"make": Branch, "epochs": 44, "storage": "f16",
                     "title": "Wide Fashion-MNIST classifier of Octet"}}


# ---- training ----

def accuracy(net, x, y, batch=500):
    net.eval()
    with torch.inference_mode():
        hits = sum((net(x[i:i + batch]).argmax(1) == y[i:i + batch]).sum().item() for i in range(0, len(x), batch))
    return 100.0 * hits / len(x)


def follow(average, net, decay):
    """average <- decay * average + (1 - decay) * net, over weights and BatchNorm statistics."""
    with torch.no_grad():
        for a, b in zip(average.state_dict().values(), net.state_dict().values()):
            if a.is_floating_point():
                a.lerp_(b, 1.0 - decay)
            else:
                a.copy_(b)


def train(split, options):
    """Returns (net, record): the better of the last and the averaged weights on the held-out images."""
    x, y = to_input(split["train"][0]), torch.from_numpy(split["train"][1]).long()
    held_x, held_y = to_input(split["held_out"][0]), torch.from_numpy(split["held_out"][1]).long()
    net = NETWORKS[options.network]["make"]()
    if hasattr(net, "prepare"):
        net.prepare(x)
    net = net.to(memory_format=torch.channels_last)
    average = copy.deepcopy(net)
    decayed = [p for p in net.parameters() if p.ndim > 1 and p.requires_grad]
    plain = [p for p in net.parameters() if p.ndim == 1 and p.requires_grad]
    optimizer = torch.optim.SGD([{"params": decayed, "weight_decay": options.weight_decay},
                                 {"params": plain, "weight_decay": 0.0}], lr=0.1, momentum=0.9, nesterov=True)
    steps = len(x) // options.batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.lr, total_steps=steps * options.epochs,
                                                   pct_start=0.2, cycle_momentum=False, final_div_factor=1000)
    start = time.monotonic()
    for epoch in range(options.epochs):
        net.train()
        loss_sum, order = 0.0, torch.randperm(len(x))
        for step in range(steps):
            index = order[step * options.batch:(step + 1) * options.batch]
            batch = augment(x[index]).to(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bf16"):
                logits = net(batch)
            loss = F.cross_entropy(logits.float(), y[index], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            follow(average, net, min(0.998, (1 + epoch * steps + step) / (10 + epoch * steps + step)))
            loss_sum += loss.item()
        averaged = accuracy(average, held_x, held_y)
        torch.save(average.state_dict(), options.out.with_suffix(".pt"))  # what is left after a stop: the averaged weights
        print(f"epoch {epoch + 1:3d}/{options.epochs}  loss {loss_sum / steps:.4f}  held-out {averaged:.2f} %  "
              f"{time.monotonic() - start:.0f} s, CPU {time.process_time():.0f} s", flush=True)
    last = accuracy(net, held_x, held_y)
    kept = average if averaged >= last else net
    record = {"held_out_top1_last_weights": last, "held_out_top1_averaged_weights": averaged,
              "kept_weights": "averaged" if kept is average else "last"}
    return kept, record


# ---- the wide network: two branches ----

KEPT_CHANNELS = 240  # of the 256 inside the branch's block3: 3,976,300 weights with the first network


def fold_norms(net):
    """BatchNorm into the convolution in front of it, everywhere."""
    net.eval()
    for layer in list(net.modules()):
        if isinstance(layer, Pooled) and not layer.folded:
            layer.fold()
        if isinstance(layer, nn.Sequential) and len(layer) > 1 and isinstance(layer[1], nn.BatchNorm2d):
            layer[0] = torch.nn.utils.fusion.fuse_conv_bn_eval(layer[0], layer[1])
            layer[1] = nn.Identity()
    return net


def load_folded(make, path):
    """The network of an exported file, without BatchNorm."""
    net, model = fold_norms(make()), onnx.load(path)
    tensors = {t.name.removesuffix(".f16"): onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    for name in ("classify.weight", "classify.bias"):  # logits as they were trained
        tensors[name] = tensors[name].astype(np.float32) * np.float32(temperature_of(model))
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            key = name.replace(".body.", ".").replace(".conv.", ".").replace(".0.weight", ".weight").replace(".0.bias", ".bias")
            parameter.copy_(torch.from_numpy(tensors[key].astype(np.float32)))
    return net


def narrow(net):
    """Removes the channels inside block3 whose weights out of the block are smallest, times their weights into it."""
    first, second = net.block3.body[0][0], net.block3.body[1][0]
    importance = first.weight.flatten(1).norm(dim=1) * second.weight.transpose(0, 1).flatten(1).norm(dim=1)
    keep = importance.argsort(descending=True)[:KEPT_CHANNELS].sort().values
    inner = nn.Conv2d(first.in_channels, KEPT_CHANNELS, 3, padding=1)
    outer = nn.Conv2d(KEPT_CHANNELS, second.out_channels, 3, padding=1)
    with torch.no_grad():
        inner.weight.copy_(first.weight[keep])
        inner.bias.copy_(first.bias[keep])
        outer.weight.copy_(second.weight[:, keep])
        outer.bias.copy_(second.bias)
    net.block3.body[0][0], net.block3.body[1][0] = inner, outer
    return net


class Average(nn.Module):
    """The mean logits of two networks."""

    def __init__(self, first, second):
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x):
        return (self.first(x) + self.second(x)) / 2


def side_by_side(first, second, title):
    """One model that averages the logits of two, as they were trained: names get prefixes, an Add joins halved classifiers."""
    joined = onnx.ModelProto()
    joined.CopyFrom(second)
    del joined.graph.node[:], joined.graph.initializer[:]
    for prefix, model in (("first.", first), ("second.", second)):
        for tensor in model.graph.initializer:
            if tensor.name.startswith("classify."):
                half = onnx.numpy_helper.to_array(tensor) * np.float32(temperature_of(model) / 2)
                tensor.CopyFrom(onnx.numpy_helper.from_array(half.astype(np.float32), tensor.name))
            tensor.name = prefix + tensor.name
            joined.graph.initializer.append(tensor)
        for node in model.graph.node:
            node.name = prefix + node.name
            node.input[:] = [name if name == "image" else prefix + name for name in node.input]
            node.output[:] = [prefix + name for name in node.output]
            joined.graph.node.append(node)
    joined.graph.node.append(onnx.helper.make_node("Add", ["first.logits", "second.logits"], ["logits"], name="average.add"))
    joined.doc_string = title
    return joined


# ---- export ----

def tidy(model, title):
    """Names nodes, tensors and weights by layer ("block2.1.weight") and removes what the exporter added of its own."""
    graph, rename = model.graph, {}
    for node in graph.node:
        scope = ".".join(filter(None, re.match(r"/(\w+)(?:/body/body\.(\d+)/)?", node.name).groups()))
        node.name, node.doc_string = f"{scope}.{node.op_type.lower()}", ""
        rename[node.output[0]] = "logits" if node.output[0] == "logits" else node.name
        if node.op_type in ("Conv", "Gemm"):
            rename.update(zip(node.input[1:], (scope + ".weight", scope + ".bias")))
    for node in graph.node:
        node.input[:] = [rename.get(name, name) for name in node.input]
        node.output[:] = [rename[name] for name in node.output]
    for tensor in graph.initializer:
        tensor.name, tensor.doc_string = rename[tensor.name], ""
    del graph.value_info[:]
    graph.name, graph.doc_string, model.doc_string = "fashion_mnist_classifier", "", title
    del model.metadata_props[:]
    model.metadata_props.add(key="labels", value=",".join(LABELS))
    return model


def store_as_f16(model):
    """Weights become f16 initializers "X.f16", each with a Cast to the f32 tensor X in front of the graph; biases stay f32."""
    casts, tensors = [], []
    for tensor in model.graph.initializer:
        if not tensor.name.endswith(".weight"):
            tensors.append(tensor)
            continue
        values = onnx.numpy_helper.to_array(tensor).astype(np.float16)
        tensors.append(onnx.numpy_helper.from_array(values, tensor.name + ".f16"))
        casts.append(onnx.helper.make_node("Cast", [tensor.name + ".f16"], [tensor.name], name=tensor.name + ".cast",
                                           to=onnx.TensorProto.FLOAT))
    nodes = casts + list(model.graph.node)
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(tensors)
    model.graph.node.extend(nodes)


def export(net, path, network, first=None):
    """Writes the network; with `first`, the path of another one's file, both of them averaged."""
    partial = path.with_suffix(".partial")
    net = fold_norms(copy.deepcopy(net))
    torch.onnx.export(net.eval(), torch.zeros(2, 1, 28, 28), str(partial), opset_version=17, dynamo=False,
                      input_names=["image"], output_names=["logits"],
                      dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}})
    model = onnx.load(partial)
    kinds = {node.op_type for node in model.graph.node}
    if not kinds <= {"Conv", "Relu", "Add", "GlobalAveragePool", "MaxPool", "Flatten", "Gemm"} or model.ir_version > 9:
        raise ValueError(f"unexpected export: operators {sorted(kinds)}, IR version {model.ir_version}")
    model = tidy(model, network["title"])
    if first is not None:
        model = side_by_side(onnx.load(first), model, network["title"])
    if network["storage"] == "f16":
        store_as_f16(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, partial)
    os.replace(partial, path)


def run_file(path, x):
    """Logits of the file by ONNX Runtime; for a process of its own, whose standard error it closes.

    Debian's onnxruntime prints a complaint for every operator that it registers twice; exceptions reach the caller."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    import onnxruntime
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(["logits"], {"image": x[i:i + 500]})[0] for i in range(0, len(x), 500)])


def onnx_logits(path, x):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return torch.from_numpy(pool.apply(run_file, (path, x.numpy()))).double()


# ---- calibration ----

def temperature_of(model):
    """By what the file's logits were divided."""
    return next((float(p.value) for p in model.metadata_props if p.key == "temperature"), 1.0)


def best_temperature(logits, y):
    """The t of least negative log likelihood of softmax(logits / t), to 1e-4: it is convex in 1 / t."""
    low, high = 0.05, 20.0  # of 1 / t
    loss = lambda inverse: F.cross_entropy(logits * inverse, y).item()
    while high - low > 1e-5:
        a, b = low + (high - low) / 3, high - (high - low) / 3
        low, high = (low, b) if loss(a) < loss(b) else (a, high)
    return round(2 / (low + high), 4)


def calibration_error(logits, y, bins=15):
    """Expected calibration error in percent over equal bins of the largest probability."""
    confidence, label = logits.softmax(1).max(1)
    index, hit = (confidence * bins).long().clamp(max=bins - 1), (label == y).double()
    sums = torch.zeros(bins, dtype=torch.double).index_add(0, index, hit - confidence)
    return 100.0 * sums.abs().sum().item() / len(y)


def calibrate(path, x, y):
    """Divides the file's logits by their temperature on (x, y), in the weights and biases of its classifiers."""
    model = onnx.load(path)
    if temperature_of(model) != 1.0:
        raise SystemExit(f"{path}: its logits were divided by a temperature already")
    t = best_temperature(onnx_logits(path, x), y)
    for tensor in model.graph.initializer:
        if re.search(r"(^|\.)classify\.(weight|bias)", tensor.name):
            values = onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array((values / np.float32(t)).astype(values.dtype), tensor.name))
    model.metadata_props.add(key="temperature", value=str(t))
    partial = path.with_suffix(".partial")
    onnx.save(model, partial)
    os.replace(partial, path)
    return t


def layers(path):
    """One row per Conv and Gemm of the file: (name, description, output shape, weights, multiply-adds an image)."""
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    values = list(model.graph.value_info) + list(model.graph.output)
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim][1:] for v in values}
    sizes = {t.name.removesuffix(".f16"): list(t.dims) for t in model.graph.initializer}
    rows = []
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm"):
            continue
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        weight, out = sizes[node.input[1]], shapes[node.output[0]]
        kind = "fully connected"
        if node.op_type == "Conv":
            kind = f"{'depthwise ' if attributes['group'] > 1 else ''}{weight[2]}x{weight[3]}"
            kind += f" stride {attributes['strides'][0]}" if attributes["strides"][0] > 1 else ""
        rows.append((node.name.rsplit(".", 1)[0], kind, "x".join(map(str, out)), int(np.prod(weight)) + weight[0],
                     int(np.prod(weight)) * int(np.prod(out[1:]))))
    return rows


def write_card(path, metrics, rows):
    """Replaces the tables between the "measured" and "layers" marks of the model card."""
    text = path.read_text()
    tables = {"measured": "| What | Value |\n|---|---|\n" + "".join(
        f"| {key.replace('_', ' ')} | {round(value, 2) if isinstance(value, float) else value} |\n"
        for key, value in metrics.items())}
    total = ("total", "", "", sum(r[3] for r in rows), sum(r[4] for r in rows))
    tables["layers"] = "| Layer | Kind | Output | Weights | Multiply-adds |\n|---|---|---|---:|---:|\n" + "".join(
        f"| {name} | {kind} | {out} | {weights:,} | {macs:,} |\n" for name, kind, out, weights, macs in rows + [total])
    for mark, table in tables.items():
        text = re.sub(f"(<!-- {mark} -->\n).*?(<!-- /{mark} -->)", lambda m: m[1] + table + m[2], text, flags=re.S)
    path.write_text(text)


def cpu_name():
    names = re.findall(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return f"{names[0] if names else platform.machine()}, {torch.get_num_threads()} thread(s)"


def keep_freed_memory():
    """Tells glibc not to return large blocks to the kernel: activations come back every step, page faults cost 15 %."""
    libc = ctypes.CDLL(None)
    libc.mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD
    libc.mallopt(-1, 2 ** 31 - 1)  # M_TRIM_THRESHOLD


def make(options, network, split, held_x, held_y):
    """Trains and exports to options.out: (record, network)."""
    if options.branch:
        net, record = load_folded(network["make"], options.branch), {}
    else:
        net, record = train(split, options)
    minutes = time.process_time() / 60
    if options.network == "wide":
        if not options.branch:
            export(net, options.out.with_suffix(".branch.onnx"), network)
        first = load_folded(Classifier, options.first)
        record["held_out_top1_first_network"] = accuracy(first, held_x, held_y)
        record["held_out_top1_branch"] = accuracy(net, held_x, held_y)
        branch = narrow(fold_norms(net))
        net = Average(first, branch)
        record["held_out_top1"] = accuracy(net, held_x, held_y)
        export(branch, options.out, network, options.first)
    else:
        export(net, options.out, network)
    return {"test_top1_percent": None, "test_images": len(split["test"][1]), **record,
            "train_images": len(split["train"][0]), "held_out_images": HELD_OUT, "seed": options.seed,
            "epochs": options.epochs, "batch": options.batch, "training_arithmetic": options.precision,
            "cpu_minutes": minutes, "cpu": cpu_name(), "torch": torch.__version__}, net


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=NETWORKS, default="base")
    parser.add_argument("--out", type=pathlib.Path, required=True,
                        help="ONNX file to write; README.md and metrics.json beside it are updated")
    parser.add_argument("--first", type=pathlib.Path, default=pathlib.Path("models/fashion-mnist/model.onnx"),
                        help="wide: the first network's file")
    parser.add_argument("--branch", type=pathlib.Path, help="wide: the trained branch's file, written as OUT.branch.onnx, "
                        "instead of training it")
    parser.add_argument("--calibrate", action="store_true",
                        help="only divide the logits of the file --out by their temperature on the held-out images")
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--epochs", type=int, help="default: the network's own number")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=0.15)
    parser.add_argument("--weight-decay", type=float, default=5e-4)
    parser.add_argument("--precision", choices=["f32", "bf16"], default="bf16", help="of the training arithmetic")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    network = NETWORKS[options.network]
    options.epochs = options.epochs or network["epochs"]
    keep_freed_memory()
    torch.manual_seed(options.seed)
    split = load_split(options.data)
    held_x, held_y = to_input(split["held_out"][0]), torch.from_numpy(split["held_out"][1]).long()
    x, y = to_input(split["test"][0]), torch.from_numpy(split["test"][1]).long()
    metrics_file, torch_top1 = options.out.parent / "metrics.json", None
    if options.calibrate:
        record = json.loads(metrics_file.read_text())
    else:
        record, net = make(options, network, split, held_x, held_y)
        torch_top1 = accuracy(net, x, y)

    logits = onnx_logits(options.out, x)
    record["test_top1_percent"] = onnx_top1 = 100.0 * (logits.argmax(1) == y).double().mean().item()
    record["test_calibration_error_percent_before_temperature"] = calibration_error(logits, y)
    # Ties that rounding decides: one image, and some more where weights became f16.
    if torch_top1 is not None and abs(torch_top1 - onnx_top1) > (0.11 if network["storage"] == "f16" else 0.011):
        raise SystemExit(f"the exported file does not do what the trained network does: {onnx_top1:.2f}, {torch_top1:.2f} %")
    record["temperature"] = calibrate(options.out, held_x, held_y)
    logits = onnx_logits(options.out, x)
    record["test_top1_percent"] = 100.0 * (logits.argmax(1) == y).double().mean().item()
    record["test_calibration_error_percent"] = calibration_error(logits, y)
    print(f"test: {onnx_top1:.2f} %, behind the temperature {record['test_top1_percent']:.2f} %")

    rows = layers(options.out)
    record |= {"weights": sum(r[3] for r in rows), "multiply_adds_an_image": sum(r[4] for r in rows),
               "file_bytes": options.out.stat().st_size}
    metrics_file.write_text(json.dumps(record, indent=2) + "\n")
    card = options.out.parent / "README.md"
    if card.exists():
        write_card(card, record, rows)
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
