/* journal.c: log.jsonl and TensorBoard's event file.
 *
 * An event file is a sequence of records
 *     u64 length | u32 masked CRC of the length | bytes | u32 masked CRC of the bytes          (little-endian)
 * whose bytes are the protocol buffer Event:
 *     1 double wall_time, 2 int64 step, 3 string file_version,
 *     5 Summary {1 Value {1 string tag, 2 float simple_value}},
 *     7 SessionLog {1 enum status: START = 1}                                                                       */
#include "train/journal.h"
#include "io/file.h"
#include <attn/io.h>

#include <jansson.h>
#include <math.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

uint32_t attn_crc32c(const void *data, size_t bytes) {
    const unsigned char *at = data;
    uint32_t crc = ~0u;
    while (bytes--) {
        crc ^= *at++;
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (0x82f63b78u & (0u - (crc & 1)));
    }
    return ~crc;
}

uint32_t attn_crc32c_masked(const void *data, size_t bytes) {
    uint32_t crc = attn_crc32c(data, bytes);
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

/* ---- protocol buffers -------------------------------------------------------------------------------- */

enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

static void put_fixed(attn_buffer *out, uint64_t value, int bytes) {
    for (int i = 0; i < bytes; i++) {
        unsigned char byte = (unsigned char)(value >> (8 * i));
        attn_buffer_add(out, &byte, 1);
    }
}

static void put_varint(attn_buffer *out, uint64_t value) {
    while (value >= 128) {
        put_fixed(out, (value & 127) | 128, 1);
        value >>= 7;
    }
    put_fixed(out, value, 1);
}

static void put_key(attn_buffer *out, unsigned field, unsigned wire) { put_varint(out, field << 3 | wire); }

static void put_double(attn_buffer *out, unsigned field, double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_key(out, field, WIRE_64);
    put_fixed(out, bits, 8);
}

static void put_float(attn_buffer *out, unsigned field, float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_key(out, field, WIRE_32);
    put_fixed(out, bits, 4);
}

static void put_integer(attn_buffer *out, unsigned field, uint64_t value) {
    put_key(out, field, WIRE_VARINT);
    put_varint(out, value);
}

static void put_bytes(attn_buffer *out, unsigned field, const void *data, size_t bytes) {
    put_key(out, field, WIRE_BYTES);
    put_varint(out, bytes);
    attn_buffer_add(out, data, bytes);
}

static void begin_event(attn_buffer *event, uint64_t step) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    put_double(event, 1, (double)now.tv_sec + (double)now.tv_nsec * 1e-9);
    put_integer(event, 2, step);
}

/* Writes the event as a record and frees it. */
static attn_status end_event(attn_journal *journal, attn_buffer *event) {
    attn_buffer record = ATTN_BUFFER_INIT(journal->ctx);
    attn_status status = event->status;
    if (status == ATTN_OK) {
        put_fixed(&record, event->bytes, 8);
        uint32_t length_crc = record.status == ATTN_OK ? attn_crc32c_masked(record.data, 8) : 0;
        put_fixed(&record, length_crc, 4);
        attn_buffer_add(&record, event->data, event->bytes);
        put_fixed(&record, attn_crc32c_masked(event->data, event->bytes), 4);
        status = record.status;
    }
    if (status == ATTN_OK &&
        (fwrite(record.data, 1, record.bytes, journal->events) != record.bytes || fflush(journal->events)))
        status = attn_fail_errno(journal->ctx, "event file", "cannot write");
    attn_buffer_free(&record);
    attn_buffer_free(event);
    return status;
}

/* ---- the journal ---------------------------------------------------------------------------------------- */

static const char log_name[] = "log.jsonl";
enum { MAX_PATH = 4096 };

static attn_status join(attn_context *ctx, char path[MAX_PATH], const char *folder, const char *name) {
    if (snprintf(path, MAX_PATH, "%s/%s", folder, name) >= MAX_PATH)
        return attn_fail(ctx, ATTN_E_ARGUMENT, "%.60s…: the path is too long", folder);
    return ATTN_OK;
}

/* Whether a line stays: one that says no step does. */
static bool stays(const char *line, size_t bytes, uint64_t step, double *seconds) {
    json_t *object = json_loadb(line, bytes, 0, NULL);
    const json_t *at = json_object_get(object, "step"), *spent = json_object_get(object, "seconds");
    bool later = json_is_integer(at) && json_integer_value(at) >= 0 && (uint64_t)json_integer_value(at) > step;
    if (!later && json_is_number(spent) && json_number_value(spent) >= 0) *seconds = json_number_value(spent);
    json_decref(object);
    return !later;
}

static attn_status take_back(attn_context *ctx, const char *path, const attn_mapping *log, uint64_t step,
                             double *seconds) {
    attn_buffer kept = ATTN_BUFFER_INIT(ctx);
    const char *at = (const char *)log->data, *end = at + log->bytes, *newline;
    for (; at < end && (newline = memchr(at, '\n', (size_t)(end - at))); at = newline + 1) {
        size_t bytes = (size_t)(newline + 1 - at);
        if (stays(at, bytes, step, seconds)) attn_buffer_add(&kept, at, bytes);
    }
    attn_status status = kept.status;
    if (status == ATTN_OK && kept.bytes < log->bytes) status = attn_file_write(ctx, path, kept.data, kept.bytes);
    attn_buffer_free(&kept);
    return status;
}

