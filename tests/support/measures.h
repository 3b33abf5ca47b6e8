/* measures.h: the golden sentences of BLEU and chrF, tests/golden/measures.tsv and measures_expected.tsv. */
#ifndef ATTN_TEST_SUPPORT_MEASURES_H
#define ATTN_TEST_SUPPORT_MEASURES_H

#include "support/test.h"
#include <attn/text.h>
#include <stdio.h>

enum { TEST_MEASURE_PAIRS = 512 };

struct test_measures {
    char *data;
    const char *hypothesis[TEST_MEASURE_PAIRS], *reference[TEST_MEASURE_PAIRS];
    size_t n;
};

/* One line of the expected values. */
struct test_measure {
    size_t first, count;
    int lowercase;
    attn_bleu bleu;
    double chrf;
};

static inline FILE *test_golden_open(const char *name) {
    char path[4096];
    const char *source = getenv("ATTN_TEST_SOURCE");
    snprintf(path, sizeof path, "%s/tests/golden/%s", source ? source : ".", name);
    FILE *file = fopen(path, "rb");
    if (!file) fail_msg("cannot open %s", path);
    return file;
}

/* Up to the next TAB or line end, escapes undone in place; moves *at behind it. */
static inline const char *test_measure_field(char **at) {
    char *first = *at, *to = first, *from = first;
    for (; *from && *from != '\t' && *from != '\n'; from++) {
        if (*from == '\\') {
            from++;
            *to++ = *from == 'n' ? '\n' : *from == 't' ? '\t' : *from;
        } else {
            *to++ = *from;
        }
    }
    *at = *from ? from + 1 : from;
    *to = '\0';
    return first;
}

static inline void test_measures_read(struct test_measures *measures) {
    FILE *file = test_golden_open("measures.tsv");
    size_t room = 1 << 20;
    measures->data = calloc(1, room + 1);
    assert_non_null(measures->data);
    size_t bytes = fread(measures->data, 1, room, file);
    fclose(file);
    assert_true(bytes > 0 && bytes < room);
    char *at = strchr(measures->data, '\n') + 1;
    for (measures->n = 0; *at; measures->n++) {
        assert_true(measures->n < TEST_MEASURE_PAIRS);
        measures->hypothesis[measures->n] = test_measure_field(&at);
        measures->reference[measures->n] = test_measure_field(&at);
    }
    assert_true(measures->n >= 300);
}

static inline FILE *test_expected_open(void) {
    char line[1024];
    FILE *file = test_golden_open("measures_expected.tsv");
    assert_non_null(fgets(line, sizeof line, file)); /* the heading */
    return file;
}

static inline bool test_expected_next(FILE *file, struct test_measure *m) {
    char line[1024];
    if (!fgets(line, sizeof line, file)) return false;
    attn_bleu *b = &m->bleu;
    int read = sscanf(line, "%zu %zu %d %lf %lf %lf %lf %lf %lf %zu %zu %zu %zu %zu %zu %zu %zu %zu %zu %lf", &m->first,
                      &m->count, &m->lowercase, &b->score, &b->brevity_penalty, &b->precision[0], &b->precision[1],
                      &b->precision[2], &b->precision[3], &b->hypothesis_tokens, &b->reference_tokens, &b->correct[0],
                      &b->correct[1], &b->correct[2], &b->correct[3], &b->total[0], &b->total[1], &b->total[2],
                      &b->total[3], &m->chrf);
    assert_int_equal(read, 20);
    return true;
}

#endif
