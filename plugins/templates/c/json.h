/* The little JSON that a plugin needs: find a member, read a text, write one. What the host hands over is valid JSON (lone
 * surrogates replaced, \u0000 still escaped); for anything else these functions stay within the text and say "no". */
#ifndef JSON_H
#define JSON_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes of someone else's text. */
typedef struct {
    const char *ptr;
    size_t len;
} span;

/* A text that grows. All zero is the empty one; memory that is not to be had ends the call. */
typedef struct {
    char *ptr;
    size_t len;
    size_t room;
} text;

void text_add(text *to, const char *bytes, size_t len);
void text_add_str(text *to, const char *str);
void text_free(text *to);

/* The value of an object's member, as it stands there; false if there is none. Of equal keys the last one counts. */
bool json_member(span object, const char *key, span *value);

/* Takes the next member from an object, or the next item from an array (then `key` is left alone). Begin with a copy of the
 * whole value in `rest`; false at the end. The key is still in quotes. */
bool json_next(span *rest, span *key, span *value);

/* Reads a string literal with its quotes, escapes resolved, into `to`, which is emptied first and has memory afterwards, be the
 * string empty. False if it is no string. */
bool json_text(span literal, text *to);

/* Reads a whole number, 0 to `max`. False if it is something else. */
bool json_number(span literal, unsigned long long max, unsigned long long *number);

/* Whether a string literal says exactly this. */
bool json_is(span literal, const char *str);

/* Adds bytes as a string literal with its quotes. */
void json_quote(text *to, const char *bytes, size_t len);

/* The end of the string literal that begins at `at` with a quote; `end` if it has none. */
const char *json_string_end(const char *at, const char *end);

#endif
