/* attn/text.h: Unicode text to token ids and back; parallel corpora. */
#ifndef ATTN_TEXT_H
#define ATTN_TEXT_H

#include <attn/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- normalisation -------------------------------------------------------------------------- */

/* NFC, and the named mappings: U+00A0 and U+202F to a space, U+2019 to an apostrophe; runs of white space (tabs and
 * line ends too) become one space, none at the ends. Never NFKC. Gives *out (release with attn_text_free); text need
 * not be valid UTF-8: each bad byte becomes U+FFFD; *bad (NULL: not wanted) gets the byte offset of the first, or
 * SIZE_MAX. */
ATTN_API attn_status attn_text_normalise(attn_context *ctx, char **out, size_t *out_bytes, const char *text,
                                         size_t bytes, size_t *bad);
ATTN_API attn_status attn_text_lowercase(attn_context *ctx, char **out, size_t *out_bytes, const char *text,
                                         size_t bytes);
ATTN_API void attn_text_free(attn_context *ctx, void *text);

/* ---- tokenizer ------------------------------------------------------------------------------ */

typedef struct attn_tokenizer attn_tokenizer;

/* A tokenizer that is trained here: the spans follow each other without gaps and cover the normalised text; the space
 * before a word belongs to its first token. A span is empty for special tokens, and for a mark of a word's beginning
 * that stands alone where the text begins.
 * Other tokenizers: spans are bytes of the text as it was given; what the tokenizer drops lies between them, and tokens
 * of one character that normalisation took apart share its bytes. Special tokens that the text itself has cover it. */
typedef struct attn_token {
    int32_t id;
    size_t first, end; /* bytes of attn_tokens.text: [first, end) */
    int32_t word;      /* index of the white-space word it lies in; −1 for special tokens but the unknown one */
} attn_token;

typedef struct attn_tokens {
    attn_token *token;
    size_t count, capacity;
    char *text; /* NUL-terminated: normalised, or as it was given, each bad byte as U+FFFD */
    size_t bytes;
} attn_tokens;

#define ATTN_TOKENS_INIT \
    { NULL, 0, 0, NULL, 0 }

/* Ids that are the same in every vocabulary trained here. */
enum { ATTN_ID_BOS = 0, ATTN_ID_PAD = 1, ATTN_ID_EOS = 2, ATTN_ID_UNK = 3 };

/* Reads tokenizer.json (Hugging Face's form): BPE, WordPiece, Unigram or whole words, with the normalisers,
 * pre-tokenizers, post-processors, decoders and added tokens of that file; truncation and padding are the caller's.
 * What is not supported is refused by name.
 * Other files are known by their beginning: GPT-2's vocab.json or encoder.json (merges.txt or vocab.bpe beside it), or
 * its merges alone, SentencePiece's .model (Unigram, BPE), tiktoken's ranks of the families whose pattern is known,
 * llama2.c's tokenizer.bin; and by their ending .gguf, and BERT's vocab.txt
 * (tokenizer_config.json beside it, else in lower case). gives. */
ATTN_API attn_status attn_tokenizer_load(attn_tokenizer **gives, attn_context *ctx, const char *path);
ATTN_API attn_status attn_tokenizer_save(const attn_tokenizer *tokenizer, const char *path); /* atomic */
ATTN_API void attn_tokenizer_free(attn_tokenizer *tokenizer);
ATTN_API size_t attn_tokenizer_size(const attn_tokenizer *tokenizer);
/* The token's own text ("▁help", "<0xC3>", "</s>"), "" for a number between others that no token has, NULL if there is
 * no such id. */
ATTN_API const char *attn_tokenizer_piece(const attn_tokenizer *tokenizer, int32_t id);
/* The id of a token by its own text, −1 if there is none. */
ATTN_API int32_t attn_tokenizer_find(const attn_tokenizer *tokenizer, const char *piece);
ATTN_API bool attn_tokenizer_is_special(const attn_tokenizer *tokenizer, int32_t id);

typedef struct attn_byte_range {
    size_t first, end; /* [first, end) */
} attn_byte_range;

