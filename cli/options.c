/* options.c: see options.h. */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_OPTIONS = 64, MAX_WORD = 40, FIRST_CODE = 256, CODE_HELP = FIRST_CODE + MAX_OPTIONS, HELP_COLUMN = 30 };

/* ---- near words -------------------------------------------------------------------------------------- */

/* Edit distance with swaps of neighbours (Damerau 1964). */
static int distance(const char *a, const char *b) {
    size_t n = strlen(a), m = strlen(b);
    int d[MAX_WORD + 1][MAX_WORD + 1];
    if (n > MAX_WORD || m > MAX_WORD) return MAX_WORD;
    for (size_t i = 0; i <= n; i++) d[i][0] = (int)i;
    for (size_t j = 0; j <= m; j++) d[0][j] = (int)j;
    for (size_t i = 1; i <= n; i++)
        for (size_t j = 1; j <= m; j++) {
            int best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            if (d[i - 1][j] + 1 < best) best = d[i - 1][j] + 1;
            if (d[i][j - 1] + 1 < best) best = d[i][j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && d[i - 2][j - 2] + 1 < best)
                best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    return d[n][m];
}

const char *nearest_word(const char *word, const char *const *words) {
    const char *best = NULL;
    int best_distance = (int)strlen(word) / 3 + 2;
    for (; *words; words++) {
        int d = distance(word, *words);
        if (strlen(word) >= 3 && !strncmp(word, *words, strlen(word)) && d > 1) d = 1;
        if (d < best_distance) {
            best_distance = d;
            best = *words;
        }
    }
    return best;
}

/* ---- parsing ----------------------------------------------------------------------------------------- */

static int wrong_use(const command *c, const char *what, const char *found, const char *expected) {
    fprintf(stderr, "attn %s: %s: found \"%s\", expected %s\n", c->name, what, found, expected);
    return EXIT_WRONG_USE;
}

static int set_number(const command *c, void *at, const option_spec *o, const char *text) {
    char *end, what[64], expected[96];
    errno = 0;
    double x = strtod(text, &end);
    bool whole = o->kind == OPTION_INT;
    snprintf(what, sizeof what, "--%s", o->name);
    snprintf(expected, sizeof expected, "%s from %.10g to %.10g", whole ? "an integer" : "a number", o->low, o->high);
    if (end == text || *end || errno || !(x >= o->low && x <= o->high) || (whole && x != floor(x)))
        return wrong_use(c, what, text, expected);
    if (whole) *(long long *)at = (long long)x;
    else *(double *)at = x;
    return GO_ON;
}

static int set_choice(const command *c, void *at, const option_spec *o, const char *text) {
    char what[64], expected[256] = "one of";
    for (int i = 0; o->choices[i]; i++) {
        if (!strcmp(text, o->choices[i])) {
            *(int *)at = i;
            return GO_ON;
        }
        size_t used = strlen(expected);
        snprintf(expected + used, sizeof expected - used, "%s %s", i ? "," : "", o->choices[i]);
    }
    snprintf(what, sizeof what, "--%s", o->name);
    return wrong_use(c, what, text, expected);
}

static int set_option(const command *c, char *settings, const option_spec *o, const char *text) {
    void *at = settings + o->offset;
    switch (o->kind) {
    case OPTION_FLAG: *(bool *)at = true; break;
    case OPTION_UNSET: *(bool *)at = false; break;
    case OPTION_TEXT: *(const char **)at = text; break;
    case OPTION_INT:
    case OPTION_FLOAT: return set_number(c, at, o, text);
    case OPTION_CHOICE: return set_choice(c, at, o, text);
    case OPTION_LIST: {
        text_list *list = at;
        if (list->count == OPTION_LIST_MAX) {
            fprintf(stderr, "attn %s: --%s was given more than %d times\n", c->name, o->name, OPTION_LIST_MAX);
            return EXIT_WRONG_USE;
        }
        list->item[list->count++] = text;
        break;
    }
    }
    return GO_ON;
}

static bool takes_value(const option_spec *o) { return o->kind != OPTION_FLAG && o->kind != OPTION_UNSET; }

static int unknown_option(const command *c, const char *word) {
    const char *names[MAX_OPTIONS + 2];
    size_t n = 0;
    for (; n < c->option_count; n++) names[n] = c->options[n].name;
    names[n++] = "help";
    names[n] = NULL;
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(word + 2, "="), word + 2);
    const char *near = word[0] == '-' && word[1] == '-' ? nearest_word(name, names) : NULL;
    fprintf(stderr, "attn %s: unknown option %s", c->name, word);
    if (near) fprintf(stderr, "; did you mean --%s?", near);
    fprintf(stderr, " (attn %s --help lists all)\n", c->name);
    return EXIT_WRONG_USE;
}

