/* chat.c: messages become a text by a template's family, and tokens. See attn/chat.h. */
#include "infer/chat.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

struct attn_chat {
    attn_context *ctx;
    const attn_chat_family *family;
    char *begin, *end, *system, *date; /* system: that of a conversation without one; date: "26 Jul 2024", or today's */
    bool begins, thinks;               /* thinks: what an answer says before </think> is left out later */
};

/* ---- what else a template's text says ------------------------------------------------------------------------- */

/* What follows `before` in a literal of the text up to `after`; it must have no quote and no brace. */
static attn_status find_literal(attn_context *ctx, char **gives, const char *jinja, const char *before,
                                const char *after) {
    *gives = NULL;
    for (const char *at = jinja; (at = strstr(at, before)) != NULL;) {
        at += strlen(before);
        const char *first = *at == '\n' ? at + 1 : !strncmp(at, "\\n", 2) ? at + 2 : at, *end = strstr(first, after);
        const size_t bytes = end ? (size_t)(end - first) : 0;
        bool plain = bytes > 0;
        for (size_t i = 0; i < bytes; i++) plain = plain && !strchr("'\"{}\\", first[i]);
        if (!plain) continue;
        *gives = attn_copy_text(ctx, first, bytes);
        return *gives ? ATTN_OK : ATTN_E_NOMEM;
    }
    return ATTN_OK;
}

static attn_status today(attn_context *ctx, char **gives) {
    char text[32];
    const time_t now = time(NULL);
    struct tm local;
    static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                         "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    if (!localtime_r(&now, &local)) local = (struct tm){.tm_mday = 1};
    snprintf(text, sizeof text, "%02d %s %d", local.tm_mday, months[local.tm_mon], local.tm_year + 1900);
    *gives = attn_copy_text(ctx, text, strlen(text));
    return *gives ? ATTN_OK : ATTN_E_NOMEM;
}

static attn_status read_template(attn_chat *chat, const char *jinja, const char *begin, const char *end) {
    attn_context *ctx = chat->ctx;
    chat->begin = attn_copy_text(ctx, begin ? begin : "", begin ? strlen(begin) : 0);
    chat->end = attn_copy_text(ctx, end ? end : "", end ? strlen(end) : 0);
    if (!chat->begin || !chat->end) return ATTN_E_NOMEM;
    chat->begins = chat->family->begins && (!*jinja || strstr(jinja, "bos_token"));
    chat->thinks = strstr(jinja, "</think>") != NULL;
    if (!chat->family->dated) return find_literal(ctx, &chat->system, jinja, "<|im_start|>system", "<|im_end|>");
    if (!strstr(jinja, "strftime_now")) ATTN_TRY(find_literal(ctx, &chat->date, jinja, "date_string = \"", "\""));
    return chat->date ? ATTN_OK : today(ctx, &chat->date);
}

attn_status attn_chat_of_family(attn_chat **gives, attn_context *ctx, const attn_chat_family *family, const char *jinja,
                                const char *begin, const char *end) {
    *gives = NULL;
    attn_chat *chat = attn_alloc_zero(ctx, 1, sizeof *chat);
    if (!chat) return ATTN_E_NOMEM;
    chat->ctx = ctx, chat->family = family;
    attn_status status = read_template(chat, jinja, begin, end);
    if (status == ATTN_OK) *gives = chat;
    else attn_chat_free(chat);
    return status;
}

attn_status attn_chat_create(attn_chat **gives, attn_context *ctx, const char *jinja, const char *begin,
                             const char *end) {
    const attn_chat_family *family = attn_chat_family_of(jinja);
    *gives = NULL;
    if (family) return attn_chat_of_family(gives, ctx, family, jinja, begin, end);
    attn_buffer list = ATTN_BUFFER_INIT(ctx);
    attn_chat_list_names(&list);
    attn_status status = attn_fail(ctx, ATTN_E_UNSUPPORTED,
                                   "the chat template is none of those that are known: %s. One that fits may be named; "
                                   "or write the conversation as the model wants it, as a prompt. It begins \"%.60s\"",
                                   list.data ? list.data : "", jinja);
    attn_buffer_free(&list);
    return status;
}

