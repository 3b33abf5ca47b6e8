/* attn/chat.h: chat templates: messages as the text that a model was taught to answer.
 *
 *     attn_chat *chat;
 *     const attn_message messages[] = {{"user", "What is the capital of France?"}};
 *     if (attn_chat_load(&chat, ctx, "model.gguf", NULL) != ATTN_OK) …
 *     if (attn_chat_tokenize(chat, &ids, &n, tokenizer, messages, 1) != ATTN_OK) …
 *     attn_generator_prompt_ids(generator, ids, n);     // with options.ends: attn_chat_end(chat, tokenizer)
 */
#ifndef ATTN_CHAT_H
#define ATTN_CHAT_H

#include <attn/text.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct attn_chat attn_chat; /* a template */

typedef struct attn_message {
    const char *role; /* "system" (only the first message), "user", "assistant" */
    const char *text;
} attn_message;

/* Templates are written in Jinja, of which nothing is run here: a text is recognised as one of those that
 * attn_chat_names lists, and any other is ATTN_E_UNSUPPORTED. begin, end: the names of the tokens that begin and end a
 * text, NULL: there are none. gives. */
ATTN_API attn_status attn_chat_create(attn_chat **gives, attn_context *ctx, const char *jinja, const char *begin,
                                      const char *end);
/* That of a model: in a folder chat_template.jinja, or "chat_template" in tokenizer_config.json; in a GGUF file
 * tokenizer.chat_template. name (NULL: that one): one of attn_chat_names in its place. A model without is
 * ATTN_E_ARGUMENT. gives. */
ATTN_API attn_status attn_chat_load(attn_chat **gives, attn_context *ctx, const char *path, const char *name);
/* The Jinja text of a model's template (attn_text_free); NULL: it has none. gives. */
ATTN_API attn_status attn_chat_template(char **gives, attn_context *ctx, const char *path);
ATTN_API void attn_chat_free(attn_chat *chat);
/* "chatml", "llama-3", …; NULL behind the last. */
ATTN_API const char *const *attn_chat_names(void);
ATTN_API const char *attn_chat_name(const attn_chat *chat);

/* The text of messages, and what the answer begins with: what transformers' apply_chat_template gives. Gives *text
 * (attn_text_free). Roles in an order that the template has no place for are ATTN_E_ARGUMENT. */
ATTN_API attn_status attn_chat_format(const attn_chat *chat, char **text, const attn_message *messages, size_t n);
/* The same as ids (attn_text_free): special tokens are the template's alone, whatever the messages say. */
ATTN_API attn_status attn_chat_tokenize(const attn_chat *chat, int32_t **ids, size_t *count,
                                        const attn_tokenizer *tokenizer, const attn_message *messages, size_t n);
/* The token that ends an answer; −1: the tokenizer lacks it. */
ATTN_API int32_t attn_chat_end(const attn_chat *chat, const attn_tokenizer *tokenizer);

#ifdef __cplusplus
}
#endif
#endif
