"""Times PyTorch's matmul and scaled_dot_product_attention on a GPU, for comparison in one run with
`npm run bench -- --device cuda`:

    python3 bench/peers/torch_gpu.py [--out FILE] [--rounds N] [--quick]

Writes rows of the form that bench/harness/result.ts describes. Every sample is the mean time of
enough runs, taken with CUDA events; rounds go through all cases in turn, so that a change of clocks
falls on all of them alike. Backends of attention are forced one by one; one that cannot compute a
case is left out.
"""

import argparse
import datetime
import json
import os
import platform
import statistics

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}
BACKENDS = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}
SAMPLE_SECONDS = 0.05


class Case:
    """A row: `prepare` returns the function to time, made when the case is first reached."""

    def __init__(self, operator, shape, peer, flops, prepare):
        self.operator, self.shape, self.peer, self.flops = operator, shape, peer, flops
        self.prepare = prepare
        self.samples = []


def matmul_case(dtype, size):
    def prepare():
        a, b = (torch.randn(size, size, device="cuda").to(DTYPES[dtype]) for _ in range(2))
        return lambda: torch.matmul(a, b)

    shape = f"{dtype} {size} x {size} x {size}"
    return Case("matmul", shape, "torch.matmul", 2 * size**3, prepare)


def attention_case(backend, dtype, batch, heads, length, dim, causal, backward):
    def prepare():
        q, k, v = (
            torch.randn(batch, heads, length, dim, device="cuda")
            .to(DTYPES[dtype])
            .requires_grad_(backward)
            for _ in range(3)
        )
        upstream = torch.randn_like(q)

        def run():
            with sdpa_kernel(BACKENDS[backend]):
                y = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
            if backward:
                torch.autograd.grad(y, (q, k, v), upstream)

        return run

    forward = 4 * batch * heads * length * length * dim / (2 if causal else 1)
    operator = "attention + backward" if backward else "attention"
    shape = f"{dtype} B{batch} H{heads} N{length} D{dim}{' causal' if causal else ''}"
    flops = 3.5 * forward if backward else forward
    return Case(operator, shape, f"torch sdpa {backend}", flops, prepare)


def copy_case(megabytes):
    def prepare():
        x = torch.randn(megabytes << 18, device="cuda")
        y = torch.empty_like(x)
        return lambda: y.copy_(x)

    case = Case("copy", f"f32 {megabytes} MiB", "torch.copy_", None, prepare)
    case.bytes = 2 * (megabytes << 20)
    return case


def cases():
    yield copy_case(1024)
    for dtype in ("bf16", "f16", "f32"):  # f32 without TF32, PyTorch's default
        for size in (4096, 8192):
            yield matmul_case(dtype, size)
    for backend in BACKENDS:
        for backward in (False, True):
            for dim in (64, 128):
                for causal in (False, True):
                    yield attention_case(backend, "bf16", 1, 2048 // dim, 8192, dim, causal, backward)


def seconds_of(run, repeats):
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(repeats):
        run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3 / repeats


def measure(all_cases, rounds):
    """Rounds over all cases; yields those that could be computed. Tensors of a case live on."""
    runnable = []
    for case in all_cases:
        try:
            run = case.prepare()
            seconds_of(run, 3)  # chooses kernels and fills caches
            repeats = max(1, round(SAMPLE_SECONDS / seconds_of(run, 1)))
        except RuntimeError as error:
            print(f"left out: {case.peer} {case.shape}: {str(error).splitlines()[0]}")
            continue
        runnable.append((case, run, repeats))
    for _ in range(rounds):
        for case, run, repeats in runnable:
            case.samples.append(seconds_of(run, repeats))
    return [case for case, _, _ in runnable]


def row_of(case):
    seconds = statistics.median(case.samples)
    low, _, high = statistics.quantiles(case.samples, n=4, method="inclusive")
    row = {"operator": case.operator, "shape": case.shape, "threads": 1, "peer": case.peer}
    row |= {"seconds": seconds, "quartiles": [low, high], "samples": case.samples}
    if case.flops:
        row["flopsPerSecond"] = case.flops / seconds
    if hasattr(case, "bytes"):
        row["bytesPerSecond"] = case.bytes / seconds
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", help="JSON file to write")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="3 rounds")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("PyTorch finds no GPU")
    rows = [row_of(case) for case in measure(cases(), 3 if options.quick else max(2, options.rounds))]
    for row in rows:
        rate = row.get("flopsPerSecond", row.get("bytesPerSecond", 0)) / 1e12
        unit = "TFLOP/s" if "flopsPerSecond" in row else "TB/s"
        print(
            f"{row['operator']:22}{row['shape']:34}{row['peer']:20}"
            f"{row['seconds'] * 1e3:9.3f} ms {rate:8.2f} {unit}"
        )
    if options.out:
        result = {
            "version": 1,
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(),
            "machine": {"gpu": torch.cuda.get_device_name(), "platform": platform.platform()},
            "device": "cuda",
            "software": {
                "torch": torch.__version__,
                "cuda": torch.version.cuda,
                "cudnn": torch.backends.cudnn.version(),
            },
            "rows": rows,
        }
        os.makedirs(os.path.dirname(os.path.abspath(options.out)), exist_ok=True)
        with open(options.out, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=1)
        print(f"written to {options.out}")


main()
