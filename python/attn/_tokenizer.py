"""Text to ids and back, with any tokenizer that the program reads."""
import os

from . import _attn


class Tokenizer:
    """A tokenizer.json, a SentencePiece .model, tiktoken ranks, GPT-2's vocab.json, or the tokenizer in a .gguf.

        tokenizer = attn.Tokenizer("tokenizer.json")
        ids = tokenizer.encode("Hello, world!")
        tokenizer.decode(ids)
        tokenizer.spans("Hello, world!")       # (id, first, end) of each token, characters of the text
    """

    def __init__(self, path, *, of_model=False):
        """of_model: the path is a model's, which has a tokenizer in it or beside it."""
        if not hasattr(_attn, "Tokenizer"):
            raise NotImplementedError("this build of attn has the operations alone: tokenizers need jansson and the other libraries that docs/python.md names when it is built")
        self._tokenizer = _attn.Tokenizer(os.fsencode(path), of_model)

    @property
    def size(self):
        """Ids are 0 to size − 1."""
        return self._tokenizer.size()

    def _rows(self, text, add_special, special_as_text):
        return self._tokenizer.encode(text.encode("utf-8", "replace"), add_special, special_as_text)

    def encode(self, text, *, add_special=False, special_as_text=False):
        """Ids of a text.

        add_special      what the tokenizer puts around a text
        special_as_text  the name of a special token in the text is text
        """
        return [row[0] for row in self._rows(text, add_special, special_as_text)[0]]

    def spans(self, text, *, add_special=False, special_as_text=False):
        """(id, first, end) of each token: characters of the text, of a tokenizer trained by attn the normalised one. A token
        that is a part of a character has the whole of it."""
        rows, raw = self._rows(text, add_special, special_as_text)
        index, count = [], -1  # of the character that each byte lies in
        for byte in raw:
            count += byte & 0xC0 != 0x80
            index.append(count)
        index.append(count + 1)
        return [(id, index[first], index[end - 1] + 1 if end > first else index[first]) for id, first, end, _ in rows]

    def decode(self, ids):
        """The text of ids, special ones left out."""
        return self._tokenizer.decode(ids).decode("utf-8", "replace")

    def piece(self, id):
        """The token's own text, None if there is no such id."""
        return self._tokenizer.piece(id)

    def find(self, piece):
        """The id of a token by its own text, None if there is none."""
        id = self._tokenizer.find(piece.encode("utf-8", "replace"))
        return None if id < 0 else id