attn_status attn_journal_take_back(attn_context *ctx, const char *folder, uint64_t step, double *seconds) {
    char path[MAX_PATH];
    attn_mapping log;
    *seconds = 0;
    ATTN_TRY(join(ctx, path, folder, log_name));
    if (access(path, F_OK) != 0) return ATTN_OK;
    ATTN_TRY(attn_map_file(&log, ctx, path));
    attn_status status = log.bytes ? take_back(ctx, path, &log, step, seconds) : ATTN_OK;
    attn_unmap_file(&log);
    return status;
}

static attn_status open_one(attn_journal *journal, FILE **file, const char *folder, const char *name) {
    char path[MAX_PATH];
    ATTN_TRY(join(journal->ctx, path, folder, name));
    *file = fopen(path, "ae");
    return *file ? ATTN_OK : attn_fail_errno(journal->ctx, path, "cannot open");
}

attn_status attn_journal_open(attn_journal *journal, attn_context *ctx, const char *folder, uint64_t step) {
    *journal = (attn_journal){.ctx = ctx};
    char name[96];
    snprintf(name, sizeof name, "events.out.tfevents.%010lld.%ld", (long long)time(NULL), (long)getpid());
    attn_status status = open_one(journal, &journal->lines, folder, log_name);
    if (status == ATTN_OK) status = open_one(journal, &journal->events, folder, name);
    attn_buffer event = ATTN_BUFFER_INIT(ctx);
    if (status == ATTN_OK) {
        begin_event(&event, 0);
        put_bytes(&event, 3, "brain.Event:2", 13);
        status = end_event(journal, &event);
    }
    if (status == ATTN_OK) {
        begin_event(&event, step + 1); /* START: what other files of the folder say of this step and later is void */
        attn_buffer session = ATTN_BUFFER_INIT(ctx);
        put_integer(&session, 1, 1);
        if (session.status == ATTN_OK) put_bytes(&event, 7, session.data, session.bytes);
        else event.status = session.status;
        attn_buffer_free(&session);
        status = end_event(journal, &event);
    }
    attn_buffer_free(&event);
    if (status != ATTN_OK) attn_journal_close(journal);
    return status;
}

static attn_status write_line(attn_journal *journal, attn_buffer *line) {
    attn_status status = line->status;
    if (status == ATTN_OK &&
        (fwrite(line->data, 1, line->bytes, journal->lines) != line->bytes || fflush(journal->lines)))
        status = attn_fail_errno(journal->ctx, log_name, "cannot write");
    attn_buffer_free(line);
    return status;
}

attn_status attn_journal_scalars(attn_journal *journal, const char *event, uint64_t step, const attn_scalar *scalars,
                                 size_t n) {
    attn_buffer line = ATTN_BUFFER_INIT(journal->ctx), record = ATTN_BUFFER_INIT(journal->ctx);
    attn_buffer summary = ATTN_BUFFER_INIT(journal->ctx), value = ATTN_BUFFER_INIT(journal->ctx);
    attn_buffer_printf(&line, "{\"event\": \"%s\", \"step\": %llu", event, (unsigned long long)step);
    for (size_t i = 0; i < n; i++) {
        if (scalars[i].line_key && isfinite(scalars[i].value))
            attn_buffer_printf(&line, ", \"%s\": %.7g", scalars[i].line_key, scalars[i].value);
        if (!scalars[i].tag || !isfinite(scalars[i].value)) continue;
        value.bytes = 0;
        put_bytes(&value, 1, scalars[i].tag, strlen(scalars[i].tag));
        put_float(&value, 2, (float)scalars[i].value);
        if (value.status == ATTN_OK) put_bytes(&summary, 1, value.data, value.bytes);
        else summary.status = value.status;
    }
    attn_buffer_text(&line, "}\n");
    attn_status status = write_line(journal, &line);
    if (status == ATTN_OK) status = summary.status;
    if (status == ATTN_OK && summary.bytes) {
        begin_event(&record, step);
        put_bytes(&record, 5, summary.data, summary.bytes);
        status = end_event(journal, &record);
    }
    attn_buffer_free(&record);
    attn_buffer_free(&summary);
    attn_buffer_free(&value);
    return status;
}

static int add_piece(const char *text, size_t bytes, void *out) {
    attn_buffer_add(out, text, bytes);
    return 0;
}

attn_status attn_journal_text(attn_journal *journal, const char *event, uint64_t step, const char *text) {
    json_t *object = json_pack("{s:s, s:I, s:s}", "event", event, "step", (json_int_t)step, "text", text);
    if (!object) return attn_fail(journal->ctx, ATTN_E_ARGUMENT, "log.jsonl: \"%.60s\" is not UTF-8", text);
    attn_buffer line = ATTN_BUFFER_INIT(journal->ctx);
    json_dump_callback(object, add_piece, &line, 0);
    attn_buffer_text(&line, "\n");
    json_decref(object);
    return write_line(journal, &line);
}

void attn_journal_close(attn_journal *journal) {
    if (journal->lines) fclose(journal->lines);
    if (journal->events) fclose(journal->events);
    *journal = (attn_journal){.ctx = journal->ctx};
}
