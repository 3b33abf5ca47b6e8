/* options.c: see options.h. */
#include "common.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_OPTIONS = 64, MAX_WORD = 40, FIRST_CODE = 256, CODE_HELP = FIRST_CODE + MAX_OPTIONS, HELP_COLUMN = 30 };

/* ---- what every command has ---------------------------------------------------------------------------- */

typedef struct shared_settings {
    long long threads;
    bool quiet;
} shared_settings;

static const option_spec shared[] = {
    {"threads", 't', OPTION_INT, offsetof(shared_settings, threads), "N", "(all processors); results do not change", 1,
     CLI_MAX_THREADS, NULL},
    {"quiet", 'q', OPTION_FLAG, offsetof(shared_settings, quiet), NULL, "no messages but errors", 0, 0, NULL},
};
enum { SHARED = sizeof shared / sizeof shared[0] };

static size_t option_count(const command *c) { return c->option_count + SHARED; }

static const option_spec *option_at(const command *c, size_t i) {
    return i < c->option_count ? &c->options[i] : &shared[i - c->option_count];
}

/* ---- near words ---------------------------------------------------------------------------------------- */

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
    size_t length = strlen(word);
    if (length > MAX_WORD) return NULL;
    int best_distance = (int)length / 3 + 2;
    for (; *words; words++) {
        int d = distance(word, *words);
        if (length >= 3 && !strncmp(word, *words, length) && d > 1) d = 1;
        if (d < best_distance) {
            best_distance = d;
            best = *words;
        }
    }
    return best;
}

/* ---- values -------------------------------------------------------------------------------------------- */

static int set_number(const command *c, void *at, const option_spec *o, const char *text) {
    char *end, range[64];
    errno = 0;
    double x = strtod(text, &end);
    bool whole = o->kind == OPTION_INT;
    if (end != text && !*end && !errno && x >= o->low && x <= o->high && (!whole || x == floor(x))) {
        if (whole) *(long long *)at = (long long)x;
        else *(double *)at = x;
        return GO_ON;
    }
    if (o->high >= 1e9) snprintf(range, sizeof range, "of at least %.10g", o->low);
    else snprintf(range, sizeof range, "from %.10g to %.10g", o->low, o->high);
    return cli_wrong_use(c, "--%s: found \"%s\", expected %s %s", o->name, text, whole ? "an integer" : "a number",
                         range);
}

