/* commands.h: the list of commands. Each lies in cmd_<name>.c as `command_<name>`. */
#ifndef ATTN_CLI_COMMANDS_H
#define ATTN_CLI_COMMANDS_H

#include "options.h"

#define COMMAND_LIST(X) \
    X(translate)        \
    X(train)            \
    X(eval)             \
    X(align)            \
    X(score) X(show) X(attend) X(plot) X(generate) X(classify) X(embed) X(tokenize) X(info) X(convert) X(selftest)

#define COMMAND_DECLARE(name) extern const command command_##name;
COMMAND_LIST(COMMAND_DECLARE)
#undef COMMAND_DECLARE

#endif
