"""What pip builds: everything where the libraries are, else the operations alone, which say what is missing."""
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not shutil.which("meson") or not shutil.which("ninja"),
                                                   reason="meson or ninja is not here")]
CHECK = """
import numpy as np
import attn
x = np.ones((1, 2, 3, 4), np.float32)
np.testing.assert_allclose(attn.attention(x, x, x), x)
for make in (attn.load, attn.Tokenizer):
    try:
        make("tokenizer.json")
    except NotImplementedError as error:
        assert "this build of attn has the operations alone" in str(error)
    else:
        raise AssertionError
"""


def configure(folder, **environment):
    return subprocess.run(["meson", "setup", folder, ROOT, "-Dcore_if_missing=true", "-Dpython=true", "--buildtype=debug"], check=True, text=True,
                          stdout=subprocess.PIPE, env={**os.environ, **environment}).stdout


def test_without_the_libraries(tmp_path):
    nowhere = {"PKG_CONFIG_LIBDIR": str(tmp_path), "PKG_CONFIG_PATH": "", "CMAKE_PREFIX_PATH": str(tmp_path)}
    said = configure(tmp_path / "build", **nowhere)
    assert "the operations alone are built" in said and "jansson" in said
    extension = "python/attn/_attn.abi3.so"
    subprocess.run(["ninja", "-j2", "-C", tmp_path / "build", extension], check=True, stdout=subprocess.DEVNULL)
    needed = subprocess.run(["ldd", tmp_path / "build" / extension], check=True, text=True, stdout=subprocess.PIPE).stdout
    assert "jansson" not in needed
    done = subprocess.run([sys.executable, "-c", CHECK], env={**os.environ, "PYTHONPATH": str(tmp_path / "build/python")},
                          check=False, text=True, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr


def test_with_the_libraries(tmp_path):
    configure(tmp_path / "build")
    listing = subprocess.run(["meson", "introspect", "--targets", tmp_path / "build"], check=True, stdout=subprocess.PIPE).stdout
    sources = [file for target in json.loads(listing) if target["name"] == "_attn" for part in target["target_sources"]
               for file in part.get("sources", [])]
    assert any(file.endswith("_attn_model.c") for file in sources)