int options_parse(const command *c, void *settings, int argc, char **argv, int *first) {
    struct option longs[MAX_OPTIONS + 2] = {0};
    char shorts[2 * MAX_OPTIONS + 8] = ":h";
    size_t at = 2;
    for (size_t i = 0; i < c->option_count; i++) {
        const option_spec *o = &c->options[i];
        longs[i] =
            (struct option){o->name, takes_value(o) ? required_argument : no_argument, NULL, FIRST_CODE + (int)i};
        if (!o->letter) continue;
        shorts[at++] = o->letter;
        if (takes_value(o)) shorts[at++] = ':';
    }
    longs[c->option_count] = (struct option){"help", no_argument, NULL, CODE_HELP};
    shorts[at] = 0;
    opterr = 0;
    optind = 1;
    for (;;) {
        int before = optind, code = getopt_long(argc, argv, shorts, longs, NULL);
        if (code == -1) break;
        if (code == CODE_HELP || code == 'h') {
            options_help(stdout, c);
            return EXIT_DONE;
        }
        if (code == '?') {
            char letter[3] = {'-', (char)optopt, 0};
            return unknown_option(c,
                                  optopt && optopt < FIRST_CODE ? letter : argv[before < optind ? optind - 1 : before]);
        }
        if (code == ':') {
            fprintf(stderr, "attn %s: %s needs a value\n", c->name, argv[optind - 1]);
            return EXIT_WRONG_USE;
        }
        for (size_t i = 0; i < c->option_count; i++) {
            if (code != FIRST_CODE + (int)i && !(c->options[i].letter && code == c->options[i].letter)) continue;
            int result = set_option(c, settings, &c->options[i], optarg);
            if (result != GO_ON) return result;
        }
    }
    *first = optind;
    return GO_ON;
}

/* ---- help, man page, completion ------------------------------------------------------------------------ */

static void option_head(char *out, size_t size, const option_spec *o) {
    char letter[8] = "    ";
    if (o->letter) snprintf(letter, sizeof letter, "-%c, ", o->letter);
    snprintf(out, size, "%s--%s%s%s", letter, o->name, o->value ? " " : "", o->value ? o->value : "");
}

void options_help(FILE *out, const command *c) {
    fprintf(out, "attn %s - %s\n\nusage: attn %s [options] %s\n", c->name, c->summary, c->name, c->operands);
    if (c->description) fprintf(out, "\n%s\n", c->description);
    fprintf(out, "\noptions:\n");
    for (size_t i = 0; i < c->option_count; i++) {
        char head[128];
        const option_spec *o = &c->options[i];
        option_head(head, sizeof head, o);
        fprintf(out, "  %-*s%s%s", HELP_COLUMN, head, strlen(head) >= HELP_COLUMN ? "  " : "", o->help);
        for (int k = 0; o->choices && o->choices[k]; k++) fprintf(out, "%s%s", k ? ", " : ": ", o->choices[k]);
        fputc('\n', out);
    }
    fprintf(out, "  %-*s%s\n", HELP_COLUMN, "-h, --help", "this page");
    if (c->example) fprintf(out, "\nexample:\n%s\n", c->example);
}

void options_man(FILE *out, const command *c) {
    fprintf(out, ".TH ATTN-%s 1\n.SH NAME\nattn-%s \\- %s\n", c->name, c->name, c->summary);
    fprintf(out, ".SH SYNOPSIS\n.B attn %s\n[options] %s\n", c->name, c->operands);
    if (c->description) fprintf(out, ".SH DESCRIPTION\n%s\n", c->description);
    fprintf(out, ".SH OPTIONS\n");
    for (size_t i = 0; i < c->option_count; i++) {
        char head[128];
        option_head(head, sizeof head, &c->options[i]);
        fprintf(out, ".TP\n.B %s\n%s\n", head + strspn(head, " "), c->options[i].help);
    }
    if (c->example) fprintf(out, ".SH EXAMPLES\n.nf\n%s\n.fi\n", c->example);
}

void options_completion(FILE *out) {
    fprintf(out, "# bash completion for attn: . <(attn completion)\n_attn() {\n  local cur=${COMP_WORDS[COMP_CWORD]}\n"
                 "  if [ \"$COMP_CWORD\" = 1 ]; then COMPREPLY=($(compgen -W \"");
    for (const command *const *c = commands; *c; c++) fprintf(out, "%s ", (*c)->name);
    fprintf(out, "help\" -- \"$cur\")); return; fi\n  case $cur in -*) ;; *) COMPREPLY=($(compgen -f -- \"$cur\")); "
                 "return ;; esac\n"
                 "  case ${COMP_WORDS[1]} in\n");
    for (const command *const *c = commands; *c; c++) {
        fprintf(out, "  %s) COMPREPLY=($(compgen -W \"", (*c)->name);
        for (size_t i = 0; i < (*c)->option_count; i++) fprintf(out, "--%s ", (*c)->options[i].name);
        fprintf(out, "--help\" -- \"$cur\")) ;;\n");
    }
    fprintf(out, "  esac\n}\ncomplete -F _attn attn\n");
}
