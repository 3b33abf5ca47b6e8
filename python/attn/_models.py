"""Models of every kind from folders and files: language models, encoders, translators."""
import itertools
import json
import math
import os
from collections.abc import Mapping, Sequence

import numpy as np

from . import _attn
from ._tokenizer import Tokenizer

_BATCH = 32  # texts in one call; between calls Ctrl-C is heard
_KINDS = ("encoder", "decoder", "cross")
_POOLING = ("mean", "cls", "pooler")


def load(path, *, tokenizer=None):
    """A model from a folder (config.json, model.safetensors, a tokenizer) or a file (.gguf, llama2.c's .bin).

        model = attn.load("models/de-en")          # a Translator, a LanguageModel or an Encoder
        print(model.translate("Das ist gut.").text)

    tokenizer   a file to be taken instead of the model's own
    It computes with the threads that are set when it is loaded (attn.set_num_threads).
    """
    if not hasattr(_attn, "Model"):
        raise NotImplementedError("this build of attn has the operations alone: models need jansson and the other libraries that docs/python.md names when it is built")
    own = _attn.Model(os.fsencode(path), b"" if tokenizer is None else os.fsencode(tokenizer))
    return {"language": LanguageModel, "encoder": Encoder, "translator": Translator}[own.info()[0]](own, path, tokenizer)


def _bytes(text):
    if not isinstance(text, str):
        raise TypeError(f"expected a str, found {type(text).__name__}")
    return text.encode("utf-8", "replace")


def _texts(texts):
    """UTF-8 of a text, or of those of a list, as a list."""
    if isinstance(texts, str):
        return [_bytes(texts)]
    if isinstance(texts, (bytes, bytearray)) or not hasattr(texts, "__iter__"):
        raise TypeError(f"texts is a {type(texts).__name__}, expected a str or a list of them")
    return [_bytes(text) for text in texts]


def _count(name, value, most=2**62):
    if value is None:
        return 0
    if not 0 <= value <= most:
        raise ValueError(f"{name} is {value}, expected 0 to {most}")
    return int(value)


def _place(layer, head, layers, heads):
    """The numbers that the library has for a layer and a head, and the dimension of heads that a result has, if any."""
    if not -layers <= layer < layers:
        raise ValueError(f"layer is {layer}, but the model has {layers}")
    if isinstance(head, str):
        if head != "all":
            raise ValueError(f"head is {head!r}, expected None, a number or \"all\"")
        return layer % layers, -1, (heads,)
    if head is not None and not -heads <= head < heads:
        raise ValueError(f"head is {head}, but a layer has {heads}")
    return layer % layers, 0 if head is None else head % heads + 1, ()


class Model:
    """What all models have."""

    def __init__(self, own, path, tokenizer):
        self._own, self._name, self._tokenizer = own, os.fspath(path), None
        # Read again later: they are to be found from another working directory too.
        self._path = os.path.abspath(self._name)
        self._tokenizer_path = None if tokenizer is None else os.path.abspath(tokenizer)
        _, self.type, config, self.vocab_size, self.context_length, self._state_size, _ = own.info()
        self.config = json.loads(config)

    def __repr__(self):
        return f"<attn.{type(self).__name__} {self.type} of {self._name!r}>"

    @property
    def tokenizer(self):
        """The attn.Tokenizer: spans, pieces, encoding without special tokens."""
        if self._tokenizer is None:
            own = self._tokenizer_path is None
            self._tokenizer = Tokenizer(self._path if own else self._tokenizer_path, of_model=own)
        return self._tokenizer

    def tokenize(self, text):
        """Ids of a text as the model reads it: with what its tokenizer puts around one (for a language model: before)."""
        return self._own.tokenize(_bytes(text))

    def detokenize(self, ids):
        """The text of ids, special ones left out."""
        return self._own.detokenize(ids).decode("utf-8", "replace")

    def _ids(self, text_or_ids):
        return self.tokenize(text_or_ids) if isinstance(text_or_ids, str) else text_or_ids


