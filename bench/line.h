/* line.h: the words of a line on standard input, key=value apart by spaces. */
#ifndef ATTN_BENCH_LINE_H
#define ATTN_BENCH_LINE_H

#include <stdlib.h>
#include <string.h>

/* What stands behind key=, to the end of the line; "0" if the key is not there. */
static inline const char *value_of(const char *line, const char *key) {
    size_t n = strlen(key);
    for (const char *p = line; p; p = strchr(p, ' ')) {
        p += *p == ' ';
        if (strncmp(p, key, n) == 0 && p[n] == '=') return p + n + 1;
    }
    return "0";
}
static inline size_t size_of(const char *line, const char *key) { return strtoul(value_of(line, key), NULL, 10); }

#endif