void attn_chat_free(attn_chat *chat) {
    if (!chat) return;
    char *const texts[] = {chat->begin, chat->end, chat->system, chat->date};
    for (size_t i = 0; i < ATTN_COUNT(texts); i++) attn_release(chat->ctx, texts[i]);
    attn_release(chat->ctx, chat);
}

const char *attn_chat_name(const attn_chat *chat) { return chat->family->name; }

/* ---- the text ---------------------------------------------------------------------------------------------------- */

/* A text, and which of its bytes come from messages. */
typedef struct written {
    attn_buffer text;
    attn_byte_range *typed;
    size_t count, capacity;
} written;

static attn_status add_typed(written *out, const char *text, size_t bytes) {
    attn_context *ctx = out->text.ctx;
    ATTN_TRY(attn_grow(ctx, &out->typed, &out->capacity, out->count + 1, out->count, sizeof *out->typed));
    out->typed[out->count++] = (attn_byte_range){out->text.bytes, out->text.bytes + bytes};
    attn_buffer_add(&out->text, text, bytes);
    return out->text.status;
}

static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static void trim(const char **text, size_t *bytes, bool left) {
    while (*bytes && is_space((*text)[*bytes - 1])) --*bytes;
    while (left && *bytes && is_space(**text)) ++*text, --*bytes;
}

/* Writes a form; lead is a form by itself that stands before its text, with text of its own. */
static attn_status write_form(const attn_chat *chat, written *out, const char *form, const char *text, size_t bytes,
                              const char *lead, const char *lead_text) {
    for (const char *at = form; *at; at++) {
        if (*at != '%') {
            attn_buffer_add(&out->text, at, 1);
            continue;
        }
        at++;
        if (*at == 'b') attn_buffer_text(&out->text, chat->begin);
        if (*at == 'e') attn_buffer_text(&out->text, chat->end);
        if (*at == 'c' && lead) ATTN_TRY(write_form(chat, out, lead, lead_text, strlen(lead_text), NULL, NULL));
        if (*at == 'c') ATTN_TRY(add_typed(out, text, bytes));
    }
    return out->text.status;
}

static attn_status check(const attn_chat *chat, const attn_message *messages, size_t n) {
    const attn_chat_family *f = chat->family;
    const bool system = n && !strcmp(messages[0].role, "system");
    if (n == (size_t)system) return attn_fail(chat->ctx, ATTN_E_ARGUMENT, "chat: expected a message of a user");
    if (system && f->place == ATTN_SYSTEM_NONE)
        return attn_fail(chat->ctx, ATTN_E_ARGUMENT,
                         "chat: the template \"%s\" has no place for a system text: put it into the first message",
                         f->name);
    for (size_t i = system; i < n; i++) {
        const bool user = !strcmp(messages[i].role, "user"), odd = (i - system) % 2;
        if ((!user && strcmp(messages[i].role, "assistant") != 0) || (f->alternates && user == odd))
            return attn_fail(chat->ctx, ATTN_E_ARGUMENT, "chat: message %zu: expected role %s, found \"%.40s\"", i,
                             !f->alternates ? "\"user\" or \"assistant\""
                             : odd          ? "\"assistant\""
                                            : "\"user\"",
                             messages[i].role);
    }
    return ATTN_OK;
}