class _Reader(Model):
    """What language models and encoders have: they read one text."""

    @property
    def num_layers(self):
        return self.config.get("n_layer") or self.config["num_hidden_layers"]

    @property
    def num_heads(self):
        return self.config.get("n_head") or self.config["num_attention_heads"]

    def attention(self, text, *, layer=-1, head=None):
        """Attention weights (T, T) while the model reads a text or ids: row t says what token t looks at.

        layer   from 0, or from the end
        head    of that layer, from 0; without it the mean of all; "all": each of them, (H, T, T)
        """
        return self._look(text, None, layer, head)

    def _look(self, text, types, layer, head):
        ids = self._ids(text)
        layer, head, shape = _place(layer, head, self.num_layers, self.num_heads)
        out = np.empty((*shape, len(ids), len(ids)), np.float32)
        self._own.look(out, ids, types, layer, head)
        return out


class LanguageModel(_Reader):
    """A model that says what comes next: GPT-2, Llama, Mistral, Qwen, Gemma, or one trained here."""

    def logits(self, ids):
        """(T, vocab_size) float32 of ids, or of a text: row t is what the model expects after token t."""
        ids = self._ids(ids)
        out = np.empty((len(ids), self.vocab_size), np.float32)
        self._own.logits(out, ids, None)
        return out

    def loss(self, text):
        """(sum of −log p of all tokens but the first, how many), in windows of the context length, of which each begins
        with the last token of the one before and sees nothing else of it."""
        ids, total, tokens = self._ids(text), 0.0, 0
        for first in range(0, max(len(ids) - 1, 0), self.context_length):
            nll, n = self._own.loss(ids[first:first + self.context_length + 1])
            total, tokens = total + nll, tokens + n
        return total, tokens

    def perplexity(self, text):
        """exp of the mean loss of a text's tokens, or of ids, but the first."""
        total, tokens = self.loss(text)
        if not tokens:
            raise ValueError("perplexity: found less than two tokens, expected a text")
        return math.exp(total / tokens)

    def generate(self, prompt, *, max_tokens=None, temperature=0.8, top_k=40, top_p=0.95, min_p=0.05,
                 repetition_penalty=1.0, seed=1, stop=(), context=None, slide=False, cache="f32"):
        """The text that goes on after a prompt (text or ids), as an iterator of its pieces.

            for piece in model.generate("Once upon a time", max_tokens=100):
                print(piece, end="", flush=True)
            text = "".join(model.generate("Once upon a time", temperature=0))

        max_tokens           at most; without it until the context is full
        temperature          0: always the likeliest token
        top_k, top_p, min_p  0, 1 and 0: all tokens
        repetition_penalty   makes tokens that the text has less likely
        seed                 the same text each time
        stop                 strings that end the text, and are not given
        context, slide       tokens in all, if less than the context length; a full context goes on from its last half
        cache                of keys and values: "f32", or "int8", a quarter of the memory
        The defaults are those of the command: attn generate gives the same text.
        """
        return self._generate(prompt, -1, max_tokens, temperature, top_k, top_p, min_p, repetition_penalty, seed, stop, context,
                              slide, cache)

    def _generate(self, prompt, end, max_tokens, temperature, top_k, top_p, min_p, repetition_penalty, seed, stop, context,
                  slide, cache):
        """end: an id that ends the text beside the model's own, −1: none."""
        if cache not in ("f32", "int8"):
            raise ValueError(f'cache is {cache!r}, expected "f32" or "int8"')
        stop = (stop,) if isinstance(stop, str) else stop
        generator = _attn.Generator(
            self._own, _count("max_tokens", max_tokens), temperature, _count("top_k", top_k), top_p, min_p,
            repetition_penalty, _count("seed", seed, 2**64 - 1), tuple(_bytes(s) for s in stop), _count("context", context),
            slide, cache == "int8", end)
        generator.prompt(_bytes(prompt) if isinstance(prompt, str) else prompt)
        return Generation(generator)

    def chat(self, messages, *, template=None, **options):
        """The answer to a conversation, as an iterator of its pieces, with the model's own chat template.

            answer = "".join(model.chat("What is the capital of France?", temperature=0))
            messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
            for piece in model.chat(messages, max_tokens=200): ...

        messages    dicts with "role" ("system" first, "user", "assistant") and "content"; or a text, which the user says
        template    a name that attn generate --template takes, in place of the model's
        options     as generate has them
        """
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        texts = [_bytes(part) for message in messages for part in (message["role"], message["content"])]
        ids, end = self._own.chat(os.fsencode(self._path), _bytes(template or ""), tuple(texts))
        return self._generate(ids, end, **(LanguageModel.generate.__kwdefaults__ | options))

    def generate_many(self, prompts, *, batch=8, **options):
        """The texts that go on after prompts, as a list: batch at a time go through the model together, and one that ends
        makes room for the next. Each is the text that generate() gives for it alone.

        prompts     texts, ids, or conversations (lists of messages, as chat has them)
        options     as generate has them
        """
        if batch < 1:
            raise ValueError(f"batch is {batch}, expected at least 1")
        if isinstance(prompts, (str, bytes)):
            raise TypeError("prompts is one text, expected several")
        texts, active, waiting = [], [], iter(enumerate(prompts))
        while True:
            for index, prompt in itertools.islice(waiting, batch - len(active)):
                texts.append([])
                talks = isinstance(prompt, Sequence) and len(prompt) > 0 and isinstance(prompt[0], Mapping)
                active.append((index, (self.chat if talks else self.generate)(prompt, **options)))
            if not active:
                return ["".join(pieces) for pieces in texts]
            active[0][1]._generator.advance(tuple(generation._generator for _, generation in active))
            still = []
            for index, generation in active:
                piece = next(generation, None)
                if piece is not None:
                    texts[index].append(piece)
                    still.append((index, generation))
            active = still


