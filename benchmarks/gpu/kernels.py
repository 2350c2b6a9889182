"""Where five optimiser steps spend the device's time, by kind of kernel and by kernel."""

import re

from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.prepared import prepared, spec_of
from benchmarks.gpu.section import Section, rounded

_KINDS = {
    "batch norm": "batch_?norm|bn_fw|bn_bw",
    "convolution": "conv|wgrad|dgrad|fprop|cudnn|xmma|cutlass|gemm|nvjet",
    "optimiser and weight copies": "multi_tensor_apply|fused_sgd|foreach",
    "formats and copies": "copy|transpose|nchw|nhwc|memcpy|memset|catarray",
    "element-wise": "elementwise|vectorized|threshold|clamp|triton",
    "reductions": "reduce|softmax|nll",
}
_STEPS, _LARGEST = 5, 15


def kernels(section: Section) -> None:
    """Rows by kind and of the largest kernels; kernels-METHOD.txt has all of them."""

    def measure(method: str) -> None:
        one = prepared(section, spec_of(section, method))
        one.elapsed(6)
        with profile(activities=[ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * section.on_gpu]) as found:
            one.elapsed(_STEPS)
        events, side = found.key_averages(), "device" if section.on_gpu else "cpu"
        text = events.table(sort_by=f"self_{side}_time_total", row_limit=60, max_name_column_width=100)
        (section.output / f"kernels-{method}.txt").write_text(text, encoding="utf-8")
        if section.on_gpu:  # an operation's own row would count its kernels' time twice
            events = [one for one in events if one.device_type == DeviceType.CUDA and not one.is_user_annotation]
        micros = {event.key: getattr(event, f"self_{side}_time_total") for event in events}
        whole, kinds = sum(micros.values()) or 1.0, dict.fromkeys([*_KINDS, "other"], 0.0)
        for name, spent in micros.items():
            kinds[_kind(name)] += spent
        largest = sorted(micros.items(), key=lambda pair: -pair[1])[:_LARGEST]
        for name, spent in [*((f"all: {kind}", spent) for kind, spent in kinds.items()), *largest]:
            values = rounded(ms_per_update=spent / _STEPS / one.updates / 1e3, share=spent / whole)
            section.rows.append(f"{method}: {name[:100]}", **values)
        section.rows.append(method, **rounded(ms_per_update=whole / _STEPS / one.updates / 1e3))

    section.each(("bs-trades", "fgsm-rs"), measure)


def _kind(kernel: str) -> str:
    kinds = (kind for kind, words in _KINDS.items() if re.search(words, kernel, re.IGNORECASE))
    return next(kinds, "other")
