/* read.c: files, decompressed while they are read. Memory is bounded by what a file may become: a kilobyte that claims
 * to be four gigabytes is refused on the way. */
#include "text/read.h"

#include <attn/text.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <lzma.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

enum { CHUNK = 1 << 16, RATIO = 256, ALLOWANCE = 16 << 20, XZ_MEMORY = 256 << 20 };

typedef struct reader {
    attn_context *ctx;
    const char *path;
    int fd;
    size_t most, read; /* bytes allowed in out; bytes of the file so far */
    attn_buffer out;
    unsigned char *chunk; /* (CHUNK) of the file */
} reader;

/* The next chunk; *bytes is 0 at the end. */
static attn_status fill(reader *r, size_t *bytes) {
    ssize_t n;
    do n = read(r->fd, r->chunk, CHUNK);
    while (n < 0 && errno == EINTR);
    if (n < 0) return attn_fail_errno(r->ctx, r->path, "cannot read");
    r->read += (size_t)n;
    *bytes = (size_t)n;
    return ATTN_OK;
}

static attn_status put(reader *r, const void *data, size_t bytes, bool compressed) {
    attn_buffer_add(&r->out, data, bytes);
    ATTN_TRY(r->out.status);
    if (r->out.bytes > r->most)
        return attn_fail(r->ctx, ATTN_E_FORMAT, "%s: found more than %zu bytes, expected at most so many", r->path,
                         r->most);
    if (compressed && r->out.bytes > ALLOWANCE && (r->out.bytes - ALLOWANCE) / RATIO > r->read)
        return attn_fail(r->ctx, ATTN_E_FORMAT,
                         "%s: found %zu bytes in %zu compressed ones, expected at most %d times as many", r->path,
                         r->out.bytes, r->read, RATIO);
    return ATTN_OK;
}

static attn_status damaged(reader *r, const char *format, const char *why) {
    return attn_fail(r->ctx, ATTN_E_FORMAT, "%s: found %s after %zu bytes, expected a whole %s file", r->path, why,
                     r->read, format);
}

static attn_status read_plain(reader *r) {
    for (size_t n;;) {
        ATTN_TRY(fill(r, &n));
        if (!n) return ATTN_OK;
        ATTN_TRY(put(r, r->chunk, n, false));
    }
}

/* ---- xz ------------------------------------------------------------------------------------- */

static void *xz_allocate(void *ctx, size_t n, size_t size) { return attn_alloc(ctx, n, size); }
static void xz_release(void *ctx, void *pointer) { attn_release(ctx, pointer); }

static const char *xz_reason(lzma_ret ret) {
    switch (ret) {
    case LZMA_FORMAT_ERROR: return "another format";
    case LZMA_OPTIONS_ERROR: return "unknown options";
    case LZMA_BUF_ERROR: return "the end";
    case LZMA_MEMLIMIT_ERROR: return "a dictionary of more than 256 MiB";
    default: return "damaged data";
    }
}

static attn_status xz_decode(reader *r, lzma_stream *stream, unsigned char *out) {
    for (bool end = false;;) {
        if (!stream->avail_in && !end) {
            size_t n = 0;
            ATTN_TRY(fill(r, &n));
            stream->next_in = r->chunk, stream->avail_in = n;
            end = n == 0;
        }
        stream->next_out = out, stream->avail_out = CHUNK;
        lzma_ret ret = lzma_code(stream, end ? LZMA_FINISH : LZMA_RUN);
        ATTN_TRY(put(r, out, CHUNK - stream->avail_out, true));
        if (ret == LZMA_STREAM_END) return ATTN_OK;
        if (ret == LZMA_MEM_ERROR) return ATTN_E_NOMEM;
        if (ret != LZMA_OK) return damaged(r, ".xz", xz_reason(ret));
    }
}