class Generation:
    """A text that goes on: an iterator of its pieces."""

    def __init__(self, generator):
        self._generator = generator

    def __iter__(self):
        return self

    def __next__(self):
        piece = self._generator.next()
        if not piece:
            raise StopIteration
        return piece.decode("utf-8", "replace")

    @property
    def end(self):
        """Why the text ended: "end token", "stop", "tokens" (max_tokens) or "context"; None while it goes on."""
        return self._generator.end()

    @property
    def ids(self):
        """All tokens of the context, prompt and continuation."""
        return self._generator.ids()


class Encoder(_Reader):
    """A BERT-type model: states of tokens, and texts as vectors."""

    @property
    def dim(self):
        """Elements of a vector."""
        return self._state_size

    def states(self, text, *, types=None):
        """(T, dim) float32: the last layer's state of each token of a text, or of ids. types: 0 for tokens of a first
        sentence, 1 for those of a second."""
        ids = self._ids(text)
        out = np.empty((len(ids), self.dim), np.float32)
        self._own.states(out, ids, types)
        return out

    def attention(self, text, *, layer=-1, head=None, types=None):
        """As LanguageModel.attention; types as in states()."""
        return self._look(text, types, layer, head)

    def embed(self, texts, *, pooling=None, normalize=True, truncate=False, max_tokens=None):
        """A text's vector (dim,), or the vectors (n, dim) of a list; cosines are inner products.

        pooling      "mean" of the tokens, "cls": the first one's state, "pooler": the model's pooler of it; without it what
                     the folder says, else "mean"
        normalize    to length 1
        max_tokens   of a text; longer ones raise, or with truncate are cut. Without it what the folder says, else the
                     context length
        """
        if pooling is not None and pooling not in _POOLING:
            raise ValueError(f"pooling is {pooling!r}, expected one of {', '.join(_POOLING)}")
        own_pooling, own_most = self._own.embed_options(os.fsencode(self._path))
        pooling = own_pooling if pooling is None else _POOLING.index(pooling)
        most = own_most if max_tokens is None else _count("max_tokens", max_tokens)
        one = isinstance(texts, str)
        encoded = _texts(texts)
        out = np.empty((len(encoded), self.dim), np.float32)
        for first in range(0, len(encoded), _BATCH):
            part = tuple(encoded[first:first + _BATCH])
            self._own.embed(out[first:first + _BATCH], part, pooling, normalize, most, truncate, first)
        return out[0] if one else out