static int set_choice(const command *c, void *at, const option_spec *o, const char *text) {
    char expected[256] = "";
    for (int i = 0; o->choices[i]; i++) {
        if (!strcmp(text, o->choices[i])) {
            *(int *)at = i;
            return GO_ON;
        }
        size_t used = strlen(expected);
        snprintf(expected + used, sizeof expected - used, "%s%s", i ? ", " : "", o->choices[i]);
    }
    const char *near = nearest_word(text, o->choices);
    return cli_wrong_use(c, "--%s: found \"%s\", expected one of %s%s%s%s", o->name, text, expected,
                         near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

static int set_option(const command *c, char *settings, const option_spec *o, const char *text) {
    void *at = settings + o->offset;
    switch (o->kind) {
    case OPTION_FLAG: *(bool *)at = true; break;
    case OPTION_TEXT: *(const char **)at = text; break;
    case OPTION_INT:
    case OPTION_FLOAT: return set_number(c, at, o, text);
    case OPTION_CHOICE: return set_choice(c, at, o, text);
    case OPTION_LIST: {
        text_list *list = at;
        if (list->count == OPTION_LIST_MAX)
            return cli_wrong_use(c, "--%s was given more than %d times", o->name, OPTION_LIST_MAX);
        list->item[list->count++] = text;
        break;
    }
    }
    return GO_ON;
}

/* ---- parsing ------------------------------------------------------------------------------------------- */

static bool takes_value(const option_spec *o) { return o->kind != OPTION_FLAG; }

/* The option of a getopt code (its letter, or FIRST_CODE and its index); NULL if there is none. */
static const option_spec *option_of(const command *c, int code) {
    for (size_t i = 0; i < option_count(c); i++) {
        const option_spec *o = option_at(c, i);
        if (code == FIRST_CODE + (int)i || (o->letter && code == o->letter)) return o;
    }
    return NULL;
}

static int unknown_option(const command *c, const char *word) {
    const char *names[MAX_OPTIONS + 2];
    size_t n = 0;
    char name[MAX_WORD + 2];
    for (; n < option_count(c); n++) names[n] = option_at(c, n)->name;
    names[n++] = "help";
    names[n] = NULL;
    snprintf(name, sizeof name, "%.*s", (int)strcspn(word + 2, "="), word + 2);
    const char *near = nearest_word(name, names);
    return cli_wrong_use(c, "unknown option %s%s%s%s", word, near ? "; did you mean --" : "", near ? near : "",
                         near ? "?" : "");
}

/* getopt returned '?' or ':'; word: the last one it read. */
static int complain(const command *c, int code, const char *word) {
    const option_spec *o = optopt ? option_of(c, optopt) : NULL;
    if (code == ':' && o) return cli_wrong_use(c, "--%s needs a value: %s", o->name, o->value);
    if (optopt >= FIRST_CODE) /* a flag, or --help */
        return cli_wrong_use(c, "--%s: found a value, \"%s\", expected none", o ? o->name : "help", word);
    if (!optopt) return unknown_option(c, word);
    if (optopt >= '0' && optopt <= '9')
        return cli_wrong_use(c, "unknown option -%c; a text that begins with - goes behind --", optopt);
    if (optopt < 0 || optopt > '~') return cli_wrong_use(c, "an option's letter is not ASCII");
    return cli_wrong_use(c, "unknown option -%c", optopt);
}

int options_parse(const command *c, void *settings, int argc, char **argv, int *first) {
    struct option longs[MAX_OPTIONS + 2] = {0};
    char shorts[2 * MAX_OPTIONS + 8] = ":h";
    size_t at = 2, count = option_count(c);
    shared_settings all = {0};
    for (size_t i = 0; i < count; i++) {
        const option_spec *o = option_at(c, i);
        longs[i] =
            (struct option){o->name, takes_value(o) ? required_argument : no_argument, NULL, FIRST_CODE + (int)i};
        if (!o->letter) continue;
        shorts[at++] = o->letter;
        if (takes_value(o)) shorts[at++] = ':';
    }
    longs[count] = (struct option){"help", no_argument, NULL, CODE_HELP};
    shorts[at] = 0;
    opterr = 0;
    optind = 1;
    for (int code; (code = getopt_long(argc, argv, shorts, longs, NULL)) != -1;) {
        if (code == CODE_HELP || code == 'h') {
            options_help(stdout, c);
            return EXIT_DONE;
        }
        if (code == '?' || code == ':') return complain(c, code, argv[optind - 1]);
        const option_spec *o = option_of(c, code);
        bool own = o >= c->options && o < c->options + c->option_count;
        int result = set_option(c, own ? settings : (void *)&all, o, optarg);
        if (result != GO_ON) return result;
    }
    *first = optind;
    cli_quiet = all.quiet;
    cli_set_threads((int)all.threads);
    return GO_ON;
}

/* ---- help ---------------------------------------------------------------------------------------------- */

static void option_head(char *out, size_t size, const option_spec *o) {
    char letter[8] = "    ";
    if (o->letter) snprintf(letter, sizeof letter, "-%c, ", o->letter);
    snprintf(out, size, "%s--%s%s%s", letter, o->name, o->value ? " " : "", o->value ? o->value : "");
}

/* "(linear): constant, linear, cosine", if it does not say them all. */
static void option_text(char *out, size_t size, const option_spec *o) {
    bool said = true;
    snprintf(out, size, "%s", o->help);
    for (int k = 0; o->choices && o->choices[k]; k++) said = said && strstr(o->help, o->choices[k]);
    for (int k = 0; !said && o->choices[k]; k++) {
        size_t used = strlen(out);
        snprintf(out + used, size - used, "%s%s", k ? ", " : ": ", o->choices[k]);
    }
}

/* Characters of a word of UTF-8. */
static size_t word_width(const char *word, size_t bytes) {
    size_t n = 0;
    for (size_t i = 0; i < bytes; i++) n += ((unsigned char)word[i] & 0xC0) != 0x80;
    return n;
}

/* Words in lines of `width`, from column `at` on, later lines from column `indent` on; line ends are spaces. */
static void fill(FILE *out, const char *text, size_t at, size_t indent, size_t width) {
    bool first = true;
    for (text += strspn(text, " \n"); *text; text += strspn(text, " \n")) {
        const size_t bytes = strcspn(text, " \n"), word = word_width(text, bytes);
        if (!first && at + 1 + word > width) {
            fprintf(out, "\n%*s", (int)indent, "");
            at = indent;
        } else if (!first) {
            fputc(' ', out);
            at++;
        }
        fwrite(text, 1, bytes, out);
        at += word, text += bytes, first = false;
    }
    fputc('\n', out);
}

static void help_option(FILE *out, const char *head, const char *text, size_t width) {
    const size_t bytes = strlen(head), column = bytes >= HELP_COLUMN ? bytes + 2 : HELP_COLUMN;
    fprintf(out, "  %-*s", (int)column, head);
    fill(out, text, column + 2, HELP_COLUMN + 2, width);
}

void options_help(FILE *out, const command *c) {
    enum { NARROWEST = HELP_COLUMN + 30, WIDEST = 110 };
    size_t width = (size_t)cli_terminal(out).width;
    width = width < NARROWEST ? NARROWEST : width > WIDEST ? WIDEST : width;
    fprintf(out, "attn %s - %s\n\nusage: attn %s [options]%s%s\n", c->name, c->summary, c->name,
            *c->operands ? " " : "", c->operands);
    if (c->description) {
        fputc('\n', out);
        fill(out, c->description, 0, 0, width);
    }
    fprintf(out, "\noptions:\n");
    for (size_t i = 0; i < option_count(c); i++) {
        char head[128], text[512];
        const option_spec *o = option_at(c, i);
        option_head(head, sizeof head, o);
        option_text(text, sizeof text, o);
        help_option(out, head, text, width);
    }
    help_option(out, "-h, --help", "this page", width);
    fprintf(out, "\nexample:\n%s\n", c->example);
}

/* ---- man pages ----------------------------------------------------------------------------------------- */

/* Text for roff: no line begins a request, a hyphen stays a hyphen that can be copied, a backslash a backslash. */
static void roff(FILE *out, const char *text) {
    for (bool start = true; *text; text++) {
        if (start && (*text == '.' || *text == '\'')) fputs("\\&", out);
        if (*text == '\\') fputs("\\e", out);
        else if (*text == '-') fputs("\\-", out);
        else fputc(*text, out);
        start = *text == '\n';
    }
}

static void man_section(FILE *out, const char *name, const char *text) {
    fprintf(out, ".SH %s\n", name);
    roff(out, text);
    fputc('\n', out);
}

static void man_example(FILE *out, const char *text) {
    fprintf(out, ".SH EXAMPLES\n.nf\n");
    roff(out, text);
    fprintf(out, "\n.fi\n");
}

static void man_item(FILE *out, const char *head, const char *text) {
    fprintf(out, ".TP\n.B ");
    roff(out, head);
    fputc('\n', out);
    roff(out, text);
    fputc('\n', out);
}

static void man_end(FILE *out) {
    fprintf(out, ".SH EXIT STATUS\n0: done; 1: failed; 2: wrong use.\n.SH ENVIRONMENT\n");
    man_item(out, "ATTN_NUM_THREADS", "threads, where --threads is not given");
    man_item(out, "ATTN_CPU", "the instruction set: scalar, avx2, avx512, neon (attn info lists this machine's)");
    man_item(out, "ATTN_SHARE", "the folder that holds models/ and data/");
    man_item(out, "NO_COLOR, FORCE_COLOR, COLUMNS, TERM", "how pictures are drawn on a terminal");
}

static void man_attn(FILE *out) {
    fprintf(out, ".TH ATTN 1 \"\" \"attn " ATTN_VERSION "\"\n.SH NAME\nattn \\- attention models: translate, train, "
                 "measure, look\n.SH SYNOPSIS\n.B attn\nCOMMAND [options]\n.SH COMMANDS\n");
    for (const command *const *c = commands; *c; c++) man_item(out, (*c)->name, (*c)->summary);
    man_item(out, "man [COMMAND]", "a man page, for man -l -");
    man_item(out, "completion", "completion for bash: . <(attn completion)");
    man_end(out);
    fprintf(out, ".SH SEE ALSO\n");
    for (const command *const *c = commands; *c; c++)
        fprintf(out, ".BR attn\\-%s (1)%s\n", (*c)->name, c[1] ? "," : "");
}

void options_man(FILE *out, const command *c) {
    if (!c) {
        man_attn(out);
        return;
    }
    fprintf(out, ".TH ATTN\\-%s 1 \"\" \"attn " ATTN_VERSION "\"\n.SH NAME\nattn\\-%s \\- ", c->name, c->name);
    roff(out, c->summary);
    fprintf(out, "\n.SH SYNOPSIS\n.B attn %s\n[options] ", c->name);
    roff(out, c->operands);
    fputc('\n', out);
    if (c->description) man_section(out, "DESCRIPTION", c->description);
    fprintf(out, ".SH OPTIONS\n");
    for (size_t i = 0; i < option_count(c); i++) {
        char head[128], text[512];
        option_head(head, sizeof head, option_at(c, i));
        option_text(text, sizeof text, option_at(c, i));
        man_item(out, head + strspn(head, " "), text);
    }
    man_item(out, "-h, --help", "print help");
    man_example(out, c->example);
    man_end(out);
    fprintf(out, ".SH SEE ALSO\n.BR attn (1)\n");
}

/* ---- completion ---------------------------------------------------------------------------------------- */

static void complete_choices(FILE *out, const command *c) {
    for (size_t i = 0; i < c->option_count; i++) {
        const option_spec *o = &c->options[i];
        if (!o->choices) continue;
        fprintf(out, "  %s\\ --%s) words=\"", c->name, o->name);
        for (int k = 0; o->choices[k]; k++) fprintf(out, "%s%s", k ? " " : "", o->choices[k]);
        fprintf(out, "\" ;;\n");
    }
}

void options_completion(FILE *out) {
    fprintf(out,
            "# bash completion for attn: . <(attn completion)\n"
            "_attn() {\n"
            "  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words=\n"
            "  if [ \"$COMP_CWORD\" = 1 ] || { [ \"$COMP_CWORD\" = 2 ] && [[ $prev = help || $prev = man ]]; }; then\n"
            "    COMPREPLY=($(compgen -W \"");
    for (const command *const *c = commands; *c; c++) fprintf(out, "%s ", (*c)->name);
    fprintf(out, "help man completion\" -- \"$cur\"))\n    return\n  fi\n  case \"${COMP_WORDS[1]} $prev\" in\n");
    for (const command *const *c = commands; *c; c++) complete_choices(out, *c);
    fprintf(out, "  esac\n  if [ -z \"$words\" ] && [[ $cur = -* ]]; then\n    case ${COMP_WORDS[1]} in\n");
    for (const command *const *c = commands; *c; c++) {
        fprintf(out, "    %s) words=\"", (*c)->name);
        for (size_t i = 0; i < option_count(*c); i++) fprintf(out, "--%s ", option_at(*c, i)->name);
        fprintf(out, "--help\" ;;\n");
    }
    fprintf(out, "    esac\n  fi\n"
                 "  if [ -n \"$words\" ]; then COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
                 "  else COMPREPLY=($(compgen -f -- \"$cur\")); fi\n"
                 "}\ncomplete -o filenames -F _attn attn\n");
}
