#!/usr/bin/env python3
"""Makes tests/golden/blocks.gguf with the package `gguf`: two rows of random blocks of each type that is read, and beside each
tensor NAME the numbers NAME.expected, as the package's own dequantisation gives them.

    scripts/make_gguf_goldens.py"""
import pathlib

import gguf
import numpy as np

PATH = pathlib.Path(__file__).parent.parent / "tests" / "golden" / "blocks.gguf"
TYPES = "F16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q4_K Q6_K BF16".split()
HALVES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q4_K": [0, 2], "Q6_K": [208]}  # where scales lie


def main():
    rng = np.random.default_rng(1)
    writer = gguf.GGUFWriter(PATH, "none")
    writer.add_string("text", "Grüße")
    writer.add_int32("negative", -7)
    writer.add_float32("third", 1 / 3)
    writer.add_bool("yes", True)
    writer.add_uint64("large", 2**40)
    writer.add_array("words", ["a", "", "ü"])
    writer.add_array("numbers", [1.5, -2.0])
    writer.add_array("flags", [True, False])
    writer.add_tensor("plain", np.arange(6, dtype=np.float32).reshape(2, 3))
    for name in TYPES:
        kind = gguf.GGMLQuantizationType[name]
        elements, size = gguf.GGML_QUANT_SIZES[kind]
        blocks = rng.integers(0, 256, (2, 512 // elements, size), dtype=np.uint8)
        halves = HALVES.get(name, [])
        for at in halves:  # numbers, not NaN: large, small and subnormal ones
            scales = rng.normal(size=blocks.shape[:2]) * 10.0 ** rng.integers(-7, 3, blocks.shape[:2])
            blocks[..., at:at + 2] = scales.astype(np.float16)[..., None].view(np.uint8)
        if not halves:
            numbers = rng.normal(size=(2, 512)) * 10.0 ** rng.integers(-7, 3, (2, 512))
            bits = numbers.astype(np.float16).view(np.uint16) if name == "F16" else (numbers.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
            blocks = bits[..., None].view(np.uint8)
        raw = blocks.reshape(2, -1)
        writer.add_tensor(name, raw, raw_shape=raw.shape, raw_dtype=kind)
        writer.add_tensor(name + ".expected", gguf.quants.dequantize(raw, kind).astype(np.float32).reshape(2, 512))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    print(f"{PATH}: {PATH.stat().st_size} bytes")


if __name__ == "__main__":
    main()
