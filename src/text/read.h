/* read.h: a file whole, decompressed by its name. */
#ifndef ATTN_TEXT_READ_H
#define ATTN_TEXT_READ_H

#include "base/base.h"

/* Gives all bytes of path ("-" is stdin; .xz and .gz are decompressed), and a NUL behind. More than `most` bytes, or a
 * decompressed text out of all proportion to its file, is ATTN_E_FORMAT. */
attn_status attn_read_file(attn_context *ctx, char **out, size_t *bytes, const char *path, size_t most);

#endif
