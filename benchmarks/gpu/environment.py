"""What machine this is, and the rate of its matrix products, of which MFU is a fraction."""

import subprocess

import torch

from benchmarks.gpu.section import Section, rounded
from fatbench.environment import describe_environment
from fatbench.metering.calibration import peak_flops

_QUERY = "clocks.sm,clocks.max.sm,clocks.mem,temperature.gpu,power.draw,power.limit"


def environment(section: Section) -> None:
    """One row per fact."""

    def measure(name: str) -> None:
        if name == "machine":
            section.rows.append(name, **describe_environment(section.device).model_dump())
        elif name == "card":
            command = ["nvidia-smi", f"--query-gpu={_QUERY}", "--format=csv,noheader"]
            state = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
            section.rows.append(name, **dict(zip(_QUERY.split(","), state.strip().split(", "), strict=True)))
        else:
            tf32 = name == "peak tf32"
            torch.backends.cudnn.allow_tf32 = tf32
            seconds = section.scale.peak_seconds * (1.0 if name == "peak bf16" else 0.4)
            rate = peak_flops(section.device, "bf16" if name == "peak bf16" else "fp32", seconds)
            section.rows.append(name, **rounded(tflop_per_second=rate / 1e12))

    section.each(["machine", "peak bf16", "peak tf32", "peak fp32", *["card"] * section.on_gpu], measure)
