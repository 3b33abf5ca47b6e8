/* chat.h: what recognises a template, apart from where it is read from. */
#ifndef ATTN_INFER_CHAT_H
#define ATTN_INFER_CHAT_H

#include "base/base.h"
#include <attn/chat.h>

/* What is done with a system text: a message of its own; put before the first or the last user's text; no place. */
typedef enum attn_system_place {
    ATTN_SYSTEM_MESSAGE,
    ATTN_SYSTEM_FIRST,
    ATTN_SYSTEM_LAST,
    ATTN_SYSTEM_NONE
} attn_system_place;

/* In the forms %c is the message's text, %b and %e are the tokens that begin and end a text. */
typedef struct attn_chat_family {
    const char *name;
    const char *marks[4];  /* what the template's text has, */
    const char *absent[2]; /* and has not */
    const char *system, *user, *assistant, *answer;
    const char *end; /* the token that ends an answer; NULL: %e */
    attn_system_place place;
    bool begins; /* with %b, where the template speaks of it */
    bool trims_user, trims_assistant;
    bool trims_together; /* the first user's text with the system's before it */
    bool alternates;     /* roles must */
    bool dated;          /* a system message with dates is always there */
} attn_chat_family;

/* The first family that a template's text fits, or that has this name; NULL: none. */
const attn_chat_family *attn_chat_family_of(const char *jinja);
const attn_chat_family *attn_chat_family_named(const char *name);
/* "chatml, llama-3, …" */
void attn_chat_list_names(attn_buffer *out);

/* The template by its family: what is read of it besides may be "". */
attn_status attn_chat_of_family(attn_chat **gives, attn_context *ctx, const attn_chat_family *family, const char *jinja,
                                const char *begin, const char *end);

#endif
