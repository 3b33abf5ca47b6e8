/* normalisers.h: passes over traced text that several parts share. */
#ifndef ATTN_TEXT_NORMALISERS_H
#define ATTN_TEXT_NORMALISERS_H

#include "text/parts.h"

/* compose: NFC or NFKC, else NFD or NFKD; compatible: NFKC or NFKD. */
attn_status attn_normal_form(attn_work *work, attn_traced *out, const attn_traced *in, bool compatible, bool compose);
/* Nothing before c composes with it or changes places with it. */
bool attn_begins_segment(int32_t c);

/* What a character becomes: how many (0 to 3), or −1: itself. */
typedef int attn_map_character(int32_t c, int32_t to[3]);
void attn_map_characters(attn_traced *out, const attn_traced *in, attn_map_character *map);

#endif
