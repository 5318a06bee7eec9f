"""The same network under several runtimes on the CPU: one table of processor time a frame.

    python benchmarks/runtimes.py --size 640x480 tiny small medium

The last row is the model `quantiser`, which looks at frames beside them; `none` instead of sizes prints that row alone.
Eager fp32 and bf16 (what `restore` uses), torch.compile, ONNX Runtime and OpenVINO, where they are installed. Processor
time of one thread is what is compared: it is the same whether other programs run or not.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ns_video.networks.ns_quantiser import NsQuantiser, guessed_octaves
from ns_video.networks.ns_restore import SIZES, NsRestore, NsRestoreConfig
from ns_video.weights import load_descriptor

REPEATS = 5


def network_of(size: str) -> NsRestore:
    """The video network of a size, its last layer made to do something."""
    channels, blocks = SIZES[size]
    torch.manual_seed(0)
    network = NsRestore(NsRestoreConfig(frames=3, side=6, gated=True, channels=channels, blocks=blocks)).eval()
    nn.init.normal_(network.tail.weight, std=0.02)
    return network.requires_grad_(False)


def milliseconds(run: Callable[[], Any]) -> float:
    """Of the calling thread, best of some runs after one to warm up."""
    run()
    best = float("inf")
    for _ in range(REPEATS):
        began = time.process_time()
        run()
        best = min(best, time.process_time() - began)
    return 1000 * best


class Exportable(nn.Module):
    """The training path of the network: plain operations that every exporter knows."""

    def __init__(self, network: NsRestore) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, side: Tensor) -> Tensor:
        """As NsRestore."""
        return self.network(x, side)


def eager(network: NsRestore, x: Tensor, side: Tensor, dtype: torch.dtype) -> float:
    """channels_last weights in `dtype`, fp32 picture."""
    moved = copy.deepcopy(network).to(dtype=dtype).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        return milliseconds(lambda: moved(x, side))


def compiled(network: NsRestore, x: Tensor, side: Tensor, dtype: torch.dtype) -> tuple[float, float]:
    """(ms a frame, seconds to compile) of inductor."""
    moved = torch.compile(copy.deepcopy(network).to(dtype=dtype).to(memory_format=torch.channels_last))
    began = time.perf_counter()
    with torch.inference_mode():
        moved(x, side)
        taken = time.perf_counter() - began
        return milliseconds(lambda: moved(x, side)), taken


def export(network: NsRestore, x: Tensor, side: Tensor, path: Path) -> None:
    """To ONNX with the picture's size fixed, which favours the runtimes."""
    with torch.enable_grad():
        torch.onnx.export(Exportable(network), (x, side), str(path), opset_version=17, dynamo=False)


def onnxruntime_ms(path: Path, x: Tensor, side: Tensor) -> float:
    """fp32, all graph optimisations."""
    import onnxruntime  # pyright: ignore[reportMissingImports]  an optional peer of this benchmark only

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    feed = dict(zip(names, (x.numpy(), side.numpy())))
    return milliseconds(lambda: session.run(None, feed))


def openvino_ms(path: Path, x: Tensor, side: Tensor, precision: str) -> float:
    """`precision` is OpenVINO's inference precision hint, f32 or bf16."""
    import openvino  # pyright: ignore[reportMissingImports]  an optional peer of this benchmark only

    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": precision}
    request = core.compile_model(core.read_model(str(path)), "CPU", settings).create_infer_request()
    given = [x.numpy(), side.numpy()]
    return milliseconds(lambda: request.infer(given))


def measure(size: str, width: int, height: int) -> list[tuple[str, str]]:
    """(runtime, text) rows for one size of network."""
    network = network_of(size)
    x, side = torch.rand(1, 9, height, width), torch.rand(1, 6, height, width)
    rows = [
        ("eager fp32", f"{eager(network, x, side, torch.float32):.0f}"),
        ("eager bf16 (ours)", f"{eager(network, x, side, torch.bfloat16):.0f}"),
    ]
    try:
        spent, taken = compiled(network, x, side, torch.bfloat16)
        rows.append(("torch.compile bf16", f"{spent:.0f} (first frame after {taken:.0f} s)"))
    except Exception as error:  # a missing compiler, most often; the table says so
        rows.append(("torch.compile bf16", f"fails: {type(error).__name__}"))
    there = [name for name in ("onnxruntime", "openvino") if importlib.util.find_spec(name) is not None]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        if there:
            export(network, x, side, path)
        if "onnxruntime" in there:
            rows.append(("ONNX Runtime fp32", f"{onnxruntime_ms(path, x, side):.0f}"))
        if "openvino" in there:
            rows += [
                (f"OpenVINO {name}", f"{openvino_ms(path, x, side, hint):.0f}")
                for name, hint in (("fp32", "f32"), ("bf16", "bf16"))
            ]
    return rows


def guess(width: int, height: int) -> float:
    """What the shipped `quantiser` takes to look at a frame, bf16, as `restore` uses it."""
    network = cast(NsQuantiser, load_descriptor("quantiser").network).compute_in(torch.bfloat16)
    luma = torch.rand(height, width)
    with torch.inference_mode():
        return milliseconds(lambda: guessed_octaves(network, luma))


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="*", default=["tiny", "small"], choices=[*SIZES, [], "none"])
    parser.add_argument("--size", default="640x480")
    arguments = parser.parse_args()
    width, height = (int(part) for part in arguments.size.split("x"))
    torch.set_num_threads(1)
    print(f"processor ms per {width}x{height} frame, one thread")
    for size in [size for size in arguments.sizes if size != "none"]:
        for runtime, text in measure(size, width, height):
            print(f"{size:8} {runtime:20} {text}", flush=True)
    print(f"{'quantiser':8} {'PyTorch eager, bf16':20} {guess(width, height):.1f}")


if __name__ == "__main__":
    main()