typedef struct attn_tokenize_options {
    size_t struct_size;
    bool add_special;             /* what the tokenizer puts around a text: </s>, or what its post-processor says */
    bool special_as_text;         /* "</s>" in the text is four characters; always so for what is trained here */
    const attn_byte_range *typed; /* where alone it is so, in order: what somebody typed between a template's tokens */
    size_t typed_count;
} attn_tokenize_options;
#define ATTN_TOKENIZE_OPTIONS_INIT \
    { sizeof(attn_tokenize_options), false, false, NULL, 0 }

/* *tokens is reused: its arrays grow; release with attn_tokens_free. options may be NULL. */
ATTN_API attn_status attn_tokenize_with(const attn_tokenizer *tokenizer, attn_tokens *tokens, const char *text,
                                        size_t bytes, const attn_tokenize_options *options);
/* With that one option. A tokenizer that is trained here and has no </s> is ATTN_E_ARGUMENT then. */
ATTN_API attn_status attn_tokenize(const attn_tokenizer *tokenizer, attn_tokens *tokens, const char *text, size_t bytes,
                                   bool add_special);
ATTN_API void attn_tokens_free(attn_context *ctx, attn_tokens *tokens);
/* Text of ids, special ones left out. Gives *out. If spans is not NULL it gets n attn_tokens: bytes and word of each id
 * in *out. */
ATTN_API attn_status attn_detokenize(const attn_tokenizer *tokenizer, char **out, size_t *out_bytes, const int32_t *ids,
                                     size_t n, attn_token *spans);

typedef struct attn_bpe_options {
    size_t struct_size;
    size_t vocab_size;      /* 8000, with 4 special tokens and 256 bytes */
    size_t min_frequency;   /* 2 */
    bool lowercase;         /* part of the tokenizer's normaliser */
    bool tags;              /* each tag that a line begins with (attn_text_tag) gets a token of its own */
    size_t max_piece_bytes; /* 0: no limit */
} attn_bpe_options;
#define ATTN_BPE_OPTIONS_INIT \
    { sizeof(attn_bpe_options), 8000, 2, false, false, 0 }

/* Bytes of the tag of a target language, <2fr> or <2pt-br>, that a source text begins with; 0: none. A translator that
 * was trained with tags translates into the language of the tag (Johnson et al. 2017). */
ATTN_API size_t attn_text_tag(const char *text, size_t bytes);
/* The same of tags that the tokenizer has a token for; *id gets it, or −1 (NULL: not wanted). Such a tag, at the start
 * of a text, becomes that token, without bytes of its own; anywhere else, and any other, is text. */
ATTN_API size_t attn_tokenizer_tag(const attn_tokenizer *tokenizer, int32_t *id, const char *text, size_t bytes);

/* Trains byte-pair encoding (Sennrich, Haddow & Birch 2016) on lines of text; deterministic. gives. */
ATTN_API attn_status attn_tokenizer_train_bpe(attn_tokenizer **gives, attn_context *ctx, const char *const *lines,
                                              const size_t *bytes, size_t n, const attn_bpe_options *options);

/* A tokenizer with a token for each character that the texts have, white space too; others become <unk>. gives. */
ATTN_API attn_status attn_tokenizer_of_characters(attn_tokenizer **gives, attn_context *ctx, const char *const *texts,
                                                  const size_t *bytes, size_t n);

/* ---- corpora -------------------------------------------------------------------------------- */

/* Pairs of lines. Texts are NUL-terminated, as in the file (not normalised), valid UTF-8. */
typedef struct attn_pair {
    const char *source, *target;
    size_t source_bytes, target_bytes;
    size_t line; /* from 1 */
} attn_pair;

typedef struct attn_corpus attn_corpus;

typedef struct attn_corpus_options {
    size_t struct_size;
    bool reverse; /* swap source and target */
    size_t limit; /* 0: all; else the first so many pairs */
} attn_corpus_options;
#define ATTN_CORPUS_OPTIONS_INIT \
    { sizeof(attn_corpus_options), false, 0 }