class Translation:
    """One translation.

    text, score          score is the sum of log p, divided by length**length_penalty
    ids, tokens          of the translation, with the final </s> if it was reached; log_probs (T,) of each
    source_ids, source_tokens
    alignment            (T, S) float32: how much of each source token is in each token's context; None for an "rnn"
    """

    __slots__ = ("text", "score", "ids", "tokens", "log_probs", "source_ids", "source_tokens", "alignment")

    def __init__(self, own, source_ids, hypothesis):
        text, self.score, self.ids, log_probs, alignment = hypothesis
        self.text = text.decode("utf-8", "replace")
        self.source_ids = source_ids
        self.tokens, self.source_tokens = [own.piece(i) for i in self.ids], [own.piece(i) for i in source_ids]
        self.log_probs = np.frombuffer(log_probs or b"", np.float32).copy()
        self.alignment = None
        if alignment is not None or not self.ids:  # an empty text has no tokens to look from
            self.alignment = np.frombuffer(alignment or b"", np.float32).reshape(len(self.ids), len(source_ids)).copy()

    def __str__(self):
        return self.text

    def __repr__(self):
        return f"<attn.Translation {self.text!r}, score {self.score:.3f}>"


class Translator(Model):
    """A model that translates: "rnn", "bahdanau" or "transformer"."""

    def translate(self, texts, *, beam=5, n_best=None, length_penalty=1.0, coverage_penalty=None, max_length=0,
                  max_source=None, split_words=50):
        """The Translation of a text, or those of a list of texts.

        beam              hypotheses kept at each step; 1 is greedy
        n_best            for each text a list of the best so many, at most beam
        length_penalty, coverage_penalty, max_length
                          as attn translate has them; coverage_penalty None: the model's own;
                          max_length 0: twice the source and ten more
        split_words       a text is cut into sentences, and these into clauses of at most so many words; 0, and with n_best:
                          it is not
        max_source        tokens that a text may have: 20000, or 1000 where it is not cut
        """
        if n_best is not None:
            split_words = 0
        if max_source is None:
            max_source = 20000 if split_words else 1000
        coverage = -1.0 if coverage_penalty is None else coverage_penalty
        one = isinstance(texts, str)
        encoded, found = _texts(texts), []
        for first in range(0, len(encoded), _BATCH):
            rows = self._own.translate(tuple(encoded[first:first + _BATCH]), beam, n_best or 1, length_penalty, coverage,
                                       max_length, _count("max_source", max_source), _count("split_words", split_words))
            for source, hypotheses in rows:
                all_of_it = [Translation(self._own, source, h) for h in hypotheses]
                found.append(all_of_it[0] if n_best is None else all_of_it)
        return found[0] if one else found

    def attention(self, translation, *, kind="cross", layer=-1, head=None):
        """Weights of a transformer's heads while it reads and writes a Translation, float32.

        kind    "encoder" (S, S), "decoder" (T, T): row t is what is read to write token t, column 0 the start; "cross" (T, S):
                row t wrote token t
        layer, head     as LanguageModel.attention has them
        """
        if kind not in _KINDS:
            raise ValueError(f"kind is {kind!r}, expected one of {', '.join(_KINDS)}")
        layers = self.config.get("encoder_layers" if kind == "encoder" else "decoder_layers", 0)
        if not layers:
            raise NotImplementedError(f"a {self.type} model has no heads to look at")
        layer, head, shape = _place(layer, head, layers, self.config["heads"])
        sources, targets = len(translation.source_ids), len(translation.ids)
        out = np.empty((*shape, sources if kind == "encoder" else targets, targets if kind == "decoder" else sources), np.float32)
        self._own.look_at_pair(out, translation.source_ids, translation.ids, _KINDS.index(kind), layer, head)
        return out
