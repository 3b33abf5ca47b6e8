/* journal.h: what a training says while it runs: JSON lines, and event files that TensorBoard reads. */
#ifndef ATTN_TRAIN_JOURNAL_H
#define ATTN_TRAIN_JOURNAL_H

#include "base/base.h"
#include <stdio.h>

typedef struct attn_journal {
    attn_context *ctx;
    FILE *lines;  /* log.jsonl, appended to */
    FILE *events; /* events.out.tfevents.…, one a process */
} attn_journal;

typedef struct attn_scalar {
    const char *line_key; /* in log.jsonl; NULL: not there */
    const char *tag;      /* in the event file; NULL: not there */
    double value;
} attn_scalar;

/* Before a resume: takes the lines of later steps, and one that was broken off, out of the folder's log.jsonl, if there
 * is one; the file is replaced as a whole, or left alone where nothing is to be taken out. *seconds gets the last value
 * of "seconds" that stays, 0 if there is none. */
attn_status attn_journal_take_back(attn_context *ctx, const char *folder, uint64_t step, double *seconds);
/* step: where this process begins; later steps that an earlier, killed one logged are taken back in the event file. */
attn_status attn_journal_open(attn_journal *journal, attn_context *ctx, const char *folder, uint64_t step);
/* {"event": event, "step": step, line_key: value …}, and the same as scalars. */
attn_status attn_journal_scalars(attn_journal *journal, const char *event, uint64_t step, const attn_scalar *scalars,
                                 size_t n);
attn_status attn_journal_text(attn_journal *journal, const char *event, uint64_t step, const char *text);
void attn_journal_close(attn_journal *journal);

/* CRC-32C (Castagnoli), and as TFRecord masks it. */
uint32_t attn_crc32c(const void *data, size_t bytes);
uint32_t attn_crc32c_masked(const void *data, size_t bytes);

#endif