/* One path: a TSV file, `source TAB target` (further columns ignored); two paths: line i of both. A name that ends in
 * .xz or .gz is decompressed; "-" is stdin. Blank lines are skipped in TSV (refused if only one side is blank); a BOM
 * is dropped; CR LF is a line end. Broken UTF-8, a missing TAB, unequal line counts, a NUL byte: ATTN_E_FORMAT with
 * file, line, found, expected. gives. */
ATTN_API attn_status attn_corpus_read(attn_corpus **gives, attn_context *ctx, const char *const *paths, size_t n,
                                      const attn_corpus_options *options);
/* Texts for language models: target is a text, source is empty. A file (.xz, .gz, "-") is one text, or several with
 * lines
 * "<|endoftext|>" between them; blank ones are left out. gives. */
ATTN_API attn_status attn_corpus_read_texts(attn_corpus **gives, attn_context *ctx, const char *const *paths, size_t n);
/* Takes the last `part` (0 … 1) of the bytes of a corpus's texts away and gives them as a corpus of their own. */
ATTN_API attn_status attn_corpus_split_texts(attn_corpus **gives, attn_corpus *corpus, double part);
/* What stands around an instruction and its input, before the answer: ALPACA as Taori et al. 2023 ("Below is an
 * instruction … ### Instruction: … ### Input: … ### Response:"), CHATML ("<|im_start|>user …"), PLAIN lines alone. */
typedef enum attn_template { ATTN_TEMPLATE_ALPACA, ATTN_TEMPLATE_CHATML, ATTN_TEMPLATE_PLAIN } attn_template;
/* The text before the answer; input "" or NULL: there is none. Gives *out (attn_text_free). */
ATTN_API attn_status attn_prompt(attn_context *ctx, char **out, size_t *bytes, attn_template prompt_template,
                                 const char *instruction, const char *input);
/* Instructions: source is the prompt, target the answer. Files (.xz, .gz, "-") are JSON, an array of objects or one
 * object behind the other: "instruction", "input" (may be missing) and "output"; with preferences "chosen" and
 * "rejected" instead of "output", of which each makes a pair: first the chosen, then the rejected one. What is wrong is
 * ATTN_E_FORMAT with file, line, expected, found. gives. */
ATTN_API attn_status attn_corpus_read_instructions(attn_corpus **gives, attn_context *ctx, const char *const *paths,
                                                   size_t n, attn_template prompt_template, bool preferences);
/* Takes the last `part` (0 … 1) of a corpus's pairs away and gives them as a corpus of their own; groups of `together`
 * pairs stay together. */
ATTN_API attn_status attn_corpus_split_pairs(attn_corpus **gives, attn_corpus *corpus, double part, size_t together);
ATTN_API void attn_corpus_free(attn_corpus *corpus);
ATTN_API size_t attn_corpus_count(const attn_corpus *corpus);
ATTN_API const attn_pair *attn_corpus_at(const attn_corpus *corpus, size_t index);
/* A text file whole (.xz, .gz, "-"), NUL-terminated; release with attn_text_free. */
ATTN_API attn_status attn_read_text(attn_context *ctx, char **out, size_t *bytes, const char *path);

/* What augmentation does to a pair, each with its own probability (docs/training.md): spellings that
 * people type. Gives new strings. */
typedef struct attn_augment_options {
    size_t struct_size;
    float lowercase_source, drop_final_punctuation, drop_source_commas, fold_umlauts; /* probabilities, 0 */
} attn_augment_options;
ATTN_API attn_status attn_augment_pair(attn_context *ctx, char **source, char **target, const attn_pair *pair,
                                       const attn_augment_options *options, uint64_t seed, uint64_t index);

/* ---- measures of translation --------------------------------------------------------------- */

typedef struct attn_bleu {
    double score, precision[4], brevity_penalty;
    size_t hypothesis_tokens, reference_tokens, correct[4], total[4];
} attn_bleu;

/* Corpus BLEU as sacreBLEU computes it: 13a tokenisation, exponential smoothing, one reference. lowercase: both sides.
 * No sentence at all is ATTN_E_ARGUMENT. */
