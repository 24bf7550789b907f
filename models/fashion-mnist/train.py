#!/usr/bin/env python3
"""Trains the embedded Fashion-MNIST classifiers and writes them as ONNX; README.md beside each is its model card.

    /usr/bin/python3 models/fashion-mnist/train.py --network base --out models/fashion-mnist/model.onnx
    /usr/bin/python3 models/fashion-mnist/train.py --network wide --out models/fashion-mnist-wide/model.onnx

The wide network's weights are stored as f16 behind Casts to f32: half the file, and every runtime computes in f32.

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
        self.conv, self.folded = torch.nn.utils.fusion.fuse_conv_bn_eval(self.conv, self.norm), True

    def forward(self, x):
        if self.folded:
            return F.max_pool2d(F.relu(self.conv(x)), 2)
        return F.relu(self.norm(F.max_pool2d(self.conv(x), 2)))


class WideClassifier(nn.Module):
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
            "wide": {"make": WideClassifier, "epochs": 44, "storage": "f16",
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


def export(net, path, network):
    partial = path.with_suffix(".partial")
    net = copy.deepcopy(net)
    for layer in net.modules():
        if isinstance(layer, Pooled):
            layer.eval()
            layer.fold()
    torch.onnx.export(net.eval(), torch.zeros(2, 1, 28, 28), str(partial), opset_version=17, dynamo=False,
                      input_names=["image"], output_names=["logits"],
                      dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}})
    model = onnx.load(partial)
    kinds = {node.op_type for node in model.graph.node}
    if not kinds <= {"Conv", "Relu", "Add", "GlobalAveragePool", "MaxPool", "Flatten", "Gemm"} or model.ir_version > 9:
        raise ValueError(f"unexpected export: operators {sorted(kinds)}, IR version {model.ir_version}")
    model = tidy(model, network["title"])
    if network["storage"] == "f16":
        store_as_f16(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, partial)
    os.replace(partial, path)


def onnx_accuracy(path, x, y):
    """Top-1 of the file in percent, by ONNX Runtime; for a process of its own, whose standard error it closes.

    Debian's onnxruntime prints a complaint for every operator that it registers twice; exceptions reach the caller."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    import onnxruntime
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    hits = sum(np.count_nonzero(session.run(["logits"], {"image": x[i:i + 500]})[0].argmax(1) == y[i:i + 500])
               for i in range(0, len(x), 500))
    return 100.0 * hits / len(x)


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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=NETWORKS, default="base")
    parser.add_argument("--out", type=pathlib.Path, required=True,
                        help="ONNX file to write; README.md and metrics.json beside it are updated")
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
    net, record = train(split, options)
    minutes = time.process_time() / 60

    export(net, options.out, network)
    x, y = to_input(split["test"][0]), split["test"][1]
    torch_top1 = accuracy(net, x, torch.from_numpy(y).long())
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        onnx_top1 = pool.apply(onnx_accuracy, (options.out, x.numpy(), y))
    print(f"test: torch {torch_top1:.2f} %, ONNX file in ONNX Runtime {onnx_top1:.2f} %")
    # Ties that rounding decides: one image, and some more where weights became f16.
    if abs(torch_top1 - onnx_top1) > (0.11 if network["storage"] == "f16" else 0.011):
        raise SystemExit("the exported file does not do what the trained network does")

    rows = layers(options.out)
    metrics = {"test_top1_percent": onnx_top1, "test_images": len(y), **record,
               "train_images": len(split["train"][0]), "held_out_images": HELD_OUT, "seed": options.seed,
               "epochs": options.epochs, "batch": options.batch, "training_arithmetic": options.precision,
               "cpu_minutes": minutes, "cpu": cpu_name(), "torch": torch.__version__,
               "weights": sum(r[3] for r in rows), "multiply_adds_an_image": sum(r[4] for r in rows),
               "file_bytes": options.out.stat().st_size}
    (options.out.parent / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    card = options.out.parent / "README.md"
    if card.exists():
        write_card(card, metrics, rows)
    print(json.dumps(metrics, indent=2))


if __name__ == "__main__":
    main()
