/* status.c: status texts, and the sentence of the last failure. */
#include "base/base.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

const char *attn_status_text(attn_status status) {
    switch (status) {
#define STATUS_CASE(name, value, text) \
    case ATTN_##name: return text;
        ATTN_STATUS_LIST(STATUS_CASE)
#undef STATUS_CASE
    }
    return "unknown status";
}

attn_status attn_fail(attn_context *ctx, attn_status status, const char *format, ...) {
    if (!ctx) return status;
    /* The arguments may point into ctx->error (a sentence built on the last one), so it is written elsewhere first. */
    char sentence[sizeof ctx->error];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    if (length < 0) sentence[0] = '\0';
    memcpy(ctx->error, sentence, strlen(sentence) + 1);
    return status;
}

/* GNU's strerror_r returns the text, POSIX's fills the buffer and returns an int: the argument's type picks the reader.
 */
static inline const char *text_of_gnu(const char *result, const char *buffer) { return result ? result : buffer; }
static inline const char *text_of_posix(int result, const char *buffer) { return result ? "unknown error" : buffer; }
#define STRERROR_TEXT(result, buffer) _Generic((result), int : text_of_posix, default : text_of_gnu)((result), (buffer))

attn_status attn_fail_errno(attn_context *ctx, const char *path, const char *what) {
    char buffer[256] = "";
    int number = errno;
    const char *text = STRERROR_TEXT(strerror_r(number, buffer, sizeof buffer), buffer);
    return attn_fail(ctx, ATTN_E_IO, "%s: %s: %s", path, what, text);
}

const char *attn_error(const attn_context *ctx) { return ctx ? ctx->error : ""; }