ATTN_API attn_status attn_bleu_score(attn_context *ctx, attn_bleu *bleu, const char *const *hypotheses,
                                     const char *const *references, size_t n, bool lowercase);
/* Corpus chrF2 as sacreBLEU computes it (6-grams of characters, β = 2, no words), 0 … 100. */
ATTN_API attn_status attn_chrf_score(attn_context *ctx, double *score, const char *const *hypotheses,
                                     const char *const *references, size_t n);

/* ---- word alignment (Dyer, Chahuneau & Smith 2013) ------------------------------------------ */

typedef struct attn_link {
    int32_t source, target;
} attn_link; /* word indices from 0 */
typedef struct attn_links {
    attn_link *link;
    size_t count;
} attn_links; /* one sentence */

typedef enum attn_symmetrize {
    ATTN_SYM_FORWARD,
    ATTN_SYM_REVERSE,
    ATTN_SYM_INTERSECT,
    ATTN_SYM_UNION,
    ATTN_SYM_GROW_DIAG,
    ATTN_SYM_GROW_DIAG_FINAL_AND
} attn_symmetrize;

typedef struct attn_align_options {
    size_t struct_size;
    int iterations;        /* 5 */
    float p_null;          /* 0.08 */
    float tension;         /* 4.0, optimised while training */
    bool optimise_tension; /* true */
    float dirichlet_alpha; /* 0.01; variational Bayes; 0: maximum likelihood */
    bool lowercase;        /* true: words compared in lower case */
} attn_align_options;
#define ATTN_ALIGN_OPTIONS_INIT \
    { sizeof(attn_align_options), 5, 0.08f, 4.0f, true, 0.01f, true }

/* White-space words with punctuation apart, as the aligner wants lines: marks and symbols become words of their own,
 * but 1,000.5 and six-year stay whole and a run of one mark (...) is one word. An apostrophe begins an English short
 * form ("Tom 's", "we 'll") and else ends its word ("l' homme"). Nothing but white space changes. Gives *out
 * (attn_text_free). */
ATTN_API attn_status attn_words_split_punctuation(attn_context *ctx, char **out, const char *text);

typedef struct attn_aligner attn_aligner;
/* Trains both directions on white-space words of source and target lines; a pair with a blank side, or with more than
 * 512 words on one, teaches nothing. The same bits from any number of threads. options may be NULL. gives. */
ATTN_API attn_status attn_aligner_train(attn_aligner **gives, attn_context *ctx, const char *const *sources,
                                        const char *const *targets, size_t n, const attn_align_options *options);
ATTN_API void attn_aligner_free(attn_aligner *aligner);
/* Gives links->link (attn_text_free). */
ATTN_API attn_status attn_aligner_align(const attn_aligner *aligner, attn_links *links, const char *source,
                                        const char *target, attn_symmetrize how);
/* The lexicon: the best target word for a source word, NULL if unknown; *probability may be NULL. For glosses. The word
 * is in lower case where the aligner compares so; it lives as long as the aligner. */
ATTN_API const char *attn_aligner_gloss(const attn_aligner *aligner, const char *source_word, float *probability);

/* Alignment error rate (Och & Ney 2003) with |A∩S|, |A∩P|, |A|, |S| summed over sentences. What is sure is possible
 * too. found has each link once. */
typedef struct attn_aer {
    size_t hits_sure, hits_possible, links, sure;
} attn_aer;
ATTN_API void attn_aer_add(attn_aer *aer, const attn_links *found, const attn_links *sure, const attn_links *possible);
ATTN_API double attn_aer_value(const attn_aer *aer);
/* Reads gold links, a line a sentence, "i-j" sure, "ipj" or "i?j" possible. one_based: indices from 1. gives arrays of
 * n. */
ATTN_API attn_status attn_gold_read(attn_context *ctx, attn_links **sure, attn_links **possible, size_t *n,
                                    const char *path, bool one_based);
ATTN_API void attn_gold_free(attn_context *ctx, attn_links *links, size_t n);

#ifdef __cplusplus
}
#endif
#endif