/* The system's message, where it is one. */
static attn_status write_system(const attn_chat *chat, written *out, const char *text) {
    if (chat->family->place != ATTN_SYSTEM_MESSAGE) return ATTN_OK;
    if (!chat->family->dated && !text) text = chat->system;
    if (!chat->family->dated && !text) return ATTN_OK;
    size_t bytes = text ? strlen(text) : 0;
    if (chat->family->trims_user && text) trim(&text, &bytes, true);
    if (!chat->family->dated) return write_form(chat, out, chat->family->system, text, bytes, NULL, NULL);
    char dates[128];
    snprintf(dates, sizeof dates, "Cutting Knowledge Date: December 2023\nToday Date: %.40s\n\n", chat->date);
    return write_form(chat, out, chat->family->system, text ? text : "", bytes, dates, "");
}

static attn_status write_message(const attn_chat *chat, written *out, const attn_message *message, const char *lead) {
    const attn_chat_family *f = chat->family;
    const bool user = !strcmp(message->role, "user");
    const char *text = message->text, *thought = user || !chat->thinks ? NULL : strstr(text, "</think>");
    for (const char *next; thought; thought = next) {
        next = strstr(thought + 1, "</think>");
        for (text = thought + 8; *text == '\n';) text++;
    }
    size_t bytes = strlen(text);
    if (user ? f->trims_user : f->trims_assistant) trim(&text, &bytes, !(lead && f->trims_together));
    return write_form(chat, out, user ? f->user : f->assistant, text, bytes, lead ? f->system : NULL, lead);
}

static attn_status write_all(const attn_chat *chat, written *out, const attn_message *messages, size_t n) {
    const attn_chat_family *f = chat->family;
    ATTN_TRY(check(chat, messages, n));
    const char *system = !strcmp(messages[0].role, "system") ? messages[0].text : NULL;
    const size_t first = system != NULL, place = f->place == ATTN_SYSTEM_LAST ? n - 1 : first;
    if (chat->begins) attn_buffer_text(&out->text, chat->begin);
    ATTN_TRY(write_system(chat, out, system));
    const bool leads = system && f->place != ATTN_SYSTEM_MESSAGE;
    for (size_t i = first; i < n; i++)
        ATTN_TRY(write_message(chat, out, &messages[i], leads && i == place ? system : NULL));
    attn_buffer_text(&out->text, f->answer);
    return out->text.status;
}

attn_status attn_chat_format(const attn_chat *chat, char **text, const attn_message *messages, size_t n) {
    written out = {.text = ATTN_BUFFER_INIT(chat->ctx)};
    *text = NULL;
    attn_status status = write_all(chat, &out, messages, n);
    attn_release(chat->ctx, out.typed);
    if (status == ATTN_OK) return attn_buffer_give(&out.text, text, NULL);
    attn_buffer_free(&out.text);
    return status;
}

attn_status attn_chat_tokenize(const attn_chat *chat, int32_t **ids, size_t *count, const attn_tokenizer *tokenizer,
                               const attn_message *messages, size_t n) {
    written out = {.text = ATTN_BUFFER_INIT(chat->ctx)};
    attn_tokens tokens = ATTN_TOKENS_INIT;
    *ids = NULL;
    *count = 0;
    attn_status status = write_all(chat, &out, messages, n);
    if (status == ATTN_OK) {
        attn_tokenize_options options = ATTN_TOKENIZE_OPTIONS_INIT;
        options.typed = out.typed, options.typed_count = out.count;
        status = attn_tokenize_with(tokenizer, &tokens, out.text.data, out.text.bytes, &options);
    }
    if (status == ATTN_OK && !(*ids = attn_alloc(chat->ctx, tokens.count, sizeof **ids))) status = ATTN_E_NOMEM;
    for (size_t i = 0; *ids && i < tokens.count; i++) (*ids)[i] = tokens.token[i].id;
    *count = *ids ? tokens.count : 0;
    attn_tokens_free(chat->ctx, &tokens);
    attn_release(chat->ctx, out.typed);
    attn_buffer_free(&out.text);
    return status;
}

int32_t attn_chat_end(const attn_chat *chat, const attn_tokenizer *tokenizer) {
    const char *end = chat->family->end ? chat->family->end : chat->end;
    return *end ? attn_tokenizer_find(tokenizer, end) : -1;
}