static attn_status read_xz(reader *r) {
    const lzma_allocator allocator = {xz_allocate, xz_release, r->ctx};
    lzma_stream stream = LZMA_STREAM_INIT;
    stream.allocator = &allocator;
    unsigned char *out = attn_alloc(r->ctx, CHUNK, 1);
    if (!out) return ATTN_E_NOMEM;
    attn_status status = ATTN_E_NOMEM;
    if (lzma_stream_decoder(&stream, XZ_MEMORY, LZMA_CONCATENATED) == LZMA_OK) status = xz_decode(r, &stream, out);
    lzma_end(&stream);
    attn_release(r->ctx, out);
    return status;
}

/* ---- gzip ----------------------------------------------------------------------------------- */

static void *gz_allocate(void *ctx, unsigned n, unsigned size) { return attn_alloc(ctx, n, size); }

static attn_status gz_decode(reader *r, z_stream *stream, unsigned char *out) {
    for (bool member_ended = false;;) {
        if (!stream->avail_in) {
            size_t n = 0;
            ATTN_TRY(fill(r, &n));
            if (!n) return member_ended ? ATTN_OK : damaged(r, ".gz", "the end");
            stream->next_in = r->chunk, stream->avail_in = (unsigned)n;
        }
        if (member_ended && inflateReset(stream) != Z_OK) return damaged(r, ".gz", "damaged data");
        member_ended = false;
        do {
            stream->next_out = out, stream->avail_out = CHUNK;
            int ret = inflate(stream, Z_NO_FLUSH);
            ATTN_TRY(put(r, out, CHUNK - stream->avail_out, true));
            if (ret == Z_MEM_ERROR) return ATTN_E_NOMEM;
            if (ret == Z_STREAM_END) member_ended = true;
            else if (ret != Z_OK && ret != Z_BUF_ERROR) return damaged(r, ".gz", "damaged data");
        } while (!member_ended && (stream->avail_in || !stream->avail_out));
    }
}

static attn_status read_gz(reader *r) {
    z_stream stream = {.zalloc = gz_allocate, .zfree = xz_release, .opaque = r->ctx};
    unsigned char *out = attn_alloc(r->ctx, CHUNK, 1);
    if (!out) return ATTN_E_NOMEM;
    attn_status status = ATTN_E_NOMEM;
    if (inflateInit2(&stream, 16 + MAX_WBITS) == Z_OK) {
        status = gz_decode(r, &stream, out);
        inflateEnd(&stream);
    }
    attn_release(r->ctx, out);
    return status;
}

/* ---- by name -------------------------------------------------------------------------------- */

static bool ends_with(const char *path, const char *end) {
    size_t n = strlen(path), k = strlen(end);
    return n > k && strcmp(path + n - k, end) == 0;
}

attn_status attn_read_file(attn_context *ctx, char **out, size_t *bytes, const char *path, size_t most) {
    bool standard = strcmp(path, "-") == 0;
    *out = NULL;
    *bytes = 0;
    reader r = {ctx, path, STDIN_FILENO, most, 0, ATTN_BUFFER_INIT(ctx), NULL};
    if (!standard) r.fd = open(path, O_RDONLY | O_CLOEXEC);
    if (r.fd < 0) return attn_fail_errno(ctx, path, "cannot open");
    r.chunk = attn_alloc(ctx, CHUNK, 1);
    attn_status status = ATTN_E_NOMEM;
    if (r.chunk && ends_with(path, ".xz")) status = read_xz(&r);
    else if (r.chunk && ends_with(path, ".gz")) status = read_gz(&r);
    else if (r.chunk) status = read_plain(&r);
    attn_release(ctx, r.chunk);
    if (!standard) close(r.fd);
    if (status == ATTN_OK) return attn_buffer_give(&r.out, out, bytes);
    attn_buffer_free(&r.out);
    return status;
}

attn_status attn_read_text(attn_context *ctx, char **out, size_t *bytes, const char *path) {
    size_t n = 0;
    ATTN_TRY(attn_read_file(ctx, out, &n, path, (size_t)4 << 30));
    if (n >= 3 && memcmp(*out, "\xEF\xBB\xBF", 3) == 0) {
        n -= 3;
        memmove(*out, *out + 3, n + 1);
    }
    if (bytes) *bytes = n;
    return ATTN_OK;
}
